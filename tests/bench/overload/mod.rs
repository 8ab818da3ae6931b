//! Ten times what the router can do: how many calls it first completes in a second, how many while
//! ten times as many begin, what memory that takes, and how soon all is well again.
//!
//! The router has core 0, the generator core 1, as for the other figures; the same generator asks for
//! both loads. Goodput counts calls whose BYE was answered. T1 is 100 ms here, so that calls leave the
//! table as fast as they come long before a measurement is over.

mod generator;
mod invites;

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::cpu;
use crate::drive::{Driver, Pace as Kept};
use crate::single::Single;
use crate::subject::{GENERATOR_CORE, Setup, Subject};
use crate::table::Progress;
use crate::veth::Place;
use crate::wire::Wire;
use crate::work::{AORS, OUTSTANDING};

use generator::{Counts, Generator, Pace};

/// Room for the calls of 64 times T1 at the highest rate, and what a transaction may take of memory:
/// request, branch, and what was sent for both.
const TRANSACTIONS: u64 = 500_000;
const SECTIONS: &str = "[limits]\ntransactions = 500_000\n[timers]\nt1_ms = 100\n";
const TRANSACTION_BYTES: u64 = 8 * 1_024;
/// How long capacity is looked for: longer than transactions live (64 times T1).
const CAPACITY: Duration = Duration::from_secs(10);
/// How many times capacity is asked for.
const TIMES: f64 = 10.0;
/// Pieces of time in which recovery is looked for, and how long.
const PIECE: Duration = Duration::from_millis(250);
/// So many pieces in a row, two seconds, show that all is well.
const WELL: usize = 8;
const PATIENCE: Duration = Duration::from_secs(20);
/// So much of capacity counts as goodput kept, and as recovered.
const KEPT: f64 = 0.9;
const RECOVERY_GOAL: Duration = Duration::from_secs(5);

/// What was measured.
pub(crate) struct Report {
    /// Calls a second, alone.
    capacity: f64,
    asked: f64,
    /// Of each second of the overload.
    seconds: Vec<Counts>,
    memory: Memory,
    /// `None`: not within [`PATIENCE`].
    recovery: Option<Duration>,
}

/// Bytes of the process.
struct Memory {
    before: u64,
    most: u64,
}

/// Starts a router and measures it under load for so many seconds.
pub(crate) fn measure(router: (&Path, &Path), seconds: u64) -> Result<Report> {
    let all_cores = cpu::pin_to(GENERATOR_CORE).context("pinning the generator")?;
    let setup = Setup::new(&Place::Loopback, router.0, router.1)?.more(SECTIONS);
    let subject = Subject::viaduct(&setup)?;
    let report = under_load(&subject, seconds).with_context(|| subject.log_tail());
    cpu::allow(&all_cores)?;
    report
}

fn under_load(subject: &Subject, seconds: u64) -> Result<Report> {
    let (caller, callee) = subject.generator_addresses();
    let wire = Wire::new(caller, callee, subject.address())?;
    Driver::new(&mut Single::callees(callee), &wire, Kept::BUSY).answer(AORS)?;
    drop(wire);
    let progress = Progress::new(usize::try_from(seconds)? + 2);
    let mut calls = Generator::new(subject.address(), callee)?;
    let memory_before = cpu::memory_bytes(subject.pid())?;
    progress.step("overload: capacity");
    // The first third warms up.
    calls.run(Pace::Outstanding(OUTSTANDING), CAPACITY / 3)?;
    let (began, alone) = (Instant::now(), calls.run(Pace::Outstanding(OUTSTANDING), CAPACITY)?);
    let capacity = alone.completed as f64 / began.elapsed().as_secs_f64();
    ensure!(alone.completed > 0, "not one call was completed: {alone:?}");
    let asked = capacity * TIMES;
    let mut memory = Memory { before: memory_before, most: 0 };
    let mut each = Vec::new();
    for second in 1..=seconds {
        progress.step(&format!("overload: second {second}"));
        each.push(calls.run(Pace::Rate(asked), Duration::from_secs(1))?);
        memory.most = memory.most.max(cpu::memory_bytes(subject.pid())?);
    }
    progress.step("overload: recovery");
    let recovery = recover(&mut calls, capacity)?;
    progress.done();
    Ok(Report { capacity, asked, seconds: each, memory, recovery })
}

/// Asks for no more than can be done; when nobody is refused any more, and as much is done as before,
/// for as long as [`WELL`].
fn recover(calls: &mut Generator, capacity: f64) -> Result<Option<Duration>> {
    calls.forget();
    let began = Instant::now();
    let mut pieces = VecDeque::new();
    while began.elapsed() < PATIENCE {
        let at = began.elapsed();
        let counts = calls.run(Pace::Outstanding(OUTSTANDING), PIECE)?;
        match counts.refused + counts.unanswered {
            0 => pieces.push_back((at, counts.completed)),
            _ => pieces.clear(),
        }
        // The machine is not as fast in each quarter of a second as in the next.
        let done: u64 = pieces.iter().map(|(_, done)| done).sum();
        let Some((first, _)) = pieces.front().filter(|_| pieces.len() == WELL) else { continue };
        if done as f64 >= capacity * KEPT * PIECE.as_secs_f64() * WELL as f64 {
            return Ok(Some(*first));
        }
        pieces.pop_front();
    }
    Ok(None)
}

impl Report {
    /// As text, each figure with its goal.
    pub(crate) fn render(&self) -> String {
        let Self { capacity, asked, seconds, memory, recovery } = self;
        let rates: Vec<f64> = seconds.iter().map(|one| one.completed as f64).collect();
        let goodput = rates.iter().sum::<f64>() / rates.len().max(1) as f64;
        let least = rates.iter().copied().fold(f64::INFINITY, f64::min);
        let sum = |of: fn(&Counts) -> u64| seconds.iter().map(of).sum::<u64>();
        let begun = sum(|one| one.begun);
        let bound = memory.before + TRANSACTIONS * TRANSACTION_BYTES;
        let mib = |bytes: u64| bytes >> 20;
        let goal = |met: bool| if met { "met" } else { "MISSED" };
        let mut text = format!("\noverload, {} s of whole calls\n", seconds.len());
        let mut line = |what: &str, value: String| {
            let _ = writeln!(text, "  {what:<34} {value}");
        };
        line("capacity, calls a second", format!("{capacity:.0}"));
        let begun_per_s = begun as f64 / seconds.len().max(1) as f64;
        let slow =
            if begun_per_s < asked * KEPT { ": the generator could not keep up" } else { "" };
        let asked = format!("{begun_per_s:.0} of {asked:.0} intended{slow}");
        line("asked for, calls a second", asked);
        let share = goodput / capacity;
        line(
            "goodput, calls a second",
            format!(
                "{goodput:.0} ({:.0} % of capacity; goal 90 %: {}), least of a second {least:.0}",
                share * 100.0,
                goal(share >= KEPT)
            ),
        );
        let tenths: Vec<String> = rates
            .chunks(rates.len().div_ceil(10).max(1))
            .map(|part| format!("{:.0}", part.iter().sum::<f64>() / part.len() as f64))
            .collect();
        line("goodput of each tenth of the time", tenths.join(" "));
        line(
            "answered 503, stuck, sent again",
            format!(
                "{}, {}, {}",
                sum(|one| one.refused),
                sum(|one| one.stuck),
                sum(|one| one.resent)
            ),
        );
        line(
            "memory before, at most, MiB",
            format!(
                "{}, {} (bound {} for {TRANSACTIONS} transactions: {})",
                mib(memory.before),
                mib(memory.most),
                mib(bound),
                goal(memory.most <= bound)
            ),
        );
        let recovered = recovery.is_some_and(|took| took <= RECOVERY_GOAL);
        let took = recovery.map_or_else(
            || format!("none within {} s", PATIENCE.as_secs()),
            |took| format!("{:.2} s", took.as_secs_f64()),
        );
        line("back at capacity, none refused", format!("{took} (goal 5 s: {})", goal(recovered)));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(completed: u64, most: u64, recovery: Option<Duration>) -> String {
        let one = Counts { begun: 10_000, completed, ..Counts::default() };
        let memory = Memory { before: 20 << 20, most };
        let seconds = vec![one; 3];
        Report { capacity: 1_000.0, asked: 10_000.0, seconds, memory, recovery }.render()
    }

    #[test]
    fn goals_that_are_met_and_missed_are_told() {
        let good = report(950, 30 << 20, Some(Duration::from_secs(1)));
        assert!(!good.contains("MISSED") && good.contains("95 % of capacity"), "{good}");
        assert!(report(899, 30 << 20, None).matches("MISSED").count() == 2);
        assert!(report(950, 1 << 40, Some(Duration::from_secs(6))).matches("MISSED").count() == 2);
    }
}
