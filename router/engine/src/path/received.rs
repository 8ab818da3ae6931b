//! The `received` parameter: an address as a URI (sip-behaviour 1.5, R-P6).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use smallvec::SmallVec;

use crate::flow::Transport;

/// Longest value looked at, bytes. The longest legal one is under 90 with every byte escaped apart.
const MAX_BYTES: usize = 256;

/// Parses the value of a `received` parameter: `sip:IP:PORT[;transport=..]`, percent-escaped or
/// not, any case, IPv6 in brackets, and `IP~PORT~PROTO` (R-P6). Host names, port 0, and addresses
/// nobody can have (unspecified, multicast, broadcast) give `None`.
pub fn parse_received(value: &[u8]) -> Option<(Transport, SocketAddr)> {
    if value.len() > MAX_BYTES {
        return None;
    }
    let text = unescape(value)?;
    let text = std::str::from_utf8(&text).ok()?;
    let (transport, addr) = match text.split_once('~') {
        Some((ip, rest)) => parse_numbered(ip, rest)?,
        None => parse_uri(text)?,
    };
    is_sendable(addr).then_some((transport, addr))
}

/// Appends the same as a plain URI, `sip:IP:PORT[;transport=..]`: the form a binding stores.
pub fn write_received(transport: Transport, addr: SocketAddr, out: &mut Vec<u8>) {
    write(transport, addr, b";transport=", out);
}

/// Appends it as it stands inside a URI parameter: `;` and `=` escaped (sip-behaviour 1.5).
pub(super) fn write_escaped(transport: Transport, addr: SocketAddr, out: &mut Vec<u8>) {
    write(transport, addr, b"%3btransport%3d", out);
}

fn write(transport: Transport, addr: SocketAddr, parameter: &[u8], out: &mut Vec<u8>) {
    use std::io::Write as _;
    out.extend_from_slice(b"sip:");
    // Writing to a Vec cannot fail. The canonical form has no scope and no mapped IPv4.
    let _ = match addr.ip().to_canonical() {
        IpAddr::V4(ip) => write!(out, "{ip}:{}", addr.port()),
        IpAddr::V6(ip) => write!(out, "[{ip}]:{}", addr.port()),
    };
    if transport != Transport::Udp {
        out.extend_from_slice(parameter);
        out.extend_from_slice(transport.param_name().as_bytes());
    }
}

/// Appends a Route value that names a router and, where `received` can be read, whom it shall send
/// to: `<sip:HOST;lr[;transport=tcp][;received=..]>`.
pub(crate) fn write_received_route(
    host: &str,
    transport: Transport,
    received: &[u8],
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(b"<sip:");
    out.extend_from_slice(host.as_bytes());
    out.extend_from_slice(b";lr");
    if transport == Transport::Tcp {
        out.extend_from_slice(b";transport=tcp");
    }
    if let Some((transport, addr)) = parse_received(received) {
        out.extend_from_slice(b";received=");
        write_escaped(transport, addr, out);
    }
    out.push(b'>');
}

/// Decodes percent escapes; `None` for a bad one or a byte no address has.
fn unescape(value: &[u8]) -> Option<SmallVec<[u8; 64]>> {
    let mut text = SmallVec::new();
    let mut bytes = value.iter().copied();
    while let Some(byte) = bytes.next() {
        let byte = if byte == b'%' {
            let mut digit = || char::from(bytes.next()?).to_digit(16);
            u8::try_from(digit()? * 16 + digit()?).ok()?
        } else {
            byte
        };
        if !byte.is_ascii_graphic() {
            return None;
        }
        text.push(byte);
    }
    Some(text)
}

fn parse_uri(text: &str) -> Option<(Transport, SocketAddr)> {
    let (scheme, rest) = text.split_once(':')?;
    let secure = scheme.eq_ignore_ascii_case("sips");
    if !secure && !scheme.eq_ignore_ascii_case("sip") {
        return None;
    }
    let mut parts = rest.split(';');
    let host_port = parts.next()?;
    let mut transport = if secure { Transport::Tls } else { Transport::Udp };
    for parameter in parts {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        if name.eq_ignore_ascii_case("transport") {
            transport = Transport::from_name(value.as_bytes())?;
        }
    }
    let (ip, port) = match host_port.strip_prefix('[') {
        Some(rest) => {
            let (ip, port) = rest.split_once(']')?;
            (IpAddr::V6(ip.parse::<Ipv6Addr>().ok()?), port.strip_prefix(':'))
        }
        None => match host_port.split_once(':') {
            Some((ip, port)) => (IpAddr::V4(ip.parse::<Ipv4Addr>().ok()?), Some(port)),
            None => (IpAddr::V4(host_port.parse::<Ipv4Addr>().ok()?), None),
        },
    };
    let port = match port {
        Some(port) => parse_port(port)?,
        // Nothing, or something other than a port, after the address.
        None if host_port.ends_with(']') || !host_port.contains([':', ']']) => {
            transport.default_port()
        }
        None => return None,
    };
    Some((transport, SocketAddr::new(ip, port)))
}

/// `IP~PORT~PROTO` with Kamailio's numbers of the protocols.
fn parse_numbered(ip: &str, rest: &str) -> Option<(Transport, SocketAddr)> {
    let ip = match ip.strip_prefix('[') {
        Some(ip) => IpAddr::V6(ip.strip_suffix(']')?.parse().ok()?),
        None => ip.parse::<IpAddr>().ok()?,
    };
    let (port, protocol) = rest.split_once('~')?;
    let transport = match protocol {
        "1" => Transport::Udp,
        "2" => Transport::Tcp,
        "3" => Transport::Tls,
        "5" => Transport::Ws,
        "6" => Transport::Wss,
        _ => return None,
    };
    Some((transport, SocketAddr::new(ip, parse_port(port)?)))
}

/// One to five digits, not 0.
fn parse_port(text: &str) -> Option<u16> {
    let digits = !text.is_empty() && text.len() <= 5 && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port != 0)
}

fn is_sendable(addr: SocketAddr) -> bool {
    let ip = addr.ip().to_canonical();
    let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    !(ip.is_unspecified() || ip.is_multicast() || broadcast)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn r_p6_every_spelling_of_received_is_read() {
        let cases = [
            ("sip:192.0.2.4:5062", Transport::Udp, "192.0.2.4:5062"),
            ("SIP:192.0.2.4:5062", Transport::Udp, "192.0.2.4:5062"),
            ("sip:192.0.2.4:5062%3btransport%3dtcp", Transport::Tcp, "192.0.2.4:5062"),
            ("sip:192.0.2.4:5062%3BTransport%3Dtls", Transport::Tls, "192.0.2.4:5062"),
            ("sip%3a192.0.2.4%3A5062;TRANSPORT=Ws", Transport::Ws, "192.0.2.4:5062"),
            ("sip:[2001:db8::7]:5060%3Btransport%3Dtls", Transport::Tls, "[2001:db8::7]:5060"),
            ("sip:[2001:DB8::7]", Transport::Udp, "[2001:db8::7]:5060"),
            ("sip:192.0.2.4;transport=tls", Transport::Tls, "192.0.2.4:5061"),
            ("192.0.2.4~5060~1", Transport::Udp, "192.0.2.4:5060"),
            ("192.0.2.4~5060~2", Transport::Tcp, "192.0.2.4:5060"),
            ("[2001:db8::7]~5060~3", Transport::Tls, "[2001:db8::7]:5060"),
            ("2001:db8::7~5060~5", Transport::Ws, "[2001:db8::7]:5060"),
            ("192.0.2.4~5060~6", Transport::Wss, "192.0.2.4:5060"),
        ];
        for (text, transport, expected) in cases {
            let parsed = parse_received(text.as_bytes());
            assert_eq!(parsed, Some((transport, addr(expected))), "{text}");
        }
    }

    #[test]
    fn r_p6_host_names_and_odd_addresses_are_refused() {
        let refused = [
            "",
            "sip:",
            "sip:phone.example:5060",
            "sip:alice@192.0.2.4:5060",
            "tel:+4930",
            "sip:192.0.2.4:0",
            "sip:192.0.2.4:65536",
            "sip:192.0.2.4:+5",
            "sip:192.0.2.4:",
            "sip:[2001:db8::7",
            "sip:[2001:db8::7]x",
            "sip:[192.0.2.4]:5060",
            "sip:0.0.0.0:5060",
            "sip:224.0.0.1:5060",
            "sip:255.255.255.255:5060",
            "sip:[ff02::1]:5060",
            "sip:[::ffff:0.0.0.0]:5060",
            "sip:192.0.2.4:5060;transport=sctp",
            "192.0.2.4~5060~4",
            "192.0.2.4~5060",
            "sip:192.0.2.4:50%zz",
            "sip:192.0.2.4:5060%",
            "sip:192.0.2.4:5060%00",
            "sip:192.0.2.4:5060 ",
            "sip:192.000.2.4.5:1",
        ];
        for text in refused {
            assert_eq!(parse_received(text.as_bytes()), None, "{text}");
        }
        assert_eq!(parse_received(&[b'1'; 5000]), None);
    }

    fn any_transport() -> impl Strategy<Value = Transport> {
        prop_oneof![
            Just(Transport::Udp),
            Just(Transport::Tcp),
            Just(Transport::Tls),
            Just(Transport::Ws),
        ]
    }

    proptest! {
        #[test]
        fn what_we_write_we_read(
            transport in any_transport(), ip: IpAddr, port in 1u16.., escaped: bool,
        ) {
            let addr = SocketAddr::new(ip.to_canonical(), port);
            prop_assume!(is_sendable(addr));
            let mut out = Vec::new();
            let write = if escaped { write_escaped } else { write_received };
            write(transport, addr, &mut out);
            prop_assert_eq!(parse_received(&out), Some((transport, addr)));
        }

        #[test]
        fn any_bytes_are_an_address_or_nothing(
            value: Vec<u8>, text in "sip:[0-9a-f:.%~;\\[\\]]{0,60}",
        ) {
            let _ = parse_received(&value);
            let _ = parse_received(text.as_bytes());
        }
    }
}
