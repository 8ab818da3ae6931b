//! What a relay session is: the same for every executor (design.md section 8, R-M2, R-M3).

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
pub use viaduct_engine::media::Carrier;

bitflags::bitflags! {
    /// Kinds of packet, told by their first octets (RFC 7983, RFC 5761 section 4).
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct Classes: u32 {
        /// First octet 0 to 3.
        const STUN = 1 << 0;
        /// First octet 16 to 19.
        const ZRTP = 1 << 1;
        /// First octet 20 to 63.
        const DTLS = 1 << 2;
        /// TURN channel data: first octet 64 to 79.
        const TURN = 1 << 3;
        /// First octet 128 to 191, and not RTCP.
        const RTP = 1 << 4;
        /// First octet 128 to 191, second octet 192 to 223.
        const RTCP = 1 << 5;
        /// Everything else.
        const OTHER = 1 << 6;
    }
}

bitflags::bitflags! {
    /// Properties of a leg.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct LegFlags: u32 {
        /// RTP and RTCP are encrypted, so only their headers can be checked.
        const SRTP = 1 << 0;
        /// Learn no private address.
        const NO_PRIVATE = 1 << 1;
        /// Loopback peers are allowed, signalled or learned.
        const LOOPBACK = 1 << 2;
        /// The peer may move once, if it continues its RTP stream.
        const HANDOVER = 1 << 3;
    }
}

/// How well a source fits the signalled peer; the order is the preference (R-M5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Rank {
    /// Any address.
    Any = 1,
    /// Another address, the signalled port.
    Port = 2,
    /// The signalled address, another port.
    Address = 3,
    /// Both.
    Exact = 4,
}

/// How a leg learns where its peer really is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Learn {
    /// From the order that brings it, in ms, at most 60,000; 0: only the signalled peer is heard.
    pub window_ms: u32,
    /// The best candidate is locked so long after it was first seen; the window, if longer.
    pub settle_ms: u32,
    /// Candidates below are ignored.
    pub lowest: Rank,
}

impl Learn {
    /// Nothing is learned.
    pub const OFF: Self = Self { window_ms: 0, settle_ms: 0, lowest: Rank::Any };
}

/// A token bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Units a second; 0: no limit.
    pub per_s: u32,
    /// Units at once; at least 1 packet, or 2,048 octets.
    pub burst: u32,
}

impl Budget {
    /// No limit.
    pub const NONE: Self = Self { per_s: 0, burst: 65_536 };
}

/// One side of a session: a local address, its peer, and the rules for what arrives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leg {
    /// Where packets arrive; names the leg.
    pub local: SocketAddr,
    /// Where signalling says the peer is; `None` where it has not said yet.
    pub peer: Option<SocketAddr>,
    /// How the peer's real address is found.
    pub learn: Learn,
    /// Properties.
    pub flags: LegFlags,
    /// What is relayed.
    pub forward: Classes,
    /// What is handed to user space.
    pub up: Classes,
    /// Bit n: RTP payload type n may pass.
    pub payload_types: u128,
    /// Largest UDP payload in octets; 0: any.
    pub max_size: u16,
    /// DSCP of what leaves from here, 0 to 63; `None`: as it came.
    pub dscp: Option<u8>,
    /// Socket priority of what leaves from here.
    pub priority: u32,
    /// Packets a second from the peer.
    pub packets: Budget,
    /// Octets of UDP payload a second from the peer.
    pub octets: Budget,
    /// RTP clock of what the peer sends, for its jitter; 0: not known.
    pub clock_hz: u32,
}

impl Leg {
    /// A leg that relays RTP and RTCP of any payload type, and learns nothing.
    #[must_use]
    pub fn new(local: SocketAddr, peer: Option<SocketAddr>) -> Self {
        Self {
            local,
            peer,
            learn: Learn::OFF,
            flags: LegFlags::empty(),
            forward: Classes::RTP.union(Classes::RTCP),
            up: Classes::empty(),
            payload_types: u128::MAX,
            max_size: 0,
            dscp: None,
            priority: 0,
            packets: Budget { per_s: 0, burst: 16 },
            octets: Budget::NONE,
            clock_hz: 0,
        }
    }
}

/// Two legs: what arrives at one leaves from the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// The caller's own name for it.
    pub id: u64,
    /// It is reported idle when nothing was relayed for so long; 0: never.
    pub idle_s: u32,
    /// Both legs; which is first has no meaning.
    pub legs: [Leg; 2],
}

/// What is counted of the packets that arrive at a leg, in the order of `uapi/viaduct.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Counter {
    /// Relayed.
    Packets,
    /// Octets of UDP payload relayed.
    Octets,
    /// Relayed, and RTP.
    Rtp,
    /// Relayed, and RTCP.
    Rtcp,
    /// Handed to user space.
    Up,
    /// Would have been, but for the limit.
    UpLimited,
    /// Dropped: not a class the leg takes.
    Class,
    /// Dropped: not valid RTP, RTCP or UDP.
    Malformed,
    /// Dropped: too large.
    Size,
    /// Dropped: payload type not wanted.
    PayloadType,
    /// Dropped: not from the peer.
    Foreign,
    /// Dropped: from a candidate, not locked yet.
    Candidate,
    /// Dropped: budget of the source's prefix.
    Prefix,
    /// Dropped: budget of the leg.
    Limited,
    /// Dropped: the other leg's peer is not known.
    NoPeer,
    /// Dropped: no way to the other leg's peer.
    NoRoute,
    /// Dropped: hop limit used up.
    Hops,
    /// Dropped: no memory, or no room in a queue.
    NoMemory,
}

impl Counter {
    /// All, in order.
    pub const ALL: [Self; 18] = [
        Self::Packets,
        Self::Octets,
        Self::Rtp,
        Self::Rtcp,
        Self::Up,
        Self::UpLimited,
        Self::Class,
        Self::Malformed,
        Self::Size,
        Self::PayloadType,
        Self::Foreign,
        Self::Candidate,
        Self::Prefix,
        Self::Limited,
        Self::NoPeer,
        Self::NoRoute,
        Self::Hops,
        Self::NoMemory,
    ];
}

/// One value for each [`Counter`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters([u64; Counter::ALL.len()]);

impl Counters {
    /// The value of one.
    #[must_use]
    pub fn get(&self, counter: Counter) -> u64 {
        self.0.get(counter as usize).copied().unwrap_or(0)
    }

    /// Adds to one.
    pub fn add(&mut self, counter: Counter, n: u64) {
        if let Some(value) = self.0.get_mut(counter as usize) {
            *value = value.saturating_add(n);
        }
    }

    /// Adds all of another's.
    pub fn add_all(&mut self, other: &Counters) {
        for counter in Counter::ALL {
            self.add(counter, other.get(counter));
        }
    }
}

/// How well the RTP of a peer arrived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quality {
    /// Packets that should have come, by their sequence numbers.
    pub expected: u64,
    /// Of them, those that did not.
    pub lost: u64,
    /// Interarrival jitter (RFC 3550 6.4.1), microseconds; 0 where the clock is not known.
    pub jitter_us: u32,
}

/// How a leg stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LegReport {
    /// Its local address.
    pub local: SocketAddr,
    /// The peer as signalled.
    pub peer: Option<SocketAddr>,
    /// The peer as learned.
    pub learned: Option<SocketAddr>,
    /// Whether the peer is settled.
    pub locked: bool,
    /// Since the last relayed packet, in ms; `None`: there was none.
    pub seen_ms: Option<u64>,
    /// SSRC of the last relayed RTP packet.
    pub ssrc: Option<u32>,
    /// What arrived.
    pub counters: Counters,
    /// How well; `None`: the executor does not look.
    pub quality: Option<Quality>,
}

/// How a session stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The caller's name for it.
    pub id: u64,
    /// Who carries it.
    pub carrier: Carrier,
    /// Its legs, in the order they were given.
    pub legs: [LegReport; 2],
}

bitflags::bitflags! {
    /// What happened to a session.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct Events: u32 {
        /// A leg relayed its first packet.
        const FIRST = 1 << 0;
        /// A leg locked to a learned address.
        const LEARNED = 1 << 1;
        /// A leg's peer moved.
        const MOVED = 1 << 2;
        /// A locked leg was sent foreign packets.
        const FOREIGN = 1 << 3;
        /// A leg's budget was exceeded.
        const LIMITED = 1 << 4;
        /// Nothing was relayed for long.
        const IDLE = 1 << 5;
        /// The owner's socket was closed.
        const OWNER_GONE = 1 << 6;
        /// The owner and its sessions were removed.
        const EXPIRED = 1 << 7;
        /// The module goes; the session's counters are final.
        const UNLOADED = 1 << 8;
    }
}

/// Events of a session, or of an owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What happened since the last one.
    pub events: Events,
    /// The session; `None` where an owner is meant.
    pub session: Option<Report>,
    /// The owner, where one is meant.
    pub owner: Option<u64>,
}
