//! What goes in, and what is said of it.

use super::frame::Frame;
use super::{TAGGED, V4, V6};

pub(crate) const OPTIONS: &[u8] =
    b"OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nCall-ID: 1@h\r\n\r\n";
const PHONE: &str = "198.51.100.7:5060";
const PHONE6: &str = "[2001:db8::7]:5060";

fn v4(payload: &[u8]) -> Frame {
    Frame::new(PHONE, V4, payload)
}

fn v6(payload: &[u8]) -> Frame {
    Frame::new(PHONE6, V6, payload)
}

/// Description, packet, verdict. There are no sockets, so `no_socket` is what would be redirected.
pub(crate) fn cases() -> Vec<(String, Vec<u8>, &'static str)> {
    let mut cases = Vec::new();
    let mut case = |what: &str, frame: Frame, verdict| {
        cases.push((what.to_owned(), frame.bytes(), verdict));
    };
    for (family, base) in [("IPv4", v4 as fn(&[u8]) -> Frame), ("IPv6", v6)] {
        let mut case = |what: &str, frame: Frame, verdict| {
            case(&format!("{family}: {what}"), frame, verdict);
        };
        let ok = || base(OPTIONS);
        case("a request", ok(), "no_socket");
        case("to another port", ok().with(|f| f.target.set_port(5061)), "not_ours");
        case("from port 0", ok().with(|f| f.source.set_port(0)), "malformed");
        case("to another station", ok().with(|f| f.target_mac[5] = 7), "not_ours");
        case("to all stations", ok().with(|f| f.target_mac = [0xff; 6]), "not_ours");
        case("TCP", ok().with(|f| f.protocol = 6), "not_udp");
        case("ICMP", ok().with(|f| f.protocol = 1), "not_udp");
        case("SCTP", ok().with(|f| f.protocol = 132), "not_udp");
        case("padded by Ethernet", ok().with(|f| f.padding = 20), "no_socket");
        case("UDP shorter than IP says", ok().with(|f| f.udp_length = -2), "no_socket");
        case("UDP longer than IP says", ok().with(|f| f.udp_length = 1), "malformed");
        case("UDP shorter than its header", base(b"").with(|f| f.udp_length = -1), "malformed");
        case("IP longer than the frame", ok().with(|f| f.ip_length = 1), "malformed");
        case("IP ends inside UDP's header", base(b"").with(|f| f.ip_length = -1), "malformed");
        case("one byte is missing", ok().with(|f| f.cut = 1), "malformed");
        case("cut inside UDP's header", base(b"").with(|f| f.cut = 3), "malformed");
        case("cut inside IP's header", base(b"").with(|f| f.cut = 10), "malformed");
        case("another version", ok().with(|f| f.version = Some(0x55)), "malformed");
        case("in a VLAN we do not serve", ok().with(|f| f.tags = vec![(0x8100, 5)]), "not_ours");
        case("priority tag", ok().with(|f| f.tags = vec![(0x8100, 0xe000)]), "no_socket");
        let twice = ok().with(|f| f.tags = vec![(0x88a8, 5), (0x8100, 6)]);
        case("two tags", twice, "not_ip");
        case("another ethertype", ok().with(|f| f.kind = Some(0x88cc)), "not_ip");
        case("ARP", ok().with(|f| f.kind = Some(0x0806)), "not_ip");
        case("empty datagram", base(b""), "nobodys");
        case("keep-alive", base(b"\r\n\r\n"), "nobodys");
        case("STUN", base(&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42]), "nobodys");
        case("one byte", base(b"O"), "nobodys");
        case("no Call-ID", base(b"OPTIONS sip:a@b SIP/2.0\r\nTo: a\r\n\r\n"), "nobodys");
        case("only a line", base(b"OPTIONS sip:a@b SIP/2.0\r\n"), "nobodys");
        case("a Call-ID without an end", base(b"OPTIONS x\r\nCall-ID: 1"), "nobodys");
        case("a compact Call-ID", base(b"OPTIONS x\r\ni:1\r\n\r\n"), "no_socket");
        case("a response to a stranger", base(b"SIP/2.0 200 OK\r\nVia: x\r\n\r\n"), "nobodys");
        case("too long for a frame", base(&[b'x'; 1_800]), "too_long");
    }
    case("more fragments follow", v4(OPTIONS).with(|f| f.fragment = 0x2000), "fragment");
    case("a later fragment", v4(OPTIONS).with(|f| f.fragment = 0x0010), "fragment");
    case("don't fragment is no fragment", v4(OPTIONS).with(|f| f.fragment = 0x4000), "no_socket");
    case("IPv4 options", v4(OPTIONS).with(|f| f.version = Some(0x46)), "options");
    case("a header shorter than IPv4's", v4(OPTIONS).with(|f| f.version = Some(0x44)), "options");
    case("IPv6 fragment", v6(OPTIONS).with(|f| f.protocol = 44), "fragment");
    for (name, protocol) in [("hop-by-hop", 0), ("routing", 43), ("destination", 60)] {
        case(&format!("IPv6 {name}"), v6(OPTIONS).with(|f| f.protocol = protocol), "options");
    }
    case("another address", Frame::new(PHONE, "192.0.2.3:5060", OPTIONS), "not_ours");
    case("the mapped address", Frame::new(PHONE6, "[::ffff:192.0.2.1]:5060", OPTIONS), "not_ours");
    let tagged =
        |protocol, tag| Frame::new(PHONE, TAGGED, OPTIONS).with(|f| f.tags = vec![(protocol, tag)]);
    case("in our VLAN", tagged(0x8100, 100), "no_socket");
    case("in our VLAN with a priority", tagged(0x8100, 0xa000 | 100), "no_socket");
    case("in our service VLAN", tagged(0x88a8, 100), "no_socket");
    case("in another VLAN", tagged(0x8100, 101), "not_ours");
    case("our VLAN's address untagged", Frame::new(PHONE, TAGGED, OPTIONS), "not_ours");
    for length in [14, 15, 17, 20, 33] {
        let packet = v4(OPTIONS).bytes()[..length].to_vec();
        cases.push((format!("the first {length} bytes"), packet, "malformed"));
    }
    cases
}
