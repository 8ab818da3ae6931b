//! Events on their way from the workers to logs and people, on a thread of their own.
//!
//! A worker never writes to a stream, since a terminal or a full pipe can block it: it offers
//! events to a bounded queue (`try_send`) and counts what does not fit.

use std::io::Write;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use viaduct_engine::Event;
use viaduct_engine::dispatcher::State;
use viaduct_engine::media::{LegView, MediaRecord};

use crate::metrics::names;
use crate::show::Show;

/// Events that may wait, all workers together.
const QUEUE: usize = 4096;
/// Target of the lines about usual traffic.
const TRAFFIC: &str = "viaduct::traffic";
/// How long the queue is listened to at a time; summaries are at most this late.
const TURN: Duration = Duration::from_millis(250);

/// The queue before its thread runs.
pub struct Events {
    sender: Sender<Event>,
    receiver: Receiver<Event>,
}

impl Default for Events {
    fn default() -> Events {
        let (sender, receiver) = bounded(QUEUE);
        Events { sender, receiver }
    }
}

impl Events {
    /// The workers' end.
    pub fn sender(&self) -> Sender<Event> {
        self.sender.clone()
    }

    /// Starts the thread; it ends when the last sender is gone. At most `lines_per_s`
    /// lines are logged; `show` gets what people want to see.
    pub fn start<W: Write + Send + 'static>(
        self,
        lines_per_s: u32,
        mut show: Option<Show<W>>,
    ) -> std::io::Result<JoinHandle<()>> {
        let Events { sender, receiver } = self;
        drop(sender);
        let mut budget = Budget::new(lines_per_s, Instant::now());
        let turn = move || {
            loop {
                let event = receiver.recv_timeout(TURN);
                let now = Instant::now();
                budget.turn(now);
                match event {
                    Ok(event) => {
                        if let Some(show) = &mut show {
                            show.event(&event, now);
                        }
                        log(&event, &mut budget);
                    }
                    Err(RecvTimeoutError::Timeout) => {
                        if let Some(show) = &mut show {
                            show.turn(now);
                        }
                    }
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            }
        };
        std::thread::Builder::new().name("events".into()).spawn(turn)
    }
}

/// Lines left in the current second.
struct Budget {
    per_s: u32,
    left: u32,
    missed: u64,
    second: Instant,
}

impl Budget {
    fn new(per_s: u32, now: Instant) -> Budget {
        Budget { per_s, left: per_s, missed: 0, second: now }
    }

    fn turn(&mut self, now: Instant) {
        if now.duration_since(self.second) < Duration::from_secs(1) {
            return;
        }
        if self.missed > 0 {
            tracing::warn!(target: "viaduct::events", missed = self.missed, "events not logged");
        }
        *self = Budget::new(self.per_s, now);
    }

    fn spend(&mut self) -> bool {
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                true
            }
            None => {
                self.missed = self.missed.saturating_add(1);
                false
            }
        }
    }
}

/// One event, one line. The lines of target `viaduct::security` are an interface: fail2ban filters
/// match `malformed source=IP:PORT` and `auth-refused source=IP:PORT` at their start, so fields are
/// only ever added at the end. What a peer chose stands in quotes, escaped.
fn log(event: &Event, budget: &mut Budget) {
    let usual = matches!(event, Event::Registered { .. } | Event::Call { .. } | Event::Bye { .. });
    if matches!(event, Event::PolicyCount { .. })
        || (usual && !tracing::enabled!(target: TRAFFIC, tracing::Level::DEBUG))
        || !budget.spend()
    {
        return;
    }
    match event {
        Event::Malformed { fault, source } => {
            let fault = names::fault_word(*fault);
            tracing::info!(target: "viaduct::security", "malformed source={source} fault={fault}");
        }
        Event::AuthRefused { source, method, realm, user } => tracing::info!(
            target: "viaduct::security",
            "auth-refused source={source} method={method:?} realm={realm:?} user={user:?}"
        ),
        Event::QueryFailed { what, fault, status } => {
            tracing::warn!(target: "viaduct::auth", what, %fault, status, "no answer");
        }
        Event::PolicyFailed { kind, status } => {
            let kind = names::failure_word(*kind);
            tracing::error!(target: "viaduct::policy", kind, status, "policy run failed");
        }
        Event::MediaFailed { call_id, fault, status } => {
            tracing::warn!(target: "viaduct::media", ?call_id, %fault, status, "not relayed");
        }
        Event::MediaEnded(record) => tell_media(record),
        Event::PolicyLog { level, text } => policy_line(*level, text),
        Event::Registered { aor, contacts, expires_s, source } => {
            tracing::debug!(target: TRAFFIC, %aor, contacts, expires_s, %source, "registered");
        }
        Event::Call { call_id, from, to, status } => {
            tracing::debug!(target: TRAFFIC, %call_id, %from, %to, status, "call");
        }
        Event::Bye { call_id } => {
            tracing::debug!(target: TRAFFIC, %call_id, "bye");
        }
        Event::Destination { set, uri, state } => tell_destination(set, uri, *state),
        Event::PolicyCount { .. } => {}
    }
}

/// A destination of a dispatcher set has come up or gone down.
pub(crate) fn tell_destination(set: &str, uri: &str, state: State) {
    match state {
        State::Up => tracing::info!(target: "viaduct::dispatcher", set, uri, "up"),
        State::Down => tracing::warn!(target: "viaduct::dispatcher", set, uri, "down"),
        State::Disabled => tracing::info!(target: "viaduct::dispatcher", set, uri, "disabled"),
    }
}

/// The record of a call (CDR): one line for it, and one a stream, whose fields are only ever added to.
fn tell_media(record: &MediaRecord) {
    let MediaRecord { call_id, caller_tag, callee_tag, duration_ms, answered, .. } = record;
    let reason = record.reason.word();
    tracing::info!(
        target: "viaduct::media", ?call_id, ?caller_tag, ?callee_tag,
        begun_unix_ms = record.begun_unix_ms, duration_ms, answered, reason, "call ended"
    );
    for stream in &record.streams {
        let kind = &*stream.kind;
        for (side, leg) in [("caller", &stream.caller), ("callee", &stream.callee)] {
            let LegView { packets, octets, dropped, lost, jitter_us, .. } = leg;
            let peer = leg.peer.map(tracing::field::display);
            let mos = leg.mos_centi.map(|mos| f64::from(mos) / 100.0);
            tracing::info!(
                target: "viaduct::media", ?call_id, kind, side, peer, packets, octets, dropped,
                lost, jitter_us, mos, "leg ended"
            );
        }
    }
}

/// What a policy logs. Its text may quote what a peer sent: line ends must not forge lines.
fn policy_line(level: u8, text: &str) {
    let text = text.escape_debug();
    match level {
        0 => tracing::error!(target: "viaduct::policy", "{text}"),
        1 => tracing::warn!(target: "viaduct::policy", "{text}"),
        2 => tracing::info!(target: "viaduct::policy", "{text}"),
        3 => tracing::debug!(target: "viaduct::policy", "{text}"),
        _ => tracing::trace!(target: "viaduct::policy", "{text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_refuses_instead_of_waiting() {
        let events = Events::default();
        let sender = events.sender();
        for _ in 0..QUEUE {
            sender.try_send(Event::Bye { call_id: "c".into() }).unwrap();
        }
        assert!(sender.try_send(Event::Bye { call_id: "c".into() }).is_err());
    }

    #[test]
    fn the_thread_shows_what_comes_and_ends_with_its_last_sender() {
        let events = Events::default();
        let sender = events.sender();
        let (lines, shown) = crossbeam_channel::unbounded();
        let show = Show::new(Lines(lines), false, Instant::now());
        let thread = events.start(10, Some(show)).unwrap();
        sender.send(Event::Bye { call_id: "c".into() }).unwrap();
        drop(sender);
        thread.join().unwrap();
        let text: Vec<u8> = shown.try_iter().flatten().collect();
        assert!(String::from_utf8(text).unwrap().contains("call ended"));
    }

    #[test]
    fn log_lines_are_limited_by_the_second() {
        let start = Instant::now();
        let mut budget = Budget::new(2, start);
        assert!(budget.spend() && budget.spend() && !budget.spend());
        budget.turn(start + Duration::from_millis(999));
        assert!(!budget.spend());
        assert_eq!(budget.missed, 2);
        budget.turn(start + Duration::from_secs(1));
        assert!(budget.spend());
    }

    struct Lines(Sender<Vec<u8>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.send(bytes.to_vec()).unwrap();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
}
