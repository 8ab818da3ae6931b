//! Bindings in PostgreSQL, which several routers may share.
//!
//! Every change has a number, given under a lock that is held until it is committed: the order of
//! numbers is the order of commits, so a router that asks for everything after the last number it
//! knows misses nothing. A change names the number its AoR had when it was computed; where another
//! router came first it is refused, and computed again. Tables: `sql/`.
//!
//! Start reading at [`PostgresStore`]; `session` writes, `feed` hears of the others, `rows` knows
//! the columns, `statements` the SQL.

mod config;
mod fault;
mod feed;
mod flight;
pub(crate) mod rows;
mod schema;
mod session;
mod statements;
pub(crate) mod text;
mod tls;

use std::collections::VecDeque;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Notify;
use tokio::sync::mpsc::Receiver;

pub use config::{PostgresConfig, Tls, describe};
use fault::Fault;
use flight::Flight;
use rows::{Me, Reader};
pub(crate) use session::connect as connect_for_import;
use session::{Clock, Session};
pub use tls::{connector, roots};

use crate::health::Health;
use crate::nodes::Nodes;
use crate::store::{Pipeline, Record, Store, StoreError, Watcher, Write, Written};

/// First and longest pause between two attempts to connect. Nothing is acknowledged meanwhile, so
/// that a database that is back is to be found soon, however long it was away.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

/// Bindings in a database.
pub struct PostgresStore {
    shared: Arc<Shared>,
    /// What has been loaded; `None`: nothing yet.
    loaded: Option<Clock>,
    /// Groups begun, in order.
    flights: VecDeque<Flight>,
    runtime: Background,
}

/// A runtime on a thread of its own, which may be dropped anywhere.
struct Background(Option<Runtime>);

impl Background {
    fn new() -> std::io::Result<Background> {
        let mut builder = Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).thread_name("postgres").enable_all().build()?;
        Ok(Background(Some(runtime)))
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(runtime) = &self.0 {
            runtime.spawn(task);
        }
    }

    /// Waits for a task, also on a thread that belongs to another runtime; `None` where it has
    /// panicked.
    fn wait<T: Send + 'static>(&self, task: impl Future<Output = T> + Send + 'static) -> Option<T> {
        let (tell, told) = std::sync::mpsc::sync_channel(1);
        self.spawn(async move { drop(tell.send(task.await)) });
        told.recv().ok()
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// What the store's tasks share.
struct Shared {
    config: PostgresConfig,
    reader: Reader,
    health: Health,
    nodes: Nodes,
    /// `None` while there is no connection; a task makes a new one then.
    session: Mutex<Option<Arc<Session>>>,
    /// Wakes that task where the connection itself does not.
    given_up: Notify,
    /// Changes after this number have to be read again, those of our own that failed included;
    /// `u64::MAX`: none.
    unsure: AtomicU64,
    /// The newest of our own.
    newest: AtomicU64,
}

impl PostgresStore {
    /// Connects and brings the tables up to date. A `patient` one does without a database that
    /// cannot be reached now.
    pub(crate) fn open(
        config: &PostgresConfig,
        health: Health,
        nodes: Nodes,
        patient: bool,
    ) -> Result<PostgresStore, StoreError> {
        let runtime = Background::new().map_err(|error| fault(config, error.to_string()))?;
        let owned = config.clone();
        let opened = runtime.wait(async move { Session::open(&owned).await });
        let opened = opened.unwrap_or_else(|| Err(Fault::lasting("connecting panicked")));
        let session = match opened {
            Ok(session) => Some(session),
            Err(away) if patient && !away.lasts => {
                let place = config.place();
                tracing::error!(
                    %place, fault = %away.text,
                    "database: cannot be reached; starting without it and with no bindings"
                );
                health.fails(&away.text);
                health.loaded(false);
                None
            }
            Err(away) => return Err(fault(config, away.text)),
        };
        let me =
            Me { node: config.node.clone(), address: config.node_address.clone(), boot: random() };
        let shared = Arc::new(Shared {
            config: config.clone(),
            reader: Reader::new(me, nodes.clone()),
            health,
            nodes,
            session: Mutex::new(session.as_ref().map(|(session, _)| Arc::clone(session))),
            given_up: Notify::new(),
            unsure: AtomicU64::new(u64::MAX),
            newest: AtomicU64::new(0),
        });
        let first = session.map(|(session, ended)| (Arc::downgrade(&session), ended));
        runtime.spawn(keep(Arc::clone(&shared), first));
        Ok(PostgresStore { shared, loaded: None, flights: VecDeque::new(), runtime })
    }
}

impl Store for PostgresStore {
    fn load(&mut self, each: &mut dyn FnMut(Record)) -> Result<(), StoreError> {
        let shared = Arc::clone(&self.shared);
        if shared.health.trouble().is_some() {
            // The watcher is told of all there is when it is there.
            return Ok(());
        }
        // Records cross from the runtime's thread by a queue: `each` stays on this one.
        let (tell, records) = std::sync::mpsc::sync_channel(1024);
        let (end, ended) = std::sync::mpsc::sync_channel(1);
        self.runtime.spawn(async move {
            let loaded = load(&shared, &mut |record| drop(tell.send(record))).await;
            drop(end.send(loaded));
        });
        records.into_iter().for_each(each);
        let loaded = ended.recv().unwrap_or_else(|_| Err("loading panicked".to_owned()));
        self.loaded = Some(loaded.map_err(|detail| fault(&self.shared.config, detail))?);
        Ok(())
    }

    fn write(&mut self, group: &[Write]) -> Result<Written, StoreError> {
        self.begin(group.to_vec());
        self.end()
    }

    fn pipeline(&mut self) -> Option<&mut dyn Pipeline> {
        Some(self)
    }

    fn watch(&mut self, watcher: Arc<dyn Watcher>) {
        self.runtime.spawn(feed::run(Arc::clone(&self.shared), watcher, self.loaded));
    }

    fn is_shared(&self) -> bool {
        true
    }
}

impl Pipeline for PostgresStore {
    fn begin(&mut self, group: Vec<Write>) {
        self.flights.push_back(Flight::begin(&self.shared, &self.runtime, group));
    }

    fn decided(&mut self) -> bool {
        let limit = self.shared.config.write_timeout;
        self.flights.front_mut().is_some_and(|first| first.decided(limit))
    }

    fn end(&mut self) -> Result<Written, StoreError> {
        let Some(first) = self.flights.pop_front() else { return Ok(Written::default()) };
        let shared = &self.shared;
        let ended = first.end(shared, shared.config.write_timeout);
        if let Some(next) = self.flights.front_mut() {
            next.take_turn();
        }
        let written = ended.map_err(|detail| fault(&shared.config, detail))?;
        shared.newest.fetch_max(written.revision, Ordering::AcqRel);
        Ok(written)
    }
}

async fn load(shared: &Shared, each: &mut (dyn FnMut(Record) + Send)) -> Result<Clock, String> {
    let connected = session::connect(&shared.config).await;
    let mut link = connected.map_err(|fault| fault.text)?;
    let read = session::read_all(&mut link.client, &shared.reader, &mut |_| (), each).await;
    read.map_err(|error| config::describe(&error))
}

impl Shared {
    /// Takes a connection out of use, if it is in use. Whatever it wrote that is not known is read
    /// again.
    fn give_up(&self, session: &Arc<Session>) {
        let mut current = self.session.lock();
        if current.as_ref().is_some_and(|current| Arc::ptr_eq(current, session)) {
            *current = None;
            // Before anybody can ask for changes without that connection's mark.
            self.unsure.fetch_min(session.known.load(Ordering::Acquire), Ordering::AcqRel);
        }
    }

    /// Mark and process of the connection in use; 0: none.
    fn own_marks(&self) -> (i64, i32) {
        self.session.lock().as_ref().map_or((0, 0), |session| (session.writer, session.pid))
    }
}

/// A connection, and what tells that it has ended.
type Watched = (Weak<Session>, Receiver<i32>);

/// Sees to a new connection whenever the last one has ended or was given up, or there is none yet.
async fn keep(shared: Arc<Shared>, mut current: Option<Watched>) {
    loop {
        if let Some((session, ended)) = &mut current {
            tokio::select! {
                () = async { while ended.recv().await.is_some() {} } => {
                    session.upgrade().inspect(|session| shared.give_up(session));
                }
                () = shared.given_up.notified() => {}
            }
        }
        // It may have been told of an earlier one.
        if shared.session.lock().is_none() {
            if current.is_some() {
                tracing::error!(place = %shared.config.place(), "database: connection lost");
                shared.health.fails("connection lost");
            }
            current = Some(reconnect(&shared).await);
        }
    }
}

/// Connects anew, however long it takes.
async fn reconnect(shared: &Shared) -> Watched {
    let place = shared.config.place();
    let (mut pause, mut told) = (Pause::default(), String::new());
    loop {
        pause.wait().await;
        match Session::open(&shared.config).await {
            Ok((session, ended)) => {
                tracing::info!(%place, "database: connected");
                shared.health.works();
                let watched = Arc::downgrade(&session);
                *shared.session.lock() = Some(session);
                return (watched, ended);
            }
            // The same each second would fill the log.
            Err(fault) if fault.text == told => {}
            Err(fault) => {
                tracing::warn!(%place, fault = %fault.text, "database: no connection");
                told = fault.text;
            }
        }
    }
}

/// Pauses that grow, with some chance in them so that routers do not come all at once.
struct Pause {
    next: Duration,
}

impl Default for Pause {
    fn default() -> Pause {
        Pause { next: PAUSE.0 }
    }
}

impl Pause {
    async fn wait(&mut self) {
        let chance = f64::from(random() as u16) / f64::from(u16::MAX);
        tokio::time::sleep(self.take(chance)).await;
    }

    /// How long the next one is; `chance`: from 0 to 1.
    fn take(&mut self, chance: f64) -> Duration {
        let half = self.next / 2;
        self.next = (self.next * 2).min(PAUSE.1);
        half + half.mul_f64(chance)
    }
}

fn fault(config: &PostgresConfig, detail: String) -> StoreError {
    StoreError::Database { at: config.place(), detail }
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A positive number nobody else has.
fn random() -> i64 {
    // Keyed by the system's randomness, which only `RandomState` gives without another crate.
    (RandomState::new().hash_one(unix_ms()) >> 1).cast_signed().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_that_is_back_is_found_within_a_second_however_long_it_was_away() {
        let mut pause = Pause::default();
        let pauses: Vec<Duration> = (0..100).map(|n| pause.take(f64::from(n % 2))).collect();
        assert!(pauses.iter().all(|pause| *pause <= Duration::from_secs(1)), "{pauses:?}");
        // And routers neither ask without end nor all at once.
        assert!(pauses.iter().all(|pause| *pause >= Duration::from_millis(50)), "{pauses:?}");
        assert!(pauses.iter().skip(10).all(|pause| *pause >= Duration::from_millis(500)));
        assert_ne!(Pause::default().take(0.0), Pause::default().take(1.0));
    }
}
