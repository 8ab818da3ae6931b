//! `tests/behaviour.md`: which requirement is shown by which test. Tests say it by their names:
//! `r_p10_...` shows R-P10, `rfc_5626_7_...` shows RFC 5626, section 7.

use std::collections::{BTreeMap, BTreeSet};

/// Where the table is.
pub(crate) const FILE: &str = "tests/behaviour.md";

/// The requirements on registrar, Path, location service and proxy core, in a few words each.
const REQUIREMENTS: [(&str, &str); 45] = [
    ("P1", "Path: lines and commas are one list, in order, topmost nearest the registrar"),
    ("P2", "Path values are `<...>` with `lr`"),
    ("P3", "our Path value goes on top"),
    ("P4", "Path is added as the UA supports it, always, or with Require (421)"),
    ("P5", "Path in a response is passed through as it is"),
    ("P6", "`received` is read in every spelling; host names are refused"),
    ("P7", "a Path that cannot be added leaves the message alone"),
    ("P8", "Path is added to REGISTER only"),
    ("P9", "a flow on a stream is used or failed (430), never opened anew"),
    ("P10", "`received` counts where we signed it; 403 where it was changed"),
    ("P11", "strict Path refuses (420) before anything is stored"),
    ("P12", "a registrar never answers 421 because of Path"),
    ("P13", "`Require: path` is 420 where Path is off, else it means support"),
    ("P14", "a bad Path is 400"),
    ("P15", "16 Path values and 2,048 bytes are stored"),
    ("P16", "the 200 repeats the Path values in their order"),
    ("P17", "`path-received` counts from trusted peers"),
    ("P18", "the stored socket is used where it fits the next hop"),
    ("P19", "our own topmost Path values can be skipped"),
    ("S1", "flags in letters and in names; unknown ones are an error"),
    ("S2", "the socket header counts from trusted peers, for sockets of ours"),
    ("S3", "two Path modes at once are an error"),
    ("S4", "save says what it did, and what it answered"),
    ("S5", "a CSeq that is not higher is 400"),
    ("S6", "an equal CSeq is a retransmission, later an update or a fault"),
    ("S7", "force-registration pushes out the contact longest not refreshed"),
    ("U1", "contacts match by URI comparison; as texts where configured"),
    ("U2", "storage modes: memory, write-through, write-back"),
    ("U3", "one schema for what both incumbents store; readers for both"),
    ("G1", "a REGISTER changes an AoR as a whole"),
    ("G2", "a Route preloaded by a stranger is refused"),
    ("G3", "a transaction keeps the policy version that began it"),
    ("N1", "an INVITE is answered with state, except when load is shed"),
    ("O1", "flow tokens: signed, rotating keys, a connection is not taken for a later one"),
    ("O2", "`ob` counts in the Path value next to the phone"),
    ("O3", "temporary GRUUs are sealed, and end with their registration"),
    ("M1", "a relayed packet carries nothing of the one that came but its payload and marks"),
    ("M2", "a relay session is two legs, each found by its local address and port"),
    ("M3", "legs have budgets of packets and octets, and a largest packet"),
    ("M4", "packets are told apart by their first octets"),
    ("M5", "a leg's peer is the signalled one, or learned in a window, by rank, once"),
    ("M6", "malformed packets and unwanted payload types are dropped and not answered"),
    ("M7", "DSCP is set or copied, ECN kept"),
    ("M8", "sessions may vanish, move and outlive their owner"),
    ("M9", "orders are refused with the reason; what happens is told"),
];

/// A test that names what it shows: `(requirement or RFC section, file, name)`.
type Shown = (String, String, String);

/// The tests in a file.
pub(crate) fn tests(path: &str, text: &str) -> Vec<Shown> {
    let names = text.lines().filter_map(|line| {
        let line = line.trim_start();
        let line = line.strip_prefix("pub ").unwrap_or(line);
        line.strip_prefix("fn ")?.split(['(', '<']).next()
    });
    names.filter_map(|name| Some((shows(name)?, path.to_owned(), name.to_owned()))).collect()
}

/// `R-P10`, or `RFC 5626, 7`.
fn shows(name: &str) -> Option<String> {
    let mut parts = name.split('_');
    let is_number = |part: &&str| !part.is_empty() && part.bytes().all(|c| c.is_ascii_digit());
    match parts.next()? {
        "r" => {
            let part = parts.next()?;
            let (letter, number) = part.split_at_checked(1)?;
            is_number(&number).then(|| format!("R-{}{number}", letter.to_uppercase()))
        }
        "rfc" => {
            let number = parts.next().filter(is_number)?;
            let section: Vec<&str> = parts.take_while(is_number).collect();
            let comma = if section.is_empty() { "" } else { ", " };
            Some(format!("RFC {number}{comma}{}", section.join(".")))
        }
        _ => None,
    }
}

/// The table as it should be.
pub(crate) fn table(tests: impl Iterator<Item = Shown>) -> String {
    let mut by: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (requirement, path, name) in tests {
        by.entry(requirement).or_default().insert(format!("`{name}` ({path})"));
    }
    let mut out = String::from(
        "# Behaviour\n\nWhich requirement is shown by which test. Made from the names of the tests \
         by `tests/tidy`;\n`VIADUCT_WRITE=1 cargo test -p viaduct-tests --test tidy` writes it \
         anew.\n\n## Requirements\n\n| | | shown by |\n|---|---|---|\n",
    );
    for (number, words) in REQUIREMENTS {
        let shown = by.get(&format!("R-{number}"));
        let shown = shown.map_or_else(|| "nothing yet".to_owned(), joined);
        out.push_str(&format!("| R-{number} | {words} | {shown} |\n"));
    }
    out.push_str("\n## Sections of RFCs\n\n| section | shown by |\n|---|---|\n");
    let mut sections: Vec<(&String, &BTreeSet<String>)> =
        by.iter().filter(|(name, _)| name.starts_with("RFC ")).collect();
    sections.sort_by_key(|(name, _)| order(name));
    for (section, shown) in sections {
        out.push_str(&format!("| {section} | {} |\n", joined(shown)));
    }
    out
}

fn joined(shown: &BTreeSet<String>) -> String {
    shown.iter().map(String::as_str).collect::<Vec<_>>().join("<br>")
}

/// RFC and section as numbers.
fn order(name: &str) -> Vec<u32> {
    name.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok()).collect()
}

/// Requirements tests name that nobody has.
pub(crate) fn unknown(tests: &[Shown]) -> Vec<String> {
    let known = |name: &str| REQUIREMENTS.iter().any(|(number, _)| name == format!("R-{number}"));
    tests
        .iter()
        .filter(|(requirement, ..)| requirement.starts_with("R-") && !known(requirement))
        .map(|(requirement, path, name)| format!("{path}: {name} names {requirement}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_is_shown() {
        let text = "#[test]\nfn r_p10_x_y() {}\n    fn rfc_3261_10_3_z() {}\nfn rfc_7_a() {}\n\
                    fn r_packet() {}\nfn other() {}\n";
        let shown: Vec<String> = tests("a.rs", text).into_iter().map(|(what, ..)| what).collect();
        assert_eq!(shown, ["R-P10", "RFC 3261, 10.3", "RFC 7"]);
    }

    #[test]
    fn the_table_has_every_requirement_and_sections_in_order() {
        let of = |name: &str| tests("a.rs", &format!("fn {name}() {{}}\n"));
        let all = ["r_s1_x", "rfc_3261_10_3_x", "rfc_3261_9_x", "rfc_999_x"];
        let table = table(all.into_iter().flat_map(of));
        assert!(table.contains(
            "| R-S1 | flags in letters and in names; unknown ones are an error | `r_s1_x` (a.rs) |"
        ));
        assert!(table.contains("| R-S2 |") && table.contains("nothing yet"));
        let at = |text: &str| table.find(text).unwrap_or(0);
        assert!(at("RFC 999 ") < at("RFC 3261, 9 ") && at("RFC 3261, 9 ") < at("RFC 3261, 10.3 "));
        assert_eq!(unknown(&of("r_z9_x")).len(), 1);
    }
}
