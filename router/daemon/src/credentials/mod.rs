//! Where users and their secrets come from: a file, the router's own store, a database, in this
//! order, and a cache before the last two.
//!
//! The workers look into memory ([`Users`] is the engine's [`Credentials`]) and never wait: who is
//! not there is fetched by tasks of the runtime, and the worker gets mail. A file is in memory as a
//! whole; [`store`] is read on threads that may block, the database is asked through [`postgres`].
//! Several requests for one user make one question.

mod cache;
mod postgres;
pub(crate) mod store;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context;
use parking_lot::{Mutex, RwLock};
use tokio::runtime::Handle;
use viaduct_engine::auth::{Account, Credentials, Known, Secrets};
use viaduct_engine::{Fact, QueryFault, Token};

use crate::config::{AuthConfig, users};
use crate::control::{AuthStatus, Refusal, UserEntry, UserOrder};
use crate::worker::mail::{Address, Mail};
use cache::Cache;
use postgres::Database;
use store::UserStore;

/// Users, shared by all workers.
pub(crate) struct Users {
    /// Those of the file; empty without one.
    file: RwLock<Arc<users::UserTable>>,
    store: Option<Arc<UserStore>>,
    database: Option<Database>,
    cache: Cache,
    runtime: Handle,
    /// Who waits for a question that is under way.
    waiting: Mutex<HashMap<Account, Vec<Asker>>>,
    counts: Counts,
}

/// A parked request.
struct Asker {
    whom: Address,
    token: Token,
}

#[derive(Default)]
struct Counts {
    asked: AtomicU64,
    failed: AtomicU64,
}

impl Users {
    /// Reads the file and prepares the database; a database that is down is no reason not to start.
    pub(crate) fn open(config: &AuthConfig, runtime: Handle) -> anyhow::Result<Arc<Users>> {
        let file = read_file(config)?;
        let store = match &config.users_store {
            Some(path) => Some(Arc::new(UserStore::open(path).context("auth.users_store")?)),
            None => None,
        };
        let database = match &config.postgres {
            Some(postgres) => Some(Database::new(postgres).context("auth.postgres")?),
            None => None,
        };
        Ok(Arc::new(Users {
            file: RwLock::new(file),
            store,
            database,
            cache: Cache::new(&config.cache),
            runtime,
            waiting: Mutex::default(),
            counts: Counts::default(),
        }))
    }

    /// Reads the file again, and forgets what the database said. Where the file is wrong nothing
    /// changes.
    pub(crate) fn reload(&self, config: &AuthConfig) -> anyhow::Result<()> {
        let file = read_file(config)?;
        *self.file.write() = file;
        self.cache.clear();
        if let Some(database) = &self.database {
            database.forget_schema();
        }
        Ok(())
    }

    /// Answers a question by mail. Never blocks.
    pub(crate) fn answer(
        self: &Arc<Users>,
        whom: Address,
        token: Token,
        account: Account,
        unix_ms: u64,
    ) {
        // It may have come into memory since the policy looked.
        let known = match self.get(&account, unix_ms) {
            Known::User(secrets) => Some(Some(secrets)),
            Known::Nobody => Some(None),
            Known::NotInMemory => None,
        };
        if let Some(secrets) = known {
            let result = Ok(Fact::Credentials(account, secrets));
            whom.post_surely(Mail::Answered { token, result });
            return;
        }
        let asker = Asker { whom, token };
        let mut waiting = self.waiting.lock();
        if let Some(others) = waiting.get_mut(&account) {
            return others.push(asker);
        }
        waiting.insert(account.clone(), vec![asker]);
        drop(waiting);
        let users = Arc::clone(self);
        self.runtime.spawn(async move { users.fetch(account, unix_ms).await });
    }

    async fn fetch(&self, account: Account, unix_ms: u64) {
        self.counts.asked.fetch_add(1, Ordering::Relaxed);
        let epoch = self.cache.epoch();
        let result = match self.look_up(&account).await {
            Ok(found) => {
                let secrets = found.map(Arc::new);
                self.cache.put(&account, secrets.clone(), unix_ms, epoch);
                Ok(secrets)
            }
            Err(fault) => {
                // Nothing of the fault is the user's business, and it holds no secret.
                let failed = self.counts.failed.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
                if failed.is_power_of_two() {
                    tracing::warn!(target: "viaduct::auth", failed, "no credentials: {fault:#}");
                }
                Err(QueryFault::Unavailable)
            }
        };
        let askers = self.waiting.lock().remove(&account).unwrap_or_default();
        for Asker { whom, token } in askers {
            let result = result.clone().map(|secrets| Fact::Credentials(account.clone(), secrets));
            whom.post_surely(Mail::Answered { token, result });
        }
    }

    async fn look_up(&self, account: &Account) -> anyhow::Result<Option<Secrets>> {
        if let Some(store) = &self.store {
            let (store, account) = (Arc::clone(store), account.clone());
            let found = self.runtime.spawn_blocking(move || store.find(&account)).await??;
            if found.is_some() {
                return Ok(found);
            }
        }
        match &self.database {
            Some(database) => Ok(database.find(account).await?),
            None => Ok(None),
        }
    }

    /// Users of the store behind one of them, by realm and name. Blocks.
    pub(crate) fn list(
        &self,
        after: Option<&Account>,
        most: usize,
    ) -> Result<Vec<UserEntry>, Refusal> {
        let listed = self.need_store()?.list(after, most);
        let listed = listed.map_err(|fault| Refusal::Failed(fault.to_string()))?;
        Ok(listed.into_iter().map(UserEntry::from).collect())
    }

    /// Changes the store, and makes it count at once. Blocks until it is on disk.
    pub(crate) fn change(&self, account: &Account, order: &UserOrder) -> Result<(), Refusal> {
        let done = change(self.need_store()?, account, order);
        // Also where it failed: what became of it is not known then.
        self.cache.remove(account);
        done
    }

    fn need_store(&self) -> Result<&UserStore, Refusal> {
        let none = "this router keeps no users itself: [auth] users_store names no file";
        self.store.as_deref().ok_or_else(|| Refusal::Conflict(none.to_owned()))
    }

    /// Forgets what is cached of a user, or of all; how many entries went.
    pub(crate) fn flush(&self, account: Option<&Account>) -> usize {
        match account {
            Some(account) => self.cache.remove(account),
            None => self.cache.clear(),
        }
    }

    /// For who looks at a running router.
    pub(crate) fn status(&self) -> AuthStatus {
        let (users, absent) = self.cache.len();
        AuthStatus {
            on: true,
            file_users: self.file.read().len() as u64,
            store_users: self.store.as_ref().and_then(|store| store.len().ok()),
            database: self.database.as_ref().map(Database::describe),
            cached_users: users as u64,
            cached_absent: absent as u64,
            under_way: self.waiting.lock().len() as u64,
            asked: self.counts.asked.load(Ordering::Relaxed),
            failed: self.counts.failed.load(Ordering::Relaxed),
        }
    }
}

/// Carries out an order on a store.
pub(crate) fn change(
    store: &UserStore,
    account: &Account,
    order: &UserOrder,
) -> Result<(), Refusal> {
    let name = format!("{}@{}", account.user, account.realm);
    let (done, otherwise) = match order {
        UserOrder::Add(secrets) => {
            let there = Refusal::Conflict(format!("{name} is there already"));
            (store.add(account, secrets), there)
        }
        UserOrder::Replace(secrets) => (store.replace(account, secrets), absent(&name)),
        UserOrder::Remove => (store.remove(account), absent(&name)),
    };
    match done {
        Ok(true) => Ok(()),
        Ok(false) => Err(otherwise),
        Err(fault) => Err(Refusal::Failed(fault.to_string())),
    }
}

fn absent(name: &str) -> Refusal {
    Refusal::NotFound(format!("there is no user {name} in the store"))
}

impl From<store::Listed> for UserEntry {
    fn from(listed: store::Listed) -> UserEntry {
        let names = listed.algorithms.into_iter().map(|algorithm| algorithm.name().to_owned());
        UserEntry {
            user: listed.account.user.into(),
            realm: listed.account.realm.into(),
            algorithms: names.collect(),
        }
    }
}

fn read_file(config: &AuthConfig) -> anyhow::Result<Arc<users::UserTable>> {
    let table = config.users_file.as_deref().map(users::load).transpose()?;
    Ok(Arc::new(table.unwrap_or_default()))
}

impl Credentials for Users {
    fn get(&self, account: &Account, unix_ms: u64) -> Known {
        if let Some(secrets) = self.file.read().get(account) {
            return Known::User(Arc::clone(secrets));
        }
        if self.store.is_none() && self.database.is_none() {
            return Known::Nobody;
        }
        match self.cache.get(account, unix_ms) {
            Some(Some(secrets)) => Known::User(secrets),
            Some(None) => Known::Nobody,
            None => Known::NotInMemory,
        }
    }
}
