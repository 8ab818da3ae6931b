//! What `bpf/relay.bpf.c` and user space share: the layouts of the maps, and the names of outcomes.
//!
//! Unsafe is only the promise that these structs are plain bytes.
#![allow(unsafe_code)]

use std::net::{IpAddr, SocketAddr};

use crate::session::{Budget, Counter, Leg, LegFlags};

/// What the program did with packets to legs, in the order of its counters: relayed, dropped, or
/// left to user space and why.
pub const OUTCOMES: [&str; 9] = [
    "media_relayed",
    "media_dropped",
    "media_up",
    "media_long_rtcp",
    "media_checksum",
    "media_not_forwarding",
    "media_no_neighbour",
    "media_no_route",
    "media_no_device",
];

/// What is counted for each leg, in the order of the program's counters.
pub(super) const COUNTED: [Counter; 11] = [
    Counter::Packets,
    Counter::Octets,
    Counter::Rtp,
    Counter::Rtcp,
    Counter::Class,
    Counter::Malformed,
    Counter::Size,
    Counter::PayloadType,
    Counter::Foreign,
    Counter::Limited,
    Counter::Hops,
];

/// `AS_IT_CAME`.
const DSCP_AS_IT_CAME: u8 = 255;

/// `struct address`: IPv4 as ::ffff:a.b.c.d, in network order.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Address([u8; 16]);

impl From<IpAddr> for Address {
    fn from(ip: IpAddr) -> Self {
        let v6 = match ip {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        Self(v6.octets())
    }
}

/// `struct local`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Local {
    address: Address,
    /// In network order.
    port_be: u16,
    pad: u16,
}

impl From<SocketAddr> for Local {
    fn from(local: SocketAddr) -> Self {
        Self { address: local.ip().into(), port_be: local.port().to_be(), pad: 0 }
    }
}

/// `struct rate`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Rate {
    cost: u64,
    depth_ns: u64,
}

impl From<Budget> for Rate {
    fn from(budget: Budget) -> Self {
        const SECOND_NS: u64 = 1_000_000_000;
        if budget.per_s == 0 {
            return Self::default();
        }
        let per_s = u64::from(budget.per_s);
        // At most 2^32 units of a second each: below 2^62.
        let depth_ns = u64::from(budget.burst).saturating_mul(SECOND_NS) / per_s;
        Self { cost: (SECOND_NS << 10) / per_s, depth_ns }
    }
}

/// `struct stream`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Stream {
    pub(super) expected: u64,
    pub(super) received: u64,
    pub(super) past_expected: u64,
    pub(super) past_lost: u64,
    pub(super) last_ns: u64,
    pub(super) jitter_16us: u64,
    pub(super) timestamp: u32,
    pub(super) ssrc: u32,
    pub(super) highest: u16,
    pub(super) begun: u16,
    pub(super) jitter_us: u32,
}

/// `struct leg`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Entry {
    peer: Address,
    from: Address,
    to: Address,
    peer_port_be: u16,
    from_port_be: u16,
    to_port_be: u16,
    size_max: u16,
    forward: u32,
    up: u32,
    slot: u32,
    clock_hz: u32,
    payload_types: [u64; 2],
    packets: Rate,
    octets: Rate,
    srtp: u8,
    dscp: u8,
    pad: u16,
    /// Whether its first packet has been told of.
    pub(super) heard: u32,
    packets_full_at: u64,
    octets_full_at: u64,
    told_ns: u64,
    /// On the monotonic clock; 0: nothing was relayed.
    pub(super) seen_ns: u64,
    pub(super) stream: Stream,
}

impl Entry {
    /// What arrives at `leg` from `peer` leaves from the leg `out` to `to`.
    pub(super) fn new(
        slot: u32,
        (leg, peer): (&Leg, SocketAddr),
        (out, to): (&Leg, SocketAddr),
    ) -> Self {
        let types = leg.payload_types;
        Self {
            peer: peer.ip().into(),
            from: out.local.ip().into(),
            to: to.ip().into(),
            peer_port_be: peer.port().to_be(),
            from_port_be: out.local.port().to_be(),
            to_port_be: to.port().to_be(),
            size_max: leg.max_size,
            forward: leg.forward.bits(),
            up: leg.up.bits(),
            slot,
            clock_hz: leg.clock_hz,
            payload_types: [(types & u128::from(u64::MAX)) as u64, (types >> 64) as u64],
            packets: leg.packets.into(),
            octets: leg.octets.into(),
            srtp: leg.flags.contains(LegFlags::SRTP).into(),
            dscp: out.dscp.unwrap_or(DSCP_AS_IT_CAME),
            ..Self::default()
        }
    }
}

/// `struct tally`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally(pub(super) [u64; COUNTED.len()]);

/// `struct device`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Device {
    pub(super) mac: [u8; 6],
    pub(super) is_native: u8,
    pub(super) can_send: u8,
}

// SAFETY: repr(C), integers and arrays of them only, no padding (`pad` fills it; see the test of
// the sizes), every bit pattern valid; the sizes are compared with the program's when a map is
// opened.
unsafe impl aya::Pod for Local {}
// SAFETY: as above.
unsafe impl aya::Pod for Entry {}
// SAFETY: as above.
unsafe impl aya::Pod for Tally {}
// SAFETY: as above.
unsafe impl aya::Pod for Device {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_have_no_holes() {
        assert_eq!(size_of::<Local>(), 16 + 2 + 2);
        assert_eq!(size_of::<Rate>(), 16);
        assert_eq!(size_of::<Stream>(), 6 * 8 + 2 * 4 + 2 * 2 + 4);
        let terms = 3 * 16 + 4 * 2 + 4 * 4 + 2 * 8 + 2 * size_of::<Rate>() + 4;
        assert_eq!(size_of::<Entry>(), terms + 4 + 4 * 8 + size_of::<Stream>());
        assert_eq!(size_of::<Device>(), 8);
    }

    #[test]
    fn a_budget_is_the_same_in_time() {
        let rate = Rate::from(Budget { per_s: 50, burst: 10 });
        assert_eq!(rate, Rate { cost: 20_000_000 << 10, depth_ns: 200_000_000 });
        assert_eq!(Rate::from(Budget::NONE).cost, 0);
        let slow = Rate::from(Budget { per_s: 1, burst: u32::MAX });
        assert_eq!(slow.depth_ns, u64::from(u32::MAX) * 1_000_000_000);
    }
}
