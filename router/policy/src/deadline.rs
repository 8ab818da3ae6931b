//! The time a run may take: a backstop behind fuel, since not every instruction costs the same.
//!
//! What counts is the time the worker's thread has run. A machine that has no processor for a
//! worker during 50 ms must not make it fail the message it was about. Reading that clock is a
//! system call, so it is read only when the epoch says that half of the time is over: from there
//! on, the other half is measured.

use std::time::Duration;

use nix::time::ClockId;
use wasmtime::UpdateDeadline;

use crate::sandbox::TICK_MS;

/// Deadline of the run under way.
pub(crate) struct Deadline {
    half_ms: u64,
    /// Running time of this thread when half of the run's time was over.
    half_over: Option<Duration>,
}

impl Deadline {
    pub(crate) fn new(wall_ms: u64) -> Deadline {
        Deadline { half_ms: wall_ms.div_ceil(2), half_over: None }
    }

    /// A run begins; ticks until it is to be looked at.
    pub(crate) fn begin(&mut self) -> u64 {
        self.half_over = None;
        self.ticks()
    }

    /// The epoch's deadline has come.
    pub(crate) fn reached(&mut self) -> UpdateDeadline {
        self.judge(running_time())
    }

    fn judge(&mut self, now: Option<Duration>) -> UpdateDeadline {
        // Without a clock nothing can be measured, and the run must end.
        let Some(now) = now else { return UpdateDeadline::Interrupt };
        let since = *self.half_over.get_or_insert(now);
        // Ticks come late by up to one.
        let enough = Duration::from_millis(self.half_ms.saturating_sub(TICK_MS));
        match now.saturating_sub(since) {
            Duration::ZERO => UpdateDeadline::Continue(self.ticks()),
            used if used >= enough => UpdateDeadline::Interrupt,
            _ => UpdateDeadline::Continue(self.ticks()),
        }
    }

    fn ticks(&self) -> u64 {
        self.half_ms.div_ceil(TICK_MS).max(1)
    }
}

/// Time this thread has run.
fn running_time() -> Option<Duration> {
    ClockId::CLOCK_THREAD_CPUTIME_ID.now().ok().map(Duration::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn continues(update: UpdateDeadline) -> bool {
        matches!(update, UpdateDeadline::Continue(_))
    }

    #[test]
    fn a_thread_that_runs_is_ended_after_the_second_half() {
        let mut deadline = Deadline::new(50);
        assert_eq!(deadline.begin(), 3);
        let ms = |n| Some(Duration::from_millis(n));
        assert!(continues(deadline.judge(ms(1000))));
        assert!(!continues(deadline.judge(ms(1025))));
    }

    #[test]
    fn a_thread_that_waits_for_a_processor_goes_on_until_it_has_had_its_time() {
        let mut deadline = Deadline::new(50);
        deadline.begin();
        let us = |n| Some(Duration::from_micros(n));
        for now in [1000, 2000, 9000, 15_000] {
            assert!(continues(deadline.judge(us(now))));
        }
        assert!(!continues(deadline.judge(us(16_001))));
        deadline.begin();
        assert!(continues(deadline.judge(us(90_000))), "the next run has its own time");
    }

    #[test]
    fn without_a_clock_the_run_ends() {
        assert!(!continues(Deadline::new(50).judge(None)));
    }

    #[test]
    fn the_clock_of_the_thread_advances_while_it_runs() {
        let begun = running_time().unwrap();
        while running_time().unwrap() == begun {}
    }
}
