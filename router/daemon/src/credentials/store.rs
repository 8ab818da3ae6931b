//! Users in a file of the router's own, which it changes while it runs.
//!
//! Key: realm, a zero byte, name. Value: what [`encode`] writes, hashes of name, realm and password
//! only. Every change is on disk before it is told.

use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use redb::{
    Database, Durability, ReadableDatabase as _, ReadableTable as _, ReadableTableMetadata,
};
use redb::{TableDefinition, TableError};
use viaduct_engine::auth::digest::Hash;
use viaduct_engine::auth::{Account, Algorithm, Secrets};
use viaduct_location::{FileFault, RedbFile};

const USERS: TableDefinition<'_, &[u8], &str> = TableDefinition::new("users");
const FILE: RedbFile = RedbFile { mark: "users format", format: 1, cache_bytes: 8 << 20 };

/// Why the file of users cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{path}: the store of users {fault}", path = path.display())]
pub(crate) struct StoreFault {
    path: PathBuf,
    fault: Trouble,
}

/// In words that say what to do.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("is in use by another process")]
    InUse,
    #[error("is damaged ({0}); restore it from a backup, or move it away and add the users again")]
    Damaged(String),
    #[error("cannot be read or written: {0}")]
    File(FileFault),
}

/// The file.
pub(crate) struct UserStore {
    path: PathBuf,
    /// `None` after a failure: it is opened again for the next question.
    database: Mutex<Option<Database>>,
}

/// A user as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) account: Account,
    /// For which a hash is there.
    pub(crate) algorithms: Vec<Algorithm>,
}

impl UserStore {
    /// Opens the file or makes it, readable by its owner only.
    pub(crate) fn open(path: &Path) -> Result<UserStore, StoreFault> {
        let database = FILE.open_or_create(path).map_err(|fault| told(path, fault))?;
        Ok(UserStore { path: path.to_owned(), database: Mutex::new(Some(database)) })
    }

    /// A user's secrets.
    pub(crate) fn find(&self, account: &Account) -> Result<Option<Secrets>, StoreFault> {
        self.with(|database| {
            let Some(table) = read_table(database)? else { return Ok(None) };
            let value = table.get(key(account).as_slice()).map_err(broken)?;
            value.map(|value| decode(account, value.value())).transpose()
        })
    }

    /// Adds a user; `false`, and nothing changed, where there is one of that name.
    pub(crate) fn add(&self, account: &Account, secrets: &Secrets) -> Result<bool, StoreFault> {
        self.change(account, |there| if there { None } else { Some(Some(encode(secrets))) })
    }

    /// Gives a user other secrets; `false` where there is no such user.
    pub(crate) fn replace(&self, account: &Account, secrets: &Secrets) -> Result<bool, StoreFault> {
        self.change(account, |there| if there { Some(Some(encode(secrets))) } else { None })
    }

    /// Removes a user; `false` where there is no such user.
    pub(crate) fn remove(&self, account: &Account) -> Result<bool, StoreFault> {
        self.change(account, |there| if there { Some(None) } else { None })
    }

    /// At most `most` users behind `after`, by realm and name.
    pub(crate) fn list(
        &self,
        after: Option<&Account>,
        most: usize,
    ) -> Result<Vec<Listed>, StoreFault> {
        let from = after.map(key).unwrap_or_default();
        self.with(|database| {
            let Some(table) = read_table(database)? else { return Ok(Vec::new()) };
            let mut found = Vec::new();
            for item in table.range(from.as_slice()..).map_err(broken)? {
                let (found_key, value) = item.map_err(broken)?;
                if after.is_some() && found_key.value() == from {
                    continue;
                }
                if found.len() >= most {
                    break;
                }
                let account = account_of(found_key.value())?;
                let secrets = decode(&account, value.value())?;
                let algorithms = Algorithm::ALL.into_iter();
                let algorithms = algorithms.filter(|a| secrets.get(*a).is_some()).collect();
                found.push(Listed { account, algorithms });
            }
            Ok(found)
        })
    }

    /// How many users there are.
    pub(crate) fn len(&self) -> Result<u64, StoreFault> {
        self.with(|database| match read_table(database)? {
            Some(table) => table.len().map_err(broken),
            None => Ok(0),
        })
    }

    /// `decide` knows whether the user is there and says what is to be: `None`: no change;
    /// `Some(None)`: no such user.
    fn change(
        &self,
        account: &Account,
        decide: impl FnOnce(bool) -> Option<Option<String>>,
    ) -> Result<bool, StoreFault> {
        let key = key(account);
        self.with(|database| {
            let mut transaction = database.begin_write().map_err(broken)?;
            transaction.set_durability(Durability::Immediate).map_err(broken)?;
            {
                let mut table = transaction.open_table(USERS).map_err(broken)?;
                let there = table.get(key.as_slice()).map_err(broken)?.is_some();
                match decide(there) {
                    None => return Ok(false),
                    Some(Some(value)) => {
                        table.insert(key.as_slice(), value.as_str()).map_err(broken)?;
                    }
                    Some(None) => drop(table.remove(key.as_slice()).map_err(broken)?),
                }
            }
            transaction.commit().map_err(broken)?;
            Ok(true)
        })
    }

    /// After an I/O error redb refuses all work until the file is opened anew. It is not made anew:
    /// a file that has gone took its users with it, and that must be seen.
    fn with<T>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, FileFault>,
    ) -> Result<T, StoreFault> {
        let mut place = self.database.lock();
        let opened = match place.take() {
            Some(database) => Ok(database),
            None => FILE.open(&self.path),
        };
        let done = opened.and_then(|database| {
            let done = work(&database)?;
            *place = Some(database);
            Ok(done)
        });
        done.map_err(|fault| told(&self.path, fault))
    }
}

fn told(path: &Path, fault: FileFault) -> StoreFault {
    let fault = match fault {
        FileFault::InUse => Trouble::InUse,
        FileFault::Damaged(detail) => Trouble::Damaged(detail),
        other => Trouble::File(other),
    };
    StoreFault { path: path.to_owned(), fault }
}

fn broken(error: impl Into<redb::Error>) -> FileFault {
    error.into().into()
}

type Table = redb::ReadOnlyTable<&'static [u8], &'static str>;

/// `None`: nobody was ever added.
fn read_table(database: &Database) -> Result<Option<Table>, FileFault> {
    let transaction = database.begin_read().map_err(broken)?;
    match transaction.open_table(USERS) {
        Ok(table) => Ok(Some(table)),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(broken(error)),
    }
}

fn key(account: &Account) -> Vec<u8> {
    [account.realm.as_bytes(), b"\0", account.user.as_bytes()].concat()
}

fn account_of(key: &[u8]) -> Result<Account, FileFault> {
    let text = std::str::from_utf8(key).ok();
    let (realm, user) = text
        .and_then(|text| text.split_once('\0'))
        .ok_or_else(|| FileFault::Damaged(format!("bad key {:?}", String::from_utf8_lossy(key))))?;
    Ok(Account { realm: realm.into(), user: user.into() })
}

/// `MD5=... SHA-256=...`: H(A1) of RFC 7616 3.4.2 in hexadecimal digits, those that are known.
fn encode(secrets: &Secrets) -> String {
    let mut out = String::new();
    for algorithm in Algorithm::ALL {
        if let Some(hash) = secrets.get(algorithm) {
            let hex = hash.to_hex();
            let gap = if out.is_empty() { "" } else { " " };
            let digits = String::from_utf8_lossy(hex.as_ref());
            out.push_str(&format!("{gap}{}={digits}", algorithm.name()));
        }
    }
    out
}

fn decode(account: &Account, text: &str) -> Result<Secrets, FileFault> {
    let mut secrets = Secrets::default();
    for part in text.split(' ') {
        let read = part.split_once('=').and_then(|(name, hex)| {
            let algorithm = Algorithm::from_name(name.as_bytes())?;
            Some((algorithm, Hash::from_hex(algorithm, hex)?))
        });
        // The text is a secret.
        let (algorithm, hash) = read.ok_or_else(|| {
            FileFault::Damaged(format!("the hashes of {}@{}", account.user, account.realm))
        })?;
        secrets.set(algorithm, hash);
    }
    Ok(secrets)
}

#[cfg(test)]
mod tests;
