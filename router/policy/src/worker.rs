//! The policy of one worker: takes up new versions, keeps instances, runs them.
//!
//! A worker runs one policy at a time, so one idle instance a version is all its pool needs.

pub(crate) mod instance;

use std::ops::Deref;
use std::sync::Arc;

use viaduct_engine::{Phase, Policy, PolicyFailure, Run, Verdict};

use crate::catalog::{Compared, Live, PolicyCatalog};
use crate::failure::Failure;
use crate::guest::{Overrides, TextCache};
use crate::manifest::{Fallback, Isolation};
use crate::record::Session;
use crate::version::PolicyVersion;
use crate::words::{effects_in_words, phase_name, verdict_in_words};
use instance::Instance;

/// Versions a worker keeps idle instances of, beside those that are live; transactions pinned to
/// older ones still run, with an instance made for each message.
const MAX_OLD: usize = 8;

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
    /// What is live now.
    live: Arc<Live>,
    /// Where runs are recorded.
    session: Option<Arc<Session>>,
    /// Never empty; the first is that of the version live for all.
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
    /// The host of one worker; `live` is what it begins with.
    pub(crate) fn new(
        catalog: Arc<PolicyCatalog>,
        options: WorkerOptions,
        generation: u64,
        live: Arc<Live>,
    ) -> PolicyHost {
        let first = Slot::new(Arc::clone(&live.all));
        let mut host = PolicyHost {
            catalog,
            options,
            generation,
            live,
            session: None,
            slots: vec![first],
            overrides: Arc::default(),
        };
        host.make_slots();
        host.session = host.catalog.session();
        host
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
            if let Some(live) = self.catalog.all_live() {
                self.take_up(live);
            }
            self.session = self.catalog.session();
        }
        if self.slots.len() > 1 {
            self.drop_unused();
        }
    }

    fn take_up(&mut self, live: Arc<Live>) {
        let known = self.slots.iter().position(|slot| slot.version.is(&live.all));
        match known {
            Some(at) => self.slots.swap(0, at),
            None => self.slots.insert(0, Slot::new(Arc::clone(&live.all))),
        }
        self.live = live;
        self.make_slots();
        let (mut old, live) = (0, &self.live);
        self.slots.retain(|slot| {
            let is_live = live.versions().any(|version| slot.version.is(version));
            old += usize::from(!is_live);
            is_live || old <= MAX_OLD
        });
    }

    /// A slot for each live version; those only kept for a fallback get theirs when needed.
    fn make_slots(&mut self) {
        let live = Arc::clone(&self.live);
        let kept = |version: &Arc<PolicyVersion>| {
            live.previous.iter().any(|previous| Arc::ptr_eq(previous, version))
        };
        for version in live.versions().filter(|version| !kept(version)) {
            if !self.slots.iter().any(|slot| slot.version.is(version)) {
                self.slots.push(Slot::new(Arc::clone(version)));
            }
        }
    }

    /// Lets go of versions that no transaction of this worker holds any more (R-G3), but for live
    /// ones and those they fall back to.
    fn drop_unused(&mut self) {
        let live = &self.live;
        self.slots.retain(|slot| {
            !slot.version.is_idle() || live.versions().any(|version| slot.version.is(version))
        });
    }

    /// Several are live: the one a request belongs to.
    #[cold]
    fn route(&self, run: &Run) -> Option<PinnedVersion> {
        let version = self.live.of(run);
        let slot = self.slots.iter().find(|slot| slot.version.is(version));
        slot.map(|slot| slot.version.clone())
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
        if self.slots.len() < self.live.scopes.len().saturating_add(MAX_OLD) {
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

    fn choose(&mut self, run: &Run) -> PinnedVersion {
        let all = self.current();
        if self.live.is_plain() { all } else { self.route(run).unwrap_or(all) }
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
        if self.session.is_some() {
            return self.decide_on_record(version, phase, run);
        }
        self.decide_perhaps_beside_shadow(version, phase, run)
    }
}

impl PolicyHost {
    fn decide_alone(
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

    #[cold]
    fn decide_on_record(
        &mut self,
        version: &PinnedVersion,
        phase: Phase,
        mut run: Box<Run>,
    ) -> (Box<Run>, Result<Verdict, PolicyFailure>) {
        let session = self.session.clone();
        let over = session.as_ref().is_some_and(|s| s.is_over(run.now().unix_ms));
        let recording = session.as_ref().and_then(|session| session.begin(version, &mut run));
        let (mut run, verdict) = self.decide_perhaps_beside_shadow(version, phase, run);
        if let (Some(session), Some(recording)) = (&session, recording) {
            session.end(recording, &mut run, &verdict);
        } else if over {
            self.session = None;
        }
        (run, verdict)
    }

    fn decide_perhaps_beside_shadow(
        &mut self,
        version: &PinnedVersion,
        phase: Phase,
        run: Box<Run>,
    ) -> (Box<Run>, Result<Verdict, PolicyFailure>) {
        if self.live.shadow.is_some() && version.is(&self.live.all) {
            return self.decide_beside_shadow(version, phase, run);
        }
        self.decide_alone(version, phase, run)
    }

    /// The shadow decides on a copy of the run, which is then thrown away.
    #[cold]
    fn decide_beside_shadow(
        &mut self,
        version: &PinnedVersion,
        phase: Phase,
        run: Box<Run>,
    ) -> (Box<Run>, Result<Verdict, PolicyFailure>) {
        let copy = run.rehearsal();
        let (run, verdict) = self.decide_alone(version, phase, run);
        let shadow = self.live.shadow.clone().filter(|shadow| shadow.version.wants(phase));
        if let Some(shadow) = shadow {
            let pinned = self.pin(Arc::clone(&shadow.version));
            let (copy, other) = self.attempt(&pinned, phase, copy);
            if let Err(failure) = &other {
                report(&pinned, self.options.worker, failure);
            }
            shadow.counts.count(compare(phase, (&run, &verdict), (&copy, &other)));
        }
        (run, verdict)
    }
}

/// Does a shadow decide what the live version has decided?
fn compare(
    phase: Phase,
    (run, verdict): (&Run, &Result<Verdict, PolicyFailure>),
    (copy, other): (&Run, &Result<Verdict, Failure>),
) -> Compared {
    let (Ok(verdict), Ok(other)) = (verdict, other) else {
        return if other.is_err() { Compared::Failed } else { Compared::Undecided };
    };
    let asks = |verdict: &Verdict| matches!(verdict, Verdict::Ask { .. });
    if asks(verdict) || asks(other) {
        return Compared::Undecided;
    }
    let words = |run: &Run, verdict| {
        let effects = effects_in_words(&run.effects);
        [verdict_in_words(verdict)].into_iter().chain(effects).collect::<Vec<_>>().join("; ")
    };
    let (live, shadow) = (words(run, verdict), words(copy, other));
    if live == shadow {
        return Compared::Same;
    }
    let call_id = String::from_utf8_lossy(run.message().call_id().unwrap_or_default());
    let phase = phase_name(phase);
    Compared::Different(format!("{phase}, Call-ID {call_id}: live: {live} | shadow: {shadow}"))
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
