//! Flow tokens (RFC 5626 5.2, R-O1): a flow as the user part of a URI of ours, so that a request
//! which comes back with it finds the flow without any state of ours.
//!
//! `~1kkLETTERS`: version, id of the key in two hex digits, then base64url of
//!
//! ```text
//! kind     1 byte: transport, with the high bit set where the addresses are IPv6
//! local    4 or 16 bytes of address, 2 of port
//! remote   the same
//! start    4 bytes, streams only: which run of the router the connection belongs to
//! conn     8 bytes, streams only: its number, so that a reused address is not the old flow
//! MAC      12 bytes of HMAC-SHA256
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use smallvec::SmallVec;

use super::keys::{MAC_BYTES, PathKeys, hex_digit};
use crate::flow::{ConnId, Flow, Transport};

const PREFIX: &[u8] = b"~1";
const PURPOSE: &[u8] = b"viaduct flow 1\0";
const IPV6: u8 = 0x80;
/// Longest content: two IPv6 addresses and a connection, with the MAC.
const MAX_BYTES: usize = 1 + 2 * 18 + 12 + MAC_BYTES;

/// What a user part says about a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowToken {
    /// It is no flow token.
    None,
    /// This flow, in our word.
    Flow(Flow),
    /// A connection of an earlier run of the router.
    Gone,
    /// It looks like a token and is not ours: 403.
    Forged,
}

/// Appends the token of a flow; false, and nothing appended, where there is no key. `start` names
/// this run of the router: the numbers of connections begin anew with it.
pub fn write_flow_token(flow: &Flow, start: u32, keys: &PathKeys, out: &mut Vec<u8>) -> bool {
    let mut bytes = SmallVec::<[u8; MAX_BYTES]>::new();
    let (local, remote) = (flow.local, flow.remote);
    let ips = (local.ip().to_canonical(), remote.ip().to_canonical());
    match ips {
        (IpAddr::V4(a), IpAddr::V4(b)) => {
            bytes.push(flow.transport as u8);
            write_end(&a.octets(), local.port(), &mut bytes);
            write_end(&b.octets(), remote.port(), &mut bytes);
        }
        (a, b) => {
            bytes.push(flow.transport as u8 | IPV6);
            write_end(&mapped(a).octets(), local.port(), &mut bytes);
            write_end(&mapped(b).octets(), remote.port(), &mut bytes);
        }
    }
    if flow.transport.is_reliable() {
        bytes.extend_from_slice(&start.to_be_bytes());
        bytes.extend_from_slice(&flow.conn.0.to_be_bytes());
    }
    let Some((id, mac)) = keys.mac(PURPOSE, &bytes) else { return false };
    bytes.extend_from_slice(&mac);
    out.extend_from_slice(PREFIX);
    out.extend_from_slice(&[hex_digit(id >> 4), hex_digit(id & 15)]);
    let mut letters = [0u8; MAX_BYTES * 4 / 3 + 4];
    // There is room for the longest content.
    let length = URL_SAFE_NO_PAD.encode_slice(&bytes, &mut letters).unwrap_or(0);
    out.extend_from_slice(letters.get(..length).unwrap_or_default());
    true
}

fn write_end(ip: &[u8], port: u16, out: &mut SmallVec<[u8; MAX_BYTES]>) {
    out.extend_from_slice(ip);
    out.extend_from_slice(&port.to_be_bytes());
}

fn mapped(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    }
}

/// Reads a user part, as written.
pub fn read_flow_token(user: &[u8], start: u32, keys: &PathKeys) -> FlowToken {
    match user.strip_prefix(PREFIX) {
        None => FlowToken::None,
        Some(rest) => read(rest, start, keys).unwrap_or(FlowToken::Forged),
    }
}

fn read(text: &[u8], start: u32, keys: &PathKeys) -> Option<FlowToken> {
    let (id, letters) = text.split_at_checked(2)?;
    let lower = |c: &u8| c.is_ascii_digit() || (b'a'..=b'f').contains(c);
    let id = std::str::from_utf8(id).ok().filter(|id| id.bytes().all(|c| lower(&c)))?;
    let id = u8::from_str_radix(id, 16).ok()?;
    // The decoder asks for room by its estimate, which exceeds the exact length.
    let mut bytes = [0u8; MAX_BYTES + 4];
    let length = URL_SAFE_NO_PAD.decode_slice(letters, &mut bytes).ok()?;
    let bytes = bytes.get(..length)?;
    let (signed, mac) = bytes.split_at_checked(length.checked_sub(MAC_BYTES)?)?;
    if !keys.verify_mac(id, PURPOSE, signed, mac) {
        return None;
    }
    let mut reader = Reader(signed);
    let [kind] = reader.take()?;
    let transport = match kind & !IPV6 {
        1 => Transport::Udp,
        2 => Transport::Tcp,
        3 => Transport::Tls,
        5 => Transport::Ws,
        6 => Transport::Wss,
        _ => return None,
    };
    let v6 = kind & IPV6 != 0;
    let (local, remote) = (reader.end(v6)?, reader.end(v6)?);
    let mut conn = ConnId::NONE;
    if transport.is_reliable() {
        if u32::from_be_bytes(reader.take()?) != start {
            return Some(FlowToken::Gone);
        }
        conn = ConnId(u64::from_be_bytes(reader.take()?));
    }
    Some(FlowToken::Flow(Flow { transport, local, remote, conn }))
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*bytes)
    }

    fn end(&mut self, v6: bool) -> Option<SocketAddr> {
        let ip = match v6 {
            true => IpAddr::V6(Ipv6Addr::from(self.take::<16>()?)).to_canonical(),
            false => IpAddr::V4(Ipv4Addr::from(self.take::<4>()?)),
        };
        Some(SocketAddr::new(ip, u16::from_be_bytes(self.take()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const START: u32 = 77;

    fn keys(ids: &[u8]) -> PathKeys {
        PathKeys::new(ids.iter().map(|id| (*id, vec![*id; 32])).collect()).unwrap()
    }

    fn flow(transport: Transport, remote: &str) -> Flow {
        let remote: SocketAddr = remote.parse().unwrap();
        let local = if remote.is_ipv4() { "192.0.2.1:5060" } else { "[2001:db8::1]:5060" };
        let conn = if transport.is_reliable() { ConnId::new(2, 9) } else { ConnId::NONE };
        Flow { transport, local: local.parse().unwrap(), remote, conn }
    }

    fn token(flow: &Flow, keys: &PathKeys) -> Vec<u8> {
        let mut out = Vec::new();
        assert!(write_flow_token(flow, START, keys, &mut out));
        out
    }

    #[test]
    fn r_o1_a_flow_comes_back_from_its_token() {
        let keys = keys(&[1]);
        for (transport, remote) in [
            (Transport::Udp, "198.51.100.7:40000"),
            (Transport::Tcp, "198.51.100.7:40000"),
            (Transport::Wss, "[2001:db8::7]:1"),
        ] {
            let flow = flow(transport, remote);
            let token = token(&flow, &keys);
            assert_eq!(read_flow_token(&token, START, &keys), FlowToken::Flow(flow));
            let safe = |c: &u8| c.is_ascii_alphanumeric() || b"-_~".contains(c);
            assert!(token.iter().all(safe), "a URI user that needs no escaping");
        }
    }

    #[test]
    fn r_o1_keys_rotate_with_overlap_and_strangers_are_forgers() {
        let flow = flow(Transport::Udp, "198.51.100.7:40000");
        let old = token(&flow, &keys(&[1]));
        assert_eq!(read_flow_token(&old, START, &keys(&[2, 1])), FlowToken::Flow(flow));
        assert_eq!(read_flow_token(&old, START, &keys(&[2])), FlowToken::Forged);
        assert!(!write_flow_token(&flow, START, &PathKeys::default(), &mut Vec::new()));
    }

    #[test]
    fn r_o1_a_connection_of_an_earlier_run_is_not_taken_for_a_later_one() {
        let (tcp, udp) = (flow(Transport::Tcp, "1.2.3.4:5"), flow(Transport::Udp, "1.2.3.4:5"));
        let keys = keys(&[1]);
        assert_eq!(read_flow_token(&token(&tcp, &keys), START + 1, &keys), FlowToken::Gone);
        let after = read_flow_token(&token(&udp, &keys), START + 1, &keys);
        assert_eq!(after, FlowToken::Flow(udp), "a datagram needs no connection");
    }

    proptest! {
        #[test]
        fn r_o1_a_token_that_was_changed_is_forged(
            at in any::<prop::sample::Index>(), byte: u8, remote: SocketAddr,
        ) {
            let keys = keys(&[1]);
            let remote = SocketAddr::new(remote.ip(), remote.port());
            let good = token(&flow(Transport::Tcp, &remote.to_string()), &keys);
            let mut bad = good.clone();
            let at = at.index(bad.len());
            bad[at] = byte;
            prop_assume!(bad != good);
            let read = read_flow_token(&bad, START, &keys);
            prop_assert!(matches!(read, FlowToken::Forged | FlowToken::None), "{read:?}");
        }

        #[test]
        fn any_user_is_read_without_harm(
            user: Vec<u8>, letters in "~1[0-9a-f]{2}[A-Za-z0-9_-]{0,120}",
        ) {
            let read = read_flow_token(letters.as_bytes(), START, &keys(&[1]));
            prop_assert_ne!(read, FlowToken::None);
            let _ = read_flow_token(&user, START, &keys(&[1]));
        }
    }
}
