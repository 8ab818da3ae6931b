//! Notes what each run of a policy decided and staged, in words.

use std::sync::Arc;

use parking_lot::Mutex;
use viaduct_engine::run::{Effects, HeaderEdit};
use viaduct_engine::{Phase, Policy, PolicyFailure, Run, Verdict};

use crate::guest::Overrides;
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

fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Request => "on-request",
        Phase::Branch => "on-branch",
        Phase::Reply => "on-reply",
        Phase::Failure => "on-failure",
    }
}

fn verdict_in_words(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Relay => "relay".to_owned(),
        Verdict::Reply { status, reason } if reason.is_empty() => format!("reply {status}"),
        Verdict::Reply { status, reason } => format!("reply {status} {reason}"),
        Verdict::Answered => "answered".to_owned(),
        Verdict::Drop => "drop".to_owned(),
        Verdict::Continue => "continue".to_owned(),
        Verdict::Ask { .. } => "ask".to_owned(),
    }
}

fn log_line(level: u8, text: &str) -> String {
    let level = match level {
        0 => "error",
        1 => "warn",
        2 => "info",
        3 => "debug",
        _ => "trace",
    };
    format!("{level}: {text}")
}

fn effects_in_words(effects: &Effects) -> Vec<String> {
    let mut words = Vec::new();
    if let Some(answer) = &effects.answer {
        words.push(format!("answer {} {}", answer.status, answer.reason).trim_end().to_owned());
        words.extend(header_lines(&answer.headers).map(|line| format!("answer header {line}")));
    }
    for change in &effects.changes {
        let (table, aor) = (&change.key.table, text(&change.key.aor));
        words.push(format!("bindings of {aor} in {table}: {}", change.set.bindings.len()));
    }
    for target in &effects.targets {
        let mut line = format!("target {} q={}", text(&target.uri), target.q_milli);
        if !target.route.is_empty() {
            line += &format!(" route={}", text(&target.route));
        }
        if !target.destination.is_empty() {
            line += &format!(" destination={}", text(&target.destination));
        }
        words.push(line);
    }
    words.extend(effects.request_uri.iter().map(|uri| format!("request-uri {}", text(uri))));
    words.extend(effects.destination.iter().map(|uri| format!("destination {}", text(uri))));
    if let Some(path) = &effects.path {
        let mut line = "path".to_owned();
        if !path.user.is_empty() {
            line += &format!(" user={}", text(&path.user));
        }
        line += if path.received { " received" } else { "" };
        line += if path.require { " require" } else { "" };
        words.push(line);
    }
    words.extend(effects.record_route.then(|| "record-route".to_owned()));
    words.extend(effects.edits.iter().map(edit_in_words));
    words.extend(header_lines(&effects.reply_headers).map(|line| format!("reply header {line}")));
    words.extend(effects.force_rport.then(|| "force-rport".to_owned()));
    words.extend(effects.counters.iter().map(|(name, by)| format!("count {name} {by}")));
    words
}

fn edit_in_words(edit: &HeaderEdit) -> String {
    match edit {
        HeaderEdit::Add { name, value } => format!("add {}: {}", text(name), text(value)),
        HeaderEdit::Remove { name } => format!("remove {}", text(name)),
        HeaderEdit::RemoveLine { .. } => "remove credentials".to_owned(),
    }
}

fn header_lines(headers: &[u8]) -> impl Iterator<Item = String> {
    let lines = headers.split(|c| *c == b'\n').map(|line| text(line).trim_end().to_owned());
    lines.filter(|line| !line.is_empty())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
