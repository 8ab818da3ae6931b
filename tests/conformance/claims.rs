//! The README's table of clauses, made from the cases. `VIADUCT_WRITE=1` writes it anew.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{env, fs};

use anyhow::{Context, Result, ensure};

use crate::case::Case;
use crate::cases;

const BEGIN: &str = "<!-- clauses: begin, written by tests/conformance -->\n";
const END: &str = "<!-- clauses: end -->\n";

/// What each section is about.
const SECTIONS: &[(u16, &str, &str)] = &[
    (3261, "7.5", "line ends between messages"),
    (3261, "8.2.1", "methods the server does not take"),
    (3261, "8.2.2.3", "Require"),
    (3261, "8.2.6.1", "provisional responses"),
    (3261, "8.2.6.2", "header fields and tags of responses"),
    (3261, "8.2.7", "answers without state"),
    (3261, "9.1", "CANCEL as it leaves"),
    (3261, "9.2", "CANCEL as it arrives"),
    (3261, "10.2", "REGISTER is for the registrar"),
    (3261, "10.2.1.1", "expiry"),
    (3261, "10.3", "adding, refreshing, removing and fetching bindings, as a whole or not at all"),
    (3261, "11.2", "OPTIONS to the server"),
    (3261, "16.3", "which requests are refused"),
    (3261, "16.4", "Route, strict routers, maddr"),
    (3261, "16.6", "requests as they are forwarded, item by item"),
    (3261, "16.7", "responses of one and of several branches"),
    (3261, "16.8", "branches nobody answers"),
    (3261, "16.10", "CANCEL through a proxy"),
    (3261, "17.1.1", "INVITE client transaction, timer A"),
    (3261, "17.1.1.3", "ACK to a refusal"),
    (3261, "17.1.2", "other client transactions, timer E"),
    (3261, "17.1.3", "which transaction a response belongs to"),
    (3261, "17.2.1", "INVITE server transaction, timer G"),
    (3261, "17.2.2", "other server transactions"),
    (3261, "17.2.3", "which transaction a request belongs to"),
    (3261, "18.1.1", "size and transport"),
    (3261, "18.2.1", "received"),
    (3261, "18.2.2", "where responses go"),
    (3261, "18.3", "framing on streams and in datagrams"),
    (3327, "5.3", "Path at the registrar"),
    (3327, "5.4", "Path as Route"),
    (3581, "4", "rport"),
    (4320, "4.1", "100 for requests other than INVITE"),
    (4320, "4.2", "no 408 to them"),
    (5393, "4.2", "loops and spirals"),
    (5393, "5.3.3", "Max-Breadth"),
    (5626, "5.3", "flow tokens"),
    (5626, "5.4", "keep-alives: line ends, STUN"),
    (5626, "6", "flows at the registrar"),
    (5626, "7", "one flow at a time"),
    (6026, "7.1", "2xx, its ACK, and an INVITE that comes again"),
    (6026, "7.2", "several 2xx of one branch"),
    (6026, "8.9", "responses that belong to nothing"),
];

/// Clauses that are shown elsewhere.
const ELSEWHERE: &[(u16, &str, &str)] = &[
    (4475, "3", "torture messages, over UDP and TCP: `tests/torture`"),
    (5118, "4", "torture messages with IPv6, over UDP and TCP: `tests/torture`"),
];

type Section<'a> = (u16, Vec<u32>, &'a str);

fn key<'a>(rfc: u16, section: &'a str) -> Section<'a> {
    let numbers = section.split('.').filter_map(|part| part.parse().ok()).collect();
    (rfc, numbers, section)
}

/// The table.
fn table(all: &[&Case]) -> Result<String> {
    let mut count: BTreeMap<Section<'_>, usize> = BTreeMap::new();
    for case in all {
        *count.entry(key(case.rfc, case.section)).or_default() += 1;
    }
    let mut rows: BTreeMap<Section<'_>, String> = BTreeMap::new();
    for (rfc, section, about) in SECTIONS {
        let cases = count.remove(&key(*rfc, section));
        let cases = cases.with_context(|| format!("RFC {rfc}, {section} has no case"))?;
        rows.insert(key(*rfc, section), format!("| {rfc} | {section} | {cases} | {about} |\n"));
    }
    ensure!(count.is_empty(), "sections without a line here: {:?}", count.keys());
    for (rfc, section, about) in ELSEWHERE {
        rows.insert(key(*rfc, section), format!("| {rfc} | {section} | | {about} |\n"));
    }
    let head = "| RFC | section | cases | |\n|---|---|---|---|\n".to_owned();
    Ok(rows.into_values().fold(head, |table, row| table + &row))
}

fn readme() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md")
}

#[test]
fn the_readme_claims_what_the_cases_show() -> Result<()> {
    let text = fs::read_to_string(readme())?;
    let (before, rest) = text.split_once(BEGIN).context("the README has no mark for the table")?;
    let (_, after) = rest.split_once(END).context("the README has no mark for its end")?;
    let wanted = format!("{before}{BEGIN}\n{}\n{END}{after}", table(&cases::all())?);
    if env::var_os("VIADUCT_WRITE").is_some() {
        return Ok(fs::write(readme(), wanted)?);
    }
    let hint = "VIADUCT_WRITE=1 cargo test -p viaduct-tests --test conformance claims";
    ensure!(text == wanted, "the table is out of date; {hint} writes it anew");
    Ok(())
}

#[test]
fn each_section_has_one_line_in_order_and_none_is_forgotten() {
    let table = table(&cases::all()).expect("a table");
    let at = |text: &str| table.find(text).unwrap_or_else(|| panic!("no {text}"));
    assert!(at("| 3261 | 9.2 |") < at("| 3261 | 10.2 |"));
    assert!(at("| 3261 | 18.3 |") < at("| 3327 | 5.3 |"));
    assert_eq!(table.lines().count(), 2 + SECTIONS.len() + ELSEWHERE.len());
}
