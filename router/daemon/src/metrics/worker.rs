//! What one worker counts.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use viaduct_engine::counters::Counters;
use viaduct_engine::{CommitFault, Event, FailureKind, Held};
use viaduct_message::{Fault, Method};

use super::histogram::Histogram;
use super::names;

/// Most counters a policy may name; further names count into `other`.
const MOST_POLICY_COUNTERS: usize = 256;
/// Longest counter name, bytes; longer ones are cut.
const LONGEST_NAME: usize = 64;

/// A plain counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Counter {
    /// Datagrams received.
    UdpReceived,
    /// Datagrams sent.
    UdpSent,
    /// Datagrams that could not be sent: socket buffer full, peer unreachable.
    UdpDropped,
    /// New requests the kernel threw away unread, under pressure.
    UdpSieved,
    /// Datagrams received past the kernel's stack.
    XdpReceived,
    /// Datagrams sent past the kernel's stack.
    XdpSent,
    /// Connections accepted or opened.
    TcpOpened,
    /// Connections refused because of a limit.
    TcpRefused,
    /// Messages handed to the worker that owns their transaction.
    HandedOver,
    /// Messages dropped because that worker's queue was full.
    HandOverDropped,
    /// Names resolved.
    Resolved,
    /// Names that could not be resolved.
    ResolveFailed,
    /// Events not shown or logged because there were too many.
    EventsDropped,
    /// Requests sent on, retransmissions not counted.
    Forwarded,
    /// Messages sent again by a timer.
    Retransmitted,
    /// Requests recognised as retransmissions.
    Absorbed,
    /// Responses that matched no transaction.
    StrayResponses,
    /// Requests answered 503 because a bound was reached.
    Shed,
    /// Requests dropped without an answer, as even 503s would be too many.
    Ignored,
    /// Policy runs.
    PolicyRuns,
    /// Credentials that were right.
    AuthAccepted,
    /// Credentials that were wrong.
    AuthRefused,
    /// Questions put because something was not in memory.
    Asked,
    /// Requests answered by a fallback, as there was no answer.
    AskFailed,
    /// Orders about media that were not carried out.
    MediaFailed,
    /// Changes of shared tables that found no room.
    TableFull,
    /// REGISTERs whose bindings were saved.
    Registrations,
    /// REGISTERs refused.
    RegistrationsRefused,
    /// Branches that ended by Timer B, F or C.
    Timeouts,
    /// Bindings removed because their flow has failed.
    FlowsFailed,
    /// Requests that came back as undeliverable.
    Undelivered,
    /// Turns that left something unread.
    TurnsCut,
    /// Connections closed as too much waited to be written.
    TcpSlow,
}

const COUNTERS: usize = Counter::TcpSlow as usize + 1;

/// Something that goes up and down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Gauge {
    /// Server transactions.
    Transactions,
    /// Open connections.
    Connections,
    /// Requests without state that wait for a name.
    Strays,
    /// Pings that wait for a name.
    Pings,
    /// REGISTERs remembered as they took bindings back.
    TakenBack,
    /// Sources that have transactions.
    Sources,
    /// Most outputs of one input so far.
    Outputs,
    /// Peers whose way is known, for AF_XDP.
    Ways,
}

const GAUGES: usize = Gauge::Ways as usize + 1;

type Row<const N: usize> = [AtomicU64; N];

/// The plain counters; more than 32, for which arrays have no default.
struct Plain(Row<COUNTERS>);

impl Default for Plain {
    fn default() -> Plain {
        Plain(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

/// The numbers of one worker. Only that worker writes, so that counting is a load and a store
/// without a locked instruction; anybody may read.
#[derive(Default)]
pub struct WorkerStats {
    pub(super) requests_received: Row<15>,
    pub(super) responses_received: Codes,
    pub(super) requests_sent: Row<15>,
    pub(super) responses_sent: Codes,
    pub(super) malformed: Row<16>,
    pub(super) policy_failures: Row<7>,
    /// Stored, conflict, store, full.
    pub(super) commits: Row<4>,
    /// The same, of those that memory alone has decided.
    pub(super) commits_in_memory: Row<4>,
    pub(super) commit_us: Histogram,
    pub(super) policy_counters: Mutex<HashMap<String, u64>>,
    plain: Plain,
    gauges: Row<GAUGES>,
}

/// Adds without a locked instruction: there is one writer.
pub(super) fn bump(cell: &AtomicU64, by: u64) {
    cell.store(cell.load(Ordering::Relaxed).wrapping_add(by), Ordering::Relaxed);
}

fn bump_at(row: &[AtomicU64], index: usize) {
    if let Some(cell) = row.get(index) {
        bump(cell, 1);
    }
}

/// First and last status code of RFC 3261 7.2.
const CODES: RangeInclusive<u16> = 100..=699;

/// A counter for each status code.
pub(super) struct Codes(Box<[AtomicU64]>);

impl Default for Codes {
    fn default() -> Codes {
        Codes(CODES.map(|_| AtomicU64::new(0)).collect())
    }
}

impl Codes {
    fn bump(&self, status: u16) {
        if let Some(index) = status.checked_sub(*CODES.start()) {
            bump_at(&self.0, index.into());
        }
    }

    /// Codes that were counted.
    pub(super) fn counted(&self) -> impl Iterator<Item = (u16, u64)> {
        let counts = self.0.iter().map(|cell| cell.load(Ordering::Relaxed));
        CODES.zip(counts).filter(|(_, count)| *count > 0)
    }
}

/// What a message's first bytes say, without a scan.
enum Kind {
    Request(Method),
    Response(u16),
}

fn kind(bytes: &[u8]) -> Kind {
    if let Some(rest) = bytes.strip_prefix(b"SIP/2.0 ") {
        let digits = rest.get(..3).unwrap_or(rest);
        let value = |sum: u16, digit: &u8| {
            sum.saturating_mul(10).saturating_add(u16::from(digit.wrapping_sub(b'0') % 10))
        };
        return Kind::Response(digits.iter().fold(0, value));
    }
    // The longest method we know has nine letters.
    let head = bytes.get(..16).unwrap_or(bytes);
    let token = head.split(|byte| *byte == b' ').next().unwrap_or(head);
    Kind::Request(Method::from_token(token))
}

impl WorkerStats {
    /// A message came in, before anything has looked at it.
    pub fn received(&self, bytes: &[u8]) {
        match kind(bytes) {
            Kind::Request(method) => bump_at(&self.requests_received, names::method(method)),
            Kind::Response(status) => self.responses_received.bump(status),
        }
    }

    /// A message goes out.
    pub fn sent(&self, bytes: &[u8]) {
        match kind(bytes) {
            Kind::Request(method) => bump_at(&self.requests_sent, names::method(method)),
            Kind::Response(status) => self.responses_sent.bump(status),
        }
    }

    /// The engine told something.
    pub fn event(&self, event: &Event) {
        match event {
            Event::Malformed { fault, .. } => self.malformed(*fault),
            Event::PolicyFailed { kind, .. } => self.policy_failed(*kind),
            Event::PolicyCount { name, by } => self.policy_count(name, *by),
            // Usual traffic is counted by its messages and commits: these events are made only
            // where somebody watches. The engine counts the others.
            Event::Registered { .. }
            | Event::Call { .. }
            | Event::Bye { .. }
            | Event::AuthRefused { .. }
            | Event::QueryFailed { .. }
            | Event::MediaFailed { .. }
            | Event::MediaEnded(_)
            | Event::Destination { .. }
            | Event::PolicyLog { .. } => {}
        }
    }

    /// A message was refused as malformed.
    pub fn malformed(&self, fault: Fault) {
        bump_at(&self.malformed, names::fault(fault));
    }

    /// A stream was closed for bad framing.
    pub fn bad_framing(&self) {
        bump_at(&self.malformed, names::FRAMING);
    }

    fn policy_failed(&self, kind: FailureKind) {
        bump_at(&self.policy_failures, names::failure(kind));
    }

    /// A commit has ended after `us` microseconds.
    pub fn committed(&self, result: &Result<(), CommitFault>, us: u64) {
        let index = match result {
            Ok(()) => 0,
            Err(CommitFault::Conflict) => 1,
            Err(CommitFault::Store) => 2,
            Err(CommitFault::Full) => 3,
        };
        bump_at(&self.commits, index);
        self.commit_us.observe(us);
    }

    fn policy_count(&self, name: &str, by: u64) {
        let name = counter_name(name);
        // Contended only while a scrape copies the map.
        let mut counters = self.policy_counters.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counters.get_mut(&name) {
            *count = count.wrapping_add(by);
            return;
        }
        let name = if counters.len() < MOST_POLICY_COUNTERS { name } else { "other".to_owned() };
        let count = counters.entry(name).or_default();
        *count = count.wrapping_add(by);
    }

    /// Adds to a plain counter.
    pub fn add(&self, counter: Counter, by: u64) {
        if let Some(cell) = self.plain.0.get(counter as usize) {
            bump(cell, by);
        }
    }

    /// Sets a plain counter that somebody else counts; it must never go back.
    pub fn put(&self, counter: Counter, value: u64) {
        if let Some(cell) = self.plain.0.get(counter as usize) {
            cell.store(value, Ordering::Relaxed);
        }
    }

    /// Takes over what the worker's engine has counted since its start.
    pub fn take_counters(&self, engine: &Counters) {
        for (counter, value) in [
            (Counter::Forwarded, engine.forwarded),
            (Counter::Retransmitted, engine.retransmitted),
            (Counter::Absorbed, engine.absorbed),
            (Counter::StrayResponses, engine.stray_responses),
            (Counter::Shed, engine.shed),
            (Counter::Ignored, engine.ignored),
            (Counter::PolicyRuns, engine.policy_runs),
            (Counter::AuthAccepted, engine.auth_accepted),
            (Counter::AuthRefused, engine.auth_refused),
            (Counter::Asked, engine.asked),
            (Counter::AskFailed, engine.ask_failed),
            (Counter::MediaFailed, engine.media_failed),
            (Counter::TableFull, engine.table_full),
            (Counter::Registrations, engine.registrations),
            (Counter::RegistrationsRefused, engine.registrations_refused),
            (Counter::Timeouts, engine.timeouts),
            (Counter::FlowsFailed, engine.flows_failed),
            (Counter::Undelivered, engine.undelivered),
        ] {
            self.put(counter, value);
        }
        for (cell, value) in self.commits_in_memory.iter().zip(engine.commits_in_memory) {
            cell.store(value, Ordering::Relaxed);
        }
    }

    /// Reads a plain counter.
    pub fn count(&self, counter: Counter) -> u64 {
        self.plain.0.get(counter as usize).map_or(0, |cell| cell.load(Ordering::Relaxed))
    }

    /// Sets a gauge.
    pub fn set(&self, gauge: Gauge, value: u64) {
        if let Some(cell) = self.gauges.get(gauge as usize) {
            cell.store(value, Ordering::Relaxed);
        }
    }

    /// Takes over what the worker's engine holds.
    pub fn take_held(&self, held: &Held) {
        for (gauge, value) in [
            (Gauge::Strays, held.strays),
            (Gauge::Pings, held.pings),
            (Gauge::TakenBack, held.taken_back),
            (Gauge::Sources, held.sources),
            (Gauge::Outputs, held.outputs),
        ] {
            self.set(gauge, value as u64);
        }
    }

    /// Reads a gauge.
    pub fn gauge(&self, gauge: Gauge) -> u64 {
        self.gauges.get(gauge as usize).map_or(0, |cell| cell.load(Ordering::Relaxed))
    }
}

/// A policy's name for a counter, made fit for a label.
fn counter_name(name: &str) -> String {
    let fit = |char: char| match char {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '_' | '.' | ':' | '-' => char,
        _ => '_',
    };
    name.chars().take(LONGEST_NAME).map(fit).collect()
}
