//! A run needs what is not in memory: its request is parked, the question goes out, and the policy
//! runs again from the top with the answer (design: ask and run again).

use std::sync::Arc;

use super::Engine;
use super::decide::Incoming;
use super::ids::{Id, Ticket};
use super::respond::Answer;
use crate::hook::{Phase, Policy};
use crate::io::{Event, Output, Token};
use crate::query::{Fact, Query, QueryFault};
use crate::run::{Effects, Run};
use crate::timer::Letter;

/// Questions one request may put, one after the other.
const MAX_ROUNDS: usize = 8;

/// A run that waits.
pub(crate) struct Asking {
    incoming: Box<Incoming>,
    run: Box<Run>,
    query: Query,
    /// What is answered without an answer.
    fallback: u16,
    /// Counts those who wait.
    seat: Arc<()>,
}

impl<P: Policy> Engine<P> {
    /// Parks a request and puts its question. `id`: its transaction, where it has waited before.
    pub(super) fn ask(
        &mut self,
        incoming: Box<Incoming>,
        version: P::Version,
        id: Option<Id>,
        mut run: Box<Run>,
        fallback: u16,
    ) {
        let query = run.asked.take();
        run.discard();
        let waiting = Arc::strong_count(&self.asking).saturating_sub(1);
        let fault = match &query {
            Some(_) if run.facts.len() >= MAX_ROUNDS => Some(QueryFault::Rounds),
            Some(_) if waiting >= self.settings.bounds.asking => Some(QueryFault::Busy),
            _ => None,
        };
        let (Some(query), None) = (&query, fault) else {
            let what = query.as_ref().map_or("nothing", Query::word);
            let fault = fault.unwrap_or(QueryFault::Unavailable);
            return self.ask_failed(incoming, version, id, run, (what, fault, fallback));
        };
        let first = id.is_none();
        let id = id.unwrap_or_else(|| self.open_server(&incoming, version, &run));
        if first {
            self.begin_to_wait(id, &run);
        }
        let seat = Arc::clone(&self.asking);
        if let Some(server) = self.server(id) {
            let query = query.clone();
            let asking = Asking { incoming, run, query, fallback, seat };
            server.asking = Some(Box::new(asking));
        }
        self.counters.asked = self.counters.asked.wrapping_add(1);
        self.out.push(Output::Ask { token: Ticket::Ask(id).token(), query: query.clone() });
    }

    /// The client is kept quiet, and nothing is waited for forever: one timer for all rounds.
    fn begin_to_wait(&mut self, id: Id, run: &Run) {
        let now_us = self.now.mono_us;
        let wait_us = self.settings.bounds.ask_us;
        self.timers.arm(now_us, wait_us, Letter::Watch, id.slot, id.generation);
        self.keep_quiet(id, run);
    }

    /// 100 (Trying), at once or when it is due.
    pub(super) fn keep_quiet(&mut self, id: Id, run: &Run) {
        if run.method() == viaduct_message::Method::Invite {
            self.send_trying_for(id, run.message());
        } else {
            self.arm_late_trying(id);
        }
    }

    /// The answer: the policy runs again.
    pub(super) fn on_answered(&mut self, token: Token, result: Result<Fact, QueryFault>) {
        let id = match Ticket::of(token) {
            Some(Ticket::Ask(id)) => id,
            Some(ticket) => return self.on_media_answered(ticket, result),
            None => return,
        };
        let Some(server) = self.server(id) else { return };
        let Some(asking) = server.asking.take() else { return };
        let id = Id { generation: server.generation, ..id };
        let version = server.version.clone();
        let Asking { incoming, mut run, query, fallback, seat } = *asking;
        drop(seat);
        match result {
            Ok(fact) => {
                run.facts.push(fact);
                run.now = self.now;
                let (run, verdict) = self.run_policy(&version, Phase::Request, run);
                self.on_verdict(incoming, version, Some(id), run, verdict);
            }
            Err(fault) => {
                let why = (query.word(), fault, fallback);
                self.ask_failed(incoming, version, Some(id), run, why);
            }
        }
    }

    /// Does this very transaction wait for an answer?
    pub(super) fn is_asking(&self, id: Id) -> bool {
        let server = self.servers.get(id.slot as usize);
        server.is_some_and(|s| s.generation == id.generation && s.asking.is_some())
    }

    /// The answer takes too long.
    pub(super) fn on_ask_overdue(&mut self, id: Id) {
        self.on_answered(Ticket::Ask(id).token(), Err(QueryFault::Unavailable));
    }

    /// The manifest's fallback, and when to come again.
    fn ask_failed(
        &mut self,
        incoming: Box<Incoming>,
        version: P::Version,
        id: Option<Id>,
        run: Box<Run>,
        (what, fault, status): (&'static str, QueryFault, u16),
    ) {
        self.counters.ask_failed = self.counters.ask_failed.wrapping_add(1);
        self.event(Event::QueryFailed { what, fault, status });
        let seconds = self.settings.registrar.retry_after_s.max(1);
        let headers = format!("Retry-After: {seconds}\r\n");
        let answer = Answer { headers: headers.as_bytes(), ..Answer::new(status, "") };
        self.answer(incoming, version, id, run, &answer);
    }

    /// What a run has found out about who sends its request.
    pub(super) fn count_auth(&mut self, effects: &mut Effects) {
        if std::mem::take(&mut effects.authenticated) {
            self.counters.auth_accepted = self.counters.auth_accepted.wrapping_add(1);
        }
        if let Some(event) = effects.refused.take() {
            self.counters.auth_refused = self.counters.auth_refused.wrapping_add(1);
            self.event(event);
        }
    }
}
