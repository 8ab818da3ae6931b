//! What somebody who tries the router sees: registrations and calls, one line each.
//!
//! At most [`LINES_PER_S`] lines a second; above it, what is left out is counted and summed up in
//! one line, so that a load test does not flood a terminal.

use std::collections::HashMap;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use viaduct_engine::Event;

use crate::config::{AdminAddr, Config};
use crate::metrics::names;

/// Most lines a second.
const LINES_PER_S: u32 = 20;
/// Calls whose names are remembered for the line of their end.
const MOST_CALLS: usize = 1024;
/// Longest text from a peer that is shown, characters.
const LONGEST: usize = 80;

/// Shows events on a stream.
pub struct Show<W> {
    out: W,
    colour: bool,
    left: u32,
    second: Instant,
    missed: Missed,
    calls: HashMap<Box<str>, String>,
    /// How many those are, for metrics.
    remembered: Arc<AtomicU64>,
}

#[derive(Default, PartialEq, Eq)]
struct Missed {
    registrations: u64,
    calls: u64,
    other: u64,
}

enum Colour {
    Green,
    Yellow,
    Red,
    Grey,
}

impl<W: Write> Show<W> {
    /// `colour` is for terminals only.
    pub fn new(out: W, colour: bool, now: Instant) -> Show<W> {
        let (missed, calls) = (Missed::default(), HashMap::new());
        let remembered = Arc::default();
        Show { out, colour, left: LINES_PER_S, second: now, missed, calls, remembered }
    }

    /// How many calls are remembered, whenever that is read.
    pub fn remembered(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.remembered)
    }

    /// Shows an event, or counts it.
    pub fn event(&mut self, event: &Event, now: Instant) {
        self.turn(now);
        let described = self.describe(event);
        self.remembered.store(self.calls.len() as u64, Ordering::Relaxed);
        let Some((colour, line)) = described else { return };
        if let Some(left) = self.left.checked_sub(1) {
            self.left = left;
            self.line(&colour, &line);
            return;
        }
        let count = match event {
            Event::Registered { .. } => &mut self.missed.registrations,
            Event::Call { .. } | Event::Bye { .. } => &mut self.missed.calls,
            _ => &mut self.missed.other,
        };
        *count = count.saturating_add(1);
    }

    /// Time has passed: sums up what was left out.
    pub fn turn(&mut self, now: Instant) {
        if now.duration_since(self.second) < Duration::from_secs(1) {
            return;
        }
        self.second = now;
        self.left = LINES_PER_S;
        let missed = std::mem::take(&mut self.missed);
        if missed != Missed::default() {
            let Missed { registrations, calls, other } = missed;
            let line =
                format!("... and {registrations} registrations, {calls} calls, {other} others");
            self.line(&Colour::Grey, &line);
        }
    }

    fn line(&mut self, colour: &Colour, line: &str) {
        let code = match colour {
            Colour::Green => "32",
            Colour::Yellow => "33",
            Colour::Red => "31",
            Colour::Grey => "90",
        };
        // A closed stdout is no reason to stop routing calls.
        let _ = if self.colour {
            writeln!(self.out, "\x1b[{code}m{line}\x1b[0m")
        } else {
            writeln!(self.out, "{line}")
        };
        let _ = self.out.flush();
    }

    fn describe(&mut self, event: &Event) -> Option<(Colour, String)> {
        Some(match event {
            Event::Registered { aor, contacts: 0, source, .. } => {
                (Colour::Yellow, format!("unregistered  {}  from {source}", plain(aor)))
            }
            Event::Registered { aor, contacts, expires_s, source } => {
                let phones = if *contacts == 1 { "1 phone" } else { &format!("{contacts} phones") };
                let aor = plain(aor);
                let line = format!("registered    {aor}  {phones}, {expires_s} s  from {source}");
                (Colour::Green, line)
            }
            Event::Call { call_id, from, to, status } => {
                let parties = format!("{} -> {}", plain(from), plain(to));
                if (200..300).contains(status) {
                    if self.calls.len() < MOST_CALLS {
                        self.calls.insert(call_id.clone(), parties.clone());
                    }
                    (Colour::Green, format!("call up       {parties}"))
                } else {
                    (Colour::Yellow, format!("call refused  {parties}  {status}"))
                }
            }
            Event::Bye { call_id } => {
                let parties = self.calls.remove(call_id).unwrap_or_else(|| plain(call_id));
                (Colour::Grey, format!("call ended    {parties}"))
            }
            Event::Malformed { fault, source } => {
                let fault = names::fault_word(*fault);
                (Colour::Red, format!("malformed     {fault}  from {source}"))
            }
            Event::AuthRefused { source, user, .. } => {
                let user = plain(user);
                (Colour::Red, format!("wrong password {user}  from {source}"))
            }
            Event::QueryFailed { what, fault, status } => {
                (Colour::Red, format!("no {what}: {fault}, answered {status}"))
            }
            Event::PolicyFailed { kind, status } => {
                let kind = names::failure_word(*kind);
                (Colour::Red, format!("policy failed {kind}: answered {status}"))
            }
            Event::MediaFailed { fault, status, .. } => {
                (Colour::Red, format!("media failed  {fault}: answered {status}"))
            }
            Event::MediaEnded(record) => {
                let legs = record.streams.iter().flat_map(|s| [&s.caller, &s.callee]);
                let packets = legs.fold(0u64, |sum, leg| sum.saturating_add(leg.packets));
                let reason = record.reason.word();
                (Colour::Grey, format!("media {reason:<7} {packets} packets relayed"))
            }
            Event::PolicyLog { text, .. } => {
                (Colour::Grey, format!("policy        {}", plain(text)))
            }
            Event::Destination { set, uri, state } => {
                let state = format!("{state:?}").to_lowercase();
                (Colour::Yellow, format!("destination   {uri} of {set} is {state}"))
            }
            Event::PolicyCount { .. } => return None,
        })
    }
}

/// A peer's text, short and without what moves a cursor.
fn plain(text: &str) -> String {
    text.chars().take(LONGEST).flat_map(char::escape_debug).collect()
}

/// How to try the router, for `make run`.
pub fn welcome(config: &Config) -> String {
    let mut text = String::new();
    if let (Some(listener), Some(domain)) = (config.listeners.first(), config.domains.first()) {
        text.push_str(&format!(
            "\nRegister two phones (any softphone; two baresip or linphone on this machine do):\n\
             \x20 account    sip:alice@{domain}   and   sip:bob@{domain}\n\
             \x20 registrar  {addr} over UDP or TCP, no password\n\
             Then call sip:bob@{domain} from alice's phone and watch the lines below.\n",
            addr = listener.addr,
        ));
    }
    let place = match config.admin.as_ref().map(|admin| &admin.listen) {
        Some(AdminAddr::Unix(path)) => path.display().to_string(),
        Some(AdminAddr::Tcp(addr)) => addr.to_string(),
        None => return text,
    };
    let program = std::env::args().next().unwrap_or_else(|| "viaduct".to_owned());
    text.push_str(&format!(
        "\nIn another terminal:\n\
         \x20 {program} --admin {place} status\n\
         \x20 {program} --admin {place} location dump\n\
         \x20 {program} policy new NAME        (a policy of your own; then build it and)\n\
         \x20 {program} --admin {place} policy deploy FILE\n\
         Ctrl-C ends the router.\n\n"
    ));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(events: &[Event], colour: bool) -> String {
        let now = Instant::now();
        let mut show = Show::new(Vec::new(), colour, now);
        for event in events {
            show.event(event, now);
        }
        show.turn(now + Duration::from_secs(1));
        String::from_utf8(show.out).unwrap()
    }

    fn registered(contacts: usize) -> Event {
        let source = "192.0.2.1:5060".parse().unwrap();
        Event::Registered { aor: "alice@example.com".into(), contacts, expires_s: 60, source }
    }

    #[test]
    fn registrations_and_calls_are_one_line_each() {
        let call = |status| Event::Call {
            call_id: "c1".into(),
            from: "sip:alice@example.com".into(),
            to: "sip:bob@example.com".into(),
            status,
        };
        let bye = Event::Bye { call_id: "c1".into() };
        let text = shown(&[registered(1), registered(0), call(486), call(200), bye], false);
        let expected = "\
registered    alice@example.com  1 phone, 60 s  from 192.0.2.1:5060
unregistered  alice@example.com  from 192.0.2.1:5060
call refused  sip:alice@example.com -> sip:bob@example.com  486
call up       sip:alice@example.com -> sip:bob@example.com
call ended    sip:alice@example.com -> sip:bob@example.com
";
        assert_eq!(text, expected);
    }

    #[test]
    fn under_load_the_rest_is_summed_up() {
        let events: Vec<Event> = (0..100).map(|_| registered(1)).collect();
        let text = shown(&events, false);
        assert_eq!(text.lines().count(), 21);
        let last = text.lines().last().unwrap();
        assert_eq!(last, "... and 80 registrations, 0 calls, 0 others");
    }

    #[test]
    fn a_peer_cannot_move_the_cursor_or_write_a_line_of_its_own() {
        let event = Event::PolicyLog { level: 2, text: "a\n\x1b[2Jb".repeat(1000) };
        let text = shown(&[event], false);
        assert_eq!(text.lines().count(), 1);
        assert!(!text.contains('\x1b') && text.len() < 400);
    }

    #[test]
    fn colour_is_for_terminals() {
        assert!(shown(&[registered(1)], true).starts_with("\x1b[32m"));
        assert!(!shown(&[registered(1)], false).contains('\x1b'));
    }
}
