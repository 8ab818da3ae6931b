//! Who is let in when there is more than can be served.
//!
//! Three classes (RFC 3261 21.5.4 leaves the choice to the server): requests within a dialog, whose
//! call is paid for already; refreshes of phones that are registered, as their failing would bring
//! more work than it saves; and what is new. Two things run short: room for transactions, which the
//! classes may fill to different marks, and time, of which the shell tells when messages wait. Where
//! room runs short, no single source may have more than its share of it. What is not let in gets a
//! 503 without state, and nothing at all where even those come too fast.

use std::net::IpAddr;

use viaduct_message::{Essentials, Message, Method};

use super::Engine;
use crate::flow::Flow;
use crate::hook::Policy;
use crate::registrar::canonical_aor;

/// Sources are counted by a hash of their address: what collides shares a count.
const BUCKETS: usize = 4096;
/// Transactions any source may have: below this its share is not looked at.
const LEAST_SHARE: usize = 8;
/// All of a class is let in.
const ALL: u16 = 1000;
/// Of new requests, and of refreshes, so many of a thousand are let in at the worst: by them it is
/// seen when there is time again.
const LEAST: (u16, u16) = (20, 100);
/// How often the shares are changed at most.
const STEP_US: u64 = 20_000;
/// Of the time messages may wait: so long is enough once there was too much to do.
const WATCHFUL: u64 = 16;
/// Table whose bindings tell a refresh from a first registration.
const TABLE: &str = "location";
/// Answers that may be given at once, as a part of those of a second.
const BURST: u32 = 10;

/// What a request is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Kept,
    Refresh,
    New,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admitted {
    Yes,
    /// 503 without state.
    No,
    /// Nothing.
    Silent,
}

/// State of the admission of one engine.
pub(super) struct Admission {
    /// Server transactions by source.
    held: Box<[u32]>,
    /// Buckets that are not empty.
    sources: usize,
    hasher: ahash::RandomState,
    /// Let in of new requests and of refreshes, thousandths.
    new: u16,
    refresh: u16,
    /// Messages wait since then, microseconds of the monotonic clock.
    behind_since_us: Option<u64>,
    stepped_us: u64,
    /// Answers that may be given now, millionths.
    answers: u64,
    answered_us: u64,
    /// What was drawn for the request that is being read, before it was.
    pub(super) drawn: Option<Admitted>,
    /// Of new requests so many are worth being brought here, and so many are, thousandths.
    wanted: u16,
    brought: u16,
    /// New requests since the last step that were drawn for, and those of them thrown away.
    seen: u32,
    silent: u32,
}

impl Admission {
    /// Lets in everything. `seed` keeps peers from choosing whom they share a count with.
    pub(super) fn new(seed: u64) -> Admission {
        Admission {
            held: vec![0; BUCKETS].into_boxed_slice(),
            sources: 0,
            hasher: ahash::RandomState::with_seeds(seed, 5, 6, 7),
            new: ALL,
            refresh: ALL,
            behind_since_us: None,
            stepped_us: 0,
            answers: 0,
            answered_us: 0,
            drawn: None,
            wanted: ALL,
            brought: ALL,
            seen: 0,
            silent: 0,
        }
    }

    /// Sources that have transactions; what collides counts as one.
    pub(super) fn sources(&self) -> usize {
        self.sources
    }

    /// Who has an IPv6 address has all of its /64.
    fn bucket(&self, source: IpAddr) -> usize {
        let hash = match source.to_canonical() {
            IpAddr::V4(ip) => self.hasher.hash_one(ip.to_bits()),
            IpAddr::V6(ip) => self.hasher.hash_one(ip.to_bits() >> 64),
        };
        hash as usize % BUCKETS
    }

    /// A source has one more transaction.
    pub(super) fn opened(&mut self, source: IpAddr) {
        let bucket = self.bucket(source);
        if let Some(held) = self.held.get_mut(bucket) {
            self.sources += usize::from(*held == 0);
            *held = held.saturating_add(1);
        }
    }

    /// A source has one less.
    pub(super) fn closed(&mut self, source: IpAddr) {
        let bucket = self.bucket(source);
        if let Some(held) = self.held.get_mut(bucket).filter(|held| **held > 0) {
            *held -= 1;
            self.sources = self.sources.saturating_sub(usize::from(*held == 0));
        }
    }

    /// Is everything let in, with so many transactions of at most `most`? What is asked first, of
    /// each new request.
    fn is_open(&self, open: usize, most: usize) -> bool {
        open < most / 2 && self.new == ALL && self.refresh == ALL
    }

    /// Are there new requests that are not let in for want of time?
    pub(super) fn is_pressed(&self) -> bool {
        self.new < ALL
    }

    /// Enough is brought for those who are let in and those who are answered 503: more while none is thrown
    /// away here, fewer while a quarter is.
    fn step_wanted(&mut self) {
        let (seen, silent) = (std::mem::take(&mut self.seen), std::mem::take(&mut self.silent));
        if !self.is_pressed() {
            self.wanted = ALL;
        } else if silent > seen / 4 {
            self.wanted -= self.wanted / 8;
        } else if silent == 0 {
            self.wanted = self.wanted.saturating_add((self.wanted / 16).max(1)).min(ALL);
        }
        self.wanted = self.wanted.max(self.new);
    }

    pub(super) fn wanted_new(&self) -> u16 {
        self.wanted
    }

    pub(super) fn note_brought(&mut self, thousandths: u16) {
        self.brought = thousandths.clamp(1, ALL);
    }

    /// The share let in of those that are brought.
    fn new_of_brought(&self) -> u16 {
        let share = u32::from(self.new) * u32::from(ALL) / u32::from(self.brought);
        u16::try_from(share).unwrap_or(ALL).min(ALL)
    }

    /// `source`: `None` where it is a trusted peer, which speaks for many.
    fn lets_in(
        &self,
        class: Class,
        source: Option<IpAddr>,
        (open, most): (usize, usize),
        random: u64,
    ) -> bool {
        let (mark, watched, share) = match class {
            Class::Kept => (most, most - most / 8, ALL),
            Class::Refresh => (most - most / 8, most / 2, self.refresh),
            Class::New => (most - most / 4, most / 2, self.new),
        };
        if open >= mark {
            return false;
        }
        if let Some(source) = source.filter(|_| open >= watched) {
            // One share is kept for who comes next.
            let fair = (most - most / 4) / self.sources.saturating_add(1);
            let held = self.held.get(self.bucket(source)).copied().unwrap_or(0);
            if held as usize >= fair.max(LEAST_SHARE) {
                return false;
            }
        }
        is_drawn(share, random)
    }

    /// May one more 503 be given, with so many a second?
    fn may_answer(&mut self, per_s: u32, now_us: u64) -> bool {
        let since_us = now_us.saturating_sub(self.answered_us);
        self.answered_us = now_us;
        let most = u64::from(per_s).saturating_mul(1_000_000) / u64::from(BURST);
        let gained = since_us.saturating_mul(per_s.into());
        self.answers = self.answers.saturating_add(gained).min(most.max(1_000_000));
        let may = self.answers >= 1_000_000 && per_s > 0;
        if may {
            self.answers -= 1_000_000;
        }
        may
    }

    /// Fewer are let in while messages wait too long, new requests first; more when they do not,
    /// refreshes first.
    fn note_backlog(&mut self, behind: bool, most_us: u64, now_us: u64) {
        let since_us = match behind {
            true => *self.behind_since_us.get_or_insert(now_us),
            false => now_us,
        };
        if !behind {
            self.behind_since_us = None;
        }
        if now_us.saturating_sub(self.stepped_us) < STEP_US {
            return;
        }
        self.stepped_us = now_us;
        self.step_wanted();
        let most_us = if self.new < ALL { most_us / WATCHFUL } else { most_us };
        let fewer = |share: u16, least: u16| (share - share / 16).max(least);
        if behind && most_us > 0 && now_us.saturating_sub(since_us) >= most_us {
            match self.new > LEAST.0 {
                true => self.new = fewer(self.new, LEAST.0),
                false => self.refresh = fewer(self.refresh, LEAST.1),
            }
        } else if self.refresh < ALL {
            self.refresh = self.refresh.saturating_add(20).min(ALL);
        } else {
            // In proportion: where one in a hundred is let in, one more in a hundred is twice as many.
            self.new = self.new.saturating_add((self.new / 16).max(1)).min(ALL);
        }
    }
}

/// Is one of so many thousandths drawn?
fn is_drawn(share: u16, random: u64) -> bool {
    random % u64::from(ALL) < u64::from(share)
}

impl<P: Policy> Engine<P> {
    /// The shell tells after each turn: is there more it could have read? While that is so for too
    /// long ([`crate::Bounds::backlog_us`]), fewer requests are let in.
    pub fn note_backlog(&mut self, behind: bool, mono_us: u64) {
        let most_us = self.settings.bounds.backlog_us;
        self.admission.note_backlog(behind && most_us > 0, most_us, mono_us);
    }

    /// Is there room and time for a request that begins a transaction?
    pub(super) fn admitted(
        &mut self,
        message: Message<'_>,
        read: &Essentials<'_>,
        flow: Flow,
    ) -> Admitted {
        let (open, most) = (self.servers.len(), self.settings.bounds.transactions);
        if self.admission.is_open(open, most) {
            return Admitted::Yes;
        }
        let class = self.class_of(message, read);
        let trusted = self.settings.is_trusted(flow.remote.ip());
        let source = Some(flow.remote.ip()).filter(|_| !trusted);
        // What was drawn for it already is not drawn again; there must be room nevertheless. 0 is in any
        // share.
        let random = match self.admission.drawn.take() {
            Some(Admitted::Yes) => 0,
            Some(refused) => return refused,
            None => self.next_random(),
        };
        if self.admission.lets_in(class, source, (open, most), random) {
            return Admitted::Yes;
        }
        self.refusal()
    }

    /// What becomes of a new request for want of time.
    pub(super) fn draw(&mut self) -> Admitted {
        let share = self.admission.new_of_brought();
        let drawn = match is_drawn(share, self.next_random()) {
            true => Admitted::Yes,
            false => self.refusal(),
        };
        let admission = &mut self.admission;
        admission.seen = admission.seen.saturating_add(1);
        admission.silent = admission.silent.saturating_add(u32::from(drawn == Admitted::Silent));
        drawn
    }

    fn refusal(&mut self) -> Admitted {
        let per_s = self.settings.bounds.shed_answers_per_s;
        match self.admission.may_answer(per_s, self.now.mono_us) {
            true => Admitted::No,
            false => Admitted::Silent,
        }
    }

    fn class_of(&mut self, message: Message<'_>, read: &Essentials<'_>) -> Class {
        if read.to_tag.is_some() {
            return Class::Kept;
        }
        if message.method() != Method::Register {
            return Class::New;
        }
        let mut aor = std::mem::take(&mut self.scratch);
        aor.clear();
        canonical_aor(&read.to_uri, &self.settings.registrar, &mut aor);
        let known = self.location.get(TABLE, &aor).is_some_and(|set| !set.is_empty());
        self.scratch = aor;
        if known { Class::Refresh } else { Class::New }
    }
}

#[cfg(test)]
mod tests;
