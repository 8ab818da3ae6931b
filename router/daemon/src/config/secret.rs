//! Files and variables that hold secrets.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};

/// Longest secret, bytes.
const MOST_BYTES: u64 = 65_536;

/// Where a secret is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// The content of a file.
    File(PathBuf),
    /// A variable of the environment.
    Variable(String),
}

impl SecretSource {
    /// The secret.
    pub fn read(&self) -> anyhow::Result<String> {
        match self {
            SecretSource::File(file) => {
                read(file, MOST_BYTES).map_err(|problem| anyhow!("{}: {problem}", file.display()))
            }
            SecretSource::Variable(name) => {
                std::env::var(name).ok().with_context(|| format!("{self} is not set, or no text"))
            }
        }
    }
}

impl fmt::Display for SecretSource {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SecretSource::File(file) => write!(out, "{}", file.display()),
            SecretSource::Variable(name) => write!(out, "the environment variable {name}"),
        }
    }
}

/// Reads a file that nobody but its owner and group may read; else what is wrong with it.
pub(crate) fn read(file: &Path, most_bytes: u64) -> Result<String, String> {
    let io = |fault: std::io::Error| format!("cannot be read: {fault}");
    let opened = File::open(file).map_err(io)?;
    let facts = opened.metadata().map_err(io)?;
    if facts.mode() & 0o007 != 0 {
        let mode = facts.mode() & 0o777;
        return Err(format!("mode {mode:03o} lets others read secrets; chmod 600 it"));
    }
    if facts.len() > most_bytes {
        return Err(format!("longer than {most_bytes} bytes"));
    }
    let mut text = String::new();
    opened.take(most_bytes).read_to_string(&mut text).map_err(io)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::make_private;
    use crate::scratch::Scratch;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_secret_that_others_may_read_is_none() {
        let scratch = Scratch::new();
        let file = scratch.path().join("url");
        std::fs::write(&file, "secret\n").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
        let source = SecretSource::File(file.clone());
        let fault = source.read().unwrap_err().to_string();
        assert!(fault.contains("mode 644") && fault.contains("url"), "{fault}");
        make_private(&file);
        assert_eq!(source.read().unwrap(), "secret\n");
        assert!(read(&file, 3).unwrap_err().contains("longer"));
    }

    #[test]
    fn a_variable_that_is_not_set_is_named() {
        let source = SecretSource::Variable("VIADUCT_NO_SUCH_VARIABLE".into());
        assert!(source.read().unwrap_err().to_string().contains("VIADUCT_NO_SUCH_VARIABLE"));
    }
}
