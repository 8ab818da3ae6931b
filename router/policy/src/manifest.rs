//! `policy.toml`: what a policy is called, what it may use, and its limits.
//!
//! The manifest travels inside the component as custom section `viaduct:manifest`
//! (see [`crate::package`]), so that one file is what is deployed.

mod grants;
mod reader;

pub use grants::{Access, Grants, Interface};

use std::collections::BTreeMap;

use viaduct_engine::Phase;

use reader::Reader;

/// Longest manifest, bytes.
pub const MAX_BYTES: usize = 64 * 1024;
/// Most settings, and their longest value in bytes.
const MAX_SETTINGS: usize = 256;
const MAX_SETTING_BYTES: usize = 4096;

/// A manifest that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("policy.toml line {line}: {}{message}", quoted(key))]
pub struct ManifestError {
    /// Line, from 1.
    pub line: usize,
    /// Dotted key; empty where the text is no TOML.
    pub key: String,
    /// What is wrong and what is allowed.
    pub message: String,
}

/// What is answered when a run fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fallback {
    /// 500 (the default).
    #[default]
    ServerError,
    /// 503.
    Unavailable,
    /// The version before this one decides; 500 where there is none or it fails too.
    PreviousVersion,
}

impl Fallback {
    /// What is answered where a fact that a run has asked for cannot be had: no other version would
    /// have it.
    pub(crate) fn status_without_fact(self) -> u16 {
        match self {
            Fallback::ServerError => 500,
            Fallback::Unavailable | Fallback::PreviousVersion => 503,
        }
    }
}

/// How long an instance lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    /// Many runs share one (the default).
    #[default]
    Reuse,
    /// Each run has a fresh one.
    Message,
}

/// Limits of one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Fuel: about one per WebAssembly instruction. 1 to 100,000,000.
    pub fuel: u64,
    /// Linear memory of an instance, bytes. 64 KiB to 16 MiB.
    pub memory_bytes: usize,
    /// Time, milliseconds; 1 to 1,000. A backstop: fuel ends a run first as a rule. Time in which
    /// the worker had no processor does not count.
    pub wall_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { fuel: 2_000_000, memory_bytes: 4 << 20, wall_ms: 50 }
    }
}

/// A checked manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// `[a-z0-9-]`, 1 to 64 of them.
    pub name: Box<str>,
    /// Version by semver, 1 to 64 characters.
    pub version: Box<str>,
    /// One bit per [`Phase`]; on-request is always there.
    phases: u8,
    /// What a failed run is answered with.
    pub fallback: Fallback,
    /// How long an instance lives.
    pub isolation: Isolation,
    /// What the policy may use.
    pub grants: Grants,
    /// Limits of one run.
    pub limits: Limits,
    /// Texts handed to the policy.
    pub settings: BTreeMap<Box<str>, Box<str>>,
}

impl Manifest {
    /// Reads and checks a manifest. The error names line, key and what is allowed.
    pub fn parse(text: &str) -> Result<Manifest, ManifestError> {
        let mut root = Reader::root(text)?;
        let name = root.text("name")?.ok_or_else(|| root.missing("name"))?;
        if !is_name(&name.value) {
            return Err(name.error("a name is 1 to 64 of the characters a-z, 0-9 and `-`"));
        }
        let version = root.text("version")?.ok_or_else(|| root.missing("version"))?;
        if !is_semver(&version.value) {
            return Err(version.error("a version looks like `1.0.0` or `1.0.0-rc.1`"));
        }
        let manifest = Manifest {
            name: name.value.into(),
            version: version.value.into(),
            phases: phases(&mut root)?,
            fallback: root.choice(
                "fallback",
                &[
                    ("500", Fallback::ServerError),
                    ("503", Fallback::Unavailable),
                    ("previous version", Fallback::PreviousVersion),
                ],
            )?,
            isolation: root.choice(
                "isolation",
                &[("reuse", Isolation::Reuse), ("message", Isolation::Message)],
            )?,
            grants: grants::read(&mut root)?,
            limits: limits(&mut root)?,
            settings: settings(&mut root)?,
        };
        root.finish()?;
        Ok(manifest)
    }

    /// Does the policy want to be asked in that phase?
    pub fn wants(&self, phase: Phase) -> bool {
        self.phases & (1 << phase as u8) != 0
    }
}

const PHASES: [(&str, Phase); 4] = [
    ("on-request", Phase::Request),
    ("on-branch", Phase::Branch),
    ("on-reply", Phase::Reply),
    ("on-failure", Phase::Failure),
];

fn phases(root: &mut Reader<'_>) -> Result<u8, ManifestError> {
    let Some(list) = root.texts("phases")? else {
        return Ok(1 << Phase::Request as u8);
    };
    let mut bits = 0;
    for item in &list {
        let found = PHASES.iter().find(|(name, _)| *name == item.value);
        let (_, phase) = found.ok_or_else(|| {
            item.error("no such phase; allowed: on-request, on-branch, on-reply, on-failure")
        })?;
        bits |= 1 << *phase as u8;
    }
    if bits & (1 << Phase::Request as u8) == 0 {
        return Err(root.error("phases", "on-request is compulsory"));
    }
    Ok(bits)
}

fn limits(root: &mut Reader<'_>) -> Result<Limits, ManifestError> {
    let default = Limits::default();
    let Some(mut table) = root.table("limits")? else { return Ok(default) };
    let memory = default.memory_bytes as u64;
    let memory = table.integer("memory_bytes", 64 << 10, 16 << 20)?.unwrap_or(memory);
    let limits = Limits {
        fuel: table.integer("fuel", 1, 100_000_000)?.unwrap_or(default.fuel),
        memory_bytes: usize::try_from(memory).unwrap_or(default.memory_bytes),
        wall_ms: table.integer("wall_ms", 1, 1000)?.unwrap_or(default.wall_ms),
    };
    table.finish()?;
    Ok(limits)
}

fn settings(root: &mut Reader<'_>) -> Result<BTreeMap<Box<str>, Box<str>>, ManifestError> {
    let mut settings = BTreeMap::new();
    let Some(mut table) = root.table("settings")? else { return Ok(settings) };
    for key in table.keys() {
        let Some(item) = table.text(&key)? else { continue };
        if item.value.len() > MAX_SETTING_BYTES {
            return Err(item.error("a setting is at most 4,096 bytes"));
        }
        if settings.len() >= MAX_SETTINGS {
            return Err(item.error("there may be 256 settings"));
        }
        settings.insert(key.into(), item.value.into());
    }
    Ok(settings)
}

fn quoted(key: &str) -> String {
    if key.is_empty() { String::new() } else { format!("`{key}`: ") }
}

fn is_name(text: &str) -> bool {
    let legal = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    (1..=64).contains(&text.len()) && text.bytes().all(legal)
}

/// `MAJOR.MINOR.PATCH`, then perhaps `-pre.release` and `+build`.
fn is_semver(text: &str) -> bool {
    let rest = text.split('+').next().unwrap_or_default();
    let (core, pre) = rest.split_once('-').map_or((rest, None), |(core, pre)| (core, Some(pre)));
    let number = |part: &str| {
        let canonical = part.len() == 1 || !part.starts_with('0');
        canonical && (1..=9).contains(&part.len()) && part.bytes().all(|c| c.is_ascii_digit())
    };
    let word = |part: &str| {
        !part.is_empty() && part.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-')
    };
    let build = text.split_once('+').map(|(_, build)| build);
    text.len() <= 64
        && core.split('.').count() == 3
        && core.split('.').all(number)
        && pre.is_none_or(|pre| pre.split('.').all(word))
        && build.is_none_or(|build| build.split('.').all(word))
}

#[cfg(test)]
mod tests;
