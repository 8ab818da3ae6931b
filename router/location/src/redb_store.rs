//! The embedded store: one redb file, every transaction on disk before it is told.

mod repair;
#[cfg(test)]
mod torn_tests;

use std::fs::File;
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{
    Builder, Database, DatabaseError, Durability, ReadableDatabase as _, ReadableTable as _,
    StorageError, TableDefinition, TableError,
};
use viaduct_engine::AorKey;

use crate::record;
use crate::store::{Record, Store, StoreError, Write, Written};
use crate::table::MAX_TABLE_BYTES;

pub use repair::{Repaired, Verified, repair, verify};

/// Key: length of the table's name in one byte, the name, the AoR. Value: see [`record`].
const BINDINGS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("bindings");
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// Layout of keys and tables; records have a version of their own.
const FORMAT: u64 = 1;
/// Pages kept in memory, bytes. Look-ups never come here: this serves the writes' tree walks.
const CACHE_BYTES: usize = 64 << 20;

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
        if !path.exists() {
            create_file(&path)?;
        }
        let database = open_file(&path)?;
        check_format(&path, &database)?;
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
                Ok(set) => each(Record { key, set, revision: 0 }),
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
            None => self.database.insert(open_file(&self.path)?),
        };
        RedbStore::read_all(&self.path, database, each)
    }

    fn write(&mut self, group: &[Write]) -> Result<Written, StoreError> {
        // After an I/O error redb refuses all work until the file is opened anew. It is not made
        // anew: a file that has gone took acknowledged bindings with it, and that must be seen.
        let database = match self.database.take() {
            Some(database) => database,
            None => open_file(&self.path)?,
        };
        RedbStore::write_group(&self.path, &database, group)?;
        self.database = Some(database);
        Ok(Written::default())
    }
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
    builder
}

fn open_file(path: &Path) -> Result<Database, StoreError> {
    // redb promises errors for damage it checks for; what it does not foresee is damage as well.
    match catch_unwind(AssertUnwindSafe(|| builder().open(path))) {
        Ok(Ok(database)) => Ok(database),
        Ok(Err(error)) => Err(open_error(path, error)),
        Err(_) => Err(damaged(path, "it cannot be read at all")),
    }
}

/// Makes an empty store beside its place and moves it there when it is whole, so that no crash
/// leaves half a file under the name.
fn create_file(path: &Path) -> Result<(), StoreError> {
    let io = |source| StoreError::Io { path: path.to_owned(), source };
    let fault = |error: redb::Error| store_error(path, error);
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = Path::new(&beside);
    match std::fs::remove_file(beside) {
        Err(source) if source.kind() != ErrorKind::NotFound => return Err(io(source)),
        _ => {}
    }
    let database = builder().create(beside).map_err(|error| open_error(path, error))?;
    let transaction = database.begin_write().map_err(|error| fault(error.into()))?;
    {
        let mut meta = transaction.open_table(META).map_err(|error| fault(error.into()))?;
        meta.insert("format", FORMAT).map_err(|error| fault(error.into()))?;
    }
    transaction.commit().map_err(|error| fault(error.into()))?;
    database.close().map_err(|error| open_error(path, error))?;
    std::fs::rename(beside, path).map_err(io)?;
    sync_folder(path)
}

/// Refuses a file of another format.
fn check_format(path: &Path, database: &Database) -> Result<(), StoreError> {
    let fault = |error: redb::Error| store_error(path, error);
    let transaction = database.begin_read().map_err(|error| fault(error.into()))?;
    let meta = match transaction.open_table(META) {
        Ok(meta) => meta,
        Err(TableError::TableDoesNotExist(_)) => {
            return Err(damaged(path, "it is not a location store"));
        }
        Err(error) => return Err(fault(error.into())),
    };
    match meta.get("format").map_err(|error| fault(error.into()))?.map(|found| found.value()) {
        Some(FORMAT) => Ok(()),
        Some(found) => Err(StoreError::Format { path: path.to_owned(), found, known: FORMAT }),
        None => Err(damaged(path, "it does not say its format")),
    }
}

/// A new file's name is on disk only with its folder (fsync(2)).
fn sync_folder(path: &Path) -> Result<(), StoreError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|source| StoreError::Io { path: path.to_owned(), source })
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
    StoreError::Damaged { path: path.to_owned(), detail: detail.to_owned() }
}

fn open_error(path: &Path, error: DatabaseError) -> StoreError {
    let path = path.to_owned();
    match error {
        DatabaseError::DatabaseAlreadyOpen => StoreError::InUse { path },
        DatabaseError::Storage(StorageError::Io(source))
            if matches!(source.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof) =>
        {
            StoreError::Damaged { path, detail: source.to_string() }
        }
        DatabaseError::Storage(error) => store_error(&path, error.into()),
        other => StoreError::Other { path, detail: other.to_string() },
    }
}

fn store_error(path: &Path, error: redb::Error) -> StoreError {
    let path = path.to_owned();
    match error {
        redb::Error::Io(source) => StoreError::Io { path, source },
        redb::Error::Corrupted(detail) => StoreError::Damaged { path, detail },
        other => StoreError::Other { path, detail: other.to_string() },
    }
}
