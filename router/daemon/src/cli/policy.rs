//! `viaduct policy list|deploy|rollback`: what goes through the admin API.

use std::path::Path;

use anyhow::{Context, bail};

use super::client::Client;
use super::{Common, print, table};
use crate::admin::MOST_COMPONENT_BYTES;
use crate::control::PolicyEntry;

pub(super) fn list(common: &Common) -> anyhow::Result<bool> {
    let entries: Vec<PolicyEntry> = Client::new(common)?.get("/v1/policy")?;
    if common.json {
        return print(&format!("{}\n", serde_json::to_string(&entries)?));
    }
    let rows: Vec<[String; 6]> = entries.iter().rev().map(row).collect();
    print(&table::layout(["NO", "POLICY", "HASH", "STATE", "RUNS", "FAILURES"], &rows))?;
    let faults = entries.iter().filter_map(|entry| Some((entry, entry.last_failure.as_ref()?)));
    for (entry, fault) in faults {
        print(&format!("{}: last failure: {fault}\n", entry.serial))?;
    }
    Ok(true)
}

fn row(entry: &PolicyEntry) -> [String; 6] {
    let state = match (entry.live, entry.next_rollback, entry.loaded) {
        (true, _, _) => "live",
        (_, true, _) => "before",
        (_, _, true) => "finishing",
        _ => "stored",
    };
    [
        entry.serial.to_string(),
        format!("{} {}", entry.name, entry.version),
        entry.hash.clone(),
        state.to_owned(),
        entry.runs.to_string(),
        entry.failures.to_string(),
    ]
}

pub(super) fn deploy(common: &Common, file: &Path) -> anyhow::Result<bool> {
    let size = std::fs::metadata(file).with_context(|| file.display().to_string())?.len();
    if size > u64::try_from(MOST_COMPONENT_BYTES)? {
        bail!("{}: longer than {MOST_COMPONENT_BYTES} bytes", file.display());
    }
    let component = std::fs::read(file).with_context(|| file.display().to_string())?;
    let entry: PolicyEntry = Client::new(common)?.post("/v1/policy", &component)?;
    told(common, &entry, "deployed")
}

pub(super) fn rollback(common: &Common) -> anyhow::Result<bool> {
    let entry: PolicyEntry = Client::new(common)?.post("/v1/policy/rollback", &[])?;
    told(common, &entry, "rolled back to")
}

fn told(common: &Common, entry: &PolicyEntry, what: &str) -> anyhow::Result<bool> {
    if common.json {
        return print(&format!("{}\n", serde_json::to_string(entry)?));
    }
    let PolicyEntry { serial, name, version, hash, .. } = entry;
    print(&format!("{what} {name} {version} (no. {serial}, {hash})\n"))
}
