//! Which address a leg's peer really has (R-M5; CVE-2025-53399 is what happens otherwise).
//!
//! ```text
//! exact match seen  ------------------------------> locked to the signalled address
//! candidate seen  --- deadline or settle time ----> locked to the best candidate
//! nobody seen  ------ deadline -------------------> locked to the signalled address
//! locked --- handover, once, where allowed -------> locked to the new address
//! ```
//! Until it is locked, nothing is sent anywhere but to the signalled address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::session::{Learn, Leg, LegFlags, Rank};

/// How far ahead of the last packet the first one from a new address may be.
const HANDOVER_SEQUENCE_MAX: u16 = 32;

/// What a source is to a leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// To be relayed.
    Peer,
    /// Noted, not relayed.
    Candidate,
    /// Neither.
    Foreign,
}

/// The state of learning of one leg.
#[derive(Clone, Debug)]
pub struct Latch {
    signalled: Option<SocketAddr>,
    learned: Option<SocketAddr>,
    best: Option<(Rank, SocketAddr, u64)>,
    learn: Learn,
    flags: LegFlags,
    deadline_ms: u64,
    locked: bool,
    moved: bool,
    heard: Option<(u32, u16)>,
}

impl Latch {
    /// As signalled at `now_ms`.
    #[must_use]
    pub fn new(leg: &Leg, now_ms: u64) -> Self {
        Self {
            signalled: leg.peer,
            learned: None,
            best: None,
            learn: leg.learn,
            flags: leg.flags,
            deadline_ms: now_ms.saturating_add(u64::from(leg.learn.window_ms)),
            locked: leg.learn.window_ms == 0,
            moved: false,
            heard: None,
        }
    }

    /// Where packets to this peer go.
    #[must_use]
    pub fn target(&self) -> Option<SocketAddr> {
        self.learned.or(self.signalled)
    }

    /// The peer as learned.
    #[must_use]
    pub fn learned(&self) -> Option<SocketAddr> {
        self.learned
    }

    /// Whether the peer is settled.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        self.locked
    }

    /// Somebody else has found the peer.
    pub fn lock_to(&mut self, peer: Option<SocketAddr>) {
        self.locked = true;
        self.learned = peer.filter(|_| peer != self.signalled);
    }

    /// How a source ranks; `None`: it may not be learned at all.
    #[must_use]
    pub fn rank(&self, source: SocketAddr) -> Option<Rank> {
        if self.signalled == Some(source) {
            return Some(Rank::Exact);
        }
        if !self.may_learn(source) {
            return None;
        }
        Some(match self.signalled {
            Some(signalled) if signalled.ip() == source.ip() => Rank::Address,
            Some(signalled) if signalled.port() == source.port() => Rank::Port,
            _ => Rank::Any,
        })
    }

    fn may_learn(&self, source: SocketAddr) -> bool {
        match scope(source) {
            Scope::Unusable => false,
            Scope::Loopback => self.flags.contains(LegFlags::LOOPBACK),
            Scope::Private => !self.flags.contains(LegFlags::NO_PRIVATE),
            Scope::Global => true,
        }
    }

    /// Locks if it is time. True: it has locked to a learned address now.
    pub fn settle(&mut self, now_ms: u64) -> bool {
        let settled = self.best.map(|(_, _, since)| since + u64::from(self.learn.settle_ms));
        let lock_at = settled.map_or(self.deadline_ms, |at| at.min(self.deadline_ms));
        if self.locked || now_ms < lock_at {
            return false;
        }
        self.locked = true;
        self.learned = self.best.map(|(_, source, _)| source);
        self.learned.is_some()
    }

    /// A packet from `source`. `counts`: it is of the kind this leg may learn from. `own`: somebody
    /// listens on that address here.
    pub fn observe(&mut self, now_ms: u64, source: SocketAddr, counts: bool, own: bool) -> Source {
        self.settle(now_ms);
        if self.locked {
            return self.check(source);
        }
        let rank = match self.rank(source) {
            Some(Rank::Exact) => {
                self.locked = counts;
                return Source::Peer;
            }
            Some(rank) if !own && rank >= self.learn.lowest => rank,
            _ => return Source::Foreign,
        };
        if !counts {
            return Source::Candidate;
        }
        // The first of a rank stays: a later one must be better, not louder.
        if self.best.is_none_or(|(best, _, _)| rank > best) {
            self.best = Some((rank, source, now_ms));
            self.settle(now_ms);
            if self.locked {
                return self.check(source);
            }
        }
        // The host signalling named, behind a NAT that changed the port: let it be heard at once.
        let is_best = self.best.is_some_and(|(_, best, _)| best == source);
        if rank == Rank::Address && is_best { Source::Peer } else { Source::Candidate }
    }

    fn check(&self, source: SocketAddr) -> Source {
        if self.target() == Some(source) { Source::Peer } else { Source::Foreign }
    }

    /// Notes an accepted RTP packet.
    pub fn heard(&mut self, ssrc: u32, sequence: u16) {
        self.heard = Some((ssrc, sequence));
    }

    /// A foreign RTP packet at a locked leg: true if the peer has moved there. It must go on with
    /// the stream.
    pub fn hand_over(
        &mut self,
        source: SocketAddr,
        (ssrc, sequence): (u32, u16),
        own: bool,
    ) -> bool {
        let allowed = self.flags.contains(LegFlags::HANDOVER) && self.locked && !self.moved;
        let continues = self.heard.is_some_and(|(last_ssrc, last)| {
            let ahead = sequence.wrapping_sub(last);
            last_ssrc == ssrc && (1..=HANDOVER_SEQUENCE_MAX).contains(&ahead)
        });
        if !allowed || !continues || own || !self.may_learn(source) {
            return false;
        }
        self.learned = Some(source);
        self.moved = true;
        true
    }
}

/// What kind of address it is, as far as a relay has to care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Unspecified, multicast, broadcast, IPv4-mapped, port 0.
    Unusable,
    /// This machine.
    Loopback,
    /// RFC 1918, RFC 6598, RFC 4193, link-local.
    Private,
    /// All else.
    Global,
}

/// The scope of an address.
#[must_use]
pub fn scope(address: SocketAddr) -> Scope {
    match address.ip() {
        _ if address.port() == 0 => Scope::Unusable,
        IpAddr::V4(ip) => scope_v4(ip),
        IpAddr::V6(ip) => scope_v6(ip),
    }
}

fn scope_v4(ip: Ipv4Addr) -> Scope {
    match ip.octets() {
        [0 | 224..=255, ..] => Scope::Unusable,
        [127, ..] => Scope::Loopback,
        [100, 64..=127, ..] => Scope::Private,
        _ if ip.is_private() || ip.is_link_local() => Scope::Private,
        _ => Scope::Global,
    }
}

fn scope_v6(ip: Ipv6Addr) -> Scope {
    if ip.is_loopback() {
        return Scope::Loopback;
    }
    // IPv4-mapped and -compatible addresses never come over a wire (RFC 4291 2.5.5).
    if ip.is_multicast() || ip.to_ipv4().is_some() {
        return Scope::Unusable;
    }
    let private = ip.is_unique_local() || ip.is_unicast_link_local();
    if private { Scope::Private } else { Scope::Global }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn learning(settle_ms: u32) -> Leg {
        let mut leg = Leg::new(at("198.51.100.1:30000"), Some(at("192.0.2.1:4000")));
        leg.learn = Learn { window_ms: 3_000, settle_ms, lowest: Rank::Any };
        leg
    }

    #[test]
    fn r_m5_an_exact_match_locks_at_once() {
        let mut latch = Latch::new(&learning(3_000), 0);
        assert_eq!(latch.observe(1, at("203.0.113.9:4000"), true, false), Source::Candidate);
        assert_eq!(latch.observe(2, at("192.0.2.1:4000"), true, false), Source::Peer);
        assert!(latch.is_locked() && latch.learned().is_none());
        assert_eq!(latch.observe(3, at("203.0.113.9:4000"), true, false), Source::Foreign);
    }

    #[test]
    fn r_m5_the_best_rank_wins_at_the_end_of_the_window_and_the_first_of_it() {
        let mut latch = Latch::new(&learning(3_000), 0);
        for source in ["203.0.113.1:1", "203.0.113.2:4000", "203.0.113.3:4000"] {
            assert_eq!(latch.observe(1, at(source), true, false), Source::Candidate);
        }
        assert!(!latch.settle(2_999));
        assert!(latch.settle(3_000));
        assert_eq!(latch.target(), Some(at("203.0.113.2:4000")));
    }

    #[test]
    fn r_m5_mapped_loopback_and_multicast_are_never_learned() {
        for never in ["[::ffff:10.0.0.1]:9", "127.0.0.1:9", "[::1]:9", "224.0.0.1:9", "1.2.3.4:0"] {
            let mut latch = Latch::new(&learning(0), 0);
            assert_eq!(latch.observe(1, at(never), true, false), Source::Foreign, "{never}");
        }
    }

    fn some_address() -> impl Strategy<Value = SocketAddr> {
        const IPS: &[&str] = &["192.0.2.1", "192.0.2.2", "10.0.0.1", "127.0.0.1"];
        (proptest::sample::select(IPS), 4000u16..4002)
            .prop_map(|(ip, port)| SocketAddr::new(ip.parse().unwrap(), port))
    }

    proptest! {
        /// Whatever comes in whatever order: before the lock only the signalled address is sent to,
        /// and after it the target changes by one handover at most.
        #[test]
        fn r_m5_nothing_is_sent_to_whom_the_latch_is_not_locked_to(
            packets in proptest::collection::vec(
                (some_address(), 0u64..400, any::<bool>(), any::<bool>()), 1..60),
            settle_ms in 0u32..3_000,
            flags in 0u32..16,
        ) {
            let mut leg = learning(settle_ms);
            leg.flags = LegFlags::from_bits_truncate(flags);
            let mut latch = Latch::new(&leg, 0);
            let (mut now, mut targets) = (0, Vec::new());
            for (sequence, (source, pause, counts, own)) in (0u16..).zip(packets) {
                now += pause;
                match latch.observe(now, source, counts, own) {
                    Source::Peer => latch.heard(1, sequence),
                    _ => drop(latch.hand_over(source, (1, sequence), own)),
                }
                if latch.is_locked() {
                    targets.push(latch.target());
                    targets.dedup();
                } else {
                    prop_assert_eq!(latch.target(), leg.peer);
                }
            }
            prop_assert!(targets.len() <= 2);
        }
    }
}
