//! A process and what it has started, by the kernel's own tables.

use std::fs;

use anyhow::Result;

/// A process and its descendants, the process first.
///
/// # Errors
/// When there is no /proc.
pub fn family(pid: u32) -> Result<Vec<u32>> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Some(id) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        if let Some(parent) = parent_of(&stat) {
            parents.push((id, parent));
        }
    }
    let mut found = vec![pid];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        found.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(id, _)| *id));
        next += 1;
    }
    Ok(found)
}

/// The parent in a stat line; the command name before it may hold blanks and parentheses.
fn parent_of(stat: &str) -> Option<u32> {
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::process;

    use super::*;

    #[test]
    fn a_parent_is_found_behind_an_odd_name() {
        assert_eq!(parent_of("17 (a ) b) S 42 17 17 0"), Some(42));
        assert_eq!(parent_of(""), None);
    }

    #[test]
    fn a_child_process_counts() {
        let mut child =
            process::Command::new("cat").stdin(process::Stdio::piped()).spawn().unwrap();
        assert!(family(process::id()).unwrap().contains(&child.id()));
        drop(child.stdin.take());
        child.wait().unwrap();
    }
}
