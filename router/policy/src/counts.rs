//! What a version has done: runs, and failures by kind.

use std::sync::atomic::{AtomicU64, Ordering};

use viaduct_engine::FailureKind;

/// A reading of a version's counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counts {
    /// Runs begun.
    pub runs: u64,
    /// Of them: the guest trapped or was stopped by a host function.
    pub traps: u64,
    /// Out of fuel.
    pub fuel: u64,
    /// Over the memory limit.
    pub memory: u64,
    /// Over the wall-clock limit.
    pub time: u64,
    /// No verdict.
    pub garbage: u64,
    /// No instance to be had.
    pub unavailable: u64,
    /// Messages decided by the previous version, since this one failed.
    pub fallbacks: u64,
    /// Instances made.
    pub instances: u64,
}

impl Counts {
    /// Runs that gave no verdict.
    pub fn failures(&self) -> u64 {
        [self.traps, self.fuel, self.memory, self.time, self.garbage, self.unavailable]
            .into_iter()
            .fold(0, u64::saturating_add)
    }
}

/// Shards, so that workers do not write to each other's cache lines.
const SHARDS: usize = 16;

#[derive(Default)]
pub(crate) struct Counters {
    shards: [Shard; SHARDS],
}

#[derive(Default)]
#[repr(align(128))]
pub(crate) struct Shard {
    runs: AtomicU64,
    traps: AtomicU64,
    fuel: AtomicU64,
    memory: AtomicU64,
    time: AtomicU64,
    garbage: AtomicU64,
    unavailable: AtomicU64,
    fallbacks: AtomicU64,
    instances: AtomicU64,
}

impl Counters {
    /// The shard of a worker. Workers beyond the 16th share.
    pub(crate) fn shard(&self, worker: usize) -> &Shard {
        let [first, ..] = &self.shards;
        self.shards.get(worker % SHARDS).unwrap_or(first)
    }

    pub(crate) fn read(&self) -> Counts {
        let sum = |pick: fn(&Shard) -> &AtomicU64| {
            self.shards.iter().map(|s| pick(s).load(Ordering::Relaxed)).fold(0, u64::wrapping_add)
        };
        Counts {
            runs: sum(|s| &s.runs),
            traps: sum(|s| &s.traps),
            fuel: sum(|s| &s.fuel),
            memory: sum(|s| &s.memory),
            time: sum(|s| &s.time),
            garbage: sum(|s| &s.garbage),
            unavailable: sum(|s| &s.unavailable),
            fallbacks: sum(|s| &s.fallbacks),
            instances: sum(|s| &s.instances),
        }
    }
}

impl Shard {
    pub(crate) fn run(&self) {
        self.runs.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn instance(&self) {
        self.instances.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn fallback(&self) {
        self.fallbacks.fetch_add(1, Ordering::Relaxed);
    }

    /// How many failures of that kind this shard has seen, this one included.
    pub(crate) fn failure(&self, kind: FailureKind) -> u64 {
        let counter = match kind {
            FailureKind::Trap => &self.traps,
            FailureKind::Fuel => &self.fuel,
            FailureKind::Memory => &self.memory,
            FailureKind::Time => &self.time,
            FailureKind::Garbage => &self.garbage,
            // The engine alone finds that out, and counts it itself.
            FailureKind::Fact | FailureKind::Unavailable => &self.unavailable,
        };
        counter.fetch_add(1, Ordering::Relaxed).wrapping_add(1)
    }
}
