//! Frames for the tables of the steering program, built field by field so that each may be wrong.

use std::net::{IpAddr, SocketAddr};

/// The interface's hardware address in the tables.
pub(crate) const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// A UDP datagram with every field that the program looks at.
#[derive(Clone)]
pub(crate) struct Frame {
    pub(crate) target_mac: [u8; 6],
    /// Tags, outermost first: protocol and VLAN.
    pub(crate) tags: Vec<(u16, u16)>,
    /// Instead of the type that fits the addresses.
    pub(crate) kind: Option<u16>,
    pub(crate) source: SocketAddr,
    pub(crate) target: SocketAddr,
    /// First byte of the IP header.
    pub(crate) version: Option<u8>,
    pub(crate) protocol: u8,
    /// IPv4's flags and offset.
    pub(crate) fragment: u16,
    /// Added to the length that the IP header states.
    pub(crate) ip_length: i32,
    /// Added to the length that the UDP header states.
    pub(crate) udp_length: i32,
    pub(crate) payload: Vec<u8>,
    /// Bytes cut off at the end.
    pub(crate) cut: usize,
    /// Bytes after the packet, as Ethernet pads short ones.
    pub(crate) padding: usize,
}

impl Frame {
    pub(crate) fn new(source: &str, target: &str, payload: &[u8]) -> Frame {
        Frame {
            target_mac: MAC,
            tags: Vec::new(),
            kind: None,
            source: source.parse().unwrap(),
            target: target.parse().unwrap(),
            version: None,
            protocol: 17,
            fragment: 0,
            ip_length: 0,
            udp_length: 0,
            payload: payload.to_vec(),
            cut: 0,
            padding: 0,
        }
    }

    pub(crate) fn with(mut self, change: impl FnOnce(&mut Frame)) -> Frame {
        change(&mut self);
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut out = [self.target_mac, [2, 0, 0, 0, 0, 9]].concat();
        for (protocol, vlan) in &self.tags {
            out.extend(protocol.to_be_bytes());
            out.extend(vlan.to_be_bytes());
        }
        let natural = if self.target.is_ipv4() { 0x0800u16 } else { 0x86dd };
        out.extend(self.kind.unwrap_or(natural).to_be_bytes());
        let udp_length = 8 + self.payload.len();
        let stated = |length: usize, add: i32| (length as i32 + add) as u16;
        match (self.source.ip(), self.target.ip()) {
            (IpAddr::V4(source), IpAddr::V4(target)) => {
                out.extend([self.version.unwrap_or(0x45), 0]);
                out.extend(stated(20 + udp_length, self.ip_length).to_be_bytes());
                out.extend([0, 1]);
                out.extend(self.fragment.to_be_bytes());
                out.extend([64, self.protocol, 0, 0]);
                out.extend(source.octets());
                out.extend(target.octets());
            }
            (IpAddr::V6(source), IpAddr::V6(target)) => {
                out.extend([self.version.unwrap_or(0x60), 0, 0, 0]);
                out.extend(stated(udp_length, self.ip_length).to_be_bytes());
                out.extend([self.protocol, 64]);
                out.extend(source.octets());
                out.extend(target.octets());
            }
            _ => panic!("addresses of two families"),
        }
        out.extend(self.source.port().to_be_bytes());
        out.extend(self.target.port().to_be_bytes());
        out.extend(stated(udp_length, self.udp_length).to_be_bytes());
        out.extend([0, 0]);
        out.extend(&self.payload);
        out.truncate(out.len() - self.cut);
        out.resize(out.len() + self.padding, 0);
        out
    }
}
