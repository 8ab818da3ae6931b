//! A row of `location`, in Kamailio's layout or OpenSIPS'.

use std::net::SocketAddr;

use viaduct_engine::registrar::{Binding, BindingFields};
use viaduct_engine::{ConnId, Transport};
use viaduct_message::{Method, NameAddr, Uri, uri};

use super::{Options, Row, Skip};

/// Longest texts taken over, bytes: contact, Path, and each of the others.
const LONGEST: (usize, usize, usize) = (4096, 16_384, 1024);

/// Methods by their bits in `methods`, from the lowest; the two programs differ.
const KAMAILIO: [Method; 14] = [
    Method::Invite,
    Method::Cancel,
    Method::Ack,
    Method::Bye,
    Method::Info,
    Method::Register,
    Method::Subscribe,
    Method::Notify,
    Method::Message,
    Method::Options,
    Method::Prack,
    Method::Update,
    Method::Refer,
    Method::Publish,
];
const OPENSIPS: [Method; 14] = [
    Method::Invite,
    Method::Cancel,
    Method::Ack,
    Method::Bye,
    Method::Info,
    Method::Options,
    Method::Update,
    Method::Register,
    Method::Message,
    Method::Subscribe,
    Method::Notify,
    Method::Prack,
    Method::Refer,
    Method::Publish,
];

/// The AoR and the binding of a row.
pub(super) fn read(row: &Row, options: &Options) -> Result<(Box<[u8]>, Binding), Skip> {
    let aor = aor(row, options.domain.as_deref())?;
    let contact = row.get("contact").ok_or(Skip::Missing("contact"))?;
    let is_sip = Uri::parse(contact).is_ok_and(|uri| uri.is_sip());
    if !is_sip {
        return Err(Skip::Value("contact"));
    }
    let path = row.text("path");
    check_path(path)?;
    let (longest_contact, longest_path, longest) = LONGEST;
    let received = row.text("received");
    let (call_id, user_agent) = (row.text("callid"), row.text("user_agent"));
    let opensips = row.has("sip_instance") || row.has("contact_id");
    let instance = unquoted(row.text(if opensips { "sip_instance" } else { "instance" }));
    let attributes = row.text("attr");
    for (name, text, most) in [
        ("contact", contact, longest_contact),
        ("path", path, longest_path),
        ("received", received, longest),
        ("callid", call_id, longest),
        ("user_agent", user_agent, longest),
        ("instance", instance, longest),
        ("attr", attributes, longest),
    ] {
        if text.len() > most {
            return Err(Skip::Long(name));
        }
    }
    let expires_ms = time(row, "expires", options)?.ok_or(Skip::Missing("expires"))?;
    if expires_ms <= options.now_ms {
        return Err(Skip::Expired);
    }
    let modified_ms = time(row, "last_modified", options)?.unwrap_or(0).min(options.now_ms);
    let (transport, local) = socket(row.text("socket")).ok_or(Skip::Value("socket"))?;
    let reg_id: Option<u32> = row.number("reg_id")?;
    let mut contact_params = Vec::new();
    if !instance.is_empty() {
        contact_params = [b"+sip.instance=\"", instance, b"\""].concat();
    }
    let binding = Binding::pack(&BindingFields {
        contact,
        contact_params: &contact_params,
        path,
        received,
        call_id,
        user_agent,
        instance,
        attributes,
        cseq: row.number("cseq")?.unwrap_or(0),
        q_milli: q_milli(row)?,
        reg_id: reg_id.unwrap_or(0),
        methods: methods(row, if opensips { &OPENSIPS } else { &KAMAILIO })?,
        expires_ms,
        modified_ms,
        transport,
        local,
        conn: ConnId::NONE,
        nat: !received.is_empty(),
    });
    Ok((aor, binding))
}

fn aor(row: &Row, default: Option<&str>) -> Result<Box<[u8]>, Skip> {
    let user = row.get("username").ok_or(Skip::Missing("username"))?;
    let domain = row.get("domain").or(default.map(str::as_bytes)).ok_or(Skip::Missing("domain"))?;
    // With use_domain off Kamailio still may keep `user@domain` as the name.
    let uri = match user.contains(&b'@') {
        true => [b"sip:", user].concat(),
        false => [b"sip:", user, b"@", domain].concat(),
    };
    let uri = Uri::parse(&uri).map_err(|_| Skip::Value("username"))?;
    let mut aor = Vec::new();
    uri::write_aor(&uri, false, &mut aor);
    Ok(aor.into())
}

/// Every value must be one that a Route header may hold.
fn check_path(path: &[u8]) -> Result<(), Skip> {
    let mut rest = path;
    while let Some((value, more)) = viaduct_engine::path::first_value(rest) {
        let fits = NameAddr::parse(value).is_ok_and(|value| value.parse_uri().is_ok());
        if !fits {
            return Err(Skip::Value("path"));
        }
        rest = more;
    }
    Ok(())
}

/// Kamailio keeps the quotes of the header.
fn unquoted(text: &[u8]) -> &[u8] {
    text.strip_prefix(b"\"").and_then(|text| text.strip_suffix(b"\"")).unwrap_or(text)
}

/// `udp:192.0.2.1:5060`; without one the address is unspecified, which fits no socket.
fn socket(text: &[u8]) -> Option<(Transport, SocketAddr)> {
    if text.is_empty() {
        return Some((Transport::Udp, SocketAddr::from(([0, 0, 0, 0], 0))));
    }
    let text = std::str::from_utf8(text).ok()?;
    let (name, local) = text.split_once(':')?;
    let transport = Transport::from_name(name.as_bytes())?;
    // A host name, or an address without a port, names no socket here.
    let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
    Some((transport, local.parse().unwrap_or(unknown)))
}

/// -1 is "not given" to both.
fn q_milli(row: &Row) -> Result<Option<u16>, Skip> {
    let Some(q) = row.number::<f64>("q")? else { return Ok(None) };
    if q < 0.0 {
        return Ok(None);
    }
    if q > 1.0 || q.is_nan() {
        return Err(Skip::Value("q"));
    }
    Ok(Some((q * 1000.0).round() as u16))
}

fn methods(row: &Row, bits: &[Method]) -> Result<Option<u32>, Skip> {
    let Some(mask) = row.number::<i64>("methods")? else { return Ok(None) };
    // All bits, or none, is "did not say".
    if mask <= 0 || mask >= i64::from(u32::MAX) {
        return Ok(None);
    }
    let known = bits.iter().enumerate().filter(|(bit, _)| mask >> bit & 1 == 1);
    Ok(Some(known.fold(0, |all, (_, method)| all | 1 << (*method as u32))))
}

/// Milliseconds since 1970 of a number of seconds or a `YYYY-MM-DD HH:MM:SS`.
fn time(row: &Row, column: &'static str, options: &Options) -> Result<Option<u64>, Skip> {
    let Some(text) = row.get(column) else { return Ok(None) };
    let text = std::str::from_utf8(text).map_err(|_| Skip::Value(column))?;
    let seconds = match text.parse::<i64>() {
        // 0 is Kamailio's "for ever".
        Ok(0) => i64::from(u32::MAX),
        Ok(seconds) => seconds,
        Err(_) => {
            let local = date_time_s(text).ok_or(Skip::Value(column))?;
            local - options.utc_offset_min * 60
        }
    };
    Ok(Some(u64::try_from(seconds).unwrap_or(0).saturating_mul(1000)))
}

/// Seconds since 1970 of a date and time, as if it were UTC; a fraction is dropped.
fn date_time_s(text: &str) -> Option<i64> {
    let (date, time) = text.split_once([' ', 'T'])?;
    let mut date = date.splitn(3, '-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let time = time.split(['.', '+', 'Z']).next()?;
    let mut time = time.splitn(3, ':').map(|part| part.parse::<i64>().ok());
    let (hour, minute, second) = (time.next()??, time.next()??, time.next()??);
    let fits = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && (0..24).contains(&hour)
        && (0..60).contains(&minute)
        && (0..=60).contains(&second);
    if !fits {
        return None;
    }
    // Days since 1970 by counting years from March, so that the leap day comes last.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1 - 719_468;
    Some(days * 86_400 + hour * 3600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW_MS: u64 = 1_900_000_000_000;

    fn options() -> Options {
        Options {
            location: "location".into(),
            subscriber: "subscriber".into(),
            domain: None,
            utc_offset_min: 0,
            now_ms: NOW_MS,
        }
    }

    fn row(values: &[(&str, &str)]) -> Row {
        let value = |(name, value): &(&str, &str)| {
            ((*name).to_owned(), (*value != "NULL").then(|| value.as_bytes().to_vec()))
        };
        Row { values: values.iter().map(value).collect() }
    }

    fn kamailio() -> Vec<(&'static str, &'static str)> {
        vec![
            ("id", "7"),
            ("ruid", "uloc-1"),
            ("username", "Alice"),
            ("domain", "EXAMPLE.com"),
            ("contact", "sip:alice@10.0.0.1:5060"),
            ("received", "sip:198.51.100.7:40000"),
            ("path", "<sip:p1.example.com;lr>,<sip:p2.example.com;lr>"),
            ("expires", "2030-03-17 17:46:41"),
            ("q", "-1.00"),
            ("callid", "c1"),
            ("cseq", "12"),
            ("last_modified", "2030-03-17 17:00:00"),
            ("user_agent", "Phone"),
            ("socket", "tcp:192.0.2.1:5060"),
            ("methods", "5951"),
            ("instance", "\"<urn:uuid:1>\""),
            ("reg_id", "1"),
        ]
    }

    fn with(changed: &[(&'static str, &'static str)]) -> Row {
        let mut all = kamailio();
        all.retain(|(name, _)| !changed.iter().any(|(other, _)| other == name));
        all.extend_from_slice(changed);
        row(&all)
    }

    #[test]
    fn r_u3_a_row_of_kamailio_becomes_a_binding() {
        let (aor, binding) = read(&with(&[]), &options()).unwrap();
        assert_eq!(&*aor, b"Alice@example.com");
        let fields = binding.fields();
        assert_eq!(fields.expires_ms, NOW_MS + 1000);
        assert_eq!((fields.q_milli, fields.cseq, fields.reg_id), (None, 12, 1));
        assert_eq!((fields.transport, fields.nat), (Transport::Tcp, true));
        assert_eq!(fields.instance, b"<urn:uuid:1>");
        let bit = |method: Method| 1 << (method as u32);
        let methods = fields.methods.unwrap();
        assert_ne!(methods & bit(Method::Refer), 0);
        assert_eq!(methods & (bit(Method::Subscribe) | bit(Method::Notify)), 0);
    }

    #[test]
    fn r_u3_a_row_of_opensips_has_other_columns_and_other_bits() {
        let changed = [
            ("sip_instance", "<urn:uuid:2>"),
            ("expires", "1900000060"),
            ("q", "0.70"),
            ("attr", "site=7"),
        ];
        let (_, binding) = read(&with(&changed), &options()).unwrap();
        let fields = binding.fields();
        assert_eq!(fields.expires_ms, NOW_MS + 60_000);
        assert_eq!((fields.q_milli, fields.instance), (Some(700), &b"<urn:uuid:2>"[..]));
        assert_eq!(fields.attributes, b"site=7");
        assert_ne!(fields.methods.unwrap() & 1 << (Method::Notify as u32), 0);
    }

    #[test]
    fn what_is_no_binding_says_why() {
        for (changed, expected) in [
            (("contact", "tel:+1"), Skip::Value("contact")),
            (("contact", "NULL"), Skip::Missing("contact")),
            (("username", ""), Skip::Missing("username")),
            (("domain", "NULL"), Skip::Missing("domain")),
            (("expires", "2030-03-17 17:46:40"), Skip::Expired),
            (("expires", "soon"), Skip::Value("expires")),
            (("path", "<sip:p1"), Skip::Value("path")),
            (("q", "7"), Skip::Value("q")),
            (("cseq", "x"), Skip::Value("cseq")),
            (("socket", "carrier-pigeon:1"), Skip::Value("socket")),
        ] {
            assert_eq!(read(&with(&[changed]), &options()), Err(expected), "{changed:?}");
        }
    }

    #[test]
    fn local_times_are_moved_to_utc_and_a_domain_is_given_where_there_is_none() {
        let ahead = Options { utc_offset_min: -120, domain: Some("d".into()), ..options() };
        let (aor, binding) = read(&with(&[("domain", "")]), &ahead).unwrap();
        assert_eq!(binding.fields().expires_ms, NOW_MS + 1000 + 7_200_000);
        assert_eq!(&*aor, b"Alice@d");
    }

    #[test]
    fn dates_count_from_1970() {
        for (text, seconds) in [
            ("1970-01-01 00:00:00", Some(0)),
            ("2000-02-29 12:00:01.5", Some(951_825_601)),
            ("2030-03-17T17:46:40Z", Some(1_900_000_000)),
            ("2030-13-17 17:46:40", None),
            ("0000-00-00 00:00:00", None),
            ("today", None),
        ] {
            assert_eq!(date_time_s(text), seconds, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_row_is_a_binding_or_a_reason(
            values in proptest::collection::vec(proptest::option::of(".*"), 17),
        ) {
            let names = kamailio().into_iter().map(|(name, _)| name.to_owned());
            let values = values.into_iter().map(|value| value.map(String::into_bytes));
            let _ = read(&Row { values: names.zip(values).collect() }, &options());
        }

        #[test]
        fn any_date_is_read_or_refused(text: String) {
            let _ = date_time_s(&text);
        }
    }
}
