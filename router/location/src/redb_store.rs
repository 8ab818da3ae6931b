//! The embedded store: one redb file, every transaction on disk before it is told.

mod repair;
#[cfg(test)]
mod torn_tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{
    Database, Durability, ReadableDatabase as _, ReadableTable as _, TableDefinition, TableError,
};
use viaduct_engine::AorKey;

use crate::record;
use crate::redb_file::{FileFault, RedbFile};
use crate::store::{Record, Store, StoreError, Write, Written};
use crate::table::MAX_TABLE_BYTES;

pub use repair::{Repaired, Verified, repair, verify};

/// Key: length of the table's name in one byte, the name, the AoR. Value: see [`record`].
const BINDINGS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("bindings");
/// Records have a version of their own. Look-ups never come here: the cache serves the writes' tree
/// walks.
const FILE: RedbFile = RedbFile { mark: "format", format: 1, cache_bytes: 64 << 20 };

/// Bindings in one file.
pub struct RedbStore {
    path: PathBuf,
    /// `None` after a failure: the file is opened again for the next group.
    database: Option<Database>,
}

impl RedbStore {
    /// Opens the file or makes it. Checks all of it: a damaged file is refused here, not met later.
    pub fn open(path: impl Into<PathBuf>) -> Result<RedbStore, StoreError> {
        let path = path.into();
        let database = FILE.open_or_create(&path).map_err(|f| StoreError::of_file(&path, f))?;
        Ok(RedbStore { path, database: Some(database) })
    }

    fn write_group(path: &Path, database: &Database, group: &[Write]) -> Result<(), StoreError> {
        let fault = |error: redb::Error| store_error(path, error);
        let mut transaction = database.begin_write().map_err(|error| fault(error.into()))?;
        transaction.set_durability(Durability::Immediate).map_err(|error| fault(error.into()))?;
        {
            let mut table = transaction.open_table(BINDINGS).map_err(|e| fault(e.into()))?;
            let (mut key, mut value) = (Vec::new(), Vec::new());
            for write in group {
                write_key(&write.key, &mut key);
                if write.set.is_empty() {
                    table.remove(key.as_slice()).map_err(|error| fault(error.into()))?;
                    continue;
                }
                value.clear();
                record::encode(&write.set, &mut value);
                table
                    .insert(key.as_slice(), value.as_slice())
                    .map_err(|error| fault(error.into()))?;
            }
        }
        transaction.commit().map_err(|error| fault(error.into()))
    }

    fn read_all(
        path: &Path,
        database: &Database,
        each: &mut dyn FnMut(Record),
    ) -> Result<(), StoreError> {
        let fault = |error: redb::Error| store_error(path, error);
        let transaction = database.begin_read().map_err(|error| fault(error.into()))?;
        let table = match transaction.open_table(BINDINGS) {
            Ok(table) => table,
            Err(TableError::TableDoesNotExist(_)) => return Ok(()),
            Err(error) => return Err(fault(error.into())),
        };
        let mut names: Vec<Arc<str>> = Vec::new();
        for item in table.iter().map_err(|error| fault(error.into()))? {
            let (key, value) = item.map_err(|error| fault(error.into()))?;
            let key = read_key(path, key.value(), &mut names)?;
            match record::decode(value.value()) {
                Ok(set) => each(Record { key, set, revision: 0, exact: true }),
                Err(source) => {
                    return Err(StoreError::Record {
                        path: path.to_owned(),
                        table: key.table.to_string(),
                        aor: String::from_utf8_lossy(&key.aor).into_owned(),
                        source,
                    });
                }
            }
        }
        Ok(())
    }
}

impl Store for RedbStore {
    fn load(&mut self, each: &mut dyn FnMut(Record)) -> Result<(), StoreError> {
        let database = match &self.database {
            Some(database) => database,
            None => self.database.insert(reopen(&self.path)?),
        };
        RedbStore::read_all(&self.path, database, each)
    }

    fn write(&mut self, group: &[Write]) -> Result<Written, StoreError> {
        // After an I/O error redb refuses all work until the file is opened anew. It is not made
        // anew: a file that has gone took acknowledged bindings with it, and that must be seen.
        let database = match self.database.take() {
            Some(database) => database,
            None => reopen(&self.path)?,
        };
        RedbStore::write_group(&self.path, &database, group)?;
        self.database = Some(database);
        Ok(Written::default())
    }
}

fn reopen(path: &Path) -> Result<Database, StoreError> {
    FILE.open(path).map_err(|fault| StoreError::of_file(path, fault))
}

fn write_key(key: &AorKey, out: &mut Vec<u8>) {
    out.clear();
    // The table has refused longer names.
    let name = key.table.as_bytes().get(..MAX_TABLE_BYTES).unwrap_or(key.table.as_bytes());
    out.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
    out.extend_from_slice(name);
    out.extend_from_slice(&key.aor);
}

fn read_key(path: &Path, key: &[u8], names: &mut Vec<Arc<str>>) -> Result<AorKey, StoreError> {
    let parts = key.split_first().and_then(|(length, rest)| {
        let (name, aor) = rest.split_at_checked(usize::from(*length))?;
        Some((std::str::from_utf8(name).ok()?, aor))
    });
    let Some((name, aor)) = parts else {
        return Err(damaged(path, &format!("bad key {:?}", String::from_utf8_lossy(key))));
    };
    let table = match names.iter().find(|known| ***known == *name) {
        Some(known) => Arc::clone(known),
        None => {
            names.push(name.into());
            name.into()
        }
    };
    Ok(AorKey { table, aor: aor.into() })
}

fn damaged(path: &Path, detail: &str) -> StoreError {
    StoreError::of_file(path, FileFault::Damaged(detail.to_owned()))
}

fn store_error(path: &Path, error: redb::Error) -> StoreError {
    StoreError::of_file(path, error.into())
}
