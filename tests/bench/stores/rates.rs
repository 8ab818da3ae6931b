//! Registrations a second, each committed before it is answered.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::{Keeper, Stand};
use crate::cpu;
use crate::drive::{Driver, Pace};
use crate::single::Single;
use crate::subject::Subject;
use crate::table::Progress;
use crate::wire::Wire;

/// AoRs that are registered, and then refreshed in turn.
const AORS: usize = 8_000;
/// Requests under way at any time, a column each.
pub(super) const OUTSTANDING: [usize; 2] = [64, 256];
/// How long each is measured.
const MEASURED: Duration = Duration::from_secs(4);
/// A request is given up after this long. It is not sent again: a database that lets clients wait
/// would get more to do, and servers take it for a replay.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(5);

/// One measurement.
pub(super) struct Rate {
    pub(super) keeper: Keeper,
    pub(super) outstanding: usize,
    pub(super) per_s: f64,
    /// CPU time for each registration, microseconds.
    pub(super) server_us: f64,
    pub(super) database_us: f64,
    /// Requests without an answer.
    pub(super) losses: usize,
}

/// All of them, interleaved.
pub(super) fn measure(stand: &Stand<'_>, runs: u32) -> Result<Vec<Rate>> {
    let mut subjects = Vec::new();
    for keeper in &stand.keepers {
        let setup = stand.setup(*keeper, false)?;
        subjects.push((*keeper, stand.start(*keeper, &setup, false)?));
    }
    let total = subjects.len() * OUTSTANDING.len() * runs as usize;
    let progress = Progress::new(total);
    let mut rates = Vec::new();
    for round in 1..=runs {
        for (keeper, subject) in &subjects {
            for outstanding in OUTSTANDING {
                let name = keeper.name();
                progress.step(&format!("{name} write, {outstanding} {round}/{runs}"));
                let rate = one(stand, *keeper, subject, outstanding)
                    .with_context(|| format!("registrations of {name}"))
                    .with_context(|| subject.log_tail())?;
                rates.push(rate);
            }
        }
    }
    progress.done();
    Ok(rates)
}

fn one(stand: &Stand<'_>, keeper: Keeper, subject: &Subject, outstanding: usize) -> Result<Rate> {
    let (caller, callee) = subject.generator_addresses();
    let wire = Wire::new(caller, callee, subject.address())?;
    let mut load = Single::registrations(caller, outstanding, AORS);
    let pace = Pace { outstanding, resend_after: GIVEN_UP_AFTER, max_resends: 0, sleep: true };
    let mut driver = Driver::new(&mut load, &wire, pace);
    // Everybody is there, so that each run refreshes.
    driver.answer(AORS)?;
    let database = || match (keeper.needs_database(), &stand.database) {
        (true, Some(server)) => cpu::used(server.pid()),
        _ => Ok(Duration::ZERO),
    };
    let (server_before, database_before) = (cpu::used(subject.pid())?, database()?);
    let (began, mut answers) = (Instant::now(), 0);
    while began.elapsed() < MEASURED {
        answers += driver.answer(outstanding)?;
    }
    let wall = began.elapsed();
    let each_us = |used: Duration| used.as_secs_f64() * 1e6 / answers as f64;
    let rate = Rate {
        keeper,
        outstanding,
        per_s: answers as f64 / wall.as_secs_f64(),
        server_us: each_us(cpu::used(subject.pid())?.saturating_sub(server_before)),
        database_us: each_us(database()?.saturating_sub(database_before)),
        losses: driver.losses(),
    };
    driver.drain()?;
    Ok(rate)
}
