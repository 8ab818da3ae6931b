//! `[[destination]]`, `[probe]` and `[tables]`: what policies of all workers share.

use viaduct_engine::Listener;
use viaduct_engine::dispatcher::{
    DestinationConfig, Dispatcher, MOST_DESTINATIONS, MOST_TEXT_BYTES, Probing, Thresholds,
};
use viaduct_message::Uri;

use super::reader::{Section, quoted};
use super::size;

/// Sets of destinations, and how it is found out which are up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DispatcherConfig {
    /// In the order of the file.
    pub destinations: Vec<DestinationConfig>,
    /// How many signs change a state.
    pub thresholds: Thresholds,
    /// OPTIONS to all of them.
    pub probing: Probing,
}

/// `[tables]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableConfig {
    /// Most entries of each table.
    pub entries: usize,
}

impl DispatcherConfig {
    /// The sets, all destinations up.
    pub fn build(&self) -> Dispatcher {
        Dispatcher::new(self.destinations.iter().cloned(), self.thresholds)
    }

    /// The same destinations, probed as `old` says: what a reload can take up.
    pub(super) fn with_probing_of(self, old: &DispatcherConfig) -> DispatcherConfig {
        DispatcherConfig { probing: old.probing.clone(), ..self }
    }
}

pub(super) fn tables(top: &mut Section<'_, '_>) -> TableConfig {
    let mut section = top.section("tables");
    let entries = size(section.number("entries", 16..=10_000_000, 100_000));
    section.close();
    TableConfig { entries }
}

pub(super) fn read(top: &mut Section<'_, '_>, listeners: &[Listener]) -> DispatcherConfig {
    let mut destinations: Vec<DestinationConfig> = Vec::new();
    for mut section in top.sections("destination", MOST_DESTINATIONS) {
        if let Some(found) = destination(&mut section) {
            let twice = destinations.iter().any(|d| d.set == found.set && d.uri == found.uri);
            if twice {
                let problem = format!("names {} twice in set {}", found.uri, quoted(&found.set));
                let key = section.name("uri");
                section.sheet().fault(section.place("uri"), &key, problem, "each once in a set");
            } else {
                destinations.push(found);
            }
        }
        section.close();
    }
    let (thresholds, probing) = probe(top, listeners);
    DispatcherConfig { destinations, thresholds, probing }
}

fn destination(s: &mut Section<'_, '_>) -> Option<DestinationConfig> {
    const SET: &str = "a name of 1 to 64 of the characters a-z, A-Z, 0-9, - and _";
    const URI: &str = "a SIP URI of at most 256 bytes, such as \"sip:gw1.example.com:5060\"";
    const ATTRIBUTES: &str = "a text of at most 256 bytes";
    let is_name = |text: &str| {
        let legal = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'_';
        (1..=64).contains(&text.len()) && text.bytes().all(legal)
    };
    let is_uri = |text: &str| {
        let fits = text.len() <= MOST_TEXT_BYTES && !text.contains(' ');
        fits && Uri::parse(text.as_bytes()).is_ok_and(|uri| uri.is_sip())
    };
    let set = s.text_if("set", "", SET, is_name);
    let uri = s.text_if("uri", "", URI, is_uri);
    let weight = s.number("weight", 1..=1000, 1);
    let priority = s.number("priority", 0..=1000, 0);
    let attributes =
        s.text_if("attributes", "\"\"", ATTRIBUTES, |text| text.len() <= MOST_TEXT_BYTES);
    for (key, found, allowed) in [("set", set.is_some(), SET), ("uri", uri.is_some(), URI)] {
        // What is there and wrong has been told already.
        if !found && s.place(key) == s.at() {
            let name = s.name(key);
            s.sheet().fault(s.at(), &name, "is missing".to_owned(), allowed);
        }
    }
    Some(DestinationConfig {
        set: set?.value.into(),
        uri: uri?.value.into(),
        weight: u16::try_from(weight).unwrap_or(1),
        priority: u16::try_from(priority).unwrap_or(0),
        attributes: attributes.map(|text| text.value.into()).unwrap_or_default(),
    })
}

fn probe(top: &mut Section<'_, '_>, listeners: &[Listener]) -> (Thresholds, Probing) {
    const FROM: &str = "a SIP URI such as \"sip:probe@example.com\"";
    let mut section = top.section("probe");
    let s = &mut section;
    let word = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    let interval_s = s.number("interval_s", 0..=3600, 10);
    let timeout_ms = s.number("timeout_ms", 100..=60_000, 2000);
    let down_after = word(s.number("down_after", 1..=100, 3));
    let up_after = word(s.number("up_after", 1..=100, 1));
    let fits = |text: &str| Uri::parse(text.as_bytes()).is_ok_and(|uri| uri.is_sip());
    let from = match s.text_if("from", "", FROM, fits) {
        Some(text) => text.value.into(),
        None => {
            let host = listeners.first().map_or("localhost", |listener| &*listener.host);
            format!("sip:probe@{host}").into()
        }
    };
    section.close();
    let probing = Probing {
        interval_us: interval_s.saturating_mul(1_000_000),
        timeout_us: timeout_ms.saturating_mul(1000),
        from,
    };
    (Thresholds { down_after, up_after }, probing)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::Config;

    const BASE: &str = "[[listen]]\naddress = \"127.0.0.1:5060\"\n[policy]\nfile = \"p\"\n";

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(&format!("{BASE}{text}"), Path::new("v.toml"), &Vec::new)
            .map_err(|errors| errors.to_string())
    }

    #[test]
    fn destinations_make_sets() {
        let config = parse(
            "[[destination]]\nset = \"gw\"\nuri = \"sip:192.0.2.5\"\nweight = 3\n\
             [[destination]]\nset = \"gw\"\nuri = \"sip:192.0.2.6\"\n\
             [[destination]]\nset = \"media\"\nuri = \"sip:192.0.2.6\"\n",
        )
        .unwrap();
        let dispatcher = config.dispatcher.build();
        let sizes = ["gw", "media"].map(|name| dispatcher.set(name).unwrap().destinations().len());
        assert_eq!(sizes, [2, 1]);
        assert_eq!(dispatcher.set("gw").unwrap().destinations()[0].config().weight, 3);
    }

    #[test]
    fn what_is_no_destination_is_told_with_its_line() {
        for (text, said) in [
            ("[[destination]]\nset = \"gw\"\n", "v.toml:5:"),
            ("[[destination]]\nset = \"g w\"\nuri = \"sip:h\"\n", "a name of 1 to 64"),
            ("[[destination]]\nset = \"gw\"\nuri = \"tel:1\"\n", "a SIP URI"),
            ("[[destination]]\nset = \"gw\"\nuri = \"sip:h\"\nweight = 0\n", "1 to 1000"),
            (
                "[[destination]]\nset = \"gw\"\nuri = \"sip:h\"\n\
                 [[destination]]\nset = \"gw\"\nuri = \"sip:h\"\n",
                "twice",
            ),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(said), "{text} gave {error}");
        }
    }
}
