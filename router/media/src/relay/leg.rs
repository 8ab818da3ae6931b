//! The state of one leg.

use std::net::IpAddr;

use super::Now;
use super::quality::{Heard, Stamp};
use crate::budget::Bucket;
use crate::latch::Latch;
use crate::packet::Facts;
use crate::session::{Classes, Counter, Counters, Leg, LegReport};

pub(super) struct LegState {
    pub(super) terms: Leg,
    pub(super) latch: Latch,
    pub(super) packets: Bucket,
    pub(super) octets: Bucket,
    pub(super) counters: Counters,
    pub(super) seen_ms: Option<u64>,
    ssrc: Option<u32>,
    heard: Heard,
}

impl LegState {
    pub(super) fn new(terms: Leg, now_ms: u64) -> Self {
        Self {
            latch: Latch::new(&terms, now_ms),
            terms,
            packets: Bucket::default(),
            octets: Bucket::default(),
            counters: Counters::default(),
            seen_ms: None,
            ssrc: None,
            heard: Heard::default(),
        }
    }

    /// As signalled anew. What was counted stays.
    pub(super) fn replace(&mut self, terms: Leg, now_ms: u64) {
        self.latch = Latch::new(&terms, now_ms);
        self.terms = terms;
        (self.packets, self.octets) = (Bucket::default(), Bucket::default());
    }

    /// Takes over a peer settled elsewhere, unless signalling has changed since.
    pub(super) fn settle(&mut self, stands: &LegReport) {
        let known = [self.terms.peer, self.latch.target()];
        let target = stands.learned.or(stands.peer);
        if stands.locked && known.contains(&stands.peer) {
            self.latch.lock_to(target);
        }
    }

    /// Goes on counting from there.
    pub(super) fn adopt(&mut self, stands: &LegReport) {
        self.counters.add_all(&stands.counters);
        self.ssrc = self.ssrc.or(stands.ssrc);
        match stands.quality {
            Some(quality) => self.heard.adopt(quality),
            None => self.heard.skip(stands.counters.get(Counter::Rtp)),
        }
    }

    /// Notes a relayed packet. True: it is the first.
    pub(super) fn note(&mut self, now: Now, facts: Facts, octets: usize) -> bool {
        self.counters.add(Counter::Packets, 1);
        self.counters.add(Counter::Octets, octets as u64);
        if let Some((ssrc, sequence)) = facts.rtp {
            self.counters.add(Counter::Rtp, 1);
            self.ssrc = Some(ssrc);
            self.latch.heard(ssrc, sequence);
            let stamp = Stamp { ssrc, sequence, timestamp: facts.timestamp };
            self.heard.note(now.ns, stamp, self.terms.clock_hz);
        } else if facts.class == Classes::RTCP {
            self.counters.add(Counter::Rtcp, 1);
        }
        self.seen_ms.replace(now.ms()).is_none()
    }

    pub(super) fn report(&self, now_ms: u64) -> LegReport {
        // A window that has closed is closed, also where no packet has come to say so.
        let mut latch = self.latch.clone();
        latch.settle(now_ms);
        LegReport {
            local: self.terms.local,
            peer: self.terms.peer,
            learned: latch.learned(),
            locked: latch.is_locked(),
            seen_ms: self.seen_ms.map(|seen| now_ms.saturating_sub(seen)),
            ssrc: self.ssrc,
            counters: self.counters,
            quality: Some(self.heard.quality()),
        }
    }
}

/// The prefix whose sources share a budget: /24 of IPv4, /64 of IPv6.
pub(super) fn prefix(ip: IpAddr) -> [u8; 8] {
    match ip {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            [4, a, b, c, 0, 0, 0, 0]
        }
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            (u64::from(a) << 48 | u64::from(b) << 32 | u64::from(c) << 16 | u64::from(d))
                .to_be_bytes()
        }
    }
}
