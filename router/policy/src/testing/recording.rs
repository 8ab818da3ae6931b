//! Notes what each run of a policy decided and staged, in words.

use std::sync::Arc;

use parking_lot::Mutex;
use viaduct_engine::{Phase, Policy, PolicyFailure, Run, Verdict};

use crate::guest::Overrides;
use crate::words::{effects_in_words, log_line, phase_name, verdict_in_words};
use crate::worker::{PinnedVersion, PolicyHost};

/// Runs kept until somebody takes them.
const KEPT: usize = 1000;

/// One run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedRun {
    /// `on-request`, `on-branch`, `on-reply`, `on-failure`.
    pub phase: String,
    /// `relay`, `reply 404 Not Found`, `answered`, `drop`, `continue`, `failed ...`.
    pub verdict: String,
    /// Staged effects, one each: `target sip:bob@192.0.2.4 q=1000`.
    pub effects: Vec<String>,
    /// Log lines: `info: text`.
    pub logs: Vec<String>,
}

/// A test's hand on a [`Recording`] that an engine owns; clones share it.
#[derive(Clone, Default)]
pub struct Probe(Arc<Mutex<Notes>>);

#[derive(Default)]
struct Notes {
    runs: Vec<RecordedRun>,
    overrides: Overrides,
    changed: bool,
}

impl Probe {
    /// Takes what has been noted since the last call.
    pub fn take_runs(&self) -> Vec<RecordedRun> {
        std::mem::take(&mut self.0.lock().runs)
    }

    /// Another value for a key of the manifest's `[settings]`, from the next run on; `None` removes
    /// it.
    pub fn set_setting(&self, name: &str, value: Option<&str>) {
        let mut notes = self.0.lock();
        notes.overrides.insert(name.into(), value.map(Box::from));
        notes.changed = true;
    }

    fn push(&self, run: RecordedRun) {
        let mut notes = self.0.lock();
        if notes.runs.len() < KEPT {
            notes.runs.push(run);
        }
    }

    fn changed_settings(&self) -> Option<Overrides> {
        let mut notes = self.0.lock();
        std::mem::take(&mut notes.changed).then(|| notes.overrides.clone())
    }
}

/// A worker's host that is watched.
pub struct Recording {
    inner: PolicyHost,
    probe: Probe,
}

impl Recording {
    /// Watches a host.
    pub fn new(inner: PolicyHost, probe: Probe) -> Recording {
        Recording { inner, probe }
    }
}

impl Policy for Recording {
    type Version = PinnedVersion;

    fn current(&mut self) -> PinnedVersion {
        self.inner.current()
    }

    fn wants(&self, version: &PinnedVersion, phase: Phase) -> bool {
        Policy::wants(&self.inner, version, phase)
    }

    fn decide(
        &mut self,
        version: &PinnedVersion,
        phase: Phase,
        run: Box<Run>,
    ) -> (Box<Run>, Result<Verdict, PolicyFailure>) {
        if let Some(settings) = self.probe.changed_settings() {
            self.inner.override_settings(settings);
        }
        let (run, result) = self.inner.decide(version, phase, run);
        let verdict = match &result {
            Ok(verdict) => verdict_in_words(verdict),
            Err(failure) => {
                let why = version.last_failure().unwrap_or_default();
                format!("failed ({:?}), answered {}: {why}", failure.kind, failure.status)
            }
        };
        self.probe.push(RecordedRun {
            phase: phase_name(phase).to_owned(),
            verdict,
            effects: effects_in_words(&run.effects),
            logs: run.effects.logs.iter().map(|(level, text)| log_line(*level, text)).collect(),
        });
        (run, result)
    }
}
