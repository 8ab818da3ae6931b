//! Keeps 64 requests outstanding and measures the server meanwhile.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::call::Calls;
use crate::cpu;
use crate::single::Single;
use crate::subject::Subject;
use crate::wire::{Side, Wire};
use crate::work::{AORS, OUTSTANDING, Work};

/// A request without an answer is sent again after this long (T1, RFC 3261 17.1.1.1).
const RESEND_AFTER: Duration = Duration::from_millis(500);
/// And given up after so many times.
const MAX_RESENDS: u32 = 8;
/// Losses above one in this many answers spoil a measurement.
const ANSWERS_PER_LOSS: usize = 1_000;

/// What a kind of work does in one of the 64 slots.
pub(crate) trait Load {
    /// Begins the slot's next request.
    fn begin(&mut self, slot: usize, wire: &Wire) -> Result<()>;
    /// Takes a datagram; the slot's number when its request is answered in full.
    fn receive(&mut self, side: Side, datagram: &[u8], wire: &Wire) -> Result<Option<usize>>;
    /// Sends the slot's latest message again.
    fn resend(&mut self, slot: usize, wire: &Wire) -> Result<()>;
}

/// One measurement.
pub(crate) struct Run {
    /// Requests answered while measuring.
    pub answers: usize,
    /// CPU time the server used for them.
    pub cpu: Duration,
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

    /// Share of one core the server used.
    pub(crate) fn busy_percent(&self) -> f64 {
        100.0 * self.cpu.as_secs_f64() / self.wall.as_secs_f64()
    }

    /// Prepares the server, warms it up, and measures.
    pub(crate) fn measure(subject: &Subject, work: Work, scale_percent: u32) -> Result<Self> {
        let (caller, callee) = subject.generator_addresses();
        let wire = Wire::new(caller, callee, subject.address())?;
        let mut load: Box<dyn Load> = match work {
            Work::Call => {
                // Whoever is called must be registered first.
                let mut registering = Single::callees(callee);
                Driver::new(&mut registering, &wire).answer(AORS)?;
                Box::new(Calls::new(caller, callee))
            }
            _ => Box::new(Single::new(work, caller)),
        };
        let count = (work.count() * scale_percent as usize / 100).max(OUTSTANDING);
        let mut driver = Driver::new(load.as_mut(), &wire);
        driver.answer((count / 10).max(2 * AORS))?;
        (driver.retransmitted, driver.lost) = (0, 0);
        let (cpu_before, began) = (cpu::used(subject.pid())?, Instant::now());
        driver.answer(count)?;
        let (wall, cpu_after) = (began.elapsed(), cpu::used(subject.pid())?);
        let run = Self {
            answers: count,
            cpu: cpu_after.saturating_sub(cpu_before),
            wall,
            retransmitted: driver.retransmitted,
            lost: driver.lost,
        };
        driver.drain()?;
        let losses = run.retransmitted + run.lost;
        ensure!(
            losses * ANSWERS_PER_LOSS <= count,
            "{losses} of {count} were lost or sent again: too many for a measurement"
        );
        Ok(run)
    }
}

/// The 64 slots over one load.
struct Driver<'a> {
    load: &'a mut dyn Load,
    wire: &'a Wire,
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
    fn new(load: &'a mut dyn Load, wire: &'a Wire) -> Self {
        let slot = Slot { busy: false, since: Instant::now(), resends: 0 };
        Self { load, wire, slots: vec![slot; OUTSTANDING], retransmitted: 0, lost: 0 }
    }

    /// Runs until `count` more requests are answered; others stay outstanding.
    fn answer(&mut self, count: usize) -> Result<()> {
        for slot in 0..self.slots.len() {
            if !self.slots.get(slot).is_some_and(|one| one.busy) {
                self.begin(slot)?;
            }
        }
        self.until(count, true)
    }

    /// Runs until nothing is outstanding.
    fn drain(&mut self) -> Result<()> {
        let busy = self.slots.iter().filter(|slot| slot.busy).count();
        self.until(busy, false)
    }

    fn until(&mut self, count: usize, begin_more: bool) -> Result<()> {
        let (mut answered, mut idle_rounds) = (0, 0_u32);
        let mut buffer = [0; 4_096];
        while answered < count {
            let mut idle = true;
            for side in [Side::Caller, Side::Callee] {
                while let Some(datagram) = self.wire.receive(side, &mut buffer)? {
                    idle = false;
                    let Some(slot) = self.load.receive(side, datagram, self.wire)? else {
                        continue;
                    };
                    answered += 1;
                    self.slots.get_mut(slot).context("no such slot")?.busy = false;
                    if begin_more {
                        self.begin(slot)?;
                    }
                    if answered == count {
                        return Ok(());
                    }
                }
            }
            idle_rounds = if idle { idle_rounds + 1 } else { 0 };
            if idle_rounds > 2_000 {
                idle_rounds = 0;
                answered += self.resend_late(begin_more)?;
            }
        }
        Ok(())
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
            if !state.busy || now.duration_since(state.since) < RESEND_AFTER {
                continue;
            }
            state.since = now;
            state.resends += 1;
            if state.resends <= MAX_RESENDS {
                self.retransmitted += 1;
                self.load.resend(slot, self.wire)?;
                continue;
            }
            state.busy = false;
            self.lost += 1;
            given_up += 1;
            ensure!(self.lost <= OUTSTANDING, "the server does not answer");
            if begin_more {
                self.begin(slot)?;
            }
        }
        Ok(given_up)
    }
}
