//! The policy of one worker: takes up new versions, keeps instances, runs them.
//!
//! A worker runs one policy at a time, so one idle instance a version is all its pool needs.

pub(crate) mod instance;

use std::ops::Deref;
use std::sync::Arc;

use viaduct_engine::{Phase, Policy, PolicyFailure, Run, Verdict};

use crate::catalog::PolicyCatalog;
use crate::failure::Failure;
use crate::guest::{Overrides, TextCache};
use crate::manifest::{Fallback, Isolation};
use crate::version::PolicyVersion;
use instance::Instance;

/// Versions a worker keeps idle instances of; transactions pinned to older ones still run, with an
/// instance made for each message.
const MAX_SLOTS: usize = 8;

/// Options of a worker's host.
#[derive(Clone, Copy, Debug)]
pub struct WorkerOptions {
    /// Number of the worker, for its counters.
    pub worker: usize,
    /// Runs after which an instance is thrown away.
    pub max_runs: u32,
}

impl Default for WorkerOptions {
    fn default() -> Self {
        WorkerOptions { worker: 0, max_runs: 100_000 }
    }
}

/// A version as a transaction of one worker holds it. The count of holders is the worker's own, so
/// that pinning costs no traffic between cores.
#[derive(Clone)]
pub struct PinnedVersion(Arc<Pin>);

struct Pin {
    version: Arc<PolicyVersion>,
}

impl PinnedVersion {
    fn new(version: Arc<PolicyVersion>) -> PinnedVersion {
        PinnedVersion(Arc::new(Pin { version }))
    }

    fn is(&self, version: &Arc<PolicyVersion>) -> bool {
        Arc::ptr_eq(&self.0.version, version)
    }

    /// Does nobody but the slot hold it?
    fn is_idle(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }
}

impl Deref for PinnedVersion {
    type Target = PolicyVersion;

    fn deref(&self) -> &PolicyVersion {
        &self.0.version
    }
}

/// Implements the engine's hook for one worker.
pub struct PolicyHost {
    catalog: Arc<PolicyCatalog>,
    options: WorkerOptions,
    generation: u64,
    /// Never empty; the first is the live version's.
    slots: Vec<Slot>,
    overrides: Arc<Overrides>,
}

/// An idle instance and what it leaves to its successor.
struct Slot {
    version: PinnedVersion,
    idle: Option<Instance>,
    texts: TextCache,
}

impl Slot {
    fn new(version: Arc<PolicyVersion>) -> Slot {
        Slot { version: PinnedVersion::new(version), idle: None, texts: TextCache::default() }
    }
}

impl PolicyHost {
    /// The host of one worker; `live` is the version it begins with.
    pub(crate) fn new(
        catalog: Arc<PolicyCatalog>,
        options: WorkerOptions,
        generation: u64,
        live: Arc<PolicyVersion>,
    ) -> PolicyHost {
        PolicyHost {
            catalog,
            options,
            generation,
            slots: vec![Slot::new(live)],
            overrides: Arc::default(),
        }
    }

    /// Settings that count instead of the manifest's, from the next run on.
    pub(crate) fn override_settings(&mut self, overrides: Overrides) {
        self.overrides = Arc::new(overrides);
        for slot in &mut self.slots {
            slot.idle = None;
        }
    }

    /// Takes up a version published since. One atomic load where there is none.
    fn refresh(&mut self) {
        let generation = self.catalog.generation();
        if generation != self.generation {
            self.generation = generation;
            if let Some(live) = self.catalog.live() {
                self.take_up(live);
            }
        }
        if self.slots.len() > 1 {
            self.drop_unused();
        }
    }

    fn take_up(&mut self, live: Arc<PolicyVersion>) {
        let known = self.slots.iter().position(|slot| slot.version.is(&live));
        match known {
            Some(at) => self.slots.swap(0, at),
            None => self.slots.insert(0, Slot::new(live)),
        }
        self.slots.truncate(MAX_SLOTS);
    }

    /// Lets go of versions that no transaction of this worker holds any more (R-G3), but for the
    /// one the live version falls back to.
    fn drop_unused(&mut self) {
        let mut live = true;
        let previous = self.slots.first().and_then(|slot| slot.version.previous());
        self.slots.retain(|slot| {
            let first = std::mem::replace(&mut live, false);
            let fallback = previous.as_ref().is_some_and(|p| slot.version.is(p));
            first || fallback || !slot.version.is_idle()
        });
    }

    fn attempt(
        &mut self,
        version: &PinnedVersion,
        phase: Phase,
        run: Box<Run>,
    ) -> (Box<Run>, Result<Verdict, Failure>) {
        let known = self.slots.iter_mut().find(|slot| Arc::ptr_eq(&slot.version.0, &version.0));
        if let Some(slot) = known {
            return slot.run(&self.options, &self.overrides, phase, run);
        }
        let mut slot = Slot::new(Arc::clone(&version.0.version));
        let ended = slot.run(&self.options, &self.overrides, phase, run);
        if self.slots.len() < MAX_SLOTS {
            slot.version = version.clone();
            self.slots.push(slot);
        }
        ended
    }

    /// What the manifest says to do after a failed run.
    fn fall_back(
        &mut self,
        version: &PinnedVersion,
        phase: Phase,
        run: Box<Run>,
        failure: Failure,
    ) -> (Box<Run>, Result<Verdict, PolicyFailure>) {
        report(version, self.options.worker, &failure);
        let failed = |status| Err(PolicyFailure { kind: failure.kind, status });
        match version.manifest().fallback {
            Fallback::ServerError => (run, failed(500)),
            Fallback::Unavailable => (run, failed(503)),
            Fallback::PreviousVersion => {
                let previous = version.previous().filter(|previous| previous.wants(phase));
                let Some(previous) = previous else { return (run, failed(500)) };
                version.counters.shard(self.options.worker).fallback();
                let pinned = self.pin(previous);
                match self.attempt(&pinned, phase, run) {
                    (run, Ok(verdict)) => (run, Ok(verdict)),
                    (run, Err(again)) => {
                        report(&pinned, self.options.worker, &again);
                        (run, failed(500))
                    }
                }
            }
        }
    }

    fn pin(&self, version: Arc<PolicyVersion>) -> PinnedVersion {
        let known = self.slots.iter().find(|slot| slot.version.is(&version));
        known.map_or_else(|| PinnedVersion::new(version), |slot| slot.version.clone())
    }
}

impl Policy for PolicyHost {
    type Version = PinnedVersion;

    fn current(&mut self) -> PinnedVersion {
        self.refresh();
        match self.slots.first() {
            Some(slot) => slot.version.clone(),
            // `new` puts one in and nothing removes the first.
            None => unreachable!("a worker has a live version"),
        }
    }

    fn wants(&self, version: &PinnedVersion, phase: Phase) -> bool {
        PolicyVersion::wants(version, phase)
    }

    fn decide(
        &mut self,
        version: &PinnedVersion,
        phase: Phase,
        run: Box<Run>,
    ) -> (Box<Run>, Result<Verdict, PolicyFailure>) {
        match self.attempt(version, phase, run) {
            (run, Ok(verdict)) => (run, Ok(verdict)),
            (run, Err(failure)) => self.fall_back(version, phase, run, failure),
        }
    }
}

impl Slot {
    fn run(
        &mut self,
        options: &WorkerOptions,
        overrides: &Arc<Overrides>,
        phase: Phase,
        run: Box<Run>,
    ) -> (Box<Run>, Result<Verdict, Failure>) {
        let shard = self.version.counters.shard(options.worker);
        shard.run();
        let mut instance = match self.idle.take() {
            Some(instance) => instance,
            None => match Instance::new(&self.version, overrides) {
                Ok(mut instance) => {
                    shard.instance();
                    instance.set_texts(std::mem::take(&mut self.texts));
                    instance
                }
                Err(error) => return (run, Err(Failure::unavailable(&error))),
            },
        };
        let (run, result) = instance.call(phase, run);
        let reuse = self.version.manifest().isolation == Isolation::Reuse;
        // A guest that was stopped cannot be entered again.
        let ended = matches!(&result, Ok(verdict) if !matches!(verdict, Verdict::Ask { .. }));
        if reuse && ended && instance.is_reusable(options.max_runs) {
            self.idle = Some(instance);
        } else {
            self.texts = instance.take_texts();
        }
        (run, result)
    }
}

/// Counts a failure, and logs the 1st, 2nd, 4th, 8th ... of its kind: a policy that traps with each
/// message must not fill the disk.
#[cold]
fn report(version: &PolicyVersion, worker: usize, failure: &Failure) {
    let count = version.counters.shard(worker).failure(failure.kind);
    if count.is_power_of_two() {
        tracing::warn!(
            policy = &*version.manifest().name,
            version = &*version.manifest().version,
            serial = version.serial(),
            kind = ?failure.kind,
            count,
            worker,
            "policy run failed: {}",
            failure.detail,
        );
    }
    version.set_last_failure(failure.detail.clone());
}
