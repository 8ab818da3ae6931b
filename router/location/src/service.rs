//! The location service as the daemon holds it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use viaduct_engine::registrar::{self, BindingSet, Bindings};
use viaduct_engine::{AorKey, Change, CommitFault, Location, Snapshot};

use crate::commit::{Begun, Job, Queue, Tally, begin};
use crate::committer::Committer;
use crate::expiry::Expired;
use crate::health::{Health, Trouble};
use crate::inbox::Inbox;
use crate::nodes::{Live, Nodes};
use crate::postgres::{PostgresConfig, PostgresStore};
use crate::redb_store::RedbStore;
use crate::store::{Record, Store, StoreError, Write};
use crate::table::{Limits, MAX_TABLE_BYTES, SHARDS, Table};

/// Attempts of [`LocationService::remove`] against changes that come in between.
const REMOVE_ATTEMPTS: usize = 16;

/// What an acknowledged change survives.
#[derive(Clone, Debug)]
pub enum Mode {
    /// Nothing: bindings end with the process.
    Memory,
    /// A crash: acknowledged means stored.
    WriteThrough(Backend),
    /// A stop, and a crash but for what was acknowledged in the last so much time: stored later.
    WriteBack(Backend, Duration),
}

/// Where bindings are stored.
#[derive(Clone, Debug)]
pub enum Backend {
    /// One file. Made where it is not there; its folder must exist.
    File(PathBuf),
    /// A database, possibly shared with other routers.
    Postgres(Box<PostgresConfig>),
}

/// How a location service is made.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where bindings live.
    pub mode: Mode,
    /// AoRs in all tables together.
    pub max_aors: usize,
    /// Bindings in all tables together.
    pub max_bindings: usize,
    /// Bindings of one AoR.
    pub max_bindings_per_aor: usize,
    /// Changes that may wait for the store; more are refused with [`CommitFault::Store`].
    pub queue: usize,
    /// Acknowledge changes although the store cannot take them, and store them when it can: a crash
    /// before that loses them. Otherwise they are refused with [`CommitFault::Store`].
    pub accept_when_down: bool,
    /// Start also where the database cannot be reached, with no bindings; they are loaded when it
    /// can. What is wrong for good, such as a password, refuses the start all the same.
    pub start_without_store: bool,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            mode: Mode::Memory,
            accept_when_down: false,
            start_without_store: false,
            max_aors: 1_000_000,
            max_bindings: 2_000_000,
            max_bindings_per_aor: 64,
            queue: 65_536,
        }
    }
}

/// Why a location service cannot start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The store cannot be opened or read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The system gives no thread.
    #[error("cannot start the store thread: {0}")]
    Thread(std::io::Error),
}

/// Sizes and counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// AoRs in memory.
    pub aors: usize,
    /// Bindings in memory, expired ones not yet removed included.
    pub bindings: usize,
    /// Memory they take, bytes, without what the allocator and spare room in hash tables add.
    pub memory_bytes: usize,
    /// Changes waiting for the store.
    pub queued: usize,
    /// AoRs whose newest bindings were acknowledged and are not stored yet.
    pub unsaved: usize,
    /// Removals remembered for changes of other routers that are still to come.
    pub removals: usize,
    /// Routers that share the store and live, this one included.
    pub nodes: usize,
    /// Starts of routers whose names are kept.
    pub starts: usize,
    /// Transactions stored since the start.
    pub groups: u64,
    /// Changes in them.
    pub writes: u64,
    /// Transactions the store refused since the start.
    pub failures: u64,
}

/// The location service: share it in an [`Arc`].
pub struct LocationService {
    table: Arc<Table>,
    health: Health,
    nodes: Nodes,
    queue: Option<Queue>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// The shard expiry goes on with.
    next_shard: AtomicUsize,
}

impl LocationService {
    /// Opens the store, if there is one, and loads what has not expired at `unix_ms`.
    pub fn open(config: &Config, unix_ms: u64) -> Result<LocationService, OpenError> {
        let backend = match &config.mode {
            Mode::Memory => {
                let table = Arc::new(table(config));
                return Ok(LocationService::build(table, Default::default(), None, None));
            }
            Mode::WriteThrough(backend) | Mode::WriteBack(backend, _) => backend,
        };
        let (health, nodes) = (Health::default(), Nodes::default());
        let store: Box<dyn Store> = match backend {
            Backend::File(path) => Box::new(RedbStore::open(path)?),
            Backend::Postgres(postgres) => {
                let patient = config.start_without_store;
                Box::new(PostgresStore::open(postgres, health.clone(), nodes.clone(), patient)?)
            }
        };
        LocationService::open_on(config, store, (health, nodes), unix_ms)
    }

    /// As [`LocationService::open`], with a store of the caller's; of the mode only the time of a
    /// write-back is looked at.
    pub fn open_with(
        config: &Config,
        store: Box<dyn Store>,
        unix_ms: u64,
    ) -> Result<LocationService, OpenError> {
        LocationService::open_on(config, store, Default::default(), unix_ms)
    }

    fn open_on(
        config: &Config,
        mut store: Box<dyn Store>,
        (health, nodes): (Health, Nodes),
        unix_ms: u64,
    ) -> Result<LocationService, OpenError> {
        let table = Arc::new(table(config));
        let stale = load(&table, &mut *store, unix_ms)?;
        store.watch(Arc::new(Inbox::new(Arc::clone(&table))));
        let write_back = match config.mode {
            Mode::WriteBack(_, interval) => Some(interval),
            Mode::Memory | Mode::WriteThrough(_) => None,
        };
        let forgets = !store.is_shared();
        let tally = Arc::new(Tally::default());
        // The limit is kept by counting, so sending never blocks.
        let (sender, jobs) = crossbeam_channel::unbounded();
        let committer = Committer {
            table: Arc::clone(&table),
            store,
            tally: Arc::clone(&tally),
            health: health.clone(),
            write_back,
            accept_when_down: config.accept_when_down,
        };
        let thread = std::thread::Builder::new()
            .name("location-store".into())
            .spawn(move || committer.run(&jobs))
            .map_err(OpenError::Thread)?;
        let (limit, closed) = (config.queue, AtomicBool::new(false));
        let write_back = write_back.is_some();
        let queue = Queue { sender, limit, tally, closed, write_back, forgets };
        if !stale.is_empty() && forgets {
            queue.tally.queued.fetch_add(stale.len(), Ordering::AcqRel);
            // The thread has just started; were it gone, the next commit would say so.
            let _ = queue.sender.send(Job::Forget(stale));
        }
        Ok(LocationService::build(table, (health, nodes), Some(queue), Some(thread)))
    }

    fn build(
        table: Arc<Table>,
        (health, nodes): (Health, Nodes),
        queue: Option<Queue>,
        thread: Option<JoinHandle<()>>,
    ) -> LocationService {
        let (thread, next_shard) = (Mutex::new(thread), AtomicUsize::new(0));
        LocationService { table, health, nodes, queue, thread, next_shard }
    }

    /// Makes the changes, all or none, and then calls `done` once: at once where no store is asked
    /// (memory mode, `memory_only`, a fault seen at once), else from the store thread when the
    /// changes are on disk. Never waits for the store; `done` should not block either.
    pub fn commit(
        &self,
        changes: Vec<Change>,
        done: impl FnOnce(Result<(), CommitFault>) + Send + 'static,
    ) {
        let mut done = Some(done);
        let decided = self.commit_or_queue(changes, || match done.take() {
            Some(done) => Box::new(done),
            None => Box::new(|_| ()),
        });
        if let Some((result, done)) = decided.zip(done) {
            // Outside the locks: `done` may come back with the next commit.
            done(result);
        }
    }

    /// As [`LocationService::commit`], for callers that can go on at once: where no store is asked,
    /// or a fault is seen, the result is given back and `done` is not made.
    pub fn commit_or_queue(
        &self,
        changes: Vec<Change>,
        done: impl FnOnce() -> Box<dyn FnOnce(Result<(), CommitFault>) + Send>,
    ) -> Option<Result<(), CommitFault>> {
        match begin(&self.table, self.queue.as_ref(), changes, done) {
            Begun::Queued => None,
            Begun::Decided(result) => Some(result),
            Begun::Lost(done) => {
                done(Err(CommitFault::Store));
                None
            }
        }
    }

    /// Removes bindings that have expired at `unix_ms`, from at most `budget` AoRs, in memory at
    /// once and in the store soon. To be called each second or so; where as many come back as the
    /// budget allows, call again.
    pub fn expire(&self, unix_ms: u64, budget: usize) -> Vec<Expired> {
        let mut expired = Vec::new();
        for _ in 0..SHARDS {
            let left = budget.saturating_sub(expired.len());
            if left == 0 {
                break;
            }
            let index = self.next_shard.load(Ordering::Relaxed) % SHARDS;
            let lapsed = self.table.expire_shard(index, unix_ms, left, |lapsed| {
                if let Some(queue) = self.queue.as_ref().filter(|_| !lapsed.is_empty()) {
                    // Without room the record stays in the store; a start drops it.
                    queue.forget(lapsed);
                }
            });
            if lapsed.len() < left {
                self.next_shard.store((index + 1) % SHARDS, Ordering::Relaxed);
            }
            expired.extend(lapsed.into_iter().map(|lapsed| Expired::new(lapsed, unix_ms)));
        }
        expired
    }

    /// Removes an AoR, or one contact of it, for an operator; how many bindings went, once that is
    /// stored. Blocks on the store: not for workers.
    pub fn remove(
        &self,
        table: &str,
        aor: &[u8],
        contact: Option<&[u8]>,
    ) -> Result<usize, CommitFault> {
        for _ in 0..REMOVE_ATTEMPTS {
            let snapshot = self.latest(table, aor);
            let Some(current) = snapshot.set else { return Ok(0) };
            let (set, removed) = registrar::remove(&current, contact);
            if removed == 0 {
                return Ok(0);
            }
            let key = AorKey { table: table.into(), aor: aor.into() };
            let change = Change { key, based_on: snapshot.version, set, memory_only: false };
            let (sender, outcome) = crossbeam_channel::bounded(1);
            self.commit(vec![change], move |result| {
                let _ = sender.send(result);
            });
            match outcome.recv() {
                Ok(Ok(())) => return Ok(removed),
                Ok(Err(CommitFault::Conflict)) => {}
                Ok(Err(fault)) => return Err(fault),
                Err(_) => return Err(CommitFault::Store),
            }
        }
        Err(CommitFault::Conflict)
    }

    /// A page of the committed bindings, of one table or of all: begin with cursor 0, go on with
    /// the cursor given back until there is none. A page is as long as `at_least` asks and has
    /// whole shards; only one shard is locked at a time, so pages are from different moments.
    #[allow(clippy::type_complexity)] // a list of pairs, and where to go on
    pub fn page(
        &self,
        table: Option<&str>,
        cursor: usize,
        at_least: usize,
    ) -> (Vec<(AorKey, Arc<BindingSet>)>, Option<usize>) {
        let (mut page, mut cursor) = (Vec::new(), cursor);
        while let Some(shard) = self.table.dump(cursor, table) {
            page.extend(shard);
            cursor += 1;
            if page.len() >= at_least && cursor < SHARDS {
                return (page, Some(cursor));
            }
        }
        (page, None)
    }

    /// Sizes and counters. Looks at every shard: not for each message.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts {
            aors: self.table.aors(),
            bindings: self.table.bindings(),
            memory_bytes: self.table.memory_bytes(),
            removals: self.table.removals(),
            nodes: self.nodes.len(),
            starts: self.nodes.starts(),
            ..Counts::default()
        };
        counts.unsaved = self.table.unsaved();
        if let Some(queue) = &self.queue {
            counts.queued = queue.tally.queued.load(Ordering::Relaxed);
            counts.groups = queue.tally.groups.load(Ordering::Relaxed);
            counts.writes = queue.tally.writes.load(Ordering::Relaxed);
            counts.failures = queue.tally.failures.load(Ordering::Relaxed);
        }
        counts
    }

    /// What is wrong with the store; `None`: nothing, or there is none.
    pub fn trouble(&self) -> Option<Trouble> {
        self.health.trouble()
    }

    /// The routers that live, where several share the store.
    pub(crate) fn live_nodes(&self) -> Option<Arc<Live>> {
        self.nodes.live()
    }

    /// Stores everything queued, ends the store thread and closes the store. Later commits to the
    /// store are refused; look-ups go on. Also done on drop.
    pub fn close(&self) {
        let Some(thread) = self.thread.lock().take() else { return };
        if let Some(queue) = &self.queue {
            queue.closed.store(true, Ordering::Release);
            // After this nobody who saw it open is still about to queue.
            self.table.settle();
            let _ = queue.sender.send(Job::Stop);
        }
        if thread.join().is_err() {
            tracing::error!("the store thread has panicked");
        }
    }
}

impl Location for LocationService {
    fn get(&self, table: &str, aor: &[u8]) -> Option<Arc<BindingSet>> {
        self.table.get(table, aor)
    }

    /// Where a removal waits for its commit, the set is there and empty.
    fn latest(&self, table: &str, aor: &[u8]) -> Snapshot {
        self.table.latest(table, aor)
    }

    /// Memory decides where there is no store. With one, the queue keeps the order.
    fn commit_in_memory(&self, changes: &[Change]) -> Option<Result<(), CommitFault>> {
        match (&self.queue, changes) {
            (Some(_), _) => None,
            // Nearly every REGISTER: one AoR, one shard.
            (None, [change]) => Some(self.table.commit_one(change)),
            (None, _) => self.commit_or_queue(changes.to_vec(), || Box::new(|_| ())),
        }
    }
}

impl Drop for LocationService {
    fn drop(&mut self) {
        self.close();
    }
}

fn table(config: &Config) -> Table {
    Table::new(Limits {
        aors: config.max_aors,
        bindings: config.max_bindings,
        bindings_per_aor: config.max_bindings_per_aor,
    })
}

/// Fills the table; gives back the removal of records that have expired as a whole. What is stored
/// is loaded even past the limits: it was acknowledged.
fn load(table: &Table, store: &mut dyn Store, unix_ms: u64) -> Result<Vec<Write>, StoreError> {
    let mut stale = Vec::new();
    store.load(&mut |Record { key, set, revision, exact }| {
        let live: Bindings = set.live(unix_ms).cloned().collect();
        if live.is_empty() || key.table.len() > MAX_TABLE_BYTES {
            stale.push(Write::new(key, Arc::default()));
        } else {
            let exact = exact && live.len() == set.len();
            table.load(Record { key, set: BindingSet { bindings: live }, revision, exact });
        }
    })?;
    Ok(stale)
}
