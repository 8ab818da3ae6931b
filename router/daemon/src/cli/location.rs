//! `viaduct location show|dump|remove`.

use super::client::{Client, encode};
use super::{Common, LocationCommand, print, table};
use crate::admin::Removed;
use crate::control::{AorEntry, Page};

/// AoRs asked for at a time.
const ABOUT: usize = 500;

pub(super) fn run(common: &Common, command: &LocationCommand) -> anyhow::Result<bool> {
    let client = Client::new(common)?;
    match command {
        LocationCommand::Show { aor, table } => {
            let path = format!("/v1/location/{}?table={}", encode(aor), encode(&table.name));
            let entry: AorEntry = client.get(&path)?;
            if common.json {
                return print(&format!("{}\n", serde_json::to_string(&entry)?));
            }
            print(&details(&entry))
        }
        LocationCommand::Dump { table } => dump(&client, &table.name, common.json),
        LocationCommand::Remove { aor, contact, table } => {
            let mut path = format!("/v1/location/{}?table={}", encode(aor), encode(&table.name));
            if let Some(contact) = contact {
                path.push_str(&format!("&contact={}", encode(contact)));
            }
            let removed: Removed = client.delete(&path)?;
            if common.json {
                return print(&format!("{}\n", serde_json::to_string(&removed)?));
            }
            let noun = if removed.removed == 1 { "binding" } else { "bindings" };
            print(&format!("{} {noun} removed\n", removed.removed))?;
            // Nothing there is a failure to scripts, as with `rm`.
            Ok(removed.removed > 0)
        }
        // Not asked of a router: see `transfer`.
        LocationCommand::Export { .. }
        | LocationCommand::Import(_)
        | LocationCommand::Verify
        | LocationCommand::Repair => Ok(false),
    }
}

/// JSON: one AoR a line, as it comes. For people: one binding a line, one table a page.
fn dump(client: &Client, table: &str, json: bool) -> anyhow::Result<bool> {
    let mut cursor = 0;
    loop {
        let path = format!("/v1/location?table={}&cursor={cursor}&about={ABOUT}", encode(table));
        let page: Page = client.get(&path)?;
        if json {
            for entry in &page.entries {
                print(&format!("{}\n", serde_json::to_string(entry)?))?;
            }
        } else {
            let rows: Vec<[String; 5]> = page.entries.iter().flat_map(rows).collect();
            print(&table::layout(["AOR", "CONTACT", "EXPIRES", "VIA", "AGENT"], &rows))?;
        }
        match page.next {
            // A router that gave back the same place would keep us here for ever.
            Some(next) if next > cursor => cursor = next,
            _ => return Ok(true),
        }
    }
}

fn rows(entry: &AorEntry) -> impl Iterator<Item = [String; 5]> {
    entry.bindings.iter().map(|binding| {
        [
            shown(&entry.aor),
            shown(&binding.contact),
            format!("{} s", binding.expires_s),
            if binding.path.is_empty() { binding.transport.clone() } else { "path".to_owned() },
            shown(&binding.user_agent),
        ]
    })
}

fn details(entry: &AorEntry) -> String {
    let mut out = format!("{}\n", shown(&entry.aor));
    for binding in &entry.bindings {
        out.push_str(&format!("  {}\n", shown(&binding.contact)));
        let q = binding.q_milli.map(|q| format!("{}.{:03}", q / 1000, q % 1000));
        let latency = binding.latency_us.map(|us| format!("{}.{:03} ms", us / 1000, us % 1000));
        for (name, value) in [
            ("expires", format!("in {} s", binding.expires_s)),
            ("q", q.unwrap_or_default()),
            ("path", binding.path.clone()),
            ("received", binding.received.clone()),
            ("transport", binding.transport.clone()),
            ("instance", binding.instance.clone()),
            (
                "reg-id",
                if binding.reg_id == 0 { String::new() } else { binding.reg_id.to_string() },
            ),
            ("latency", latency.unwrap_or_default()),
            ("attrs", binding.attributes.clone()),
            ("agent", binding.user_agent.clone()),
            ("call-id", binding.call_id.clone()),
            ("cseq", binding.cseq.to_string()),
        ] {
            if !value.is_empty() {
                out.push_str(&format!("    {name:<10}{}\n", shown(&value)));
            }
        }
    }
    out
}

/// A phone's text without what moves a cursor.
fn shown(text: &str) -> String {
    text.chars()
        .flat_map(
            |char| if char.is_control() { char.escape_default().collect() } else { vec![char] },
        )
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::BindingEntry;

    #[test]
    fn a_binding_is_shown_with_what_it_has_and_without_control_characters() {
        let binding = BindingEntry {
            contact: "sip:alice@192.0.2.1".into(),
            expires_s: 60,
            q_milli: Some(500),
            user_agent: "a\x1b[2Jb".into(),
            call_id: "c".into(),
            cseq: 7,
            transport: "udp".into(),
            reg_id: 2,
            latency_us: Some(12_045),
            ..Default::default()
        };
        let text = details(&AorEntry { aor: "alice@example.com".into(), bindings: vec![binding] });
        let expected = [
            "alice@example.com",
            "  sip:alice@192.0.2.1",
            "    expires   in 60 s",
            "    q         0.500",
            "    transport udp",
            "    reg-id    2",
            "    latency   12.045 ms",
            "    agent     a\\u{1b}[2Jb",
            "    call-id   c",
            "    cseq      7",
        ];
        assert!(text.lines().eq(expected), "{text}");
    }
}
