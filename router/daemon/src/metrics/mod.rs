//! The router's numbers: every worker counts into its own memory, a scrape adds up.
//!
//! Start reading at [`WorkerStats`] (what a worker calls), then [`render`] (names and help texts).

mod histogram;
pub(crate) mod names;
mod process;
pub mod render;
mod worker;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use viaduct_media::ng::NgNumbers;
use viaduct_media::service::Numbers as MediaNumbers;
use viaduct_policy::LoadError;

use crate::control::PolicyEntry;

pub(crate) use process::udp_drops;
pub use worker::{Counter, Gauge, WorkerStats};

/// What the location service says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LocationNumbers {
    /// AoRs in memory.
    pub aors: u64,
    /// Bindings in memory.
    pub bindings: u64,
    /// Memory they take, bytes.
    pub memory_bytes: u64,
    /// Changes waiting for the store.
    pub queued: u64,
    /// Removals remembered for changes of other routers.
    pub removals: u64,
    /// Routers that share the store and live.
    pub nodes: u64,
    /// Starts of routers whose names are kept.
    pub starts: u64,
    /// Transactions stored since the start.
    pub groups: u64,
    /// Changes in them.
    pub writes: u64,
    /// Transactions the store refused since the start.
    pub failures: u64,
    /// The store takes no changes now, or is not loaded yet.
    pub store_down: bool,
}

/// A number that somebody else keeps, under its full name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Without `_total`, where it is a counter.
    pub name: &'static str,
    /// What it means.
    pub help: &'static str,
    /// It never goes back.
    pub is_counter: bool,
    /// Now.
    pub value: u64,
}

type Source<T> = OnceLock<Box<dyn Fn() -> T + Send + Sync>>;

type Guests = Box<dyn Fn() -> usize + Send + Sync>;

/// The numbers of all workers.
pub struct Metrics {
    workers: Vec<Arc<WorkerStats>>,
    location: Source<LocationNumbers>,
    policies: Source<Vec<PolicyEntry>>,
    verdicts: Source<Vec<(&'static str, u64)>>,
    media: Source<MediaNumbers>,
    media_nodes: Source<NgNumbers>,
    http: Source<Vec<(&'static str, u64)>>,
    kept: Source<Vec<Kept>>,
    /// Calls that are remembered to be shown, where they are shown.
    shown: OnceLock<Arc<AtomicU64>>,
    /// Who knows how many connections there are to the admin API and to these metrics.
    guests: Mutex<Vec<Guests>>,
    started_unix_s: u64,
    /// Versions rolled back by themselves; versions that should have been, and had no earlier one.
    guarded: [AtomicU64; 2],
    /// Components that were not taken, by [`LoadError::KINDS`].
    refused: [AtomicU64; LoadError::KINDS.len()],
}

impl Metrics {
    /// One [`WorkerStats`] a worker.
    pub fn new(workers: u8) -> Arc<Metrics> {
        let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Arc::new(Metrics {
            workers: (0..workers).map(|_| Arc::new(WorkerStats::default())).collect(),
            location: OnceLock::new(),
            policies: OnceLock::new(),
            verdicts: OnceLock::new(),
            media: OnceLock::new(),
            media_nodes: OnceLock::new(),
            http: OnceLock::new(),
            kept: OnceLock::new(),
            shown: OnceLock::new(),
            guests: Mutex::new(Vec::new()),
            started_unix_s: started.as_secs(),
            guarded: Default::default(),
            refused: Default::default(),
        })
    }

    /// The numbers of one worker, for that worker; `None` past the number of workers.
    pub fn worker(&self, worker: u8) -> Option<Arc<WorkerStats>> {
        self.workers.get(usize::from(worker)).cloned()
    }

    /// Says whom to ask about the location service; the first call counts.
    pub fn watch_location(&self, ask: impl Fn() -> LocationNumbers + Send + Sync + 'static) {
        // A second call would be a wiring mistake without harm: the first source stays.
        let _ = self.location.set(Box::new(ask));
    }

    /// Says whom to ask about the policies' versions; the first call counts.
    pub fn watch_policies(&self, ask: impl Fn() -> Vec<PolicyEntry> + Send + Sync + 'static) {
        let _ = self.policies.set(Box::new(ask));
    }

    /// Counts a version that kept failing: rolled back, or left as there was no earlier one.
    pub fn count_guarded(&self, rolled_back: bool) {
        let [done, stuck] = &self.guarded;
        (if rolled_back { done } else { stuck }).fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a component that was not taken; `kind` as [`LoadError::kind`] names it.
    pub fn count_refused(&self, kind: &str) {
        let counts = LoadError::KINDS.iter().zip(&self.refused);
        if let Some((_, count)) = counts.into_iter().find(|(known, _)| **known == kind) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Says whom to ask what became of packets in front of the stack; the first call counts.
    pub fn watch_verdicts(
        &self,
        ask: impl Fn() -> Vec<(&'static str, u64)> + Send + Sync + 'static,
    ) {
        let _ = self.verdicts.set(Box::new(ask));
    }

    /// What became of packets in front of the stack; nothing where no program is there.
    pub fn verdicts(&self) -> Vec<(&'static str, u64)> {
        self.verdicts.get().map(|ask| ask()).unwrap_or_default()
    }

    /// Says whom to ask about the media relay; the first call counts.
    pub fn watch_media(&self, ask: impl Fn() -> MediaNumbers + Send + Sync + 'static) {
        let _ = self.media.set(Box::new(ask));
    }

    /// The media relay now; `None`: there is none.
    pub fn media(&self) -> Option<MediaNumbers> {
        self.media.get().map(|ask| ask())
    }

    /// Says whom to ask about media nodes; the first call counts.
    pub fn watch_media_nodes(&self, ask: impl Fn() -> NgNumbers + Send + Sync + 'static) {
        let _ = self.media_nodes.set(Box::new(ask));
    }

    /// The media nodes now; `None`: there are none.
    pub fn media_nodes(&self) -> Option<NgNumbers> {
        self.media_nodes.get().map(|ask| ask())
    }

    /// Says whom to ask what became of HTTP requests; the first call counts.
    pub fn watch_http(&self, ask: impl Fn() -> Vec<(&'static str, u64)> + Send + Sync + 'static) {
        let _ = self.http.set(Box::new(ask));
    }

    /// What became of HTTP requests of policies.
    pub fn http(&self) -> Vec<(&'static str, u64)> {
        self.http.get().map(|ask| ask()).unwrap_or_default()
    }

    /// Says whom to ask for all numbers that are kept elsewhere; the first call counts.
    pub fn watch_kept(&self, ask: impl Fn() -> Vec<Kept> + Send + Sync + 'static) {
        let _ = self.kept.set(Box::new(ask));
    }

    /// Says where it is counted how many calls are remembered to be shown; the first call counts.
    pub fn watch_shown(&self, calls: Arc<AtomicU64>) {
        let _ = self.shown.set(calls);
    }

    /// One more listener whose connections count.
    pub fn watch_guests(&self, ask: impl Fn() -> usize + Send + Sync + 'static) {
        self.guests.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(ask));
    }

    /// All numbers that are kept elsewhere.
    pub(crate) fn kept(&self) -> Vec<Kept> {
        let mut kept = self.kept.get().map(|ask| ask()).unwrap_or_default();
        let guests = self.guests.lock().unwrap_or_else(PoisonError::into_inner);
        let connections = guests.iter().map(|ask| ask() as u64).sum();
        kept.push(Kept {
            name: "viaduct_admin_connections",
            help: "TCP connections to the admin API and to metrics now",
            is_counter: false,
            value: connections,
        });
        kept.push(Kept {
            name: "viaduct_shown_calls",
            help: "Calls that `run --show` remembers",
            is_counter: false,
            value: self.shown.get().map_or(0, |calls| calls.load(Ordering::Relaxed)),
        });
        kept
    }

    /// The location service now.
    pub fn location(&self) -> LocationNumbers {
        self.location.get().map(|ask| ask()).unwrap_or_default()
    }

    /// The policies' versions in memory.
    pub fn policies(&self) -> Vec<PolicyEntry> {
        let mut versions = self.policies.get().map(|ask| ask()).unwrap_or_default();
        versions.retain(|version| version.loaded);
        versions
    }

    /// A counter, all workers together.
    pub fn total(&self, counter: Counter) -> u64 {
        self.sum(|stats| stats.count(counter))
    }

    /// A gauge, of the worker where it is greatest.
    pub fn greatest(&self, gauge: Gauge) -> u64 {
        self.workers.iter().map(|stats| stats.gauge(gauge)).max().unwrap_or(0)
    }

    /// A gauge, all workers together.
    pub fn gauge(&self, gauge: Gauge) -> u64 {
        self.sum(|stats| stats.gauge(gauge))
    }

    fn sum(&self, read: impl Fn(&WorkerStats) -> u64) -> u64 {
        self.workers.iter().fold(0, |sum, stats| sum.wrapping_add(read(stats)))
    }
}

#[cfg(test)]
mod tests;
