//! Messages that wait for a media relay elsewhere: requests, branches, responses, ACKs. The policy
//! has been asked already; what it wants is kept with them, and goes on from there. (A branch is asked
//! about once more, as it is when its name has been resolved.)
//!
//! Whoever asks the relay answers in any case, and within the relay's own time: no timer is kept
//! here.

use std::collections::VecDeque;
use std::sync::Arc;

use viaduct_message::Head;

use super::Engine;
use super::decide::{Incoming, Parked};
use super::downstream::Arrived;
use super::ids::{Id, Ticket};
use super::media::Offered;
use crate::flow::Flow;
use crate::hook::{Policy, Verdict};
use crate::io::Output;
use crate::media::{MediaFault, MediaOrder, MediaResult};
use crate::query::{Fact, Query, QueryFault};
use crate::run::{Effects, Run};

/// Responses of one transaction that may wait behind another; more are lost, as the network may do.
const MOST_BEHIND: usize = 16;

/// A response with the way it came.
struct Kept {
    bytes: Box<[u8]>,
    flow: Flow,
    branch: u32,
    more: Box<[u8]>,
}

impl Kept {
    fn of(arrived: Arrived<'_>, more: &[u8]) -> Kept {
        let Arrived { message, flow, branch } = arrived;
        Kept { bytes: message.bytes().into(), flow, branch, more: more.into() }
    }
}

/// A response that waits for the media relay, and those that have come after it.
pub(crate) struct WaitingReply {
    kept: Kept,
    status: u16,
    effects: Effects,
    behind: VecDeque<Kept>,
}

impl WaitingReply {
    /// It answers its request for good.
    pub(super) fn is_final(&self) -> bool {
        self.status >= 200
    }

    /// Another one. A retransmission is not kept twice.
    pub(super) fn line_up(&mut self, arrived: Arrived<'_>, more: &[u8]) {
        let bytes = arrived.message.bytes();
        let known = [&self.kept].into_iter().chain(&self.behind).any(|kept| *kept.bytes == *bytes);
        if !known && self.behind.len() < MOST_BEHIND {
            self.behind.push_back(Kept::of(arrived, more));
        }
    }
}

impl<P: Policy> Engine<P> {
    pub(super) fn ask_media(&mut self, ticket: Ticket, order: Arc<MediaOrder>) {
        self.counters.asked = self.counters.asked.wrapping_add(1);
        self.out.push(Output::Ask { token: ticket.token(), query: Query::Media(order) });
    }

    /// A 503 says when to come again.
    pub(super) fn retry_after(&self, status: u16) -> String {
        let seconds = self.settings.registrar.retry_after_s.max(1);
        if status == 503 { format!("Retry-After: {seconds}\r\n") } else { String::new() }
    }

    /// A request is to be relayed when its offer has been.
    pub(super) fn wait_for_media(
        &mut self,
        incoming: Box<Incoming>,
        version: P::Version,
        id: Option<Id>,
        run: Box<Run>,
        order: Arc<MediaOrder>,
    ) {
        let id = id.unwrap_or_else(|| self.open_server(&incoming, version, &run));
        self.keep_quiet(id, &run);
        if let Some(server) = self.server(id) {
            // Where it is cancelled meanwhile, this is taken back.
            server.media = Offered::of(&order.order, run.message(), false);
            server.parked = Some(Box::new(Parked { incoming, run, verdict: Verdict::Relay }));
        }
        self.ask_media(Ticket::Media(id), order);
    }

    /// A branch is to be sent when its offer has been relayed.
    pub(super) fn hold_branch(
        &mut self,
        id: Id,
        branch: usize,
        way: (Flow, bool),
        order: Arc<MediaOrder>,
    ) {
        let state = self.server(id).and_then(|server| server.branches.get_mut(branch));
        let Some(state) = state else { return };
        state.held = Some(way);
        self.ask_media(Ticket::BranchMedia(id, branch as u8), order);
    }

    /// A response is to be sent on when its description has been relayed.
    pub(super) fn hold_response(
        &mut self,
        id: Id,
        arrived: Arrived<'_>,
        more: &[u8],
        effects: Effects,
        order: Arc<MediaOrder>,
    ) {
        let (kept, status) = (Kept::of(arrived, more), arrived.message.status());
        let Some(server) = self.server(id) else { return };
        let waiting = WaitingReply { kept, status, effects, behind: VecDeque::new() };
        server.waiting_reply = Some(Box::new(waiting));
        self.ask_media(Ticket::ReplyMedia(id), order);
    }

    /// The relay has answered.
    pub(super) fn on_media_answered(&mut self, ticket: Ticket, result: Result<Fact, QueryFault>) {
        let result = match result {
            Ok(Fact::Media(result)) => result,
            Ok(_) => return,
            Err(fault) => Err(MediaFault::Failed(format!("the media relay is {fault}"))),
        };
        match ticket {
            Ticket::Media(id) => self.resume_request(id, result),
            Ticket::BranchMedia(id, branch) => self.resume_branch(id, branch.into(), result),
            Ticket::ReplyMedia(id) => self.resume_response(id, result),
            Ticket::StrayMedia(id) => self.resume_stray_media(id, result),
            _ => {}
        }
    }

    fn resume_request(&mut self, id: Id, result: MediaResult) {
        let Some(server) = self.server(id) else { return };
        let Some(parked) = server.parked.take() else { return };
        // What it comes to is noted again, where it is sent on.
        server.media = None;
        let version = server.version.clone();
        let id = Id { generation: server.generation, ..id };
        let Parked { incoming, mut run, .. } = *parked;
        run.facts.push(Fact::Media(result));
        run.now = self.now;
        self.relay(incoming, version, Some(id), run);
    }

    fn resume_branch(&mut self, id: Id, branch: usize, result: MediaResult) {
        let Some(run) = self.load_request(id) else { return };
        let state = self.server(id).and_then(|server| server.branches.get_mut(branch));
        let open = state.filter(|state| state.status == 0 && state.client.is_none());
        if let Some(state) = open
            && let Some((flow, may_open)) = state.held.take()
        {
            state.media = Some(result);
            self.send_branch(id, branch, &run, flow, may_open);
        }
        self.put_run(run);
    }

    fn resume_response(&mut self, id: Id, result: MediaResult) {
        let Some(waiting) = self.server(id).and_then(|server| server.waiting_reply.take()) else {
            return;
        };
        let WaitingReply { kept, mut effects, mut behind, .. } = *waiting;
        self.with_kept(&kept, |engine, arrived| {
            let body = engine.relayed(result, arrived.message.call_id().unwrap_or_default());
            // It goes on in any case: the other side has said it.
            let body = body.ok().flatten();
            engine.finish_response(id, arrived, &kept.more, &mut effects, body);
        });
        while let Some(next) = behind.pop_front() {
            self.with_kept(&next, |engine, arrived| {
                engine.forward_response(id, arrived, &next.more);
            });
            if let Some(again) = self.server(id).and_then(|s| s.waiting_reply.as_mut()) {
                again.behind = behind;
                break;
            }
        }
        self.give_back(id);
    }

    fn with_kept(&mut self, kept: &Kept, act: impl FnOnce(&mut Self, Arrived<'_>)) {
        let mut head = Head::new();
        if head.scan(&kept.bytes, &self.settings.bounds.message).is_ok() {
            let message = viaduct_message::Message::new(&kept.bytes, &head);
            act(self, Arrived { message, flow: kept.flow, branch: kept.branch });
        }
    }
}
