//! What the host keeps beside a guest: the run it may touch, and what it has used up.

use std::collections::BTreeMap;
use std::sync::Arc;

use viaduct_engine::Run;
use viaduct_engine::registrar::{FlagError, LookupFlags, SaveFlags};
use viaduct_engine::run::{EditFault, ReplyLines};
use wasmtime::ResourceLimiter;

use crate::deadline::Deadline;
use crate::manifest::{Access, Interface, Manifest};

/// Host calls one run may make.
pub const MAX_CALLS: u32 = 1000;

/// Longest text a guest may hand to the host, bytes.
pub const MAX_TEXT_BYTES: usize = 64 * 1024;

/// Bytes a guest may hand over in one host call, all arguments together. Checked before they are
/// copied, so that a flood of huge arguments costs the host nothing.
pub(crate) const MAX_CALL_BYTES: usize = 4 * MAX_TEXT_BYTES;

/// Level of a line on what was refused, as the contract numbers them.
const INFO: u8 = 2;

/// Settings that count instead of the manifest's; tests use them.
pub(crate) type Overrides = BTreeMap<Box<str>, Option<Box<str>>>;

/// A host function refuses so hard that the run ends: the guest's author has made an error, or the
/// guest is hostile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("not-granted: policy `{policy}` may not {access} `{table}` of `{interface}`")]
    NotGranted { policy: Box<str>, access: &'static str, interface: &'static str, table: String },
    #[error("a text of {0} bytes; a policy may pass {MAX_TEXT_BYTES}")]
    TextTooLong(usize),
    #[error("more than {MAX_CALLS} host calls in a run")]
    TooManyCalls,
    #[error("what is not in memory was needed, and is asked for")]
    Asked,
    #[error("a host function was called while no message is there (in a start function?)")]
    NoRun,
}

/// The data of a guest's store.
pub(crate) struct Guest {
    run: Option<Box<Run>>,
    calls_left: u32,
    /// The run wants its host calls noted.
    traced: bool,
    pub(crate) manifest: Arc<Manifest>,
    overrides: Arc<Overrides>,
    pub(crate) deadline: Deadline,
    pub(crate) memory: MemoryGauge,
    pub(crate) texts: TextCache,
    /// The run's log has a line on what was refused.
    refusal_told: bool,
    /// Variables as they were before this run changed them, newest last. Variables live on from
    /// phase to phase, so a failed run has to put them back.
    changed_vars: Vec<(String, Option<Box<str>>)>,
}

impl Guest {
    pub(crate) fn new(manifest: Arc<Manifest>, overrides: Arc<Overrides>) -> Guest {
        let limit_bytes = manifest.limits.memory_bytes;
        let deadline = Deadline::new(manifest.limits.wall_ms);
        Guest {
            run: None,
            calls_left: 0,
            traced: false,
            manifest,
            overrides,
            deadline,
            memory: MemoryGauge { bytes: 0, limit_bytes, refused: false },
            texts: TextCache::default(),
            refusal_told: false,
            changed_vars: Vec::new(),
        }
    }

    /// Lends the guest a run.
    pub(crate) fn begin(&mut self, run: Box<Run>) {
        self.traced = run.is_watched();
        self.run = Some(run);
        self.calls_left = MAX_CALLS;
        self.memory.refused = false;
        self.refusal_told = false;
        self.changed_vars.clear();
    }

    /// Takes the run back.
    pub(crate) fn end(&mut self) -> Option<Box<Run>> {
        self.run.take()
    }

    /// Puts the variables back, newest change first.
    pub(crate) fn restore_vars(&mut self, run: &mut Run) {
        while let Some((name, value)) = self.changed_vars.pop() {
            // It was there before, so it fits.
            let _ = run.put_var(&name, value.as_deref());
        }
    }

    /// Begins a host call: counts it, checks the texts passed.
    pub(crate) fn call(&mut self, name: &'static str, texts: &[&str]) -> Result<&mut Run, Refused> {
        self.check(name, texts)?;
        self.current()
    }

    /// The run of the call that has begun.
    pub(crate) fn current(&mut self) -> Result<&mut Run, Refused> {
        self.run.as_deref_mut().ok_or(Refused::NoRun)
    }

    /// [`Guest::call`] for a table or set that must be granted by name. Gives the flags too.
    pub(crate) fn call_table(
        &mut self,
        name: &'static str,
        interface: Interface,
        table: &str,
        access: Access,
        texts: &[&str],
    ) -> Result<(&mut Run, &mut TextCache), Refused> {
        self.check(name, texts)?;
        if !self.manifest.grants.allows_table(interface, table, access) {
            return Err(self.not_granted(interface, table, access));
        }
        let run = self.run.as_deref_mut().ok_or(Refused::NoRun)?;
        Ok((run, &mut self.texts))
    }

    /// [`Guest::call`], with what has been parsed before.
    pub(crate) fn call_with_cache(
        &mut self,
        name: &'static str,
        texts: &[&str],
    ) -> Result<(&mut Run, &mut TextCache), Refused> {
        self.check(name, texts)?;
        let run = self.run.as_deref_mut().ok_or(Refused::NoRun)?;
        Ok((run, &mut self.texts))
    }

    pub(crate) fn setting(&self, name: &str) -> Option<&str> {
        match self.overrides.get(name) {
            Some(value) => value.as_deref(),
            None => self.manifest.settings.get(name).map(|value| &**value),
        }
    }

    /// Remembers a variable before it is set.
    pub(crate) fn note_var(&mut self, name: &str) {
        let old = self.run.as_deref().and_then(|run| run.var(name)).map(Box::from);
        self.changed_vars.push((name.to_owned(), old));
    }

    /// A host function has refused, and the guest goes on: staged as the run's own counter
    /// `refused_WHY` and, for the first of a run, as a line for the log.
    #[cold]
    pub(crate) fn note_refusal(&mut self, call: &'static str, why: &'static str) {
        let first = !std::mem::replace(&mut self.refusal_told, true);
        let policy = &self.manifest.name;
        let Some(run) = self.run.as_deref_mut() else { return };
        run.count(&format!("refused_{why}"), 1);
        if first {
            run.log(INFO, &format!("policy `{policy}`: {call} refused: {why}"));
        }
    }

    fn check(&mut self, name: &'static str, texts: &[&str]) -> Result<(), Refused> {
        self.calls_left = self.calls_left.checked_sub(1).ok_or(if self.run.is_some() {
            Refused::TooManyCalls
        } else {
            Refused::NoRun
        })?;
        if self.traced {
            self.trace(name, texts);
        }
        match texts.iter().find(|text| text.len() > MAX_TEXT_BYTES) {
            Some(text) => Err(Refused::TextTooLong(text.len())),
            None => Ok(()),
        }
    }

    #[cold]
    fn trace(&mut self, name: &str, texts: &[&str]) {
        if let Some(run) = self.run.as_deref_mut() {
            run.note_call(name, texts);
        }
    }

    #[cold]
    fn not_granted(&self, interface: Interface, table: &str, access: Access) -> Refused {
        let access = match access {
            Access::Read => "read",
            Access::Write => "write",
        };
        let table = table.chars().take(64).filter(|c| !c.is_control()).collect();
        let (policy, interface) = (self.manifest.name.clone(), interface.name());
        Refused::NotGranted { policy, access, interface, table }
    }
}

/// Linear memory in use and its limit. Asking for more ends the run at once: a guest that gets no
/// memory aborts anyway, and one that goes on asking would only burn fuel.
pub(crate) struct MemoryGauge {
    /// In use, all memories of the instance.
    pub(crate) bytes: usize,
    limit_bytes: usize,
    /// The limit was hit in this run.
    pub(crate) refused: bool,
}

#[derive(Debug, thiserror::Error)]
#[error("over its memory limit of {0} bytes")]
struct MemoryLimit(usize);

#[derive(Debug, thiserror::Error)]
#[error("over its limit of {MAX_TABLE_ELEMENTS} table elements")]
struct TableLimit;

const MAX_TABLE_ELEMENTS: usize = 16 * 1024;

impl ResourceLimiter for MemoryGauge {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let after = self.bytes.saturating_sub(current).saturating_add(desired);
        if after > self.limit_bytes {
            self.refused = true;
            return Err(wasmtime::Error::new(MemoryLimit(self.limit_bytes)));
        }
        self.bytes = after;
        Ok(true)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if desired > MAX_TABLE_ELEMENTS {
            self.refused = true;
            return Err(wasmtime::Error::new(TableLimit));
        }
        Ok(true)
    }
}

/// Texts that were parsed: a policy passes the same few with each message.
#[derive(Default)]
pub(crate) struct TextCache {
    save: Vec<(Box<str>, SaveFlags)>,
    lookup: Vec<(Box<str>, LookupFlags)>,
    reply_lines: Vec<(Box<str>, ReplyLines)>,
}

/// Texts kept of each kind; a policy that makes them up loses nothing but the time to parse.
const CACHED: usize = 16;

impl TextCache {
    pub(crate) fn save(&mut self, text: &str) -> Result<&SaveFlags, FlagError> {
        cached(&mut self.save, text, SaveFlags::parse)
    }

    pub(crate) fn lookup(&mut self, text: &str) -> Result<&LookupFlags, FlagError> {
        cached(&mut self.lookup, text, LookupFlags::parse)
    }

    pub(crate) fn reply_lines(&mut self, text: &str) -> Result<&ReplyLines, EditFault> {
        cached(&mut self.reply_lines, text, ReplyLines::parse)
    }
}

fn cached<'a, T, E>(
    known: &'a mut Vec<(Box<str>, T)>,
    text: &str,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> Result<&'a T, E> {
    let at = match known.iter().position(|(name, _)| &**name == text) {
        Some(at) => at,
        None => {
            let parsed = parse(text)?;
            known.truncate(CACHED.saturating_sub(1));
            known.push((text.into(), parsed));
            known.len().saturating_sub(1)
        }
    };
    match known.get(at) {
        Some((_, parsed)) => Ok(parsed),
        // `at` is the place of what was found, or of what was just put there.
        None => unreachable!("the text has just been found or added"),
    }
}
