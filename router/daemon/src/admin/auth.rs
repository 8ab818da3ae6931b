//! The bearer token.

use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Shortest token, characters.
const SHORTEST: usize = 16;
/// Longest token file that is read, bytes.
const MOST_BYTES: u64 = 4096;

/// A token from a file.
#[derive(Clone)]
pub struct Token(Box<[u8]>);

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// TCP without a token.
    #[error("the admin API over TCP needs admin.token_file")]
    Missing,
    /// The file cannot be read.
    #[error("token file {file}: {source}")]
    Io {
        /// Which.
        file: String,
        /// Why.
        source: std::io::Error,
    },
    /// Others may read it.
    #[error("token file {file}: mode {mode:03o} lets others read it; chmod 600 it")]
    Readable {
        /// Which.
        file: String,
        /// Permission bits.
        mode: u32,
    },
    /// The first line is no token.
    #[error("token file {0}: the first line must be {SHORTEST} or more visible ASCII characters")]
    Unfit(String),
}

impl Token {
    /// Reads the first line of a file that others may not read.
    pub fn load(file: &Path) -> Result<Token, TokenError> {
        let name = file.display().to_string();
        let io = |source| TokenError::Io { file: name.clone(), source };
        let opened = fs::File::open(file).map_err(io)?;
        let mode = opened.metadata().map_err(io)?.mode() & 0o777;
        if mode & 0o007 != 0 {
            return Err(TokenError::Readable { file: name, mode });
        }
        let mut text = String::new();
        opened.take(MOST_BYTES).read_to_string(&mut text).map_err(io)?;
        let token = text.lines().next().unwrap_or("").trim();
        if token.len() < SHORTEST || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(TokenError::Unfit(name));
        }
        Ok(Token(token.as_bytes().into()))
    }

    /// Does the value of an Authorization header carry this token? Takes as long for a wrong token
    /// as for the right one; only the length can be told from the time.
    pub(super) fn admits(&self, authorization: Option<&[u8]>) -> bool {
        let Some(given) = authorization.and_then(bearer) else {
            return false;
        };
        if given.len() != self.0.len() {
            return false;
        }
        let mut differing = 0u8;
        for (a, b) in given.iter().zip(self.0.iter()) {
            // black_box keeps the compiler from ending the loop at the first difference.
            differing = std::hint::black_box(differing | (a ^ b));
        }
        differing == 0
    }

    /// The token for a client's request.
    pub fn as_text(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("")
    }
}

/// The token in `Bearer TOKEN`; the scheme's name has no case (RFC 9110 11.1).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| rest.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn only_the_whole_token_is_admitted() {
        let token = Token(b"0123456789abcdef".as_slice().into());
        assert!(token.admits(Some(b"Bearer 0123456789abcdef")));
        assert!(token.admits(Some(b"bearer  0123456789abcdef ")));
        for wrong in [
            &b"Bearer 0123456789abcdeF"[..],
            b"Bearer 0123456789abcde",
            b"Bearer 0123456789abcdef0",
            b"Basic 0123456789abcdef",
            b"Bearer",
            b"",
        ] {
            assert!(!token.admits(Some(wrong)), "{}", String::from_utf8_lossy(wrong));
        }
        assert!(!token.admits(None));
    }

    #[test]
    fn a_token_file_is_long_enough_and_private() {
        let scratch = Scratch::new();
        let file = scratch.path().join("token");
        let write = |text: &str, mode| {
            fs::write(&file, text).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            Token::load(&file)
        };
        assert!(matches!(write("short\n", 0o600), Err(TokenError::Unfit(_))));
        assert!(matches!(write("0123456789abcdef", 0o644), Err(TokenError::Readable { .. })));
        assert_eq!(write("0123456789abcdef\nmore\n", 0o600).ok().unwrap().as_text().len(), 16);
    }
}
