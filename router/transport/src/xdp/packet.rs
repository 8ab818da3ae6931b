//! Ethernet, IP and UDP around a SIP message: read from a received frame, written before a sent one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;

use super::checksum::Sum;

/// Longest headers written: Ethernet with a VLAN tag, IPv6, UDP.
pub(super) const MOST_HEADERS: usize = 14 + 4 + 40 + 8;

const TYPE_IPV4: u16 = 0x0800;
const TYPE_IPV6: u16 = 0x86dd;
const TYPE_VLAN: u16 = 0x8100;
const TYPE_SERVICE_VLAN: u16 = 0x88a8;
const UDP: u8 = 17;
const HOP_LIMIT: u8 = 64;

/// A hardware address.
pub type Mac = [u8; 6];

/// A UDP datagram inside a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parsed {
    pub(super) vlan: u16,
    pub(super) source: SocketAddr,
    pub(super) target: SocketAddr,
    /// Where the payload is in the frame.
    pub(super) payload: Range<usize>,
}

/// Why a frame is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unfit {
    /// The steering program lets no such frame through.
    Shape,
    /// Damaged on the way.
    Checksum,
}

/// Reads a frame that the steering program has let through: it has looked at every length, so that
/// here only the checksums are new. UDP's may be right, absent (IPv4), or partial: a peer on this
/// very machine leaves the sum of the pseudo-header there for a network card to complete.
pub(super) fn parse(frame: &[u8]) -> Result<Parsed, Unfit> {
    let mut kind = u16_at(frame, 12)?;
    let (mut at, mut vlan) = (14, 0);
    if kind == TYPE_VLAN || kind == TYPE_SERVICE_VLAN {
        vlan = u16_at(frame, 14)? & 0x0fff;
        kind = u16_at(frame, 16)?;
        at = 18;
    }
    let (source, target, udp) = match kind {
        TYPE_IPV4 => read_ipv4(frame, at)?,
        TYPE_IPV6 => read_ipv6(frame, at)?,
        _ => return Err(Unfit::Shape),
    };
    let datagram = frame.get(udp.clone()).ok_or(Unfit::Shape)?;
    let length = u16_at(datagram, 4)?;
    let datagram = datagram.get(..usize::from(length)).ok_or(Unfit::Shape)?;
    if length < 8 {
        return Err(Unfit::Shape);
    }
    let pseudo = Sum::default().pseudo(source, target, length);
    let stated = u16_at(datagram, 6)?;
    let is_absent = stated == 0 && source.is_ipv4();
    // All ones is zero in this arithmetic, and what a right sum comes to.
    if !is_absent && pseudo.bytes(datagram).folded() != 0xffff && stated != pseudo.folded() {
        return Err(Unfit::Checksum);
    }
    let payload = udp.start.saturating_add(8)..udp.start.saturating_add(usize::from(length));
    Ok(Parsed {
        vlan,
        source: SocketAddr::new(source, u16_at(datagram, 0)?),
        target: SocketAddr::new(target, u16_at(datagram, 2)?),
        payload,
    })
}

fn read_ipv4(frame: &[u8], at: usize) -> Result<(IpAddr, IpAddr, Range<usize>), Unfit> {
    let header = frame.get(at..at.saturating_add(20)).ok_or(Unfit::Shape)?;
    if header.first() != Some(&0x45) || header.get(9) != Some(&UDP) {
        return Err(Unfit::Shape);
    }
    if Sum::default().bytes(header).folded() != 0xffff {
        return Err(Unfit::Checksum);
    }
    let total = usize::from(u16_at(header, 2)?);
    let of = |from| array_at::<4>(header, from).map(|octets| IpAddr::V4(Ipv4Addr::from(octets)));
    Ok((of(12)?, of(16)?, at.saturating_add(20)..at.saturating_add(total)))
}

fn read_ipv6(frame: &[u8], at: usize) -> Result<(IpAddr, IpAddr, Range<usize>), Unfit> {
    let header = frame.get(at..at.saturating_add(40)).ok_or(Unfit::Shape)?;
    if header.first().map(|byte| byte >> 4) != Some(6) || header.get(6) != Some(&UDP) {
        return Err(Unfit::Shape);
    }
    let length = usize::from(u16_at(header, 4)?);
    let of = |from| array_at::<16>(header, from).map(|octets| IpAddr::V6(Ipv6Addr::from(octets)));
    let start = at.saturating_add(40);
    Ok((of(8)?, of(24)?, start..start.saturating_add(length)))
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16, Unfit> {
    array_at(bytes, at).map(u16::from_be_bytes)
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], Unfit> {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().ok_or(Unfit::Shape)
}

/// The first part of the way to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hop {
    pub(super) source_mac: Mac,
    pub(super) target_mac: Mac,
    /// 0: untagged.
    pub(super) vlan: u16,
    /// Longest IP packet, bytes.
    pub(super) mtu: usize,
}

/// Bytes of IP and UDP headers before a payload to `ip`.
pub(super) fn ip_headers(ip: IpAddr) -> usize {
    if ip.is_ipv4() { 28 } else { 48 }
}

/// Headers before a payload, in the order they are sent.
pub(super) struct Headers {
    bytes: [u8; MOST_HEADERS],
    length: usize,
}

impl Headers {
    /// The headers of a datagram; `None` where the addresses are of two families or the payload is
    /// too long for UDP. `id` is IPv4's: packets are sent without "don't fragment" (a router on a
    /// narrower way must be able to cut them, as nobody here hears its ICMP), so it must not repeat
    /// soon (RFC 6864 4).
    pub(super) fn new(
        hop: &Hop,
        source: SocketAddr,
        target: SocketAddr,
        payload: &[u8],
        id: u16,
    ) -> Option<Headers> {
        let udp_length = u16::try_from(payload.len().checked_add(8)?).ok()?;
        let mut headers = Headers { bytes: [0; MOST_HEADERS], length: 0 };
        headers.put(&hop.target_mac).put(&hop.source_mac);
        if hop.vlan != 0 {
            headers.put(&TYPE_VLAN.to_be_bytes()).put(&hop.vlan.to_be_bytes());
        }
        match (source.ip(), target.ip()) {
            (IpAddr::V4(source), IpAddr::V4(target)) => {
                headers.put(&TYPE_IPV4.to_be_bytes());
                headers.put(&ipv4(source, target, udp_length.checked_add(20)?, id));
            }
            (IpAddr::V6(source), IpAddr::V6(target)) => {
                headers.put(&TYPE_IPV6.to_be_bytes()).put(&[0x60, 0, 0, 0]);
                headers.put(&udp_length.to_be_bytes()).put(&[UDP, HOP_LIMIT]);
                headers.put(&source.octets()).put(&target.octets());
            }
            _ => return None,
        }
        let ports = [source.port().to_be_bytes(), target.port().to_be_bytes()];
        let sum = Sum::default().pseudo(source.ip(), target.ip(), udp_length);
        let sum = sum.bytes(ports.as_flattened()).bytes(&udp_length.to_be_bytes());
        // Zero would mean "no checksum" (RFC 768).
        let checksum = match sum.bytes(payload).checksum() {
            0 => 0xffff,
            sum => sum,
        };
        headers.put(ports.as_flattened()).put(&udp_length.to_be_bytes());
        headers.put(&checksum.to_be_bytes());
        Some(headers)
    }

    /// The bytes.
    pub(super) fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    fn put(&mut self, bytes: &[u8]) -> &mut Headers {
        let end = self.length.saturating_add(bytes.len());
        if let Some(room) = self.bytes.get_mut(self.length..end) {
            room.copy_from_slice(bytes);
            self.length = end;
        }
        self
    }
}

fn ipv4(source: Ipv4Addr, target: Ipv4Addr, total: u16, id: u16) -> [u8; 20] {
    let [total, id] = [total.to_be_bytes(), id.to_be_bytes()];
    let (s, t) = (source.octets(), target.octets());
    let mut header = [
        0x45, 0, total[0], total[1], id[0], id[1], 0, 0, HOP_LIMIT, UDP, 0, 0, s[0], s[1], s[2],
        s[3], t[0], t[1], t[2], t[3],
    ];
    let checksum = Sum::default().bytes(&header).checksum().to_be_bytes();
    [header[10], header[11]] = checksum;
    header
}

#[cfg(test)]
#[path = "packet_tests.rs"]
mod tests;
