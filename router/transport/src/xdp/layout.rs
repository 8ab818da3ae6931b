//! What `bpf/steer.bpf.c` and user space share: the layouts of the maps, and the verdicts' names.
//!
//! Unsafe is only the promise that these structs are plain bytes.
#![allow(unsafe_code)]

use std::net::{IpAddr, SocketAddr};

/// Most workers a program knows.
pub const MOST_WORKERS: u32 = 64;
/// Most queues of an interface a program knows.
pub const MOST_QUEUES: u32 = 64;

/// What the program did with packets, in the order of its counters.
pub const VERDICTS: [&str; 12] = [
    "redirected",
    "not_ip",
    "not_udp",
    "fragment",
    "options",
    "malformed",
    "not_ours",
    "nobodys",
    "no_socket",
    "too_long",
    "banned",
    "too_fast",
];

/// `struct settings`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Workers among which messages are divided.
    pub workers: u32,
    /// Longest frame the sockets take, bytes.
    pub longest_frame: u32,
    /// The interface's own address.
    pub mac: [u8; 6],
    /// Nothing.
    pub pad: u16,
    /// 1: look sources up in the ban list.
    pub banning: u32,
    /// Nothing.
    pub hole: u32,
    /// Packets a source may send a second; 0: any number.
    pub per_second: u64,
    /// Packets a source may send at once.
    pub burst: u64,
}

/// `struct address`: IPv4 as ::ffff:a.b.c.d.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Address {
    /// In network order.
    pub bytes: [u8; 16],
}

impl From<IpAddr> for Address {
    fn from(ip: IpAddr) -> Address {
        let v6 = match ip {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        Address { bytes: v6.octets() }
    }
}

impl From<Address> for IpAddr {
    fn from(address: Address) -> IpAddr {
        IpAddr::from(address.bytes).to_canonical()
    }
}

/// `struct listener`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ListenerKey {
    /// Where packets are sent to.
    pub address: Address,
    /// In network order.
    pub port_be: u16,
    /// VLAN of the frames; 0: untagged.
    pub vlan: u16,
}

impl ListenerKey {
    /// The key of a listener's address on a VLAN (0: none).
    pub fn new(addr: SocketAddr, vlan: u16) -> ListenerKey {
        ListenerKey { address: addr.ip().into(), port_be: addr.port().to_be(), vlan }
    }
}

// SAFETY: repr(C), integers and arrays of them only, no padding (`pad` and `hole` fill it),
// every bit pattern valid; the sizes are compared with the program's by the kernel at each access.
unsafe impl aya::Pod for Settings {}
// SAFETY: as above.
unsafe impl aya::Pod for Address {}
// SAFETY: as above.
unsafe impl aya::Pod for ListenerKey {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_have_no_holes() {
        assert_eq!(size_of::<Settings>(), 4 + 4 + 6 + 2 + 4 + 4 + 8 + 8);
        assert_eq!(size_of::<ListenerKey>(), 20);
    }

    #[test]
    fn addresses_of_both_families_come_back() {
        for text in ["192.0.2.7", "2001:db8::7"] {
            let ip: IpAddr = text.parse().unwrap();
            assert_eq!(IpAddr::from(Address::from(ip)), ip);
        }
    }
}
