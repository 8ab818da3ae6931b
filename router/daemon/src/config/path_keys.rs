//! The file with the keys that sign what we write into Path: lines `ID HEX`, the first signs.
//!
//! To rotate: put a new line first, reload, wait until the longest registration has been refreshed,
//! then remove the old line. A cluster shares one file.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use viaduct_engine::path::{PathKeyError, PathKeys};

/// Longest key file that is read, bytes.
const MOST_BYTES: u64 = 65_536;
/// Length of a key that is made, bytes.
const KEY_BYTES: usize = 32;

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub enum PathKeyFileError {
    /// The file or its folder cannot be used.
    #[error("{file}: {source}")]
    Io {
        /// Which.
        file: String,
        /// Why.
        source: std::io::Error,
    },
    /// Others may read it, so what it signs proves nothing.
    #[error("{file}: mode {mode:03o} lets others read the keys; chmod 600 it")]
    Readable {
        /// Which.
        file: String,
        /// Permission bits.
        mode: u32,
    },
    /// Longer than 64 KiB.
    #[error("{file}: longer than {MOST_BYTES} bytes")]
    TooLong {
        /// Which.
        file: String,
    },
    /// A line that is no key.
    #[error(
        "{file}:{line}: {problem}; allowed: a number from 0 to 255, a blank, 32 or more hex digits"
    )]
    Line {
        /// Which.
        file: String,
        /// From 1.
        line: usize,
        /// What is wrong.
        problem: &'static str,
    },
    /// Each line is right, but not all together.
    #[error("{file}: {source}")]
    Keys {
        /// Which.
        file: String,
        /// Why.
        source: PathKeyError,
    },
}

/// Reads the keys; makes a file with one random key, mode 0600, where there is none.
pub fn load_or_create(file: &Path) -> Result<PathKeys, PathKeyFileError> {
    let name = file.display().to_string();
    let io = |source| PathKeyFileError::Io { file: name.clone(), source };
    if !file.try_exists().map_err(io)? {
        create(file).map_err(io)?;
    }
    let opened = File::open(file).map_err(io)?;
    let facts = opened.metadata().map_err(io)?;
    // Root's group may own the file on systems where secrets are shared that way; "others" may not.
    if facts.mode() & 0o007 != 0 {
        return Err(PathKeyFileError::Readable { file: name, mode: facts.mode() & 0o777 });
    }
    if facts.len() > MOST_BYTES {
        return Err(PathKeyFileError::TooLong { file: name });
    }
    let mut text = String::new();
    opened.take(MOST_BYTES).read_to_string(&mut text).map_err(io)?;
    parse(&text, &name)
}

fn create(file: &Path) -> std::io::Result<()> {
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut key = [0u8; KEY_BYTES];
    crate::random::fill(&mut key)?;
    let mut line = String::from("1 ");
    for byte in key {
        line.push_str(&format!("{byte:02x}"));
    }
    line.push('\n');
    let mut made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?;
    made.write_all(line.as_bytes())?;
    made.sync_all()
}

fn parse(text: &str, file: &str) -> Result<PathKeys, PathKeyFileError> {
    let mut keys = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let fault = |problem| PathKeyFileError::Line {
            file: file.to_owned(),
            line: index.saturating_add(1),
            problem,
        };
        let (id, hex) = line.split_once([' ', '\t']).ok_or_else(|| fault("no blank"))?;
        let id = id.parse::<u8>().map_err(|_| fault("bad id"))?;
        let key = from_hex(hex.trim()).ok_or_else(|| fault("bad hex digits"))?;
        keys.push((id, key));
    }
    PathKeys::new(keys).map_err(|source| PathKeyFileError::Keys { file: file.to_owned(), source })
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok())).collect();
    let (pairs, rest) = digits.as_ref()?.as_chunks::<2>();
    rest.is_empty().then(|| pairs.iter().map(|[high, low]| (high << 4) | low).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn bad_lines_are_refused_with_their_number() {
        let good = "00112233445566778899aabbccddeeff";
        for (text, needle) in [
            (format!("# comment\n\nx {good}"), "keys:3: bad id"),
            (format!("256 {good}"), "keys:1: bad id"),
            (format!("1 {good}0"), "keys:1: bad hex"),
            ("1 zz112233445566778899aabbccddeeff".to_owned(), "keys:1: bad hex"),
            ("1".to_owned(), "keys:1: no blank"),
        ] {
            let error = parse(&text, "keys").err().unwrap().to_string();
            assert!(error.contains(needle), "{text}: {error}");
        }
    }

    #[test]
    fn a_file_that_others_may_read_is_refused() {
        let scratch = Scratch::new();
        let file = scratch.path().join("keys");
        fs::write(&file, "1 00112233445566778899aabbccddeeff\n").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        let error = load_or_create(&file).err().unwrap().to_string();
        assert!(error.contains("mode 644") && error.contains("chmod 600"), "{error}");
    }

    #[test]
    fn a_missing_file_is_made_with_a_random_key_for_its_owner_alone() {
        let scratch = Scratch::new();
        let (one, two) = (scratch.path().join("a/one"), scratch.path().join("two"));
        create(&one).unwrap();
        create(&two).unwrap();
        let text = fs::read_to_string(&one).unwrap();
        assert_eq!(fs::metadata(&one).unwrap().mode() & 0o777, 0o600);
        assert_eq!(text.len(), "1 \n".len() + KEY_BYTES * 2);
        assert_ne!(text, fs::read_to_string(&two).unwrap());
        assert!(create(&one).is_err(), "keys are never overwritten");
    }
}
