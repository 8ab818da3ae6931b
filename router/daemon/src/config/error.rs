//! What is wrong with a configuration: file, line, key, problem, and what is allowed.

use std::fmt::{self, Write as _};
use std::path::{Path, PathBuf};

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Line in the file, from 1.
    pub line: usize,
    /// Full name of the key, `limits.headers` or `listen[2].address`; empty where no key is to
    /// blame.
    pub key: String,
    /// What is wrong.
    pub problem: String,
    /// What would be right; empty where the problem says it.
    pub allowed: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.key.is_empty() {
            write!(out, "`{}` ", OneLine(&self.key))?;
        }
        write!(out, "{}", OneLine(&self.problem))?;
        if !self.allowed.is_empty() {
            write!(out, "; allowed: {}", OneLine(&self.allowed))?;
        }
        Ok(())
    }
}

/// A text whose control characters are written as escapes: a key in quotes can hold any, and a
/// terminal would obey them.
struct OneLine<'a>(&'a str);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for char in self.0.chars() {
            if char.is_control() {
                write!(out, "{}", char.escape_default())?;
            } else {
                out.write_char(char)?;
            }
        }
        Ok(())
    }
}

/// Everything wrong with one file, in the order of its lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors {
    /// The file.
    pub file: PathBuf,
    /// At least one.
    pub errors: Vec<ConfigError>,
}

impl ConfigErrors {
    pub(crate) fn new(file: &Path, mut errors: Vec<ConfigError>) -> ConfigErrors {
        errors.sort_by_key(|error| error.line);
        ConfigErrors { file: file.to_owned(), errors }
    }
}

impl std::error::Error for ConfigErrors {}

/// One line an error, `FILE:LINE: ...`, the form editors jump to.
impl fmt::Display for ConfigErrors {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.errors.iter().enumerate() {
            if index > 0 {
                out.write_str("\n")?;
            }
            write!(out, "{}:{}: {error}", self.file.display(), error.line)?;
        }
        Ok(())
    }
}
