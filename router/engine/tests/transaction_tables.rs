//! The four transaction machines as text, compared with `tests/snapshots/*.txt`, and what must hold
//! for every cell of every table. A deliberate change of a table is recorded by running this test
//! with `VIADUCT_BLESS=1`; the difference then shows in the review.
// Helpers of tests may fail loudly.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::collections::BTreeSet;
use std::fmt::{Debug, Write as _};
use std::path::Path;

use viaduct_engine::timer::Letter;
use viaduct_engine::transaction::{
    Actions, Step, invite_client, invite_server, non_invite_client, non_invite_server,
};

/// One machine, seen through the functions every machine has.
struct Machine<S: 'static, E: 'static> {
    name: &'static str,
    title: &'static str,
    states: &'static [S],
    events: &'static [E],
    start: fn(bool) -> Step<S>,
    step: fn(S, E, bool) -> Option<Step<S>>,
    event_of_timer: fn(Letter) -> Option<E>,
    terminated: S,
    /// States that no timer of the transaction ends, as their documentation says.
    owner_ended: &'static [S],
    abandon: E,
}

trait State: Copy + Debug + PartialEq {}
impl<T: Copy + Debug + PartialEq> State for T {}

fn ict() -> Machine<invite_client::State, invite_client::Event> {
    use invite_client::{Event, State, start, step};
    Machine {
        name: "invite_client",
        title: "INVITE client transaction (RFC 3261 17.1.1 figure 5, RFC 6026 7.2)",
        states: &State::ALL,
        events: &Event::ALL,
        start,
        step,
        event_of_timer: Event::of_timer,
        terminated: State::Terminated,
        owner_ended: &[State::Proceeding],
        abandon: Event::Abandon,
    }
}

fn nict() -> Machine<non_invite_client::State, non_invite_client::Event> {
    use non_invite_client::{Event, State, start, step};
    Machine {
        name: "non_invite_client",
        title: "Non-INVITE client transaction (RFC 3261 17.1.2 figure 6)",
        states: &State::ALL,
        events: &Event::ALL,
        start,
        step,
        event_of_timer: Event::of_timer,
        terminated: State::Terminated,
        owner_ended: &[],
        abandon: Event::Abandon,
    }
}

fn ist() -> Machine<invite_server::State, invite_server::Event> {
    use invite_server::{Event, State, start, step};
    Machine {
        name: "invite_server",
        title: "INVITE server transaction (RFC 3261 17.2.1 figure 7, RFC 6026 7.1 and 8.8)",
        states: &State::ALL,
        events: &Event::ALL,
        start,
        step,
        event_of_timer: Event::of_timer,
        terminated: State::Terminated,
        owner_ended: &[State::Proceeding],
        abandon: Event::Abandon,
    }
}

fn nist() -> Machine<non_invite_server::State, non_invite_server::Event> {
    use non_invite_server::{Event, State, start, step};
    Machine {
        name: "non_invite_server",
        title: "Non-INVITE server transaction (RFC 3261 17.2.2 figure 8, RFC 4320, RFC 6026 8.8)",
        states: &State::ALL,
        events: &Event::ALL,
        start,
        step,
        event_of_timer: Event::of_timer,
        terminated: State::Terminated,
        owner_ended: &[State::Trying, State::Proceeding],
        abandon: Event::Abandon,
    }
}

impl<S: State, E: State> Machine<S, E> {
    /// States reached from the start, with the letters that may be running in each: those armed on
    /// the way there and not yet fallen due. Every pair that can occur is listed once.
    fn reachable(&self, reliable: bool) -> Vec<(S, BTreeSet<Letter>)> {
        let first = (self.start)(reliable);
        let mut found = vec![(first.next, first.actions.armed().collect::<BTreeSet<_>>())];
        let mut at = 0;
        while let Some((state, running)) = found.get(at).cloned() {
            at += 1;
            for event in self.events {
                let timer =
                    Letter::ALL.into_iter().find(|l| (self.event_of_timer)(*l) == Some(*event));
                if timer.is_some_and(|letter| !running.contains(&letter)) {
                    continue;
                }
                let mut now_running = running.clone();
                now_running.retain(|letter| Some(*letter) != timer);
                let next = match (self.step)(state, *event, reliable) {
                    None => state,
                    Some(step) => {
                        for letter in step.actions.armed() {
                            let fresh = now_running.insert(letter);
                            assert!(
                                fresh,
                                "{}: {state:?} {event:?} arms {letter:?} twice",
                                self.name
                            );
                        }
                        step.next
                    }
                };
                let pair = (next, now_running);
                if !found.contains(&pair) {
                    found.push(pair);
                }
            }
        }
        found
    }

    fn reached(&self, state: S, reliable: bool) -> bool {
        self.reachable(reliable).iter().any(|(s, _)| *s == state)
    }

    fn text(&self) -> String {
        let mut out = format!("{}\n", self.title);
        out.push_str("An event that is not listed for a state is ignored there.\n");
        for (reliable, transport) in [(false, "unreliable"), (true, "reliable")] {
            let first = (self.start)(reliable);
            writeln!(out, "\n{transport} transport").unwrap();
            writeln!(out, "  start -> {:?}: {}", first.next, first.actions).unwrap();
            for state in self.states {
                if !self.reached(*state, reliable) {
                    writeln!(out, "  {state:?}: not reached").unwrap();
                    continue;
                }
                writeln!(out, "  {state:?}").unwrap();
                for event in self.events {
                    let Some(step) = (self.step)(*state, *event, reliable) else {
                        continue;
                    };
                    let event = format!("{event:?}");
                    let next = format!("{:?}", step.next);
                    let todo = match step.actions.is_empty() {
                        true => "(absorb)".to_owned(),
                        false => step.actions.to_string(),
                    };
                    writeln!(out, "    {event:<16}-> {next:<11} {todo}").unwrap();
                }
            }
        }
        out
    }

    fn check_snapshot(&self) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/snapshots")
            .join(format!("{}.txt", self.name));
        let text = self.text();
        if std::env::var_os("VIADUCT_BLESS").is_some() {
            std::fs::write(&path, &text).expect("snapshot written");
            return;
        }
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            kept == text,
            "the table of {} differs from {} (VIADUCT_BLESS=1 records the new one):\n{}",
            self.name,
            path.display(),
            difference(&kept, &text)
        );
    }

    fn check_every_cell(&self) {
        for reliable in [false, true] {
            for state in self.states {
                for event in self.events {
                    let Some(step) = (self.step)(*state, *event, reliable) else {
                        continue;
                    };
                    let cell = format!("{} {state:?} {event:?} {reliable}", self.name);
                    assert_ne!(*state, self.terminated, "{cell}: Terminated ignores everything");
                    let ends = step.next == self.terminated;
                    assert_eq!(step.actions.has(Actions::FORGET), ends, "{cell}");
                    assert!(!ends || step.actions.armed().next().is_none(), "{cell}");
                    for letter in step.actions.armed() {
                        assert!(
                            (self.step)(
                                step.next,
                                (self.event_of_timer)(letter).expect("own letter"),
                                reliable
                            )
                            .is_some(),
                            "{cell} arms {letter:?}, which means nothing in {:?}",
                            step.next
                        );
                    }
                }
            }
        }
    }

    /// In whatever state and with whatever timers running: some running timer leads to the end, or
    /// the state is documented as ended by the owner, who can do so.
    fn check_everything_ends(&self) {
        for reliable in [false, true] {
            for (state, running) in self.reachable(reliable) {
                if state == self.terminated {
                    continue;
                }
                let by_timer = running.iter().any(|letter| {
                    (self.event_of_timer)(*letter)
                        .and_then(|event| (self.step)(state, event, reliable))
                        .is_some_and(|step| step.next == self.terminated)
                });
                let by_owner = self.owner_ended.contains(&state)
                    && (self.step)(state, self.abandon, reliable)
                        .is_some_and(|step| step.next == self.terminated);
                assert!(by_timer || by_owner, "{} hangs in {state:?}, {running:?}", self.name);
                assert!(
                    !self.owner_ended.contains(&state) || !by_timer,
                    "{}: {state:?} is documented as ended by the owner alone",
                    self.name
                );
            }
        }
    }

    fn check(&self) {
        self.check_every_cell();
        self.check_everything_ends();
        self.check_snapshot();
        for state in self.states {
            assert!(self.reached(*state, false), "{}: {state:?} is never reached", self.name);
        }
    }
}

/// Lines of both texts up to the first and from the last difference are left out.
fn difference(old: &str, new: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let same = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let (old, new) = (&old[same..], &new[same..]);
    let tail = old.iter().rev().zip(new.iter().rev()).take_while(|(a, b)| a == b).count();
    let mut out = format!("@@ line {}\n", same + 1);
    for line in &old[..old.len() - tail] {
        writeln!(out, "-{line}").unwrap();
    }
    for line in &new[..new.len() - tail] {
        writeln!(out, "+{line}").unwrap();
    }
    out
}

#[test]
fn invite_client_table() {
    ict().check();
}

#[test]
fn non_invite_client_table() {
    nict().check();
}

#[test]
fn invite_server_table() {
    ist().check();
}

#[test]
fn non_invite_server_table() {
    nist().check();
}

#[test]
fn a_difference_shows_what_changed_and_nothing_else() {
    let shown = difference("a\nb\nc\nd\n", "a\nB\nc2\nd\n");
    assert_eq!(shown, "@@ line 2\n-b\n-c\n+B\n+c2\n");
    assert_eq!(difference("a\n", "a\nb\n"), "@@ line 2\n+b\n");
}
