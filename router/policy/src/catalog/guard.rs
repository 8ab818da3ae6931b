//! Rolls a version back that keeps failing.

use std::collections::BTreeMap;

use super::{CatalogError, PolicyCatalog};
use crate::scope::Scope;

/// When a version is rolled back: both must be reached between two looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuardLimits {
    /// Failed runs; 0: never.
    pub failures: u64,
    /// Their share of all its runs, percent, 1 to 100.
    pub percent: u64,
}

/// What the guard has done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guarded {
    /// Number of the version that failed.
    pub serial: u64,
    /// Where it was live; `None`: it was the canary.
    pub scope: Option<Scope>,
    /// Runs between the two looks, and those of them that failed.
    pub runs: u64,
    /// Of them.
    pub failures: u64,
    /// Number of the version that took its place; for a canary, the live one's. An error: there is
    /// none, and it stays.
    pub to: Result<u64, String>,
}

/// Remembers what it saw at its last look. Look once in a while, off the workers: once a second makes
/// the limits rates.
#[derive(Default)]
pub struct Guard {
    seen: BTreeMap<u64, (u64, u64)>,
}

impl Guard {
    /// Looks at every live version. Pinned ones stay, whatever they do.
    pub fn look(&mut self, catalog: &PolicyCatalog, limits: GuardLimits) -> Vec<Guarded> {
        let mut done = Vec::new();
        let mut now = BTreeMap::new();
        for info in catalog.list().into_iter().filter(|info| info.loaded) {
            now.insert(info.serial, (info.counts.runs, info.counts.failures()));
        }
        for (serial, scope, pinned) in catalog.in_use() {
            let Some((runs, failures)) = now.get(&serial).copied() else { continue };
            // A version that has just been loaded again counts from 0.
            let (runs_before, failures_before) = self.seen.get(&serial).copied().unwrap_or((0, 0));
            let runs = runs.checked_sub(runs_before).unwrap_or(runs);
            let failures = failures.checked_sub(failures_before).unwrap_or(failures);
            let many = limits.failures > 0 && failures >= limits.failures;
            let often = failures.saturating_mul(100) >= limits.percent.saturating_mul(runs);
            if !many || !often || pinned {
                continue;
            }
            let told = format!("{failures} of {runs} runs failed");
            let to = match &scope {
                Some(scope) => catalog.rollback_in(scope).map(|deployed| deployed.serial),
                None => catalog.stop_canary().map(|deployed| deployed.serial),
            };
            catalog.note(serial, &told);
            let to = to.map_err(|error: CatalogError| error.to_string());
            done.push(Guarded { serial, scope, runs, failures, to });
        }
        self.seen = now;
        done
    }
}
