//! Which node has which call, and what it is told: orders become commands, answers become bodies.
//! Without a socket; datagrams go in and out.
//!
//! Commands of one call go out one after the other, so that its end never overtakes its offer.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use viaduct_engine::Now;
use viaduct_engine::media::{
    CallView, EndReason, Handled, MediaDialog, MediaFault, MediaFlags, MediaMessage, MediaOrder,
    MediaRecord, MediaResult, Order, Tags,
};
use viaduct_message::Method;

use super::bencode::{Dict, Value};
use super::calls::{Call, Calls};
use super::client::{Client, ClientConfig, Command, Failure, Output, Route};
use super::command::{self, Description};
use super::{kept, report};
use crate::call::Side;
use crate::dialog::{self, Meaning, Parties};
use crate::sdp::body::Place;
use crate::service::{CallEntry, Draw, Journal, Key, Numbers, Sink};

/// Commands that may wait for one call's turn.
const MOST_QUEUED: usize = 16;

/// How calls are relayed by nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The nodes, and how they are asked.
    pub client: ClientConfig,
    /// Calls at a time; more are refused as busy.
    pub calls: usize,
    /// A call is ended after so many seconds; 0: never.
    pub lifetime_s: u64,
    /// One without an answer is ended after so many seconds.
    pub unanswered_s: u64,
}

/// Is told what came of an order.
pub type Reply = Box<dyn FnOnce(MediaResult) + Send>;
/// Is told how a call stands.
pub type CallReply = Box<dyn FnOnce(Option<CallView>) + Send>;

/// What is to be said to the node of a call.
pub(super) enum Work {
    /// An offer or an answer.
    Describe(Arc<MediaOrder>, Reply),
    /// The end of the call.
    End(EndReason),
    /// The end of one of its branches.
    EndBranch(u32),
    /// How does it stand?
    Query(CallReply),
}

/// What is to be done outside.
pub(super) enum Act {
    /// Send this datagram.
    Send(SocketAddr, Vec<u8>),
    /// Tell somebody; best without a lock.
    Tell(Box<dyn FnOnce() + Send>),
}

/// All calls.
pub(super) struct Relay {
    config: Config,
    calls: Calls,
    client: Client,
    /// The calls of commands under way, by their tickets.
    under_way: HashMap<u64, (u64, Work)>,
    next_id: u64,
    numbers: Numbers,
    sink: Sink,
    journal: Option<Arc<dyn Journal>>,
    acts: Vec<Act>,
}

impl Relay {
    pub(super) fn new(config: Config, draw: Draw, sink: Sink) -> Relay {
        Relay {
            client: Client::new(config.client.clone(), draw),
            config,
            calls: Calls::default(),
            under_way: HashMap::new(),
            next_id: 1,
            numbers: Numbers::default(),
            sink,
            journal: None,
            acts: Vec::new(),
        }
    }

    /// Takes up the calls an earlier process has kept, and keeps them from now on.
    pub(super) fn keep_in(
        &mut self,
        now: Now,
        journal: Arc<dyn Journal>,
        kept: Vec<(Vec<u8>, Vec<u8>)>,
    ) {
        for (key, value) in kept {
            let Some(Key::Call(id)) = Key::of(&key) else { continue };
            self.next_id = self.next_id.max(id.saturating_add(1));
            match kept::read(&value, id, now, self.client.nodes()) {
                Ok((call_id, call)) => self.calls.add(&call_id, call),
                Err(error) => {
                    tracing::warn!(id, %error, "a call of an earlier process is forgotten");
                    journal.remove(Key::Call(id));
                }
            }
        }
        self.journal = Some(journal);
    }

    /// Keeps a call as it is now, or that it is no more.
    fn keep(&self, id: u64) {
        let Some(journal) = &self.journal else { return };
        match self.calls.whole(id) {
            Some((call_id, call)) => {
                if let Some(octets) = kept::write(call_id, call, self.client.nodes()) {
                    journal.put(Key::Call(id), octets);
                }
            }
            None => journal.remove(Key::Call(id)),
        }
    }

    /// What is to be done now.
    pub(super) fn take_acts(&mut self, now: Now) -> Vec<Act> {
        while let Some(output) = self.client.poll() {
            match output {
                Output::Send { to, bytes } => self.acts.push(Act::Send(to, bytes)),
                Output::Done { ticket, node, result } => self.done(now, ticket, node, result),
                Output::Turned { node, up } => self.turned(node, up),
            }
        }
        std::mem::take(&mut self.acts)
    }

    pub(super) fn datagram(&mut self, now: Now, from: SocketAddr, bytes: &[u8]) {
        self.client.datagram(ms(now), from, bytes);
    }

    pub(super) fn tick(&mut self, now: Now) {
        self.client.tick(ms(now));
    }

    pub(super) fn deadline_ms(&self) -> Option<u64> {
        self.client.deadline_ms()
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    pub(super) fn numbers(&self) -> Numbers {
        Numbers { calls: self.calls.len() as u64, ..self.numbers.clone() }
    }

    /// What a message means is found out at once; what the node makes of it is asked.
    pub(super) fn handle(
        &mut self,
        now: Now,
        order: &Order,
        message: &MediaMessage<'_>,
    ) -> Result<Handled, MediaFault> {
        let place = Place::find(message.content_type, message.body);
        let (meaning, found) = self.meaning(order, message, place.is_some());
        self.note_response(found, message);
        // A response that ends a request carries nothing of a call.
        let describes = place.is_some() && message.status < 300;
        match meaning {
            Meaning::Offer if describes => {
                return Ok(Handled::Ask(Arc::new(MediaOrder::new(order, message))));
            }
            Meaning::Answer if describes && found.is_some() => {
                return Ok(Handled::Ask(Arc::new(MediaOrder::new(order, message))));
            }
            Meaning::Awaited => {
                self.begin(now, order, message)?;
            }
            Meaning::Delete => self.delete(now, message.tags, found),
            _ => {}
        }
        Ok(Handled::Done(None))
    }

    /// Asks the node what [`Relay::handle`] said is to be asked.
    pub(super) fn ask(&mut self, now: Now, order: &Arc<MediaOrder>, reply: Reply) {
        let message = order.message();
        let (meaning, found) = self.meaning(&order.order, &message, true);
        let id = match (meaning, found) {
            (Meaning::Offer | Meaning::Answer, Some((id, _))) => id,
            (Meaning::Offer, None) => match self.begin(now, &order.order, &message) {
                Ok(id) => id,
                Err(fault) => return self.tell(reply, Err(fault)),
            },
            _ => return self.tell(reply, Ok(None)),
        };
        self.enqueue(now, id, Work::Describe(Arc::clone(order), reply));
    }

    /// Asks the node how a call stands.
    pub(super) fn ask_about(&mut self, now: Now, dialog: &MediaDialog, reply: CallReply) {
        let tags = dialog.tags();
        match self.calls.requested(tags, tags.to.is_empty()) {
            Some((id, _)) => self.enqueue(now, id, Work::Query(reply)),
            None => self.acts.push(Act::Tell(Box::new(move || reply(None)))),
        }
    }

    pub(super) fn query(&mut self, now: Now, tags: Tags<'_>) -> Option<CallView> {
        let (id, _) = self.calls.requested(tags, tags.to.is_empty())?;
        self.calls.get(id).map(|call| call.view(now))
    }

    /// A request has come to nothing.
    pub(super) fn refused(&mut self, now: Now, tags: Tags<'_>, branch: Option<u32>) {
        if !tags.to.is_empty() {
            return; // The next offer says what holds then.
        }
        let of = |call: &&Call| call.parties.is_called_by(tags.from);
        let calls = self.calls.of(tags.call_id).iter().filter(of);
        let calls: Vec<(u64, bool)> = match branch {
            Some(_) => calls.filter(|c| c.branches).map(|c| (c.id, c.parties.confirmed)).collect(),
            None => calls.filter(|c| !c.parties.confirmed).map(|c| (c.id, false)).collect(),
        };
        for (id, _) in calls {
            let work = branch.map_or(Work::End(EndReason::Refused), Work::EndBranch);
            self.enqueue(now, id, work);
        }
    }

    /// Ends calls that are too old, and those nobody has answered.
    pub(super) fn end_old(&mut self, now: Now) {
        let lifetime_ms = match self.config.lifetime_s {
            0 => u64::MAX,
            seconds => seconds.saturating_mul(1_000),
        };
        let unanswered_ms = self.config.unanswered_s.saturating_mul(1_000);
        let overdue = self.calls.iter().filter_map(|(_, call)| {
            let waits = !call.answered && call.age_ms(now) >= unanswered_ms;
            let reason = if waits { EndReason::Unanswered } else { EndReason::Lifetime };
            (waits || call.age_ms(now) >= lifetime_ms).then_some((call.id, reason))
        });
        let overdue: Vec<(u64, EndReason)> = overdue.collect();
        for (id, reason) in overdue {
            self.enqueue(now, id, Work::End(reason));
        }
    }

    /// All calls that are on a node, the oldest first; at most `most`.
    pub(super) fn list(&self, now: Now, most: usize) -> Vec<CallEntry> {
        let calls = self.calls.iter().filter(|(_, call)| call.node.is_some());
        let calls = calls.map(|(call_id, call)| (call.id, self.entry(now, call_id, call)));
        let mut calls: Vec<(u64, CallEntry)> = calls.collect();
        calls.sort_unstable_by_key(|(id, _)| *id);
        calls.truncate(most);
        calls.into_iter().map(|(_, entry)| entry).collect()
    }

    /// Those with this Call-ID.
    pub(super) fn show(&self, now: Now, call_id: &[u8]) -> Vec<CallEntry> {
        let calls = self.calls.of(call_id).iter().filter(|call| call.node.is_some());
        calls.map(|call| self.entry(now, call_id, call)).collect()
    }

    pub(super) fn kill(&mut self, now: Now, call_id: &[u8]) -> usize {
        let ids: Vec<u64> = self.calls.of(call_id).iter().map(|call| call.id).collect();
        for id in &ids {
            self.enqueue(now, *id, Work::End(EndReason::Killed));
        }
        ids.len()
    }

    fn entry(&self, now: Now, call_id: &[u8], call: &Call) -> CallEntry {
        let node = call.node.and_then(|node| self.client.nodes().get(node));
        CallEntry {
            call_id: text(call_id),
            caller_tag: text(call.parties.caller()),
            callee_tag: text(call.parties.callee()),
            view: call.view(now),
            node: node.map(|node| node.config.address),
        }
    }

    fn meaning(
        &mut self,
        order: &Order,
        message: &MediaMessage<'_>,
        has_sdp: bool,
    ) -> (Meaning, Option<(u64, Side)>) {
        let found = self.calls.find(message);
        let exchange = found.and_then(|(id, side)| Some(self.calls.get(id)?.exchange(side)));
        (dialog::meaning(order.action, message, has_sdp, exchange), found)
    }

    fn note_response(&mut self, found: Option<(u64, Side)>, message: &MediaMessage<'_>) {
        let call = found.and_then(|(id, _)| self.calls.get(id));
        let Some(call) = call.filter(|_| message.status != 0) else { return };
        if !call.parties.is_called_by(message.tags.from) {
            return;
        }
        let is_new = call.parties.note_callee(message.tags.to);
        let is_taken = message.method == Method::Invite && (200..300).contains(&message.status);
        let confirmed = is_taken && call.parties.confirm(message.tags.to);
        let id = call.id;
        if is_new || confirmed {
            self.keep(id);
        }
    }

    fn begin(
        &mut self,
        now: Now,
        order: &Order,
        message: &MediaMessage<'_>,
    ) -> Result<u64, MediaFault> {
        let most = self.config.calls;
        if self.calls.len() >= most || !self.calls.has_room_for(message.tags.call_id) {
            self.numbers.refused_busy += 1;
            return Err(MediaFault::Busy(format!("{most} calls are relayed already")));
        }
        let id = self.ticket();
        let Tags { to, .. } = message.tags;
        let call = Call {
            parties: Parties::new(message.tags),
            branches: message.branch.is_some() && to.is_empty() && message.status == 0,
            ..Call::new(id, now, order.flags.clone())
        };
        self.calls.add(message.tags.call_id, call);
        self.numbers.calls_begun += 1;
        Ok(id)
    }

    fn ticket(&mut self) -> u64 {
        let ticket = self.next_id;
        self.next_id = self.next_id.wrapping_add(1).max(1);
        ticket
    }

    fn delete(&mut self, now: Now, tags: Tags<'_>, found: Option<(u64, Side)>) {
        if tags.to.is_empty() {
            return self.refused(now, tags, None);
        }
        if let Some((id, _)) = found {
            return self.enqueue(now, id, Work::End(EndReason::Ended));
        }
        // Perhaps one of the router before this one: the node its Call-ID says has it.
        let command = Command {
            ticket: 0,
            route: Route::Any,
            call_id: tags.call_id.into(),
            text: command::delete(tags.call_id, tags.from, None),
            undo: Vec::new(),
        };
        self.client.submit(ms(now), command);
    }

    /// The work is done when it is its turn.
    fn enqueue(&mut self, now: Now, id: u64, work: Work) {
        let Some(call) = self.calls.get(id) else { return };
        if !call.is_busy {
            return self.start(now, id, work);
        }
        let ends = |work: &Work| matches!(work, Work::End(_));
        let has_end = call.queue.iter().any(ends);
        if ends(&work) && !has_end {
            return call.queue.push_back(work);
        }
        if ends(&work) || has_end || call.queue.len() >= MOST_QUEUED {
            return self.refuse(work);
        }
        call.queue.push_back(work);
    }

    /// It is done no more: the call ends, or has too much to do.
    fn refuse(&mut self, work: Work) {
        match work {
            Work::Describe(_, reply) => {
                let fault = MediaFault::Busy("the call's media node is busy".to_owned());
                self.tell(reply, Err(fault));
            }
            Work::Query(reply) => self.acts.push(Act::Tell(Box::new(move || reply(None)))),
            Work::End(_) | Work::EndBranch(_) => {}
        }
    }

    fn start(&mut self, now: Now, id: u64, work: Work) {
        let ticket = self.ticket();
        let Some(call_id) = self.calls.call_id(id) else { return self.refuse(work) };
        let Some(call) = self.calls.get(id) else { return self.refuse(work) };
        let caller = call.parties.caller.clone();
        let text = match &work {
            Work::Describe(order, _) => describe(call, order),
            // No node has it.
            Work::End(_) if call.node.is_none() => return self.forget(id),
            Work::EndBranch(_) | Work::Query(_) if call.node.is_none() => {
                self.refuse(work);
                return self.go_on(now, id);
            }
            Work::End(_) => command::delete(&call_id, &caller, None),
            Work::EndBranch(branch) => command::delete(&call_id, &caller, Some(*branch)),
            Work::Query(_) => command::query(&call_id),
        };
        call.is_busy = true;
        let (route, undo) = match call.node {
            Some(node) => (Route::Node(node), Vec::new()),
            None => (Route::Any, command::delete(&call_id, &caller, None)),
        };
        self.under_way.insert(ticket, (id, work));
        self.client.submit(ms(now), Command { ticket, route, call_id, text, undo });
    }

    fn done(&mut self, now: Now, ticket: u64, node: Option<usize>, result: Result<Dict, Failure>) {
        let Some((id, work)) = self.under_way.remove(&ticket) else { return };
        match work {
            Work::Describe(order, reply) => {
                let result = self.described(id, &order, node, result);
                self.tell(reply, result);
            }
            Work::End(reason) => return self.ended(now, id, reason, &result),
            Work::EndBranch(_) => {}
            Work::Query(reply) => {
                let view = self.queried(now, id, &result);
                self.acts.push(Act::Tell(Box::new(move || reply(view))));
            }
        }
        self.go_on(now, id);
    }

    /// The next command of a call.
    fn go_on(&mut self, now: Now, id: u64) {
        let Some(call) = self.calls.get(id) else { return };
        call.is_busy = false;
        match call.queue.pop_front() {
            Some(work) => self.start(now, id, work),
            // No node wanted it, and nobody waits for a description any more.
            None if call.node.is_none() => self.forget(id),
            None => {}
        }
    }

    /// Removes a call no node has.
    fn forget(&mut self, id: u64) {
        if let Some((_, call)) = self.calls.remove(id) {
            self.keep(id);
            call.queue.into_iter().for_each(|work| self.refuse(work));
        }
    }

    fn described(
        &mut self,
        id: u64,
        order: &MediaOrder,
        node: Option<usize>,
        result: Result<Dict, Failure>,
    ) -> MediaResult {
        let answer = result.map_err(fault_of)?;
        let message = order.message();
        let failed = |text: &str| MediaFault::Failed(text.to_owned());
        let call = self.calls.get(id).ok_or_else(|| failed("the call is gone"))?;
        call.node = node;
        let sdp = answer.get(&b"sdp"[..]).map(Value::bytes).unwrap_or_default();
        if sdp.is_empty() {
            if call.offered_by.is_none() {
                // What it has made of the call is of no use.
                call.queue.push_back(Work::End(EndReason::Refused));
            }
            return Err(failed("the media node has answered without a description"));
        }
        let side = writer(call, &message);
        if is_answer(call, order) {
            call.is_open = message.status != 0 && message.status < 200;
            call.answered = true;
            self.numbers.answers += 1;
        } else {
            call.is_open = true;
            call.offered_by = Some(side);
            self.numbers.offers += 1;
        }
        self.keep(id);
        let place = Place::find(message.content_type, message.body);
        Ok(place.map(|place| place.replaced(message.body, sdp)))
    }

    fn queried(&mut self, now: Now, id: u64, result: &Result<Dict, Failure>) -> Option<CallView> {
        let call = self.calls.get(id)?;
        match result {
            Ok(answer) => {
                let Call { parties, streams, .. } = call;
                *streams = report::streams(answer, parties.caller(), parties.callee());
            }
            // It has ended it itself.
            Err(Failure::Refused(_)) => return None,
            Err(_) => {}
        }
        Some(call.view(now))
    }

    fn ended(&mut self, now: Now, id: u64, reason: EndReason, result: &Result<Dict, Failure>) {
        let Some((call_id, call)) = self.calls.remove(id) else { return };
        self.keep(id);
        let duration_ms = call.age_ms(now);
        let Call { parties, streams: known, queue, answered, begun, .. } = call;
        queue.into_iter().for_each(|work| self.refuse(work));
        let streams = match result {
            Ok(answer) => report::streams(answer, parties.caller(), parties.callee()),
            Err(failure) => {
                // A worker may be here, and must not wait for a log.
                tracing::debug!(
                    target: "viaduct::media", call_id = ?text(&call_id), %failure,
                    "a media node was not told the end of a call"
                );
                known
            }
        };
        self.numbers.ended(reason, &streams);
        (self.sink)(MediaRecord {
            call_id: text(&call_id),
            caller_tag: text(parties.caller()),
            callee_tag: text(parties.callee()),
            begun_unix_ms: begun.unix_ms,
            duration_ms,
            answered,
            reason,
            streams,
        });
    }

    fn tell(&mut self, reply: Reply, result: MediaResult) {
        self.acts.push(Act::Tell(Box::new(move || reply(result))));
    }

    fn turned(&self, node: usize, up: bool) {
        let Some(node) = self.client.nodes().get(node).map(|node| node.config.address) else {
            return;
        };
        if up {
            tracing::info!(target: "viaduct::media", %node, "media node up");
        } else {
            tracing::warn!(target: "viaduct::media", %node, "media node down");
        }
    }
}

/// Which side has written a message of a call that is known to be of it.
fn writer(call: &Call, message: &MediaMessage<'_>) -> Side {
    let by = if call.parties.is_called_by(message.tags.from) { Side::A } else { Side::B };
    if message.status == 0 { by } else { by.other() }
}

fn is_answer(call: &Call, order: &MediaOrder) -> bool {
    let message = order.message();
    let exchange = call.exchange(writer(call, &message));
    dialog::meaning(order.order.action, &message, true, Some(exchange)) == Meaning::Answer
}

/// The command for an offer or an answer.
fn describe(call: &mut Call, order: &MediaOrder) -> Vec<u8> {
    let message = order.message();
    let Tags { from, to, .. } = message.tags;
    let (writer_tag, other_tag) = if message.status == 0 { (from, to) } else { (to, from) };
    let is_answer = is_answer(call, order);
    let (offerer, other) =
        if is_answer { (other_tag, writer_tag) } else { (writer_tag, other_tag) };
    if message.status == 0 && !to.is_empty() && !is_answer {
        call.branches = false; // The dialog is one now.
    }
    let flags = flags_of(&call.flags, &order.order.flags);
    let place = Place::find(message.content_type, message.body);
    Description {
        offerer,
        other,
        is_answer,
        first: call.node.is_none().then(|| writer(call, &message)),
        message: &message,
        sdp: place.as_ref().map(|place| place.of(message.body)).unwrap_or_default(),
        flags: &flags,
        branch: message.branch.filter(|_| call.branches),
    }
    .text()
}

/// What the call's first order wanted holds for its later ones, but for where a message came from
/// and the address told.
fn flags_of(first: &MediaFlags, now: &MediaFlags) -> MediaFlags {
    MediaFlags {
        keep_ice: first.keep_ice || now.keep_ice,
        replace_origin: first.replace_origin || now.replace_origin,
        replace_connection: first.replace_connection || now.replace_connection,
        handover: first.handover || now.handover,
        dscp: now.dscp.or(first.dscp),
        inside: first.inside.clone(),
        outside: first.outside.clone(),
        ..now.clone()
    }
}

fn fault_of(failure: Failure) -> MediaFault {
    match failure {
        // As nodes word it: `Failed to parse SDP`, `Incomplete SDP specification`.
        Failure::Refused(reason) if reason.contains("SDP") => MediaFault::Description(reason),
        Failure::TooLarge => MediaFault::Description(failure.to_string()),
        Failure::Refused(reason) => MediaFault::Failed(format!("the media node says: {reason}")),
        other => MediaFault::Busy(other.to_string()),
    }
}

fn text(bytes: &[u8]) -> Box<str> {
    String::from_utf8_lossy(bytes).into()
}

fn ms(now: Now) -> u64 {
    now.mono_us / 1_000
}

#[cfg(test)]
mod tests;
