//! Files of the embedded database: made whole or not at all, checked when they are opened, and
//! marked with what they are for.

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use redb::{
    Builder, Database, DatabaseError, ReadableDatabase as _, StorageError, TableDefinition,
    TableError, backends::FileBackend,
};

pub(crate) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// Such files are the router's own business.
const FILE_MODE: u32 = 0o600;

/// A kind of file.
#[derive(Clone, Copy, Debug)]
pub struct RedbFile {
    /// What tells this kind from others: key of the table `meta`.
    pub mark: &'static str,
    /// Layout of keys and tables.
    pub format: u64,
    /// Pages kept in memory, bytes.
    pub cache_bytes: usize,
}

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileFault {
    /// Its content does not fit.
    #[error("damaged ({0})")]
    Damaged(String),
    /// Another process has it open.
    #[error("in use by another process")]
    InUse,
    /// Written by an incompatible version.
    #[error("has format {found}, this version reads format {known}")]
    Format {
        /// Format of the file.
        found: u64,
        /// Format of this version.
        known: u64,
    },
    /// The system refused: no permission, read-only, disk full, ...
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

impl RedbFile {
    /// Opens the file or makes it. Checks all of it: a damaged file is refused here, not met later.
    pub fn open_or_create(&self, path: &Path) -> Result<Database, FileFault> {
        if !path.exists() {
            self.create(path)?;
        }
        let database = self.open(path)?;
        self.check_format(&database)?;
        Ok(database)
    }

    /// Opens a file that is there, and checks all of it.
    pub fn open(&self, path: &Path) -> Result<Database, FileFault> {
        // redb promises errors for damage it checks for; what it does not foresee is damage too.
        match catch_unwind(AssertUnwindSafe(|| self.builder().open(path))) {
            Ok(opened) => Ok(opened?),
            Err(_) => Err(FileFault::Damaged("it cannot be read at all".to_owned())),
        }
    }

    pub(crate) fn builder(&self) -> Builder {
        let mut builder = Builder::new();
        builder.set_cache_size(self.cache_bytes).set_check_integrity_on_open(true);
        builder
    }

    /// Makes an empty file beside its place and moves it there when it is whole, so that no crash
    /// leaves half a file under the name.
    fn create(&self, path: &Path) -> Result<(), FileFault> {
        let mut beside = path.as_os_str().to_owned();
        beside.push(".new");
        let beside = Path::new(&beside);
        match std::fs::remove_file(beside) {
            Err(source) if source.kind() != ErrorKind::NotFound => return Err(source.into()),
            _ => {}
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(FILE_MODE);
        let database =
            self.builder().create_with_backend(FileBackend::new(options.open(beside)?)?)?;
        let fault = |error: redb::Error| FileFault::from(error);
        let transaction = database.begin_write().map_err(|error| fault(error.into()))?;
        {
            let mut meta = transaction.open_table(META).map_err(|error| fault(error.into()))?;
            meta.insert(self.mark, self.format).map_err(|error| fault(error.into()))?;
        }
        transaction.commit().map_err(|error| fault(error.into()))?;
        database.close()?;
        std::fs::rename(beside, path)?;
        Ok(sync_folder(path)?)
    }

    /// Refuses a file of another kind or format.
    fn check_format(&self, database: &Database) -> Result<(), FileFault> {
        let fault = |error: redb::Error| FileFault::from(error);
        let transaction = database.begin_read().map_err(|error| fault(error.into()))?;
        let meta = match transaction.open_table(META) {
            Ok(meta) => meta,
            Err(TableError::TableDoesNotExist(_)) => {
                return Err(FileFault::Damaged("it is not a store of this router".to_owned()));
            }
            Err(error) => return Err(fault(error.into())),
        };
        let found = meta.get(self.mark).map_err(|error| fault(error.into()))?;
        match found.map(|found| found.value()) {
            Some(found) if found == self.format => Ok(()),
            Some(found) => Err(FileFault::Format { found, known: self.format }),
            None => Err(FileFault::Damaged("it does not say its format".to_owned())),
        }
    }
}

/// A new file's name is on disk only with its folder (fsync(2)).
pub(crate) fn sync_folder(path: &Path) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new("."))).and_then(|folder| folder.sync_all())
}

impl From<DatabaseError> for FileFault {
    fn from(error: DatabaseError) -> FileFault {
        match error {
            DatabaseError::DatabaseAlreadyOpen => FileFault::InUse,
            DatabaseError::Storage(StorageError::Io(source))
                if matches!(source.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof) =>
            {
                FileFault::Damaged(source.to_string())
            }
            DatabaseError::Storage(error) => redb::Error::from(error).into(),
            other => FileFault::Other(other.to_string()),
        }
    }
}

impl From<redb::Error> for FileFault {
    fn from(error: redb::Error) -> FileFault {
        match error {
            redb::Error::Io(source) => FileFault::Io(source),
            redb::Error::Corrupted(detail) => FileFault::Damaged(detail),
            other => FileFault::Other(other.to_string()),
        }
    }
}
