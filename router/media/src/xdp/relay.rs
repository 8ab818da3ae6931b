//! Sessions of another executor, carried out by the program where both peers are settled.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};

use nix::time::{ClockId, clock_gettime};

use super::layout::Entry;
use super::program::XdpFault;
use super::table::Table;
use crate::executor::{Carrying, Executor, ExecutorError};
use crate::latch::{Scope, scope};
use crate::session::{
    Carrier, Counter, Counters, Event, Events, Leg, LegFlags, LegReport, Quality, Report, Session,
};

/// An idle session is looked at so often, to see whether it goes on.
const IDLE_LOOK_MS: u64 = 1_000;

/// An executor with the program in front of it.
pub struct XdpRelay {
    base: Box<dyn Executor>,
    table: Table,
    /// By the local address of the first leg.
    sessions: HashMap<SocketAddr, Placement>,
    /// From any local address to that of the first leg.
    firsts: HashMap<SocketAddr, SocketAddr>,
    by_slot: HashMap<u32, SocketAddr>,
}

/// Where a session is besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nowhere until its peers are settled.
    Waiting,
    /// In the program.
    Placed,
    /// Nowhere: the program cannot do what it wants, or has no room.
    Kept,
}

#[derive(Debug)]
struct Placement {
    session: Session,
    state: State,
    /// The numbers of its legs, from when it was placed first.
    slots: Option<[u32; 2]>,
    /// What the program had heard before signalling changed.
    before: [Heard; 2],
    /// What the base takes for lost and is not.
    gaps: [Gap; 2],
    since_ms: u64,
    idle_told: bool,
    idle_look_ms: u64,
}

/// What the program heard of a leg.
#[derive(Clone, Copy, Debug, Default)]
struct Heard {
    quality: Quality,
    seen_ns: u64,
    ssrc: u32,
}

/// What one carries the other does not hear: where it hears the stream again, that looks like loss, up
/// to as many packets as have been carried. The base hears it when the program is taken away, the
/// program when it is back meanwhile.
#[derive(Clone, Copy, Debug, Default)]
struct Gap {
    by_base: Missed,
    by_program: Missed,
}

/// What one of them has carried of RTP, and misses by its numbers. Numbers alone do not tell what was
/// carried: a phone may begin with the same ones again.
#[derive(Clone, Copy, Debug, Default)]
struct Share {
    carried: u64,
    lost: u64,
}

impl Share {
    fn of(counters: &Counters, quality: &Quality) -> Self {
        Self { carried: counters.get(Counter::Rtp), lost: quality.lost }
    }
}

/// What one of them takes for lost and the other has carried.
#[derive(Clone, Copy, Debug, Default)]
struct Missed {
    /// Of earlier times.
    past: u64,
    /// Carried in earlier times, and not found to be missing until now: where a session is placed again
    /// at once, the stream has not been heard meanwhile.
    owed: u64,
    /// What it had lost, and the other had carried, when the session was placed last.
    lost: u64,
    carried: u64,
}

impl Missed {
    /// Since the session was placed, and how many the other has carried beyond that.
    fn since(&self, by: Share, other: Share) -> (u64, u64) {
        let carried = other.carried.saturating_sub(self.carried).saturating_add(self.owed);
        let missed = by.lost.saturating_sub(self.lost).min(carried);
        (missed, carried - missed)
    }

    fn packets(&self, by: Share, other: Share) -> u64 {
        self.past.saturating_add(self.since(by, other).0)
    }

    fn begin(&mut self, by: Share, other: Share) {
        let (missed, owed) = self.since(by, other);
        let past = self.past.saturating_add(missed);
        *self = Missed { past, owed, lost: by.lost, carried: other.carried };
    }
}

impl Gap {
    /// All so far.
    fn packets(&self, base: Share, program: Share) -> u64 {
        self.by_base.packets(base, program).saturating_add(self.missed_by_program(base, program))
    }

    /// As long as the program is not back, what it misses is the network's loss, and less than half of
    /// what the base carries meanwhile. Half, as the base takes a few while the session is placed.
    fn missed_by_program(&self, base: Share, program: Share) -> u64 {
        let lost = program.lost.saturating_sub(self.by_program.lost);
        let carried = base.carried.saturating_sub(self.by_program.carried);
        if lost.saturating_mul(2) < carried {
            return self.by_program.past;
        }
        self.by_program.packets(program, base)
    }

    /// It is placed now. The program begins its stream anew: nothing of before can be missing in it.
    fn begin(&mut self, base: Share, program: Share) {
        let past = self.missed_by_program(base, program);
        self.by_program = Missed { past, owed: 0, lost: program.lost, carried: base.carried };
        self.by_base.begin(base, program);
    }
}

impl XdpRelay {
    /// `base` carries out all sessions; the program behind `table` those it can besides.
    #[must_use]
    pub fn over(base: Box<dyn Executor>, table: Table) -> Self {
        let (sessions, firsts, by_slot) = Default::default();
        Self { base, table, sessions, firsts, by_slot }
    }

    /// Puts a session into the program if its time has come.
    fn place(&mut self, first: SocketAddr) {
        let Some(placement) = self.sessions.get_mut(&first) else { return };
        if placement.state != State::Waiting {
            return;
        }
        if !is_fit(&placement.session) {
            placement.state = State::Kept;
            return;
        }
        let Ok(report) = self.base.report(first) else { return };
        let Some(peers) = settled(&report) else { return };
        placement.state = State::Placed;
        let carried = placement.slots.map(|slots| slots.map(|slot| self.table.counters(slot)));
        for (((gap, leg), before), carried) in placement
            .gaps
            .iter_mut()
            .zip(&report.legs)
            .zip(&placement.before)
            .zip(carried.unwrap_or_default())
        {
            let base = Share::of(&leg.counters, &leg.quality.unwrap_or_default());
            gap.begin(base, Share::of(&carried, &before.quality));
        }
        if !peers.iter().all(|peer| may_be_sent_to(*peer)) {
            placement.state = State::Kept;
        } else if let Err(fault) = self.write(first, peers, &report) {
            tracing::debug!(target: "viaduct::media", %fault, "a session stays in user space");
            // Half of it must not stay there; an entry that is not there is no error.
            self.withdraw(first).ok();
            if let Some(placement) = self.sessions.get_mut(&first) {
                placement.state = if fault.is_passing() { State::Waiting } else { State::Kept };
            }
        }
    }

    fn write(
        &mut self,
        first: SocketAddr,
        [a_peer, b_peer]: [SocketAddr; 2],
        report: &Report,
    ) -> Result<(), XdpFault> {
        let Some(placement) = self.sessions.get_mut(&first) else { return Ok(()) };
        let slots = match placement.slots {
            Some(slots) => slots,
            None => {
                let a = self.table.take_slot()?;
                let b = self.table.take_slot().inspect_err(|_| self.table.give_back(a))?;
                self.by_slot.extend([(a, first), (b, first)]);
                *placement.slots.insert([a, b])
            }
        };
        let [a, b] = &placement.session.legs;
        let ways = [((a, a_peer), (b, b_peer)), ((b, b_peer), (a, a_peer))];
        for (((slot, (from, to)), stands), before) in
            slots.into_iter().zip(ways).zip(&report.legs).zip(&placement.before)
        {
            let mut entry = Entry::new(slot, from, to);
            entry.heard = (stands.seen_ms.is_some() || before.seen_ns != 0).into();
            self.table.insert(from.0.local, entry)?;
        }
        Ok(())
    }

    /// Takes a session out of the program, and keeps what that has heard.
    fn withdraw(&mut self, first: SocketAddr) -> Result<(), ExecutorError> {
        let Some(placement) = self.sessions.get_mut(&first) else { return Ok(()) };
        if placement.state != State::Placed {
            return Ok(());
        }
        let mut heard = placement.before;
        for (leg, heard) in placement.session.legs.iter().zip(&mut heard) {
            let entry = self.table.get(leg.local);
            self.table.remove(leg.local).map_err(into_error)?;
            if let Some(entry) = entry {
                *heard = heard.and(&entry);
            }
        }
        placement.before = heard;
        placement.state = State::Waiting;
        Ok(())
    }

    /// `report` with the program's share.
    fn merged(&self, report: Report) -> Report {
        let placement = self.sessions.get(&report.legs[0].local);
        let Some((placement, slots)) = placement.and_then(|p| Some((p, p.slots?))) else {
            return report;
        };
        let now_ns = now_ns();
        let is_placed = placement.state == State::Placed;
        let share = |leg: LegReport, slot: u32, before: &Heard, gap: &Gap| {
            let entry = is_placed.then(|| self.table.get(leg.local));
            let heard = entry.flatten().map_or(*before, |entry| before.and(&entry));
            merged_leg(leg, &self.table.counters(slot), heard, gap, now_ns)
        };
        let ([a, b], [slot_a, slot_b]) = (report.legs, slots);
        let [before_a, before_b] = &placement.before;
        let [gap_a, gap_b] = &placement.gaps;
        let carrier = if is_placed { Carrier::Xdp } else { report.carrier };
        Report {
            id: report.id,
            carrier,
            legs: [share(a, slot_a, before_a, gap_a), share(b, slot_b, before_b, gap_b)],
        }
    }

    /// What the base tells, without its idleness where the program relays.
    fn of_base(&mut self) -> Result<Vec<Event>, ExecutorError> {
        let mut events = Vec::new();
        for mut event in self.base.events()? {
            let Some(report) = event.session.take() else {
                events.push(event);
                continue;
            };
            let placed = self.sessions.get(&report.legs[0].local);
            if placed.is_some_and(|placement| placement.state == State::Placed) {
                event.events.remove(Events::IDLE);
            }
            if !event.events.is_empty() {
                event.session = Some(self.merged(report));
                events.push(event);
            }
        }
        Ok(events)
    }

    /// What the program tells.
    fn of_program(&mut self) -> Vec<Event> {
        let mut happened: BTreeMap<SocketAddr, Events> = BTreeMap::new();
        for (slot, events) in self.table.events() {
            if let Some(first) = self.by_slot.get(&slot) {
                *happened.entry(*first).or_insert(Events::empty()) |= events;
            }
        }
        let of = |(first, events)| {
            let session = Some(self.report(first).ok()?);
            Some(Event { events, session, owner: None })
        };
        happened.into_iter().filter_map(of).collect()
    }

    /// Sessions in the program that have become idle.
    fn idle(&mut self) -> Vec<Event> {
        let now_ms = now_ns() / 1_000_000;
        let due = |placement: &&Placement| {
            let is_placed = placement.state == State::Placed;
            is_placed && placement.session.idle_s != 0 && placement.idle_look_ms <= now_ms
        };
        let due: Vec<SocketAddr> =
            self.sessions.values().filter(due).map(|p| p.session.legs[0].local).collect();
        let mut events = Vec::new();
        for first in due {
            let Ok(report) = self.report(first) else { continue };
            let Some(placement) = self.sessions.get_mut(&first) else { continue };
            if placement.is_newly_idle(now_ms, &report) {
                events.push(Event { events: Events::IDLE, session: Some(report), owner: None });
            }
        }
        events
    }
}

impl Placement {
    fn new(session: Session) -> Self {
        let now_ms = now_ns() / 1_000_000;
        Self {
            state: State::Waiting,
            slots: None,
            before: Default::default(),
            gaps: Default::default(),
            since_ms: now_ms,
            idle_told: false,
            idle_look_ms: now_ms.saturating_add(u64::from(session.idle_s) * 1_000),
            session,
        }
    }

    fn is_newly_idle(&mut self, now_ms: u64, report: &Report) -> bool {
        let seen = report.legs.iter().filter_map(|leg| leg.seen_ms);
        let silence_ms = seen.fold(now_ms.saturating_sub(self.since_ms), u64::min);
        let idle_ms = u64::from(self.session.idle_s) * 1_000;
        let is_idle = silence_ms >= idle_ms;
        let wait_ms = if is_idle { IDLE_LOOK_MS } else { idle_ms - silence_ms };
        self.idle_look_ms = now_ms.saturating_add(wait_ms);
        is_idle && !std::mem::replace(&mut self.idle_told, is_idle)
    }
}

impl Heard {
    /// With what the program has in its entry.
    fn and(&self, entry: &Entry) -> Self {
        let stream = &entry.stream;
        let lost = stream.past_lost.saturating_add(stream.expected.saturating_sub(stream.received));
        let expected = stream.past_expected.saturating_add(stream.expected);
        let begun = stream.begun != 0;
        Self {
            quality: Quality {
                expected: self.quality.expected.saturating_add(expected),
                lost: self.quality.lost.saturating_add(lost),
                jitter_us: if begun { stream.jitter_us } else { self.quality.jitter_us },
            },
            seen_ns: self.seen_ns.max(entry.seen_ns),
            ssrc: if begun { stream.ssrc } else { self.ssrc },
        }
    }
}

impl XdpRelay {
    /// A session the base has taken.
    fn note(&mut self, session: &Session) {
        let [a, b] = &session.legs;
        let first = a.local;
        self.firsts.extend([(first, first), (b.local, first)]);
        self.sessions.insert(first, Placement::new(session.clone()));
        self.place(first);
    }
}

impl Executor for XdpRelay {
    fn add(&mut self, sessions: &[Session]) -> Result<(), ExecutorError> {
        self.base.add(sessions)?;
        sessions.iter().for_each(|session| self.note(session));
        Ok(())
    }

    fn restore(&mut self, session: &Session, stood: Option<&Report>) -> Result<(), ExecutorError> {
        self.base.restore(session, stood)?;
        self.note(session);
        Ok(())
    }

    fn mortal_reports(&mut self) -> Result<Vec<Report>, ExecutorError> {
        let reports = self.base.mortal_reports()?;
        Ok(reports.into_iter().map(|report| self.merged(report)).collect())
    }

    fn halt(&mut self) {
        let all: Vec<SocketAddr> = self.sessions.keys().copied().collect();
        for first in all {
            if let Err(error) = self.withdraw(first) {
                tracing::warn!(target: "viaduct::media", %error, "still relayed in XDP");
            }
        }
        self.base.halt();
    }

    fn is_in_kernel(&self, first: SocketAddr) -> bool {
        self.base.is_in_kernel(first)
    }

    fn carrying(&mut self) -> Carrying {
        let mut carrying = self.base.carrying();
        for (first, _) in self.sessions.iter().filter(|(_, p)| p.state == State::Placed) {
            let behind = match self.base.is_in_kernel(*first) {
                true => &mut carrying.kernel,
                false => &mut carrying.userspace,
            };
            *behind = behind.saturating_sub(1);
            carrying.xdp += 1;
        }
        carrying
    }

    fn set(&mut self, legs: &[Leg]) -> Result<(), ExecutorError> {
        let first = legs.first().and_then(|leg| self.firsts.get(&leg.local)).copied();
        let Some(first) = first else { return self.base.set(legs) };
        // Nothing may be relayed by what holds no more.
        self.withdraw(first)?;
        let result = self.base.set(legs);
        if let Some(placement) = self.sessions.get_mut(&first) {
            placement.state = State::Waiting;
            if result.is_ok() {
                for old in &mut placement.session.legs {
                    if let Some(leg) = legs.iter().find(|leg| leg.local == old.local) {
                        *old = leg.clone();
                    }
                }
            }
        }
        self.place(first);
        result
    }

    fn remove(&mut self, local: SocketAddr) -> Result<Report, ExecutorError> {
        if let Some(first) = self.firsts.get(&local).copied() {
            self.withdraw(first)?;
        }
        let report = self.base.remove(local)?;
        let report = self.merged(report);
        for leg in &report.legs {
            self.firsts.remove(&leg.local);
        }
        let placement = self.sessions.remove(&report.legs[0].local);
        for slot in placement.and_then(|placement| placement.slots).into_iter().flatten() {
            self.by_slot.remove(&slot);
            self.table.give_back(slot);
        }
        Ok(report)
    }

    fn report(&mut self, local: SocketAddr) -> Result<Report, ExecutorError> {
        let report = self.base.report(local)?;
        Ok(self.merged(report))
    }

    fn reports(&mut self) -> Result<Vec<Report>, ExecutorError> {
        let reports = self.base.reports()?;
        Ok(reports.into_iter().map(|report| self.merged(report)).collect())
    }

    /// Call it often: sessions whose peers have settled are given to the program here.
    fn events(&mut self) -> Result<Vec<Event>, ExecutorError> {
        let mut events = self.of_base()?;
        events.extend(self.of_program());
        events.extend(self.idle());
        let waiting = self.sessions.values().filter(|p| p.state == State::Waiting);
        let waiting: Vec<SocketAddr> = waiting.map(|p| p.session.legs[0].local).collect();
        waiting.into_iter().for_each(|first| self.place(first));
        Ok(events)
    }
}

/// What the program can do: both legs of one family, no handover to watch for, no priority to set.
fn is_fit(session: &Session) -> bool {
    let [a, b] = &session.legs;
    let plain = |leg: &Leg| leg.priority == 0 && !leg.flags.contains(LegFlags::HANDOVER);
    a.local.is_ipv4() == b.local.is_ipv4() && plain(a) && plain(b)
}

/// Where both peers are, if nothing more is learned.
fn settled(report: &Report) -> Option<[SocketAddr; 2]> {
    let of = |leg: &LegReport| leg.learned.or(leg.peer).filter(|_| leg.locked);
    let [a, b] = &report.legs;
    Some([of(a)?, of(b)?])
}

/// Loopback is no wire, and an address that is good on one link only needs to be told which.
fn may_be_sent_to(peer: SocketAddr) -> bool {
    let is_link_local = matches!(peer.ip(), IpAddr::V6(ip) if ip.is_unicast_link_local());
    scope(peer) != Scope::Loopback && !is_link_local
}

fn merged_leg(
    base: LegReport,
    program: &Counters,
    heard: Heard,
    gap: &Gap,
    now_ns: u64,
) -> LegReport {
    let mut counters = base.counters;
    for counter in Counter::ALL {
        counters.add(counter, program.get(counter));
    }
    let seen = (heard.seen_ns != 0).then(|| now_ns.saturating_sub(heard.seen_ns) / 1_000_000);
    let has_heard = heard.quality.expected != 0;
    let quality = base.quality.map(|own| {
        let gap = gap.packets(Share::of(&base.counters, &own), Share::of(program, &heard.quality));
        Quality {
            expected: own.expected.saturating_add(heard.quality.expected).saturating_sub(gap),
            lost: own.lost.saturating_add(heard.quality.lost).saturating_sub(gap),
            jitter_us: if has_heard { heard.quality.jitter_us } else { own.jitter_us },
        }
    });
    LegReport {
        seen_ms: [seen, base.seen_ms].into_iter().flatten().min(),
        ssrc: has_heard.then_some(heard.ssrc).or(base.ssrc),
        counters,
        quality,
        ..base
    }
}

fn into_error(fault: XdpFault) -> ExecutorError {
    ExecutorError::Unavailable(fault.to_string())
}

/// The clock of the program.
fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map(std::time::Duration::from);
    now.map_or(0, |now| u64::try_from(now.as_nanos()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(carried: u64, lost: u64) -> Share {
        Share { carried, lost }
    }

    #[test]
    fn what_the_program_has_carried_is_not_lost_when_the_base_hears_the_stream_again() {
        let mut gap = Gap::default();
        // Two of the first hundred are lost.
        gap.begin(share(98, 2), share(0, 0));
        assert_eq!(gap.packets(share(98, 2), share(995, 5)), 0, "it is carried still");
        // 995 of the next thousand were carried; the base takes all of them for lost.
        assert_eq!(gap.packets(share(198, 1_002), share(995, 5)), 995);
        // Placed again: the same is not taken off twice, and real loss stays.
        gap.begin(share(198, 1_002), share(995, 5));
        assert_eq!(gap.packets(share(198, 1_002), share(1_495, 5)), 995);
        assert_eq!(gap.packets(share(296, 1_504), share(1_495, 5)), 995 + 500);
    }

    #[test]
    fn what_was_carried_before_a_session_is_placed_again_is_not_lost_when_that_is_heard_later() {
        let mut gap = Gap::default();
        gap.begin(share(10, 0), share(0, 0));
        // Signalling changes when 70 were carried, and the base hears nothing in between.
        gap.begin(share(10, 0), share(70, 0));
        assert_eq!(gap.packets(share(10, 0), share(100, 0)), 0);
        assert_eq!(gap.packets(share(20, 90 + 3), share(90, 0)), 90);
    }

    #[test]
    fn a_report_of_both_has_no_loss_where_each_carried_what_the_other_missed() {
        let mut counters = [Counters::default(), Counters::default()];
        counters[0].add(Counter::Rtp, 171);
        counters[1].add(Counter::Rtp, 29);
        let [base, program] = counters;
        let mut gap = Gap::default();
        gap.begin(share(100, 0), share(0, 0));
        // The phone has begun with the same numbers again, and the program was away for 71.
        let base = LegReport {
            local: ([192, 0, 2, 1], 30_000).into(),
            peer: None,
            learned: None,
            locked: true,
            seen_ms: None,
            ssrc: None,
            counters: base,
            quality: Some(Quality { expected: 100, lost: 0, jitter_us: 0 }),
        };
        let quality = Quality { expected: 100, lost: 71, jitter_us: 0 };
        let merged = merged_leg(base, &program, Heard { quality, ..Heard::default() }, &gap, 0);
        assert_eq!(merged.quality, Some(Quality { expected: 129, lost: 0, jitter_us: 0 }));
    }

    #[test]
    fn what_the_base_has_carried_is_not_lost_when_the_program_is_back() {
        let mut gap = Gap::default();
        gap.begin(share(50, 0), share(0, 0));
        // The program carries a hundred, is away for twelve, and carries a hundred more.
        assert_eq!(gap.packets(share(62, 100), share(100, 0)), 100);
        assert_eq!(gap.packets(share(62, 100), share(200, 12)), 100 + 12);
        // Beyond that it is loss.
        assert_eq!(gap.packets(share(62, 100), share(300, 42)), 100 + 12);
        // Where the phone has begun with the same numbers again, the base misses none.
        assert_eq!(gap.packets(share(62, 0), share(200, 12)), 12);
    }
}
