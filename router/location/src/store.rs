//! What the location service asks of a store.
//!
//! Fit for an embedded file, for PostgreSQL (one transaction or one pipelined batch a group) and
//! for a key-value server (one put with expiry or one remove an item): no reads but at start, no
//! conditions, every item carries all a store needs.

use std::path::PathBuf;
use std::sync::Arc;

use viaduct_engine::AorKey;
use viaduct_engine::registrar::BindingSet;

use crate::record::RecordError;

/// One AoR's new content.
#[derive(Clone, Debug)]
pub struct Write {
    /// Whose.
    pub key: AorKey,
    /// All its bindings; empty: remove the record.
    pub set: Arc<BindingSet>,
    /// When the last binding expires, milliseconds since 1970: a store that can may drop the record
    /// by itself from then on. 0 where `set` is empty.
    pub expires_ms: u64,
}

impl Write {
    /// A write of the set, or a removal where it is empty.
    pub fn new(key: AorKey, set: Arc<BindingSet>) -> Write {
        let expires_ms = set.bindings.iter().map(|binding| binding.expires_ms()).max();
        Write { key, set, expires_ms: expires_ms.unwrap_or(0) }
    }
}

/// A store of bindings. Used by one thread; it may block.
pub trait Store: Send {
    /// Calls `each` for every record. Order does not matter.
    fn load(&mut self, each: &mut dyn FnMut(AorKey, BindingSet)) -> Result<(), StoreError>;

    /// Writes a group: all of it or, on an error, none, and durably when it returns. Where a key
    /// is in a group twice, the later item counts. After an error the next call tries afresh.
    fn write(&mut self, group: &[Write]) -> Result<(), StoreError>;
}

/// Why the store could not do it. Texts name the file and what an operator can do.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file is damaged.
    #[error("{path}: the location store is damaged ({detail}); move it away to start empty, or \
             restore it from a backup", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        detail: String,
    },
    /// A record cannot be read.
    #[error("{path}: record of `{aor}` in table `{table}`: {source}", path = path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// Table of the record, as far as it can be read.
        table: String,
        /// AoR of the record, as far as it can be read.
        aor: String,
        /// What is wrong with it.
        source: RecordError,
    },
    /// Another process has it open.
    #[error("{path}: the location store is in use by another process", path = path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// Written by an incompatible version.
    #[error("{path}: the location store has format {found}, this version reads format {known}",
            path = path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Format of the file.
        found: u64,
        /// Format of this version.
        known: u64,
    },
    /// The system refused: no permission, read-only, disk full, ...
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Anything else a store may meet.
    #[error("{path}: {detail}", path = path.display())]
    Other {
        /// The file.
        path: PathBuf,
        /// What happened.
        detail: String,
    },
}
