//! `viaduct destinations list|set|reload`.

use anyhow::bail;

use super::client::{Client, encode};
use super::table::layout;
use super::{Common, DestinationsCommand, print, status};
use crate::control::DestinationEntry;

const PATH: &str = "/v1/destinations";

pub(super) fn run(common: &Common, command: &DestinationsCommand) -> anyhow::Result<bool> {
    match command {
        DestinationsCommand::List { set } => list(common, set.as_deref()),
        DestinationsCommand::Set { set, uri, state } => {
            let (set, uri) = (encode(set), encode(uri));
            let path = format!("{PATH}?set={set}&uri={uri}&state={state}");
            let entry: DestinationEntry = Client::new(common)?.post(&path, &[])?;
            if common.json {
                return print(&format!("{}\n", serde_json::to_string(&entry)?));
            }
            print(&format!("{} of {} is {}\n", entry.uri, entry.set, entry.state))
        }
        DestinationsCommand::Reload => status::reload(common),
    }
}

fn list(common: &Common, set: Option<&str>) -> anyhow::Result<bool> {
    let mut entries: Vec<DestinationEntry> = Client::new(common)?.get(PATH)?;
    if let Some(set) = set {
        entries.retain(|entry| entry.set == set);
        if entries.is_empty() {
            bail!("there is no set {set:?}");
        }
    }
    if common.json {
        return print(&format!("{}\n", serde_json::to_string(&entries)?));
    }
    if entries.is_empty() {
        return print("no destinations are configured\n");
    }
    let heading = ["SET", "URI", "STATE", "LAST PROBE", "WEIGHT", "PRIORITY", "ATTRIBUTES"];
    let rows: Vec<_> = entries.iter().map(row).collect();
    print(&layout(heading, &rows))
}

fn row(entry: &DestinationEntry) -> [String; 7] {
    [
        entry.set.clone(),
        entry.uri.clone(),
        state(entry),
        probe(entry),
        entry.weight.to_string(),
        entry.priority.to_string(),
        entry.attributes.clone(),
    ]
}

/// `up, 2 bad signs`
fn state(entry: &DestinationEntry) -> String {
    use crate::control::DestinationState::{Disabled, Up};
    let kind = if entry.state == Up { "bad" } else { "good" };
    match entry.signs {
        0 => entry.state.to_string(),
        _ if entry.state == Disabled => entry.state.to_string(),
        1 => format!("{}, 1 {kind} sign", entry.state),
        signs => format!("{}, {signs} {kind} signs", entry.state),
    }
}

/// `200 in 1.2 ms`
fn probe(entry: &DestinationEntry) -> String {
    match (entry.probe, entry.latency_us) {
        (None, _) => "none yet".to_owned(),
        (Some(0), _) => "no answer".to_owned(),
        (Some(status), None) => status.to_string(),
        (Some(status), Some(us)) => format!("{status} in {:.1} ms", f64::from(us) / 1000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::DestinationState;

    #[test]
    fn a_row_says_how_a_destination_stands() {
        let entry = DestinationEntry {
            set: "gw".into(),
            uri: "sip:192.0.2.5".into(),
            state: DestinationState::Up,
            signs: 2,
            probe: Some(200),
            latency_us: Some(1_250),
            weight: 3,
            priority: 10,
            attributes: "trunk=a".into(),
        };
        let expected =
            ["gw", "sip:192.0.2.5", "up, 2 bad signs", "200 in 1.2 ms", "3", "10", "trunk=a"];
        assert_eq!(row(&entry), expected);
        let down = DestinationEntry {
            state: DestinationState::Down,
            signs: 1,
            probe: Some(0),
            latency_us: None,
            ..entry.clone()
        };
        assert_eq!((state(&down), probe(&down)), ("down, 1 good sign".into(), "no answer".into()));
        let off = DestinationEntry { state: DestinationState::Disabled, probe: None, ..entry };
        assert_eq!((state(&off), probe(&off)), ("disabled".into(), "none yet".into()));
    }
}
