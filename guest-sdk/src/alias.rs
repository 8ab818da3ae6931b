//! The `alias` parameter: where a phone behind NAT really is, written into its Contact URI as
//! `;alias=IP~PORT~PROTO` and taken out again when a request of the dialog comes back with it. The
//! form is Kamailio's, so that both can work on the two sides of a dialog.

use crate::Transport;

/// Transports by the numbers the parameter uses.
const PROTOCOLS: [(Transport, &str, &str); 5] = [
    (Transport::Udp, "1", ""),
    (Transport::Tcp, "2", ";transport=tcp"),
    (Transport::Tls, "3", ";transport=tls"),
    (Transport::Ws, "5", ";transport=ws"),
    (Transport::Wss, "6", ";transport=ws"),
];

/// The Contact value with an alias in its URI. `None` where it needs none, because the URI names
/// that address, or where there is no single SIP URI in it.
pub(crate) fn add(contact: &str, ip: &str, port: u16, transport: Transport) -> Option<String> {
    let (before, uri, after) = split_contact(contact)?;
    let (host, end) = host_of(uri)?;
    let (name, its_port) = split_port(host);
    let ip = if ip.contains(':') {
        ["[", ip, "]"].concat()
    } else {
        ip.to_owned()
    };
    // The port a stream came from is not the one the phone listens on.
    let same_port = transport != Transport::Udp || its_port.unwrap_or(5060) == port;
    if name.eq_ignore_ascii_case(&ip) && same_port {
        return None;
    }
    let (_, protocol, _) = PROTOCOLS.iter().find(|(known, ..)| *known == transport)?;
    let (address, rest) = uri.split_at_checked(end)?;
    let (params, headers) = rest.split_at_checked(cut(rest, b"?"))?;
    let params = take_param(params).map_or_else(|| params.to_owned(), |(_, others)| others);
    let port = port.to_string();
    let alias = [";alias=", &ip, "~", &port, "~", protocol].concat();
    Some([before, "<", address, &params, &alias, headers, ">", after].concat())
}

/// The URI without its alias, and the next hop the alias names. `None` where it has none that
/// reads.
pub(crate) fn take(uri: &str) -> Option<(String, String)> {
    if !uri.as_bytes().contains(&b'~') {
        return None; // most have none, and are not read further
    }
    let (_, end) = host_of(uri)?;
    let (address, rest) = uri.split_at_checked(end)?;
    let (params, headers) = rest.split_at_checked(cut(rest, b"?"))?;
    let (value, others) = take_param(params)?;
    let (ip, port_and_protocol) = value.split_once('~')?;
    let (port, protocol) = port_and_protocol.split_once('~')?;
    let known = PROTOCOLS.iter().find(|(_, number, _)| *number == protocol);
    let (.., transport) = known?;
    if number::<u16>(port).is_none_or(|port| port == 0) || !is_address(ip) {
        return None;
    }
    let without = [address, &others, headers].concat();
    Some((without, ["sip:", ip, ":", port, transport].concat()))
}

/// Is it written as an IP address, as URIs have it? Not a host name, which we would have to
/// resolve.
fn is_address(ip: &str) -> bool {
    match ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']')) {
        Some(ip) => ip.contains(':') && ip.bytes().all(|c| c.is_ascii_hexdigit() || c == b':'),
        None => {
            let mut parts = ip.split('.');
            parts.all(|part| number::<u8>(part).is_some()) && ip.split('.').count() == 4
        }
    }
}

/// Digits only: `parse` alone would take a sign.
fn number<N: core::str::FromStr>(text: &str) -> Option<N> {
    text.parse()
        .ok()
        .filter(|_| text.bytes().all(|c| c.is_ascii_digit()))
}

/// What stands before, in, and after the one URI of a Contact value. Text outside `<...>` may hold
/// anything where it is quoted, so several contacts are told by a second `<` or a comma behind.
fn split_contact(contact: &str) -> Option<(&str, &str, &str)> {
    let contact = contact.trim_ascii();
    let Some((head, after)) = contact.split_once('>') else {
        // Without brackets parameters are the header's, not the URI's (RFC 3261 20).
        let (uri, after) = contact.split_at_checked(cut(contact, b";,?"))?;
        return if cut(after, b",?") < after.len() {
            None
        } else {
            Some(("", uri, after))
        };
    };
    let (before, uri) = head.split_once('<')?;
    if uri.contains('<') || cut(after, b",<") < after.len() {
        return None;
    }
    Some((before, uri, after))
}

/// Host with port, and the offset at which parameters and headers begin.
fn host_of(uri: &str) -> Option<(&str, usize)> {
    let (scheme, rest) = uri.split_once(':')?;
    if !scheme.eq_ignore_ascii_case("sip") && !scheme.eq_ignore_ascii_case("sips") {
        return None;
    }
    // A user may hold `;` and `?`, but a bare `@` stands nowhere else (RFC 3261 25.1).
    let host = rest.split_once('@').map_or(rest, |(_, host)| host);
    let host_and_port = host.get(..cut(host, b";?"))?;
    let behind = host.len().checked_sub(host_and_port.len())?;
    Some((host_and_port, uri.len().checked_sub(behind)?))
}

fn split_port(host: &str) -> (&str, Option<u16>) {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, port.parse().ok()),
        _ => (host, None),
    }
}

/// Value of `alias` in `;a=b;c`, and the parameters without it.
fn take_param(params: &str) -> Option<(&str, String)> {
    let mut value = None;
    let mut others = String::with_capacity(params.len());
    for param in params.split(';').filter(|param| !param.is_empty()) {
        match param.split_once('=') {
            Some((name, text)) if name.eq_ignore_ascii_case("alias") => value = Some(text),
            _ => {
                others.push(';');
                others.push_str(param);
            }
        }
    }
    value.map(|value| (value, others))
}

/// Offset of the first of these bytes, or the length.
fn cut(text: &str, stops: &[u8]) -> usize {
    text.bytes()
        .position(|c| stops.contains(&c))
        .unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn udp(contact: &str) -> Option<String> {
        add(contact, "203.0.113.9", 41000, Transport::Udp)
    }

    #[test]
    fn an_alias_is_added_where_the_contact_names_another_address() {
        for (contact, expected) in [
            (
                "<sip:al@10.0.0.4>",
                "<sip:al@10.0.0.4;alias=203.0.113.9~41000~1>",
            ),
            (
                "sip:al@10.0.0.4;expires=9",
                "<sip:al@10.0.0.4;alias=203.0.113.9~41000~1>;expires=9",
            ),
            (
                "\"A, L\" <sip:10.0.0.4:5062;ob?X=y>;q=1",
                "\"A, L\" <sip:10.0.0.4:5062;ob;alias=203.0.113.9~41000~1?X=y>;q=1",
            ),
            (
                "<sip:al@10.0.0.4;alias=1.2.3.4~5~1;ob>",
                "<sip:al@10.0.0.4;ob;alias=203.0.113.9~41000~1>",
            ),
            (
                "<sip:al@203.0.113.9>",
                "<sip:al@203.0.113.9;alias=203.0.113.9~41000~1>",
            ),
        ] {
            assert_eq!(udp(contact).as_deref(), Some(expected), "{contact}");
        }
        assert_eq!(
            add("<sip:al@[fd00::1]:9>", "2001:db8::2", 6000, Transport::Tcp).as_deref(),
            Some("<sip:al@[fd00::1]:9;alias=[2001:db8::2]~6000~2>")
        );
    }

    #[test]
    fn no_alias_where_none_is_needed_or_the_value_is_no_single_sip_uri() {
        for contact in [
            "<sip:al@203.0.113.9:41000>",
            "*",
            "",
            "<tel:+4930123>",
            "<sip:a@10.0.0.1>, <sip:b@10.0.0.2>",
            "sip:a@10.0.0.1, sip:b@10.0.0.2",
            "<sip:",
            "sip",
        ] {
            assert_eq!(udp(contact), None, "{contact}");
        }
        assert_eq!(
            add("<sip:al@192.0.2.1>", "192.0.2.1", 50000, Transport::Tcp),
            None
        );
    }

    #[test]
    fn an_alias_is_taken_out_and_names_the_next_hop() {
        for (uri, without, hop) in [
            (
                "sip:al@10.0.0.4;alias=203.0.113.9~41000~1",
                "sip:al@10.0.0.4",
                "sip:203.0.113.9:41000",
            ),
            (
                "sip:al;x@h:1;ob;ALIAS=1.2.3.4~5~2;y?Z=1",
                "sip:al;x@h:1;ob;y?Z=1",
                "sip:1.2.3.4:5;transport=tcp",
            ),
            (
                "sips:h;alias=[2001:db8::2]~6000~3",
                "sips:h",
                "sip:[2001:db8::2]:6000;transport=tls",
            ),
        ] {
            assert_eq!(
                take(uri),
                Some((without.to_owned(), hop.to_owned())),
                "{uri}"
            );
        }
    }

    #[test]
    fn what_is_no_address_is_no_alias() {
        for uri in [
            "sip:al@10.0.0.4",
            "sip:al@10.0.0.4;alias=",
            "sip:al@10.0.0.4;alias=host.example~5060~1",
            "sip:al@10.0.0.4;alias=1.2.3.4~0~1",
            "sip:al@10.0.0.4;alias=1.2.3.4~70000~1",
            "sip:al@10.0.0.4;alias=1.2.3.4.x~5060~1",
            "sip:al@10.0.0.4;alias=1.2.3~5060~1",
            "sip:al@10.0.0.4;alias=1.2.3.+4~5060~1",
            "sip:al@10.0.0.4;alias=1.2.3.4~+5060~1",
            "sip:al@10.0.0.4;alias=[x::1]~5060~1",
            "sip:al@10.0.0.4;alias=1.2.3.4~5060~9",
            "sip:al@10.0.0.4;alias=1.2.3.4~5060~1~1",
            "sip:al@10.0.0.4?alias=1.2.3.4~5060~1",
            "tel:1;alias=1.2.3.4~5060~1",
        ] {
            assert_eq!(take(uri), None, "{uri}");
        }
    }
}
