//! Makes a failing plan smaller: whatever the failure does not need goes.

use anyhow::Result;

use crate::plan::{Plan, Weather};
use crate::policy::Shelf;
use crate::world::{Failure, run};

/// Simulations spent on it at most.
const MOST_RUNS: usize = 300;

/// The smallest plan found that still fails, and its failure. A smaller plan may fail otherwise than
/// the first did: that is a failure too.
pub(crate) fn minimise(plan: &Plan, failure: Failure, shelf: &Shelf) -> Result<(Plan, Failure)> {
    let mut best = (plan.clone(), failure);
    let mut runs = 0;
    let mut attempt = |candidate: Plan, best: &mut (Plan, Failure)| -> Result<bool> {
        runs += 1;
        if runs > MOST_RUNS {
            return Ok(false);
        }
        if let Err(failure) = run(&candidate, shelf)? {
            *best = (candidate, failure);
            return Ok(true);
        }
        Ok(false)
    };
    let calm = Weather { late_us: 20_000, ..Weather::default() };
    for weather in
        [calm, Weather { doubled: 0, ..plan.weather }, Weather { lost: 0, ..plan.weather }]
    {
        let candidate = Plan { weather, ..best.0.clone() };
        if attempt(candidate, &mut best)? {
            break;
        }
    }
    // Half of the acts, a quarter, ... one.
    let mut chunk = best.0.acts.len().div_ceil(2).max(1);
    loop {
        let mut from = 0;
        while from < best.0.acts.len() {
            let mut candidate = best.0.clone();
            let end = (from + chunk).min(candidate.acts.len());
            candidate.acts.drain(from..end);
            if !attempt(candidate, &mut best)? {
                from += chunk;
            }
        }
        if chunk == 1 {
            return Ok(best);
        }
        chunk = chunk.div_ceil(2);
    }
}
