//! `viaduct policy list|deploy|rollback|...`: what goes through the admin API.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use indicatif::ProgressBar;
use viaduct_policy::Scope;

use super::client::{Client, encode};
use super::{CanaryCommand, Common, ShadowCommand, print, table};
use crate::admin::MOST_COMPONENT_BYTES;
use crate::control::PolicyEntry;

pub(super) fn list(common: &Common) -> anyhow::Result<bool> {
    let entries: Vec<PolicyEntry> = Client::new(common)?.get("/v1/policy")?;
    if common.json {
        return print(&format!("{}\n", serde_json::to_string(&entries)?));
    }
    let rows: Vec<[String; 6]> = entries.iter().rev().map(row).collect();
    print(&table::layout(["NO", "POLICY", "HASH", "STATE", "RUNS", "FAILURES"], &rows))?;
    for line in entries.iter().flat_map(remarks) {
        print(&format!("{line}\n"))?;
    }
    Ok(true)
}

fn row(entry: &PolicyEntry) -> [String; 6] {
    let mut states: Vec<String> = Vec::new();
    states.extend(entry.live.then(|| "live".to_owned()));
    states.extend(entry.scopes.iter().map(|scope| format!("live for {scope}")));
    states.extend(entry.pinned.then(|| "pinned".to_owned()));
    states.extend(entry.canary.map(|share| format!("canary {} %", f64::from(share) / 10.0)));
    states.extend(entry.shadow.is_some().then(|| "shadow".to_owned()));
    if states.is_empty() {
        let state = match (entry.next_rollback, entry.loaded) {
            (true, _) => "before",
            (_, true) => "finishing",
            _ => "stored",
        };
        states.push(state.to_owned());
    }
    [
        entry.serial.to_string(),
        format!("{} {}", entry.name, entry.version),
        entry.hash.clone(),
        states.join(", "),
        entry.runs.to_string(),
        entry.failures.to_string(),
    ]
}

/// What is worth a line of its own below the list.
fn remarks(entry: &PolicyEntry) -> Vec<String> {
    let serial = entry.serial;
    let mut lines = Vec::new();
    lines.extend(entry.note.iter().map(|note| format!("{serial}: rolled back by itself: {note}")));
    lines.extend(entry.last_failure.iter().map(|fault| format!("{serial}: last failure: {fault}")));
    if let Some(shadow) = &entry.shadow {
        lines.push(format!(
            "{serial}: shadow: {} decided alike, {} otherwise, {} failed, {} not compared",
            shadow.same, shadow.different, shadow.failed, shadow.undecided
        ));
        let last = shadow.last.iter();
        lines.extend(last.map(|last| format!("{serial}: last difference: {last}")));
    }
    lines
}

pub(super) fn deploy(common: &Common, file: &Path, scope: &Scope) -> anyhow::Result<bool> {
    let entry = send(common, file, &format!("deploy?scope={}", encode(&scope.to_string())))?;
    told(common, &entry, &done("deployed", scope))
}

pub(super) fn activate(common: &Common, serial: u64, scope: &Scope) -> anyhow::Result<bool> {
    let path = format!("activate?serial={serial}&scope={}", encode(&scope.to_string()));
    told(common, &order(common, &path)?, &done("live again:", scope))
}

/// Orders that name a scope and nothing else.
pub(super) fn in_scope(common: &Common, what: &str, scope: &Scope) -> anyhow::Result<bool> {
    let entry = order(common, &format!("{what}?scope={}", encode(&scope.to_string())))?;
    let words = match what {
        "rollback" => "rolled back to",
        "pin" => "pinned",
        "unpin" => "unpinned",
        _ => "its requests go to",
    };
    told(common, &entry, &done(words, scope))
}

pub(super) fn canary(common: &Common, command: &CanaryCommand) -> anyhow::Result<bool> {
    match command {
        CanaryCommand::Start { file, share } => {
            let thousandths = (share * 10.0).round();
            if !(1.0..=999.0).contains(&thousandths) {
                bail!("--share {share}: allowed are 0.1 to 99.9 percent");
            }
            let entry = send(common, file, &format!("canary?share={thousandths}"))?;
            told(common, &entry, &format!("{share} % of new transactions go to"))
        }
        CanaryCommand::Promote => told(common, &order(common, "promote")?, "promoted"),
        CanaryCommand::Stop => {
            told(common, &order(common, "stop-canary")?, "canary ended; all requests go to")
        }
    }
}

pub(super) fn shadow(common: &Common, command: &ShadowCommand) -> anyhow::Result<bool> {
    match command {
        ShadowCommand::Start { file } => {
            told(common, &send(common, file, "shadow")?, "runs beside the live version:")
        }
        ShadowCommand::Stop => {
            told(common, &order(common, "stop-shadow")?, "shadow ended; live is")
        }
    }
}

fn done(words: &str, scope: &Scope) -> String {
    match scope {
        Scope::All => words.to_owned(),
        scope => format!("{scope}: {words}"),
    }
}

fn order(common: &Common, path: &str) -> anyhow::Result<PolicyEntry> {
    Client::new(common)?.post(&format!("/v1/policy/{path}"), &[])
}

/// Sends a component; compiling a large one takes the router a while.
fn send(common: &Common, file: &Path, path: &str) -> anyhow::Result<PolicyEntry> {
    let component = read(file)?;
    let client = Client::new(common)?;
    let wait = ProgressBar::new_spinner();
    wait.set_message(format!("{}: checked and compiled by the router", file.display()));
    wait.enable_steady_tick(Duration::from_millis(200));
    let entry = client.post(&format!("/v1/policy/{path}"), &component);
    wait.finish_and_clear();
    entry
}

/// A component of a size that is taken.
pub(super) fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    let size = std::fs::metadata(file).with_context(|| file.display().to_string())?.len();
    if size > u64::try_from(MOST_COMPONENT_BYTES)? {
        bail!("{}: longer than {MOST_COMPONENT_BYTES} bytes", file.display());
    }
    std::fs::read(file).with_context(|| file.display().to_string())
}

fn told(common: &Common, entry: &PolicyEntry, what: &str) -> anyhow::Result<bool> {
    if common.json {
        return print(&format!("{}\n", serde_json::to_string(entry)?));
    }
    let PolicyEntry { serial, name, version, hash, .. } = entry;
    print(&format!("{what} {name} {version} (no. {serial}, {hash})\n"))
}
