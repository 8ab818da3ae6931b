//! `viaduct policy diff`: how two versions differ, as far as that can be seen from outside.

use std::path::Path;

use anyhow::Context;

use super::client::Client;
use super::{Common, policy, print};
use crate::control::PolicyParts;
use crate::runtime::parts_of;

pub(super) fn run(common: &Common, from: &str, to: &str) -> anyhow::Result<bool> {
    let (old, new) = (parts(common, from)?, parts(common, to)?);
    if common.json {
        return print(&format!("{}\n", serde_json::to_string(&[&old, &new])?));
    }
    print(&difference(&old, &new))
}

/// A version of the running router, or a file.
fn parts(common: &Common, what: &str) -> anyhow::Result<PolicyParts> {
    match what.parse::<u64>() {
        Ok(serial) => Client::new(common)?.get(&format!("/v1/policy/{serial}")),
        Err(_) => {
            let component = policy::read(Path::new(what))?;
            parts_of(&component).with_context(|| what.to_owned())
        }
    }
}

fn difference(old: &PolicyParts, new: &PolicyParts) -> String {
    if old.hash == new.hash {
        return format!("the same component ({}, {} bytes)\n", old.hash, old.bytes);
    }
    let mut text = format!(
        "code      {} ({} bytes) -> {} ({} bytes)\n",
        old.hash, old.bytes, new.hash, new.bytes
    );
    let missing = |from: &PolicyParts, in_: &PolicyParts, sign: char| -> String {
        let lost = from.imports.iter().filter(|import| !in_.imports.contains(import));
        lost.map(|import| format!("{sign} {import}\n")).collect()
    };
    let imports = missing(old, new, '-') + &missing(new, old, '+');
    match imports.is_empty() {
        true => text.push_str("imports   the same\n"),
        false => text.push_str(&format!("imports\n{imports}")),
    }
    if old.manifest == new.manifest {
        text.push_str("manifest  the same\n");
    } else {
        text.push_str("manifest\n");
        let (old, new): (Vec<&str>, Vec<&str>) =
            (old.manifest.lines().collect(), new.manifest.lines().collect());
        for (sign, line) in lines(&old, &new) {
            text.push_str(&format!("{sign} {line}\n"));
        }
    }
    text
}

/// Lines that went (`-`), came (`+`) and stayed (` `), by their longest common subsequence.
fn lines<'a>(old: &[&'a str], new: &[&'a str]) -> Vec<(char, &'a str)> {
    // Manifests are at most 64 KiB; what is longer than this is no manifest anybody reads.
    const MOST_LINES: usize = 2000;
    let (old, new) = (old.get(..MOST_LINES).unwrap_or(old), new.get(..MOST_LINES).unwrap_or(new));
    let width = new.len().saturating_add(1);
    // Length of the longest common subsequence of what is left at each place.
    let mut common = vec![0u16; old.len().saturating_add(1).saturating_mul(width)];
    let at = |row: usize, column: usize| row.saturating_mul(width).saturating_add(column);
    let read = |common: &[u16], row, column| common.get(at(row, column)).copied().unwrap_or(0);
    for (row, left) in old.iter().enumerate().rev() {
        for (column, right) in new.iter().enumerate().rev() {
            let value = if left == right {
                read(&common, row + 1, column + 1).saturating_add(1)
            } else {
                read(&common, row + 1, column).max(read(&common, row, column + 1))
            };
            if let Some(cell) = common.get_mut(at(row, column)) {
                *cell = value;
            }
        }
    }
    let (mut row, mut column, mut out) = (0, 0, Vec::new());
    while let (left, right) = (old.get(row), new.get(column))
        && (left.is_some() || right.is_some())
    {
        match (left, right) {
            (Some(left), Some(right)) if left == right => {
                out.push((' ', *left));
                (row, column) = (row + 1, column + 1);
            }
            (Some(left), right)
                if right.is_none()
                    || read(&common, row + 1, column) >= read(&common, row, column + 1) =>
            {
                out.push(('-', *left));
                row += 1;
            }
            (_, Some(right)) => {
                out.push(('+', *right));
                column += 1;
            }
            _ => break,
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(manifest: &str, imports: &[&str], hash: &str) -> PolicyParts {
        PolicyParts {
            manifest: manifest.to_owned(),
            imports: imports.iter().map(|&import| import.to_owned()).collect(),
            bytes: 100,
            hash: hash.to_owned(),
        }
    }

    #[test]
    fn what_came_and_what_went_is_marked() {
        let old = parts("name = \"a\"\nversion = \"1.0.0\"\n", &["usrloc", "log"], "aa");
        let new = parts("name = \"a\"\nversion = \"1.1.0\"\nx = 1\n", &["log", "nat"], "bb");
        let text = difference(&old, &new);
        for line in [
            "- usrloc\n",
            "+ nat\n",
            "  name = \"a\"\n",
            "- version = \"1.0.0\"\n",
            "+ version = \"1.1.0\"\n",
            "+ x = 1\n",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn what_is_the_same_is_said_so() {
        let one = parts("name = \"a\"\n", &[], "aa");
        assert!(difference(&one, &one).starts_with("the same component"));
        let other = PolicyParts { hash: "bb".to_owned(), ..one.clone() };
        let text = difference(&one, &other);
        assert!(text.contains("imports   the same") && text.contains("manifest  the same"));
    }
}
