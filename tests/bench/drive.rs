//! Keeps so many requests outstanding and measures the server meanwhile.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::call::Calls;
use crate::cpu;
use crate::single::Single;
use crate::subject::Subject;
use crate::veth::Place;
use crate::wire::{Inbox, Side, Wire};
use crate::work::{AORS, OUTSTANDING, Work};

/// How often all sockets are found empty before the generator looks for late answers.
const IDLE_ROUNDS: u32 = 2_000;
/// Losses above one in this many answers spoil a measurement.
const ANSWERS_PER_LOSS: usize = 1_000;

/// What a kind of work does in one of the slots.
pub(crate) trait Load {
    /// Begins the slot's next request.
    fn begin(&mut self, slot: usize, wire: &Wire) -> Result<()>;
    /// Takes a datagram; the slot's number when its request is answered in full.
    fn receive(&mut self, side: Side, datagram: &[u8], wire: &Wire) -> Result<Option<usize>>;
    /// Sends the slot's latest message again.
    fn resend(&mut self, slot: usize, wire: &Wire) -> Result<()>;
}

/// How requests are kept outstanding.
#[derive(Clone, Copy)]
pub(crate) struct Pace {
    /// Requests under way at any time.
    pub outstanding: usize,
    /// A request without an answer is sent again after this long.
    pub resend_after: Duration,
    /// And given up after so many times.
    pub max_resends: u32,
    /// Where there is nothing to receive, sleep until there is: others need this core.
    pub sleep: bool,
}

impl Pace {
    /// The generator has a core to itself and never sleeps, which would have the server pay for
    /// waking it. Sends again after T1 (RFC 3261 17.1.1.1).
    pub(crate) const BUSY: Self = Self {
        outstanding: OUTSTANDING,
        resend_after: Duration::from_millis(500),
        max_resends: 8,
        sleep: false,
    };
}

/// One measurement.
pub(crate) struct Run {
    /// Requests answered while measuring.
    pub answers: usize,
    /// CPU time the server used for them.
    pub cpu: Duration,
    /// Time that the server's core was busy with anything, by the kernel's ticks.
    pub core: Duration,
    /// Time that passed.
    pub wall: Duration,
    /// Messages sent again.
    pub retransmitted: usize,
    /// Requests given up.
    pub lost: usize,
}

impl Run {
    /// Server CPU time for one answer in microseconds.
    pub(crate) fn cost_us(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.answers as f64
    }

    /// Time its core was busy with anything, for one answer, in microseconds.
    pub(crate) fn core_us(&self) -> f64 {
        self.core.as_secs_f64() * 1e6 / self.answers as f64
    }

    /// Share of one core the server used.
    pub(crate) fn busy_percent(&self) -> f64 {
        100.0 * self.cpu.as_secs_f64() / self.wall.as_secs_f64()
    }

    /// Prepares the server, warms it up, and measures.
    pub(crate) fn measure(
        place: &Place,
        subject: &Subject,
        work: Work,
        scale_percent: u32,
    ) -> Result<Self> {
        let (caller, callee) = subject.generator_addresses();
        let wire = Wire::new(caller, callee, subject.address())?;
        let mut load: Box<dyn Load> = match work {
            Work::Call => {
                // Whoever is called must be registered first.
                let mut registering = Single::callees(callee);
                Driver::new(&mut registering, &wire, Pace::BUSY).answer(AORS)?;
                Box::new(Calls::new(caller, callee))
            }
            _ => Box::new(Single::new(work, caller)),
        };
        let count = (work.count() * scale_percent as usize / 100).max(OUTSTANDING);
        let mut driver = Driver::new(load.as_mut(), &wire, Pace::BUSY);
        driver.answer((count / 10).max(2 * AORS))?;
        let run = driver.measure(subject, &place.kernel_threads()?, count)?;
        driver.drain()?;
        run.check()?;
        Ok(run)
    }

    /// Losses spoil a measurement.
    pub(crate) fn check(&self) -> Result<()> {
        let (losses, count) = (self.retransmitted + self.lost, self.answers);
        ensure!(
            losses * ANSWERS_PER_LOSS <= count,
            "{losses} of {count} were lost or sent again: too many for a measurement"
        );
        Ok(())
    }
}

/// The slots over one load.
pub(crate) struct Driver<'a> {
    load: &'a mut dyn Load,
    wire: &'a Wire,
    pace: Pace,
    slots: Vec<Slot>,
    retransmitted: usize,
    lost: usize,
}

#[derive(Clone, Copy)]
struct Slot {
    /// Whether a request is outstanding.
    busy: bool,
    /// When it began or was last sent again.
    since: Instant,
    resends: u32,
}

impl<'a> Driver<'a> {
    /// Nothing is outstanding yet.
    pub(crate) fn new(load: &'a mut dyn Load, wire: &'a Wire, pace: Pace) -> Self {
        let slot = Slot { busy: false, since: Instant::now(), resends: 0 };
        let slots = vec![slot; pace.outstanding];
        Self { load, wire, pace, slots, retransmitted: 0, lost: 0 }
    }

    /// What `count` more answers, or a few more, cost the server and the kernel's `threads` that work for it.
    pub(crate) fn measure(
        &mut self,
        subject: &Subject,
        threads: &[u32],
        count: usize,
    ) -> Result<Run> {
        let all = || [&[subject.pid()], threads].concat();
        let used = || all().into_iter().map(cpu::used).sum::<Result<Duration>>();
        (self.retransmitted, self.lost) = (0, 0);
        let (cpu_before, core_before, began) = (used()?, cpu::core_busy()?, Instant::now());
        let answers = self.answer(count)?;
        let (wall, cpu_after, core_after) = (began.elapsed(), used()?, cpu::core_busy()?);
        Ok(Run {
            answers,
            cpu: cpu_after.saturating_sub(cpu_before),
            core: core_after.saturating_sub(core_before),
            wall,
            retransmitted: self.retransmitted,
            lost: self.lost,
        })
    }

    /// Requests sent again and given up so far.
    pub(crate) fn losses(&self) -> usize {
        self.retransmitted + self.lost
    }

    /// Runs until `count` more requests are answered, or a few more, and says how many; others stay
    /// outstanding.
    pub(crate) fn answer(&mut self, count: usize) -> Result<usize> {
        for slot in 0..self.slots.len() {
            if !self.slots.get(slot).is_some_and(|one| one.busy) {
                self.begin(slot)?;
            }
        }
        self.until(count, true)
    }

    /// Runs until nothing is outstanding.
    pub(crate) fn drain(&mut self) -> Result<()> {
        let busy = self.slots.iter().filter(|slot| slot.busy).count();
        self.until(busy, false).map(drop)
    }

    fn until(&mut self, count: usize, begin_more: bool) -> Result<usize> {
        let (mut answered, mut idle_rounds) = (0, 0_u32);
        let mut inbox = Inbox::new();
        while answered < count {
            self.wire.flush()?;
            let mut idle = true;
            for side in [Side::Caller, Side::Callee] {
                self.wire.receive(side, &mut inbox)?;
                for datagram in inbox.datagrams() {
                    idle = false;
                    let Some(slot) = self.load.receive(side, datagram, self.wire)? else {
                        continue;
                    };
                    answered += 1;
                    self.slots.get_mut(slot).context("no such slot")?.busy = false;
                    if begin_more {
                        self.begin(slot)?;
                    }
                }
            }
            idle_rounds = if idle { idle_rounds + 1 } else { 0 };
            let waited_in_vain = idle && self.pace.sleep && !self.wire.wait()?;
            if idle_rounds > IDLE_ROUNDS || waited_in_vain {
                idle_rounds = 0;
                answered += self.resend_late(begin_more)?;
            }
        }
        Ok(answered)
    }

    fn begin(&mut self, slot: usize) -> Result<()> {
        let state = self.slots.get_mut(slot).context("no such slot")?;
        *state = Slot { busy: true, since: Instant::now(), resends: 0 };
        self.load.begin(slot, self.wire)
    }

    /// Sends again what is late, and gives up what was late too often. Returns how many were.
    fn resend_late(&mut self, begin_more: bool) -> Result<usize> {
        let (now, mut given_up) = (Instant::now(), 0);
        for slot in 0..self.slots.len() {
            let Some(state) = self.slots.get_mut(slot) else {
                continue;
            };
            if !state.busy || now.duration_since(state.since) < self.pace.resend_after {
                continue;
            }
            state.since = now;
            state.resends += 1;
            if state.resends <= self.pace.max_resends {
                self.retransmitted += 1;
                self.load.resend(slot, self.wire)?;
                continue;
            }
            state.busy = false;
            self.lost += 1;
            given_up += 1;
            ensure!(self.lost <= self.pace.outstanding, "the server does not answer");
            if begin_more {
                self.begin(slot)?;
            }
        }
        Ok(given_up)
    }
}
