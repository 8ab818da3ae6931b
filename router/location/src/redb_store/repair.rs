//! Looking at a file that may be damaged, and saving from it what can be read.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use redb::{Builder, Database, ReadableDatabase as _, ReadableTable as _};

use super::{BINDINGS, RedbStore, read_key};
use crate::record;
use crate::redb_file::sync_folder;
use crate::store::{Store as _, StoreError, Write};

/// Records of one transaction of a repair.
const GROUP: usize = 4096;

/// What a file holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// AoRs.
    pub aors: usize,
    /// Bindings, expired ones included.
    pub bindings: usize,
}

/// What a repair has done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repaired {
    /// AoRs in the new file.
    pub kept: usize,
    /// Records that were found and could not be read.
    pub unreadable: usize,
    /// A part of the file could not be read at all: nobody knows how many records it had.
    pub cut: bool,
    /// Where the old file is now.
    pub old: PathBuf,
}

/// Checks a whole file, its every record included. It must not be in use.
pub fn verify(path: &Path) -> Result<Verified, StoreError> {
    if !path.exists() {
        let source = std::io::ErrorKind::NotFound.into();
        return Err(StoreError::Io { path: path.to_owned(), source });
    }
    let mut verified = Verified::default();
    RedbStore::open(path)?.load(&mut |record| {
        verified.aors += 1;
        verified.bindings += record.set.len();
    })?;
    Ok(verified)
}

/// Writes what can be read into a new file under the same name; the old one is kept beside it.
pub fn repair(path: &Path) -> Result<Repaired, StoreError> {
    let io = |source| StoreError::Io { path: path.to_owned(), source };
    let mut draft = path.as_os_str().to_owned();
    draft.push(".repaired");
    let draft = PathBuf::from(draft);
    let _ = std::fs::remove_file(&draft); // of a repair that was broken off
    let mut new = RedbStore::open(&draft)?;
    let mut saved = Saved { new: &mut new, group: Vec::new(), kept: 0, unreadable: 0 };
    // What redb does not foresee in a damaged file is a panic.
    let read = catch_unwind(AssertUnwindSafe(|| salvage(path, &mut saved)));
    saved.flush()?;
    let (kept, unreadable) = (saved.kept, saved.unreadable);
    drop(new);
    let cut = match read {
        Ok(Ok(cut)) => cut,
        Ok(Err(fault @ (StoreError::InUse { .. } | StoreError::Io { .. }))) => {
            let _ = std::fs::remove_file(&draft);
            return Err(fault);
        }
        Ok(Err(_)) | Err(_) => true,
    };
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut old = path.as_os_str().to_owned();
    old.push(format!(".damaged-{}", since.as_secs()));
    let old = PathBuf::from(old);
    std::fs::rename(path, &old).map_err(io)?;
    std::fs::rename(&draft, path).map_err(io)?;
    sync_folder(path).map_err(io)?;
    Ok(Repaired { kept, unreadable, cut, old })
}

/// The new file, filled group by group.
struct Saved<'a> {
    new: &'a mut RedbStore,
    group: Vec<Write>,
    kept: usize,
    unreadable: usize,
}

impl Saved<'_> {
    fn take(&mut self, path: &Path, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        let key = read_key(path, key, &mut Vec::new());
        let (Ok(key), Ok(set)) = (key, record::decode(value)) else {
            self.unreadable += 1;
            return Ok(());
        };
        self.group.push(Write::new(key, set.into()));
        self.kept += 1;
        if self.group.len() >= GROUP { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        self.new.write(&self.group)?;
        self.group.clear();
        Ok(())
    }
}

/// Reads from the front up to what cannot be read, then from the back; was there such a part?
fn salvage(path: &Path, saved: &mut Saved<'_>) -> Result<bool, StoreError> {
    let fault = |error: redb::Error| super::store_error(path, error);
    let database: Database =
        Builder::new().open(path).map_err(|error| StoreError::of_file(path, error.into()))?;
    let transaction = database.begin_read().map_err(|error| fault(error.into()))?;
    let table = transaction.open_table(BINDINGS).map_err(|error| fault(error.into()))?;
    let mut last = Vec::new();
    let mut broken = false;
    for item in table.iter().map_err(|error| fault(error.into()))? {
        let Ok((key, value)) = item else {
            broken = true;
            break;
        };
        saved.take(path, key.value(), value.value())?;
        key.value().clone_into(&mut last);
    }
    if broken {
        for item in table.iter().map_err(|error| fault(error.into()))?.rev() {
            let Ok((key, value)) = item else { break };
            if key.value() <= &*last {
                break;
            }
            saved.take(path, key.value(), value.value())?;
        }
    }
    Ok(broken)
}
