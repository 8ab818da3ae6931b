//! The torture messages and what their indexes say about them.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use toml::{Table, Value};

use crate::octets::{self, Pieces};

/// One message of a collection.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// File name without folders.
    pub(crate) file: String,
    /// A request, by the index; else a response.
    pub(crate) is_request: bool,
    /// Counted by the RFC: not so `test.dat`, which lies in the archive and in no section.
    pub(crate) counted: bool,
    /// Outcomes that agree with the RFC.
    pub(crate) allowed: Vec<String>,
    /// What differs on a stream, in words.
    pub(crate) stream: Option<String>,
    /// The octets.
    pub(crate) octets: Vec<u8>,
}

impl Entry {
    /// Does the index allow this outcome?
    pub(crate) fn allows(&self, outcome: &str) -> bool {
        self.allowed.iter().any(|allowed| allowed == outcome)
    }

    /// The Request-URI as far as it can be made out.
    pub(crate) fn request_uri(&self) -> String {
        let start = octets::text(Pieces::cut(&self.octets).start);
        let after_method = start.split_once(' ').map_or("", |(_, rest)| rest.trim_start());
        after_method.split(" SIP/").next().unwrap_or_default().trim().to_owned()
    }

    /// The AoR the request is for: of To for a REGISTER, else of the Request-URI.
    pub(crate) fn aor(&self) -> Option<(String, String)> {
        if !self.is_request {
            return None;
        }
        if self.is_register() {
            return Pieces::cut(&self.octets).all("to").next().and_then(octets::user_and_host);
        }
        octets::user_and_host(self.request_uri().as_bytes())
    }

    /// Is it a REGISTER?
    pub(crate) fn is_register(&self) -> bool {
        self.octets.starts_with(b"REGISTER ")
    }

    /// Method and topmost Via: what names its transaction (RFC 3261 17.2.3).
    pub(crate) fn transaction(&self) -> Option<Vec<u8>> {
        let pieces = Pieces::cut(&self.octets);
        let via = pieces.all("via").next()?;
        Some([pieces.method()?, b" ", octets::value(via)].concat())
    }
}

/// Where the corpus lies: where `VIADUCT_CORPUS` says, or beside the checkout.
pub(crate) fn folder() -> Result<PathBuf, String> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpus");
    let path = env::var_os("VIADUCT_CORPUS").map_or_else(beside, PathBuf::from);
    if path.is_dir() {
        return Ok(path);
    }
    Err(format!("no torture corpus at {} (set VIADUCT_CORPUS)", path.display()))
}

/// Reads the index `name/index.toml` and its messages.
pub(crate) fn read(folder: &Path, name: &str) -> Result<Vec<Entry>> {
    let folder = folder.join(name);
    let index = folder.join("index.toml");
    let text = fs::read_to_string(&index).with_context(|| index.display().to_string())?;
    let table: Table = text.parse().with_context(|| index.display().to_string())?;
    let messages = table.get("message").and_then(Value::as_array);
    let messages = messages.context("no [[message]] in the index")?;
    messages.iter().map(|message| entry(&folder, message)).collect()
}

fn entry(folder: &Path, message: &Value) -> Result<Entry> {
    let word = |key: &str| message.get(key).and_then(Value::as_str);
    let path = folder.join(word("file").context("a message without a file")?);
    let allowed = message.get("udp").and_then(Value::as_array).context("no udp outcomes")?;
    let allowed = allowed.iter().filter_map(Value::as_str).map(str::to_owned).collect();
    let file = path.file_name().and_then(|name| name.to_str()).context("a file name")?;
    Ok(Entry {
        file: file.to_owned(),
        is_request: word("kind") == Some("request"),
        counted: word("section") != Some("-"),
        allowed,
        stream: word("stream").map(str::to_owned),
        octets: fs::read(&path).with_context(|| path.display().to_string())?,
    })
}
