//! What holds for every input: nothing panics, and what one reader sees the other sees.
#![allow(clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test may

use std::net::SocketAddr;

use proptest::collection::vec;
use proptest::prelude::*;
use viaduct_message::framing::{Datagram, StreamFramer, datagram};
use viaduct_message::header::{AuthParams, Contacts, unescape_quoted};
use viaduct_message::response::{Reply, via_source_edits, write};
use viaduct_message::uri::{equivalent, unescape, write_aor};
use viaduct_message::{
    CSeq, Edits, Fault, Head, HeaderName, Limits, Message, NameAddr, Params, Span, Uri, Via, check,
};

const NAMES: [HeaderName; 12] = [
    HeaderName::Via,
    HeaderName::From,
    HeaderName::To,
    HeaderName::CallId,
    HeaderName::CSeq,
    HeaderName::Contact,
    HeaderName::Route,
    HeaderName::RecordRoute,
    HeaderName::Path,
    HeaderName::Supported,
    HeaderName::ContentLength,
    HeaderName::Other,
];

/// Bytes that look like SIP often enough to reach every branch.
fn siplike() -> impl Strategy<Value = Vec<u8>> {
    let pieces = [
        "INVITE sip:a@b SIP/2.0\r\n",
        "REGISTER ",
        "SIP/2.0 200 OK\r\n",
        "SIP/2.0 ",
        "\r\n",
        "\r\n\r\n",
        "Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKa;rport\r\n",
        "v:",
        "SIP / 2.0 / TCP ",
        "From: ",
        "<sip:a@b>;tag=1",
        "To : ",
        "\"a\\\"",
        "\"",
        "<",
        ">",
        "sip:",
        "sips:",
        "tel:",
        "@",
        ":",
        ";",
        "?",
        "%00",
        "%4",
        "[2001:db8::1]",
        "[",
        "]",
        "192.0.2.1",
        ":5060",
        "Call-ID: x\r\n",
        "CSeq: 1 INVITE\r\n",
        "Contact: *\r\n",
        "m: ",
        "Route: ",
        "Path:",
        ",",
        " ",
        "\t",
        "\n",
        "\r",
        "\0",
        "l: 3\r\n",
        "Content-Length: ",
        "99999999999999999999",
        "-1",
        "=",
        "received=",
        "rport",
        "Max-Forwards: 70\r\n",
        "Supported: path,",
        "\u{e9}",
        "x",
        "\\",
        "/",
    ];
    let pieces: Vec<Vec<u8>> = pieces.iter().map(|piece| piece.as_bytes().to_vec()).collect();
    let piece = prop_oneof![8 => proptest::sample::select(pieces), 1 => vec(any::<u8>(), 0..4)];
    vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

/// A good request with a few bytes changed.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let good = b"REGISTER sip:example.com SIP/2.0\r\n\
        Via: SIP/2.0/UDP 10.0.0.1;branch=z9hG4bKa;rport=1;received=x, \
        SIP / 2.0/TCP [::1]:5061\r\nFrom: \"A\" <sip:a@b>;tag=1\r\n\
        To: sip:a@b;x=\"y\"\r\ni: 1\r\nCSeq: 1 REGISTER\r\nm: <sip:a@b?x=y>;q=1, sip:c@d\r\n\
        Route: <sip:e;lr>,\r\n <sip:f;lr>\r\nPath: <sip:g;lr>\r\nl: 2\r\n\r\nhi";
    vec((any::<proptest::sample::Index>(), any::<u8>(), 0u8..3), 0..6).prop_map(|changes| {
        let mut bytes = good.to_vec();
        for (at, byte, kind) in changes {
            let at = at.index(bytes.len());
            match kind {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ => drop(bytes.remove(at)),
            }
        }
        bytes
    })
}

/// Calls everything that reads a message.
fn read_all(bytes: &[u8], head: &Head) {
    let m = Message::new(bytes, head);
    let _ = (check::request(m), check::response(m), m.top_via(), m.from(), m.to(), m.cseq());
    let _ = (m.call_id(), m.max_forwards(), m.expires_s(), m.content_length(), m.body());
    let _ = (m.method(), m.method_token(), m.parse_request_uri(), m.reason(), m.headers_end());
    for name in NAMES {
        assert_eq!(m.line(name), m.lines().iter().find(|line| line.name == name).copied());
        assert_eq!(m.is_repeated(name), m.lines_of(name).count() > 1);
        for value in m.values(name) {
            assert_eq!(value.span.of(m.bytes()), value.bytes);
            read_value(value.bytes);
        }
    }
    if let Contacts::List(list) = m.contacts() {
        list.for_each(|value| read_value(value.bytes));
    }
    for line in m.lines() {
        let _ = m.value_by_label(line.label.of(m.bytes()));
    }
}

fn read_value(value: &[u8]) {
    if let Some(auth) = AuthParams::parse(value) {
        auth.iter().for_each(|(_, value)| drop(unescape_quoted(value)));
    }
    let _ = CSeq::parse(value);
    if let Ok(via) = Via::parse(value) {
        let _ = (via.rfc3261_branch(), via.received_text(), via.rport_text());
        assert_eq!(Span::locate(value, via.text).of(value), via.text);
    }
    if let Ok(address) = NameAddr::parse(value) {
        let _ = address.tag();
        read_uri(address.uri);
    }
    Params(value).iter().count();
    read_uri(value);
}

fn read_uri(text: &[u8]) {
    let mut out = Vec::new();
    unescape(text, &mut out);
    assert!(equivalent(text, text));
    let Ok(uri) = Uri::parse(text) else { return };
    let _ = (uri.is_loose(), uri.transport());
    out.clear();
    write_aor(&uri, false, &mut out);
    assert!(!out.is_empty() && out.iter().all(u8::is_ascii_graphic), "{out:?}");
}

/// Answers it, edits it, frames it.
fn work_with(bytes: &[u8], head: &Head, source: SocketAddr, force: bool) -> (Vec<u8>, Vec<u8>) {
    let message = Message::new(bytes, head);
    let mut answer = Vec::new();
    let reply = Reply { status: 400, reason: bytes, to_tag: b"t", ..Reply::default() };
    write(message, source, force, &reply, &mut answer);
    let mut edits = Edits::new();
    via_source_edits(message, source, force, &mut edits);
    let mut forwarded = Vec::new();
    edits.write(message.bytes(), &mut forwarded);
    for name in NAMES {
        for value in message.values(name) {
            edits.remove_value(message, &value);
        }
    }
    edits.write(message.bytes(), &mut Vec::new());
    let _ = StreamFramer::new().next(bytes, &Limits::default());
    (answer, forwarded)
}

fn source() -> impl Strategy<Value = SocketAddr> {
    (any::<std::net::IpAddr>(), any::<u16>()).prop_map(SocketAddr::from)
}

fn exercise(bytes: &[u8], source: SocketAddr, force: bool) -> Result<(), TestCaseError> {
    let mut head = Head::new();
    let small = Limits { message_bytes: 60, headers: 3 };
    let _ = head.scan(bytes, &small);
    read_all(bytes, &head);
    let scanned = head.scan(bytes, &Limits::default());
    read_all(bytes, &head);
    let (answer, forwarded) = work_with(bytes, &head, source, force);
    // What we write ourselves can be read, whatever came in.
    let mut again = Head::new();
    prop_assert_eq!(again.scan(&answer, &Limits::default()), Ok(()));
    prop_assert_eq!(Message::new(&answer, &again).status(), 400);
    let message = Message::new(bytes, &head);
    if scanned.is_ok() && check::request(message).is_ok() {
        prop_assert_eq!(again.scan(&forwarded, &Limits::default()), Ok(()));
        let sent = Message::new(&forwarded, &again);
        prop_assert_eq!(check::request(sent).map(|_| ()), Ok(()));
        prop_assert_eq!(sent.body(), message.body());
        let count = |m: Message<'_>| m.values(HeaderName::Via).count();
        prop_assert_eq!(count(sent), count(message));
        if force {
            let via =
                sent.top_via().map(|via| via.params.get(b"rport").flatten().map(<[u8]>::to_vec));
            prop_assert_eq!(via, Ok(Some(source.port().to_string().into_bytes())));
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn sip_like_bytes_panic_nothing(bytes in siplike(), source in source(), force: bool) {
        exercise(&bytes, source, force)?;
        read_value(&bytes);
    }

    #[test]
    fn damaged_messages_panic_nothing(bytes in damaged(), source in source(), force: bool) {
        exercise(&bytes, source, force)?;
    }

    #[test]
    fn any_bytes_panic_nothing(bytes in vec(any::<u8>(), 0..200)) {
        if let Datagram::Message(bytes) = datagram(&bytes) {
            exercise(bytes, SocketAddr::from(([1, 2, 3, 4], 5)), true)?;
        }
        read_value(&bytes);
    }

    /// A value that parses as one is one: no comma in it separates.
    #[test]
    fn what_parses_as_one_value_is_one(
        begin in proptest::sample::select(vec![
            "", "SIP/2.0/UDP a;x=", "SIP/2.0/UDP a", "<sip:a@b>;x=", "<sip:", "\"a", "a", "sip:a;",
        ]),
        pieces in vec(proptest::sample::select(vec![
            ",", "\"", "<", ">", ";", "\\", "=", "x", "a=b", " ", "\"a,b\"", "<a,b>", "@b",
            "[", "]", ":1", "\\\"", "?", "sip:a", "*",
        ]), 0..8),
    ) {
        let value = format!("{begin}{}", pieces.concat());
        let text = format!("OPTIONS sip:a@b SIP/2.0\r\nVia: {value}\r\nContact: {value}\r\n\r\n");
        let mut head = Head::new();
        prop_assert_eq!(head.scan(text.as_bytes(), &Limits::default()), Ok(()));
        let message = Message::new(text.as_bytes(), &head);
        let one = |name| message.values(name).map(|v| v.bytes).eq(message.value(name));
        if Via::parse(value.as_bytes()).is_ok() {
            prop_assert!(one(HeaderName::Via));
        }
        if NameAddr::parse(value.as_bytes()).is_ok() {
            prop_assert!(one(HeaderName::Contact));
        }
    }

    /// No header can be hidden from one who removes all lines of its name: after that no reader
    /// who takes CR, LF or CRLF for a line end finds it.
    #[test]
    fn a_stripped_header_is_gone_for_every_reader(
        lines in vec(proptest::sample::select(vec![
            "X-Name: 1\r\n", "X-Name : 1\r\n", "x-name\t:1\r\n", "A: b\nX-Name: 1\r\n",
            "A: b\rX-Name: 1\r\n", "A: b\r\n X-Name: 1\r\n", "X-NAME:\r\n 1\r\n",
            "X-Name\0: 1\r\n", "A: b\r\n", "\nX-Name: 1\r\n",
        ]), 0..6),
    ) {
        let text = format!("OPTIONS sip:a@b SIP/2.0\r\n{}\r\n", lines.concat());
        let mut head = Head::new();
        if head.scan(text.as_bytes(), &Limits::default()) != Ok(()) {
            return Ok(()); // refused as a whole
        }
        let message = Message::new(text.as_bytes(), &head);
        let mut edits = Edits::new();
        for line in message.lines() {
            if line.label.of(message.bytes()).eq_ignore_ascii_case(b"x-name") {
                edits.remove(line.whole);
            }
        }
        let mut out = Vec::new();
        edits.write(message.bytes(), &mut out);
        for line in out.split(|b| matches!(b, b'\r' | b'\n')) {
            let name = line.split(|b| *b == b':').next().unwrap_or_default().trim_ascii_end();
            prop_assert!(!name.eq_ignore_ascii_case(b"x-name"), "{:?}", line);
        }
    }

    #[test]
    fn equivalence_is_symmetric_and_respects_the_aor(
        a in "sip:(%61|a|A)?[ab;%]{0,1}(@)?(h|H|192\\.0\\.2\\.1)(:5060)?(;[xlp]=[01])?",
        b in "sip:(%61|a|A)?[ab;%]{0,1}(@)?(h|H|192\\.0\\.2\\.1)(:5060)?(;[xlp]=[01])?",
    ) {
        let same = equivalent(a.as_bytes(), b.as_bytes());
        prop_assert_eq!(same, equivalent(b.as_bytes(), a.as_bytes()));
        if let (true, Ok(x), Ok(y)) = (same, Uri::parse(a.as_bytes()), Uri::parse(b.as_bytes())) {
            let (mut left, mut right) = (Vec::new(), Vec::new());
            write_aor(&x, false, &mut left);
            write_aor(&y, false, &mut right);
            prop_assert_eq!(left, right);
        }
    }

    /// Two users share an AoR only if they are the same bytes after unescaping.
    #[test]
    fn different_users_have_different_aors(
        a in vec(any::<u8>(), 1..6), b in vec(any::<u8>(), 1..6),
    ) {
        let aor = |user: &[u8]| {
            let escaped: String = user.iter().map(|byte| format!("%{byte:02x}")).collect();
            let text = format!("sip:{escaped}@h");
            let mut out = Vec::new();
            write_aor(&Uri::parse(text.as_bytes()).expect("legal"), false, &mut out);
            out
        };
        prop_assert_eq!(aor(&a) == aor(&b), a == b);
    }
}

#[test]
fn a_fault_never_names_what_the_peer_sent() {
    for name in NAMES {
        for fault in [Fault::Missing(name), Fault::Repeated(name), Fault::Header(name)] {
            assert!(fault.reason().ends_with(name.as_str()));
            assert_eq!(fault.status(), 400);
        }
    }
    assert_eq!(Fault::Version.status(), 505);
    assert_eq!(Fault::TooLarge.status(), 513);
}

proptest! {
    /// What is written as quoted strings is read back, and a cut or damaged list gives no other
    /// parameters than it shows.
    #[test]
    fn auth_parameters_come_back_as_written(
        values in vec("[ -~]{0,12}", 1..8),
        cut in any::<proptest::sample::Index>(),
    ) {
        let quoted = |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"");
        let list: Vec<String> =
            values.iter().enumerate().map(|(i, v)| format!("p{i}=\"{}\"", quoted(v))).collect();
        let text = format!("Digest {}", list.join(" ,\t"));
        let read = AuthParams::parse(text.as_bytes()).expect("well formed");
        for (i, value) in values.iter().enumerate() {
            let found = read.get(&format!("P{i}")).map(unescape_quoted);
            prop_assert_eq!(found.as_deref(), Some(value.as_bytes()));
        }
        let cut = text.get(..cut.index(text.len())).unwrap_or_default();
        if let Some(part) = AuthParams::parse(cut.as_bytes()) {
            prop_assert!(part.iter().eq(read.iter().take(part.iter().count())));
        }
    }
}
