//! What the location service asks of a store.
//!
//! Fit for an embedded file, for PostgreSQL (one pipelined transaction a group) and for a key-value
//! server (one put with expiry or one remove an item): no reads but at start, one condition (the
//! revision an item was computed from), every item carries all a store needs. A store that several
//! routers share tells each what the others have changed, by a [`Watcher`].

use std::path::{Path, PathBuf};
use std::sync::Arc;

use viaduct_engine::AorKey;
use viaduct_engine::registrar::BindingSet;

use crate::record::RecordError;
use crate::redb_file::FileFault;

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
    /// Revision of the record that `set` was computed from; 0: there was none. A shared store
    /// refuses the item where it has another.
    pub revision: u64,
    /// What the store has at that revision, where that is known: what is the same in `set` need not
    /// be written again.
    pub base: Option<Arc<BindingSet>>,
    /// Items of one number are written together or not at all.
    pub part: u32,
}

impl Write {
    /// A write of the set, or a removal where it is empty; of no revision and no base, in part 0.
    pub fn new(key: AorKey, set: Arc<BindingSet>) -> Write {
        let expires_ms = set.bindings.iter().map(|binding| binding.expires_ms()).max();
        let expires_ms = expires_ms.unwrap_or(0);
        Write { key, set, expires_ms, revision: 0, base: None, part: 0 }
    }
}

/// What a store has of one AoR.
#[derive(Clone, Debug)]
pub struct Record {
    /// Whose.
    pub key: AorKey,
    /// All its bindings; empty: it has none any more.
    pub set: BindingSet,
    /// Grows with every change of any record; 0 in a store that has one writer only.
    pub revision: u64,
    /// `set` is what the store has, binding by binding in its order, as this router would write it:
    /// it may be the `base` of a [`Write`].
    pub exact: bool,
}

/// What became of a group.
#[derive(Clone, Debug, Default)]
pub struct Written {
    /// Revision of all that was written; 0 in a store that has one writer only.
    pub revision: u64,
    /// Parts that were not, because another router came first.
    pub refused: Vec<u32>,
    /// What the store has of their AoRs, as far as it is not what they were computed from.
    pub current: Vec<Record>,
}

/// A store of bindings. Used by one thread; it may block.
pub trait Store: Send {
    /// Calls `each` for every record. Order does not matter.
    fn load(&mut self, each: &mut dyn FnMut(Record)) -> Result<(), StoreError>;

    /// Writes a group: all of it but for what is refused or, on an error, none, and durably when it
    /// returns. Where a key is in a group twice, the later item counts. After an error the next
    /// call tries afresh; what became of the group may then be unknown, and a shared store tells
    /// the watcher when it knows.
    fn write(&mut self, group: &[Write]) -> Result<Written, StoreError>;

    /// This store, if it can begin a group before the one before is on disk.
    fn pipeline(&mut self) -> Option<&mut dyn Pipeline> {
        None
    }

    /// Tells `watcher` from now on what others have changed since [`Store::load`].
    fn watch(&mut self, _watcher: Arc<dyn Watcher>) {}

    /// Do other routers write to it? Then it drops by itself what has expired.
    fn is_shared(&self) -> bool {
        false
    }
}

/// A store whose groups follow each other without a gap: [`Store::write`] in three steps, which is
/// not called while a group is under way.
pub trait Pipeline {
    /// Begins to write a group; no AoR in it may be in one that has not ended.
    fn begin(&mut self, group: Vec<Write>);

    /// Waits until the group begun first waits for nothing but the disk, which is the time to gather
    /// and begin the next; `false` where it has failed.
    fn decided(&mut self) -> bool;

    /// Waits until the group begun first is written, as [`Store::write`] does. Where it fails, one
    /// begun behind it may fail with it, and tells so at its own end.
    fn end(&mut self) -> Result<Written, StoreError>;
}

/// What a list of everything says of its numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AsOf {
    /// The store had all of it at this revision.
    pub revision: u64,
    /// The numbers have gone back since, or are another server's: a record with the number of one that
    /// is known may be another.
    pub renumbered: bool,
}

/// Who is told what other routers change. Called by one thread at a time.
pub trait Watcher: Send + Sync {
    /// A record has changed, possibly one told before.
    fn changed(&self, record: Record);

    /// Everything up to this revision has been told and will not come again, but for what the store
    /// is not sure of.
    fn told(&self, revision: u64);

    /// Everything there is follows, because some changes cannot be told one by one any more.
    fn list_begins(&self, as_of: AsOf);

    /// One record of the list.
    fn listed(&self, record: Record);

    /// That was all: what was not listed is not there.
    fn list_ends(&self);
}

/// Why the store could not do it. Texts name the file and what an operator can do.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file is damaged.
    #[error("{path}: the location store is damaged ({detail}); `viaduct location repair` saves \
             what can be read, or restore it from a backup", path = path.display())]
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
    /// The database cannot be used now, or is no database of ours.
    #[error("PostgreSQL at {at}: {detail}")]
    Database {
        /// Hosts and database, without secrets.
        at: String,
        /// What happened.
        detail: String,
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

impl StoreError {
    /// What is wrong with this file.
    pub(crate) fn of_file(path: &Path, fault: FileFault) -> StoreError {
        let path = path.to_owned();
        match fault {
            FileFault::Damaged(detail) => StoreError::Damaged { path, detail },
            FileFault::InUse => StoreError::InUse { path },
            FileFault::Format { found, known } => StoreError::Format { path, found, known },
            FileFault::Io(source) => StoreError::Io { path, source },
            FileFault::Other(detail) => StoreError::Other { path, detail },
        }
    }
}
