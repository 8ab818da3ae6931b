//! Values as text: what is written, read, forged.

use proptest::prelude::*;
use viaduct_message::{Head, Limits, Message, NameAddr};

use super::*;
use crate::flow::{ConnId, Flow, Transport};

fn keys(ids: &[u8]) -> PathKeys {
    PathKeys::new(ids.iter().map(|id| (*id, vec![*id; 32])).collect()).unwrap()
}

fn flow(transport: Transport, remote: &str) -> Flow {
    let local = "192.0.2.1:5060".parse().unwrap();
    Flow { transport, local, remote: remote.parse().unwrap(), conn: ConnId::NONE }
}

fn value<'a>(user: &'a [u8], received: Option<&'a Flow>) -> PathValue<'a> {
    let (host, port) = ("p1.example", 5060);
    PathValue { user, host, port, transport: Transport::Udp, received, ob: false, double: false }
}

fn written(value: &PathValue<'_>, keys: &PathKeys) -> String {
    let mut out = Vec::new();
    write_path_value(value, keys, &mut out);
    String::from_utf8(out).unwrap()
}

fn read(text: &[u8], trusted: bool, keys: &PathKeys) -> Option<Received> {
    let uri = NameAddr::parse(text).ok()?.parse_uri().ok()?;
    Some(read_received(&uri, trusted, keys))
}

#[test]
fn values_are_written_as_in_sip_behaviour_1_5() {
    let none = PathKeys::default();
    assert_eq!(written(&value(b"", None), &none), "<sip:p1.example;lr>");
    assert_eq!(written(&value(b"alice", None), &none), "<sip:alice@p1.example;lr>");
    let udp = flow(Transport::Udp, "198.51.100.7:40000");
    let expected = "<sip:alice@p1.example;lr;received=sip:198.51.100.7:40000>";
    assert_eq!(written(&value(b"alice", Some(&udp)), &none), expected);
    let tls = flow(Transport::Tls, "[2001:db8::7]:5060");
    let mut tcp = value(b"", Some(&tls));
    (tcp.host, tcp.port, tcp.transport, tcp.double) = ("[2001:db8::1]", 5080, Transport::Tcp, true);
    let expected = "<sip:[2001:db8::1]:5080;lr;transport=tcp;\
                    received=sip:[2001:db8::7]:5060%3btransport%3dtls;r2=on>";
    assert_eq!(written(&tcp, &none), expected);
    let mapped = flow(Transport::Udp, "[::ffff:198.51.100.7]:40000");
    assert!(written(&value(b"", Some(&mapped)), &none).contains("=sip:198.51.100.7:40000>"));
}

#[test]
fn r_p10_our_own_values_are_believed_from_anybody() {
    let udp = flow(Transport::Udp, "198.51.100.7:40000");
    let text = written(&value(b"alice", Some(&udp)), &keys(&[7]));
    let address = Received::Address(Transport::Udp, udp.remote);
    for trusted in [false, true] {
        assert_eq!(read(text.as_bytes(), trusted, &keys(&[7])), Some(address));
    }
    // Proxies on the way may write the default port, other hex digits, other cases of the host.
    let same = text.replace("p1.example;", "P1.Example:5060;").replace("received", "Received");
    assert_eq!(read(same.as_bytes(), false, &keys(&[7])), Some(address));
}

#[test]
fn r_p10_forged_values_are_told_from_unsigned_ones() {
    let udp = flow(Transport::Udp, "198.51.100.7:40000");
    let (ours, theirs) = (keys(&[7]), keys(&[8]));
    let text = written(&value(b"alice", Some(&udp)), &ours);
    let forgeries = [
        text.replace("198.51.100.7", "203.0.113.99"),
        text.replace("40000", "40001"),
        text.replace("alice", "alicf"),
        text.replace("alice@", ""),
        text.replace("p1.example", "p2.example"),
        text.replace("p1.example", "p1.example:5070"),
        text.replace(";lr", ";lr;transport=tcp"),
        text.replace("40000;", "40000%3btransport%3dtcp;"),
        text.replace("vs=07", "vs=08"),
        text.replace("vs=07", "vs=7"),
        text.replace("vs=", "vs;x="),
        written(&value(b"alice", Some(&udp)), &theirs),
    ];
    for forged in forgeries {
        for trusted in [false, true] {
            let read = read(forged.as_bytes(), trusted, &ours);
            assert_eq!(read, Some(Received::Forged), "{forged}");
        }
    }
    let unsigned = "<sip:p1.example;lr;received=sip:203.0.113.99:5060>".as_bytes();
    assert_eq!(read(unsigned, false, &ours), Some(Received::Untrusted));
    let address = Received::Address(Transport::Udp, "203.0.113.99:5060".parse().unwrap());
    assert_eq!(read(unsigned, true, &ours), Some(address));
    let named = "<sip:p1.example;lr;received=sip:victim.example:5060>".as_bytes();
    assert_eq!(read(named, true, &ours), Some(Received::Malformed));
    assert_eq!(read(b"<sip:p1.example;lr>", true, &ours), Some(Received::None));
    assert_eq!(read(b"<sip:p1.example;lr;received>", true, &ours), Some(Received::Malformed));
}

#[test]
fn keys_rotate_with_overlap() {
    let udp = flow(Transport::Udp, "198.51.100.7:40000");
    let old = written(&value(b"", Some(&udp)), &keys(&[1]));
    let new = written(&value(b"", Some(&udp)), &keys(&[2, 1]));
    assert!(old.contains(";vs=01") && new.contains(";vs=02"));
    let address = Some(Received::Address(Transport::Udp, udp.remote));
    assert_eq!(read(old.as_bytes(), false, &keys(&[2, 1])), address);
    assert_eq!(read(new.as_bytes(), false, &keys(&[1, 2])), address, "announced before use");
    assert_eq!(read(old.as_bytes(), false, &keys(&[3, 2])), Some(Received::Forged), "retired");
}

#[test]
fn unusable_keys_are_refused_and_secrets_not_shown() {
    let new = |keys: &[(u8, usize)]| {
        PathKeys::new(keys.iter().map(|(id, length)| (*id, vec![9; *length])).collect())
            .map(|keys| keys.is_empty())
    };
    assert_eq!(new(&[]), Err(PathKeyError::Empty));
    assert_eq!(new(&[(1, 16), (2, 15)]), Err(PathKeyError::Short(2)));
    assert_eq!(new(&[(1, 16), (1, 16)]), Err(PathKeyError::Duplicate(1)));
    assert_eq!(new(&[(1, 16), (2, 200)]), Ok(false));
    assert_eq!(format!("{:?}", keys(&[1, 2])), "{1, 2}");
}

#[test]
fn a_wss_value_is_read_as_the_ws_it_is_written_as() {
    let wss = flow(Transport::Wss, "198.51.100.7:40000");
    let mut on_wss = value(b"", Some(&wss));
    (on_wss.transport, on_wss.port) = (Transport::Wss, 5061);
    let text = written(&on_wss, &keys(&[1]));
    let address = Received::Address(Transport::Ws, wss.remote);
    assert_eq!(read(text.as_bytes(), false, &keys(&[1])), Some(address), "{text}");
}

#[test]
fn the_first_value_of_a_vector_ends_at_its_comma() {
    let vector = br#""a, <b\"," <sip:u,x@p2;lr>;y="1,2" ,  <sip:p1;lr>"#;
    let (first, rest) = first_value(vector).unwrap();
    assert_eq!(first, br#""a, <b\"," <sip:u,x@p2;lr>;y="1,2""#);
    assert_eq!(first_value(rest), Some((&b"<sip:p1;lr>"[..], &b""[..])));
    assert_eq!(first_value(b""), None);
    assert_eq!(first_value(b"  "), None);
}

#[test]
fn r_p1_lines_and_commas_collect_to_the_same_vector() {
    let collect = |lines: &str| {
        let text = format!("REGISTER sip:h SIP/2.0\r\n{lines}\r\n\r\n");
        let mut head = Head::new();
        head.scan(text.as_bytes(), &Limits::default()).unwrap();
        let mut out = b"kept ".to_vec();
        let count = collect_path(Message::new(text.as_bytes(), &head), 16, 2048, &mut out);
        (count, String::from_utf8(out).unwrap())
    };
    let one = "Path: <sip:p3;lr>,<sip:p2;lr>,\r\n <sip:p1;lr>";
    let three = "Path: <sip:p3;lr>\r\nX: y\r\npath: <sip:p2;lr>\r\nPATH:<sip:p1;lr>";
    let expected = (Ok(3), "kept <sip:p3;lr>, <sip:p2;lr>, <sip:p1;lr>".to_owned());
    assert_eq!(collect(one), expected);
    assert_eq!(collect(three), expected);
    assert_eq!(collect("X: y"), (Ok(0), "kept ".into()));
    assert_eq!(collect("Path: <sip:p1>"), (Err(PathFault::NotLoose), "kept ".into()));
    let folded = collect("Path: \"a\r\n b\" <sip:p1;lr>").1;
    assert_eq!(folded, "kept \"a   b\" <sip:p1;lr>");
}

proptest! {
    #[test]
    fn signed_values_round_trip(
        user in "[a-zA-Z0-9._%-]{0,20}", ip: std::net::IpAddr, port in 1u16.., own_port in 1u16..,
        tcp: bool,
    ) {
        prop_assume!(!user.contains('%'));
        let remote = std::net::SocketAddr::new(ip.to_canonical(), port);
        let mut text = Vec::new();
        write_received(Transport::Tcp, remote, &mut text);
        prop_assume!(parse_received(&text).is_some());
        let transport = if tcp { Transport::Tcp } else { Transport::Udp };
        let flow = Flow { transport, remote, ..flow(transport, "192.0.2.1:1") };
        let mut value = value(user.as_bytes(), Some(&flow));
        (value.port, value.transport) = (own_port, transport);
        let text = written(&value, &keys(&[1]));
        let expected = Received::Address(transport, remote);
        prop_assert_eq!(read(text.as_bytes(), false, &keys(&[1])), Some(expected));
    }

    #[test]
    fn one_changed_byte_never_leads_elsewhere(at in any::<prop::sample::Index>(), byte: u8) {
        let tcp = flow(Transport::Tcp, "198.51.100.7:40000");
        let keys = keys(&[1, 2]);
        let mut text = written(&value(b"alice", Some(&tcp)), &keys).into_bytes();
        let at = at.index(text.len());
        text[at] = byte;
        // What means the same (another case, say) may still be read as the same address.
        if let Some(Received::Address(transport, addr)) = read(&text, false, &keys) {
            prop_assert_eq!((transport, addr), (Transport::Tcp, tcp.remote));
        }
        let signature = String::from_utf8_lossy(&text).find(";vs=").map_or(0, |at| at + 4);
        if signature > 0 && (signature..signature + 18).contains(&at) {
            let same = written(&value(b"alice", Some(&tcp)), &keys).into_bytes() == text;
            let address = matches!(read(&text, false, &keys), Some(Received::Address(..)));
            prop_assert_eq!(address, same);
        }
    }

    #[test]
    fn any_route_uri_is_read_without_panic(
        text in "<sip:[a-z@.;=%:\\[\\]0-9~]{0,80}>", trusted: bool,
    ) {
        let _ = read(text.as_bytes(), trusted, &keys(&[1]));
        let _ = first_value(text.as_bytes());
    }
}
