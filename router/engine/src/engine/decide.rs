//! The policy is asked, and its verdict carried out.

use std::sync::Arc;

use viaduct_message::Method;

use super::Engine;
use super::ids::{Id, Ticket};
use super::respond::{Answer, Back};
use super::server::{Server, ServerEvent, ServerMachine};
use crate::flow::Flow;
use crate::hook::{FailureKind, Phase, Policy, PolicyFailure, Verdict};
use crate::io::{Event, Output, Token};
use crate::location::CommitFault;
use crate::proxy::route::Routing;
use crate::run::{Effects, Run};
use crate::transaction::ServerKey;

/// A request may be decided again when another REGISTER of its AoR came between; then it is
/// refused.
const MAX_ROUNDS: u8 = 4;

/// A new request on its way through the policy.
#[derive(Clone, Debug)]
pub(crate) struct Incoming {
    pub(crate) flow: Flow,
    pub(crate) back: Back,
    pub(crate) key: ServerKey,
    pub(crate) routing: Routing,
    pub(crate) rounds: u8,
}

/// A verdict that waits for its changes to be stored, or for the media relay.
pub(crate) struct Parked {
    pub(super) incoming: Box<Incoming>,
    pub(super) run: Box<Run>,
    pub(super) verdict: Verdict,
}

/// A verdict whose commit has ended; `id` where a transaction has waited for it.
struct Committed<V> {
    incoming: Box<Incoming>,
    version: V,
    id: Option<Id>,
    run: Box<Run>,
    verdict: Verdict,
}

impl<P: Policy> Engine<P> {
    /// Runs one phase. After a failure nothing is left of what the run had staged.
    pub(super) fn run_policy(
        &mut self,
        version: &P::Version,
        phase: Phase,
        mut run: Box<Run>,
    ) -> (Box<Run>, Result<Verdict, PolicyFailure>) {
        run.phase = phase;
        self.counters.policy_runs = self.counters.policy_runs.wrapping_add(1);
        let (mut run, mut verdict) = self.policy.decide(version, phase, run);
        if let Ok(Verdict::Ask { fallback }) = verdict {
            if phase == Phase::Request {
                return (run, verdict);
            }
            // Only a request that begins can be parked.
            verdict = Err(PolicyFailure { kind: FailureKind::Fact, status: fallback });
        }
        match &verdict {
            // What waits for a commit may be decided again, and then this run has never been.
            Ok(_) if run.effects.changes.is_empty() => self.publish(&mut run.effects),
            Ok(_) => {}
            Err(failure) => {
                run.discard();
                self.counters.policy_failure(failure.kind);
                self.event(Event::PolicyFailed { kind: failure.kind, status: failure.status });
            }
        }
        (run, verdict)
    }

    /// Logs, counts and changes in what all workers share what a run that counts has staged. Once: a
    /// second call finds nothing.
    pub(super) fn publish(&mut self, effects: &mut Effects) {
        for (level, text) in effects.logs.drain(..) {
            self.out.push(Output::Event(Event::PolicyLog { level, text }));
        }
        for (name, by) in effects.counters.drain(..) {
            self.out.push(Output::Event(Event::PolicyCount { name, by }));
        }
        self.count_auth(effects);
        if !effects.tables.is_empty() || !effects.dispatcher.is_empty() {
            self.share(effects);
        }
    }

    #[cold]
    fn share(&mut self, effects: &mut Effects) {
        let shared = &self.settings.shared;
        for change in effects.tables.drain(..) {
            if !shared.tables.apply(&change, self.now.unix_ms) {
                self.counters.table_full = self.counters.table_full.wrapping_add(1);
            }
        }
        for change in effects.dispatcher.drain(..) {
            if let Some(destination) = shared.dispatcher.apply(&change) {
                self.out.push(Output::Event(Event::Destination {
                    set: destination.config().set.clone(),
                    uri: destination.config().uri.clone(),
                    state: destination.state(),
                }));
            }
        }
    }

    /// Stages become effects: changes are committed first, and what follows waits for them. `id`:
    /// the transaction, where there is one already.
    pub(super) fn on_verdict(
        &mut self,
        incoming: Box<Incoming>,
        version: P::Version,
        id: Option<Id>,
        run: Box<Run>,
        verdict: Result<Verdict, PolicyFailure>,
    ) {
        let verdict = match verdict {
            Ok(Verdict::Ask { fallback }) => {
                return self.ask(incoming, version, id, run, fallback);
            }
            Ok(verdict) => verdict,
            Err(failure) => {
                let answer = Answer::new(failure.status, "");
                return self.answer(incoming, version, id, run, &answer);
            }
        };
        if run.effects.changes.is_empty() {
            return self.carry_out(incoming, version, id, run, verdict);
        }
        self.note_taken_back(&run);
        match self.location.commit_in_memory(&run.effects.changes) {
            Some(result) => {
                self.counters.commit_in_memory(&result);
                let committed = Committed { incoming, version, id, run, verdict };
                self.after_commit(committed, result);
            }
            None => self.park(incoming, version, id, run, verdict),
        }
    }

    /// The store has to be asked: the transaction waits for its answer.
    fn park(
        &mut self,
        incoming: Box<Incoming>,
        version: P::Version,
        id: Option<Id>,
        mut run: Box<Run>,
        verdict: Verdict,
    ) {
        let changes = std::mem::take(&mut run.effects.changes);
        let id = id.unwrap_or_else(|| self.open_server(&incoming, version, &run));
        if let Some(server) = self.server(id) {
            server.parked = Some(Box::new(Parked { incoming, run, verdict }));
        }
        self.out.push(Output::Commit { token: Ticket::Commit(id).token(), changes });
    }

    /// A commit has ended: the verdict that waited for it goes on.
    pub(super) fn on_committed(&mut self, token: Token, result: Result<(), CommitFault>) {
        let id = match Ticket::of(token) {
            Some(Ticket::Commit(id)) => id,
            Some(Ticket::Reply(id)) => return self.on_reply_committed(id, result),
            _ => return,
        };
        let Some(server) = self.server(id) else { return };
        let Some(parked) = server.parked.take() else { return };
        let version = server.version.clone();
        let Parked { incoming, run, verdict } = *parked;
        self.after_commit(Committed { incoming, version, id: Some(id), run, verdict }, result);
    }

    fn after_commit(&mut self, committed: Committed<P::Version>, result: Result<(), CommitFault>) {
        let Committed { mut incoming, version, id, mut run, verdict } = committed;
        match result {
            Ok(()) => {
                self.publish(&mut run.effects);
                self.carry_out(incoming, version, id, run, verdict);
            }
            Err(CommitFault::Conflict) if incoming.rounds < MAX_ROUNDS => {
                // Another REGISTER of this AoR was quicker: decide again, from the newer bindings.
                incoming.rounds = incoming.rounds.saturating_add(1);
                run.discard();
                if let Some(id) = id {
                    self.remove_server(id);
                }
                let (run, verdict) = self.run_policy(&version, Phase::Request, run);
                self.on_verdict(incoming, version, None, run, verdict);
            }
            Err(_) => {
                // Nothing was stored and nothing is acknowledged; the UA tries again.
                self.publish(&mut run.effects);
                let seconds = self.settings.registrar.retry_after_s.max(1);
                let headers = format!("Retry-After: {seconds}\r\n");
                self.counters.registrations_refused =
                    self.counters.registrations_refused.wrapping_add(1);
                let answer = Answer { headers: headers.as_bytes(), ..Answer::new(503, "") };
                self.answer(incoming, version, id, run, &answer);
            }
        }
    }

    /// Bindings go: an older REGISTER of that Call-ID must not bring them back, nor slip in while the
    /// store is asked. Where the store refuses, the phone has still said what it wants now.
    fn note_taken_back(&mut self, run: &Run) {
        if run.effects.took_back {
            let (now_us, timers) = (self.now.mono_us, &self.settings.timers);
            self.taken_back.note(run.message(), &self.settings.secret, now_us, timers);
        }
    }

    fn carry_out(
        &mut self,
        incoming: Box<Incoming>,
        version: P::Version,
        id: Option<Id>,
        mut run: Box<Run>,
        verdict: Verdict,
    ) {
        if run.effects.media.is_some() && verdict != Verdict::Relay {
            self.end_media(&mut run);
        }
        match verdict {
            Verdict::Relay => self.relay(incoming, version, id, run),
            Verdict::Reply { status, reason } => {
                let headers = std::mem::take(&mut run.effects.reply_headers);
                let answer = Answer { status, reason: &reason, headers: &headers };
                self.answer(incoming, version, id, run, &answer);
            }
            Verdict::Answered => match run.effects.answer.take() {
                Some(mut answer) => {
                    answer.headers.extend_from_slice(&run.effects.reply_headers);
                    self.tell_registration(&mut run, answer.status);
                    let (status, reason) = (answer.status, &*answer.reason);
                    let answer = Answer { status, reason, headers: &answer.headers };
                    self.answer(incoming, version, id, run, &answer);
                }
                // `save` with no-reply: nothing is to be sent.
                None => self.give_up(id, run),
            },
            // `Continue` means nothing for a request; the host refuses it, a test's closure may
            // not.
            Verdict::Drop | Verdict::Continue | Verdict::Ask { .. } => self.give_up(id, run),
        }
    }

    fn give_up(&mut self, id: Option<Id>, run: Box<Run>) {
        if let Some(id) = id {
            self.server_event(id, ServerEvent::Abandon, &[]);
        }
        self.put_run(run);
    }

    /// Counts a REGISTER that `save` answered, and tells who watches.
    fn tell_registration(&mut self, run: &mut Run, status: u16) {
        if run.method() != Method::Register {
            return;
        }
        if status != 200 {
            self.counters.registrations_refused =
                self.counters.registrations_refused.wrapping_add(1);
            return;
        }
        self.counters.registrations = self.counters.registrations.wrapping_add(1);
        if let Some(event) = run.effects.registered.take() {
            self.event(event);
        }
    }

    /// Answers a request without forwarding it. An INVITE needs a transaction, for its ACK; other
    /// requests are answered without state (RFC 3261 8.2.7), as a retransmission is decided alike.
    pub(super) fn answer(
        &mut self,
        mut incoming: Box<Incoming>,
        version: P::Version,
        id: Option<Id>,
        run: Box<Run>,
        answer: &Answer<'_>,
    ) {
        if run.effects.force_rport {
            incoming.back.force_rport();
        }
        let invite = run.method() == Method::Invite;
        let id = match id {
            None if invite => Some(self.open_server(&incoming, version, &run)),
            id => id,
        };
        match id {
            Some(id) if invite => {
                if let Some(server) = self.server(id) {
                    server.back = incoming.back;
                }
                self.respond_own(id, run.message(), answer);
            }
            _ => {
                self.respond_stateless(run.message(), &incoming.back, answer);
                if let Some(id) = id {
                    self.remove_server(id);
                }
            }
        }
        self.put_run(run);
    }

    /// A server transaction for a new request, in the first state of its machine.
    pub(super) fn open_server(
        &mut self,
        incoming: &Incoming,
        version: P::Version,
        run: &Run,
    ) -> Id {
        let generation = self.next_generation();
        let reliable = incoming.flow.transport.is_reliable();
        let (machine, _) = ServerMachine::start(run.method(), reliable);
        let slot = self.servers.insert(Server {
            generation,
            key: incoming.key,
            machine,
            attempt: 0,
            flow: incoming.flow,
            back: incoming.back,
            request: run.bytes.as_slice().into(),
            response: Box::default(),
            version,
            vars: run.vars.clone(),
            traits: run.traits,
            loop_hash: 0,
            breadth: None,
            plan: Arc::default(),
            branches: Vec::new(),
            waiting: std::collections::VecDeque::new(),
            finished: false,
            closed: false,
            cancelled: false,
            parked: None,
            parked_reply: None,
            waiting_reply: None,
            reply_rounds: 0,
            asking: None,
            media: None,
        });
        let id = Id { slot: slot as u32, generation };
        self.keys.insert(incoming.key, id);
        self.admission.opened(incoming.flow.remote.ip());
        id
    }
}
