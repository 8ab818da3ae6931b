//! The relay as a state machine: no socket, no clock. It says for each packet where it goes, and
//! counts. [`crate::userspace`] feeds it; the kernel module does the same in C.

mod check;
mod leg;
mod quality;

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;

use slab::Slab;

use self::leg::LegState;
use crate::budget::Bucket;
use crate::executor::ExecutorError;
use crate::latch::Source;
use crate::packet::{self, Facts};
use crate::session::{Budget, Carrier, Classes, Counter, Event, Events, Leg, Report, Session};

/// What one /24 or /64 may send that is not from a settled peer.
const PREFIX_BUDGET: Budget = Budget { per_s: 2_000, burst: 4_000 };
/// Prefixes share this many buckets, so that their number costs no memory.
const PREFIX_BUCKETS: usize = 4_096;
/// `FOREIGN` and `LIMITED` are told at most so often for a session.
const RARELY_MS: u64 = 1_000;

/// Two clocks of the same moment, both monotonic.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// In nanoseconds.
    pub ns: u64,
}

impl Now {
    /// In milliseconds.
    #[must_use]
    pub fn ms(self) -> u64 {
        self.ns / 1_000_000
    }
}

/// A datagram that arrived at a leg.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// Where from.
    pub source: SocketAddr,
    /// DSCP and ECN it came with.
    pub tclass: u8,
    /// TTL or hop limit it came with.
    pub ttl: u8,
    /// UDP payload.
    pub data: &'a [u8],
}

/// Where a packet goes. Tell [`Relay::sent`] what came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forward {
    /// From this leg's local address.
    pub from: SocketAddr,
    /// To this peer.
    pub to: SocketAddr,
    /// DSCP and ECN to send with.
    pub tclass: u8,
    /// TTL or hop limit to send with: one less than it came with, so that a loop ends.
    pub ttl: u8,
    facts: Facts,
}

/// What a packet's way is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// To the other leg's peer.
    Forward(Forward),
    /// To whoever takes this class in user space.
    Up,
    /// Nowhere; it has been counted.
    Drop,
}

struct Entry {
    id: u64,
    idle_ms: u64,
    since_ms: u64,
    idle_told: bool,
    rarely_told_ms: Option<u64>,
    events: Events,
    legs: [LegState; 2],
}

/// All sessions of an executor.
#[derive(Default)]
pub struct Relay {
    entries: Slab<Entry>,
    /// Which session and which of its legs a local address is.
    by_local: HashMap<SocketAddr, (usize, usize)>,
    prefixes: Vec<Bucket>,
    hasher: std::hash::RandomState,
}

impl Relay {
    /// Without sessions.
    #[must_use]
    pub fn new() -> Self {
        Self { prefixes: vec![Bucket::default(); PREFIX_BUCKETS], ..Self::default() }
    }

    /// Adds all of them, or none.
    ///
    /// # Errors
    /// A local address is in use, or a session is wrong in itself.
    pub fn add(&mut self, now: Now, sessions: &[Session]) -> Result<(), ExecutorError> {
        for (position, session) in sessions.iter().enumerate() {
            if let Err(error) = self.add_one(now, session) {
                for session in sessions.iter().take(position) {
                    self.remove(session.legs[0].local, now).ok();
                }
                return Err(error);
            }
        }
        Ok(())
    }

    fn add_one(&mut self, now: Now, session: &Session) -> Result<(), ExecutorError> {
        let [a, b] = &session.legs;
        check::leg(a)?;
        check::leg(b)?;
        let taken = |leg: &Leg| self.by_local.contains_key(&leg.local);
        if taken(a) || taken(b) || a.local == b.local {
            let reason = "a local address and port is in use";
            return Err(refused(reason, io::ErrorKind::AlreadyExists));
        }
        let (a_local, b_local) = (a.local, b.local);
        let slot = self.entries.insert(Entry {
            id: session.id,
            idle_ms: u64::from(session.idle_s) * 1_000,
            since_ms: now.ms(),
            idle_told: false,
            rarely_told_ms: None,
            events: Events::empty(),
            legs: [LegState::new(a.clone(), now.ms()), LegState::new(b.clone(), now.ms())],
        });
        self.by_local.insert(a_local, (slot, 0));
        self.by_local.insert(b_local, (slot, 1));
        Ok(())
    }

    /// Replaces what is known of one or both legs of a session.
    ///
    /// # Errors
    /// There is no such leg, they are of two sessions, or one is wrong in itself.
    pub fn set(&mut self, now: Now, legs: &[Leg]) -> Result<(), ExecutorError> {
        let mut places = Vec::new();
        for leg in legs {
            check::leg(leg)?;
            places.push(self.place(leg.local)?);
        }
        if places.iter().any(|place| Some(place.0) != places.first().map(|first| first.0)) {
            return Err(refused("the legs are not of one session", io::ErrorKind::InvalidInput));
        }
        for (leg, place) in legs.iter().zip(places) {
            if let Some(state) = self.leg_mut(place) {
                state.replace(leg.clone(), now.ms());
            }
        }
        Ok(())
    }

    /// Takes over the peers that are settled elsewhere, as far as they were settled for what is
    /// signalled now.
    pub fn settle(&mut self, report: &Report) {
        for stands in &report.legs {
            let Ok(place) = self.place(stands.local) else { continue };
            if let Some(leg) = self.leg_mut(place) {
                leg.settle(stands);
            }
        }
    }

    /// Takes over a session from another executor or an earlier process: its settled peers and what
    /// it has counted. It is not idle yet.
    pub fn adopt(&mut self, now: Now, report: &Report) {
        self.settle(report);
        for stands in &report.legs {
            let Ok((slot, side)) = self.place(stands.local) else { continue };
            if let Some(leg) = self.leg_mut((slot, side)) {
                leg.adopt(stands);
            }
            if let Some(entry) = self.entries.get_mut(slot) {
                (entry.since_ms, entry.idle_told) = (now.ms(), false);
            }
        }
    }

    /// Ends a session.
    ///
    /// # Errors
    /// There is no such session.
    pub fn remove(&mut self, local: SocketAddr, now: Now) -> Result<Report, ExecutorError> {
        let (slot, _) = self.place(local)?;
        let report = self.report(local, now)?;
        self.entries.remove(slot);
        for leg in &report.legs {
            self.by_local.remove(&leg.local);
        }
        Ok(report)
    }

    /// How a session stands.
    ///
    /// # Errors
    /// There is no such session.
    pub fn report(&self, local: SocketAddr, now: Now) -> Result<Report, ExecutorError> {
        let (slot, _) = self.place(local)?;
        let entry = self.entries.get(slot).ok_or(ExecutorError::Answer("no such session"))?;
        Ok(entry.report(now))
    }

    /// How all stand.
    #[must_use]
    pub fn reports(&self, now: Now) -> Vec<Report> {
        self.entries.iter().map(|(_, entry)| entry.report(now)).collect()
    }

    /// Both local addresses of a session.
    ///
    /// # Errors
    /// There is no such session.
    pub fn locals(&self, local: SocketAddr) -> Result<[SocketAddr; 2], ExecutorError> {
        let (slot, _) = self.place(local)?;
        let entry = self.entries.get(slot).ok_or(ExecutorError::Answer("no such session"))?;
        Ok([entry.legs[0].terms.local, entry.legs[1].terms.local])
    }

    fn place(&self, local: SocketAddr) -> Result<(usize, usize), ExecutorError> {
        let place = self.by_local.get(&local).copied();
        place.ok_or_else(|| refused("no session has this leg", io::ErrorKind::NotFound))
    }

    fn leg_mut(&mut self, (slot, side): (usize, usize)) -> Option<&mut LegState> {
        self.entries.get_mut(slot)?.legs.get_mut(side)
    }

    /// A packet at the leg `local`.
    pub fn receive(&mut self, now: Now, local: SocketAddr, packet: Packet<'_>) -> Verdict {
        let Some(&place) = self.by_local.get(&local) else { return Verdict::Drop };
        match self.judge(now, place, packet) {
            Ok(verdict) => verdict,
            Err(counter) => {
                self.count(place, counter, 1);
                Verdict::Drop
            }
        }
    }

    fn judge(
        &mut self,
        now: Now,
        place: (usize, usize),
        packet: Packet<'_>,
    ) -> Result<Verdict, Counter> {
        let own = self.by_local.contains_key(&packet.source);
        let Some(leg) = self.leg_mut(place) else { return Ok(Verdict::Drop) };
        let facts = packet::screen(&leg.terms, packet.data)?;
        let takes = leg.terms.forward.intersects(facts.class);
        let strange = leg.latch.target() != Some(packet.source);
        let unsettled = !leg.latch.is_locked() && leg.terms.peer != Some(packet.source);
        let in_budget = |relay: &mut Self| relay.prefix_take(now, packet.source);
        if !takes {
            if !in_budget(self) {
                return Err(Counter::UpLimited);
            }
            self.count(place, Counter::Up, 1);
            return Ok(Verdict::Up);
        }
        if strange && unsettled && !in_budget(self) {
            return Err(Counter::Prefix);
        }
        self.source_passes(now, place, packet.source, own, facts)?;
        self.budget_passes(now, place, packet.data.len())?;
        self.target(now, place, packet, facts).map(Verdict::Forward)
    }

    fn source_passes(
        &mut self,
        now: Now,
        place: (usize, usize),
        source: SocketAddr,
        own: bool,
        facts: Facts,
    ) -> Result<(), Counter> {
        let Some(leg) = self.leg_mut(place) else { return Err(Counter::Foreign) };
        let learned_from = match leg.terms.forward.contains(Classes::RTP) {
            true => Classes::RTP,
            false => Classes::RTCP,
        };
        let was_locked = leg.latch.is_locked();
        let seen = leg.latch.observe(now.ms(), source, facts.class == learned_from, own);
        let learned = !was_locked && leg.latch.is_locked() && leg.latch.learned().is_some();
        let moved = seen == Source::Foreign
            && was_locked
            && facts.rtp.is_some_and(|rtp| leg.latch.hand_over(source, rtp, own));
        if learned {
            self.tell(now, place.0, Events::LEARNED);
        }
        if moved {
            self.tell(now, place.0, Events::MOVED);
            return Ok(());
        }
        match seen {
            Source::Peer => Ok(()),
            Source::Candidate => Err(Counter::Candidate),
            Source::Foreign => {
                self.tell(now, place.0, Events::FOREIGN);
                Err(Counter::Foreign)
            }
        }
    }

    fn budget_passes(
        &mut self,
        now: Now,
        place: (usize, usize),
        octets: usize,
    ) -> Result<(), Counter> {
        let Some(leg) = self.leg_mut(place) else { return Err(Counter::Limited) };
        let octets = u32::try_from(octets).unwrap_or(u32::MAX);
        let passes = leg.packets.take(leg.terms.packets, now.ns, 1)
            && leg.octets.take(leg.terms.octets, now.ns, octets);
        if passes {
            return Ok(());
        }
        self.tell(now, place.0, Events::LIMITED);
        Err(Counter::Limited)
    }

    fn target(
        &mut self,
        now: Now,
        (slot, side): (usize, usize),
        packet: Packet<'_>,
        facts: Facts,
    ) -> Result<Forward, Counter> {
        let Some(out) = self.leg_mut((slot, 1 - side)) else { return Err(Counter::NoPeer) };
        let learned = out.latch.settle(now.ms());
        let (from, dscp) = (out.terms.local, out.terms.dscp);
        let to = out.latch.target();
        if learned {
            self.tell(now, slot, Events::LEARNED);
        }
        let to = to.ok_or(Counter::NoPeer)?;
        if packet.ttl <= 1 {
            return Err(Counter::Hops);
        }
        let tclass = dscp.map_or(packet.tclass, |dscp| dscp << 2 | packet.tclass & 3);
        Ok(Forward { from, to, tclass, ttl: packet.ttl - 1, facts })
    }

    /// What came of a packet that arrived at `local` and was to be forwarded: sent, or why not.
    pub fn sent(
        &mut self,
        now: Now,
        local: SocketAddr,
        (packet, forward): (Packet<'_>, Forward),
        fault: Option<Counter>,
    ) {
        let Some(&place) = self.by_local.get(&local) else { return };
        if let Some(counter) = fault {
            self.count(place, counter, 1);
            return;
        }
        let Some(leg) = self.leg_mut(place) else { return };
        let first = leg.note(now, forward.facts, packet.data.len());
        if first {
            self.tell(now, place.0, Events::FIRST);
        }
    }

    /// Counts what the executor dropped itself.
    pub fn dropped(&mut self, local: SocketAddr, counter: Counter) {
        if let Some(&place) = self.by_local.get(&local) {
            self.count(place, counter, 1);
        }
    }

    fn count(&mut self, place: (usize, usize), counter: Counter, n: u64) {
        if let Some(leg) = self.leg_mut(place) {
            leg.counters.add(counter, n);
        }
    }

    fn prefix_take(&mut self, now: Now, source: SocketAddr) -> bool {
        use std::hash::BuildHasher as _;
        let hash = self.hasher.hash_one(leg::prefix(source.ip()));
        let at = usize::try_from(hash % (PREFIX_BUCKETS as u64)).unwrap_or(0);
        self.prefixes.get_mut(at).is_some_and(|bucket| bucket.take(PREFIX_BUDGET, now.ns, 1))
    }

    fn tell(&mut self, now: Now, slot: usize, event: Events) {
        let Some(entry) = self.entries.get_mut(slot) else { return };
        if Events::FOREIGN.union(Events::LIMITED).contains(event) {
            if entry.rarely_told_ms.is_some_and(|told| now.ms() < told + RARELY_MS) {
                return;
            }
            entry.rarely_told_ms = Some(now.ms());
        }
        entry.events |= event;
    }

    /// What happened since the last call, idleness included.
    pub fn events(&mut self, now: Now) -> Vec<Event> {
        let mut events = Vec::new();
        for (_, entry) in &mut self.entries {
            entry.look_for_idleness(now);
            if !entry.events.is_empty() {
                let happened = std::mem::replace(&mut entry.events, Events::empty());
                let session = Some(entry.report(now));
                events.push(Event { events: happened, session, owner: None });
            }
        }
        events
    }
}

impl Entry {
    fn report(&self, now: Now) -> Report {
        let [a, b] = &self.legs;
        let legs = [a.report(now.ms()), b.report(now.ms())];
        Report { id: self.id, carrier: Carrier::UserSpace, legs }
    }

    fn look_for_idleness(&mut self, now: Now) {
        let seen = self.legs.iter().filter_map(|leg| leg.seen_ms).max();
        let last = seen.unwrap_or(0).max(self.since_ms);
        let idle = self.idle_ms != 0 && now.ms() >= last + self.idle_ms;
        if idle && !self.idle_told {
            self.events |= Events::IDLE;
        }
        self.idle_told = idle;
    }
}

pub(crate) fn refused(reason: &str, kind: io::ErrorKind) -> ExecutorError {
    ExecutorError::Refused { reason: reason.to_owned(), errno: kind.into() }
}

#[cfg(test)]
mod tests;
