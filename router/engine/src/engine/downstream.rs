//! Responses come back (RFC 3261 16.7) and branches end.

use viaduct_message::{HeaderName, Message, Method, Via};

use super::Engine;
use super::client::{Cancelling, ClientEvent, ClientMachine};
use super::ids::{Id, Ticket};
use super::media::Ordered;
use super::parked::ParkedReply;
use super::respond::Answer;
use super::server::ServerEvent;
use crate::flow::Flow;
use crate::hook::{Phase, Policy, Verdict};
use crate::io::Event;
use crate::location::Change;
use crate::proxy::best::best;
use crate::proxy::derived;
use crate::proxy::forward::{body_edits, header_edits};
use crate::registrar::{self, Registrar};
use crate::run::{Effects, Run};
use crate::shard;
use crate::timer::Letter;
use crate::transaction::duration::AT_T2;
use crate::transaction::{Actions, OwnBranch, duration_us};

/// A response with the way it came.
#[derive(Clone, Copy)]
pub(super) struct Arrived<'a> {
    pub(super) message: Message<'a>,
    pub(super) flow: Flow,
    /// The branch it belongs to.
    pub(super) branch: u32,
}

impl<P: Policy> Engine<P> {
    /// A response: found by the branch we wrote. What matches nothing is dropped (RFC 6026 8.9).
    pub(super) fn on_response(&mut self, message: Message<'_>, via: &Via<'_>, flow: Flow) {
        let own = via
            .branch()
            .and_then(|branch| OwnBranch::parse(branch, &self.settings.secret))
            .filter(|own| own.worker == self.settings.worker);
        let Some(own) = own else { return self.stray_response() };
        if self.is_pong(&own, message) {
            return;
        }
        let mut id = Id { slot: own.slot, generation: own.generation };
        let Some(client) = self.client(id) else { return self.stray_response() };
        let method = message.method();
        match (client.machine, client.cancelling) {
            // RFC 3261 17.1.3: branch and CSeq method. A CANCEL has the branch of its INVITE.
            (ClientMachine::Invite(_), Cancelling::Sent(cancel)) if method == Method::Cancel => {
                id = cancel;
            }
            (ClientMachine::Invite(_), _) if method == Method::Invite => {}
            (ClientMachine::Other(_), _) if client.is_of(message.method_token()) => {}
            _ => return self.stray_response(),
        }
        let Some(client) = self.client(id) else { return };
        let reliable = client.flow.transport.is_reliable();
        let status = message.status();
        // Once the INVITE has its final answer, a CANCEL has nothing left to do (RFC 3261 9.1). Sent
        // on and on it would reach a proxy that has forgotten the INVITE and passes it on (16.10).
        let settled = match client.cancelling {
            Cancelling::Sent(cancel) if status >= 200 => Some(cancel),
            _ => None,
        };
        let actions = client.machine.step(ClientEvent::Response(status), reliable);
        self.client_actions(id, actions, Some((message, flow)));
        if let Some(cancel) = settled {
            self.remove_client(cancel);
        }
        if (101..200).contains(&status) {
            self.restart_timer_c(id);
        }
        if status < 200 {
            self.send_wanted_cancel(id);
        }
    }

    fn stray_response(&mut self) {
        self.counters.stray_responses = self.counters.stray_responses.wrapping_add(1);
    }

    /// RFC 3261 16.7 step 2: a provisional other than 100 restarts Timer C.
    fn restart_timer_c(&mut self, id: Id) {
        let deadline = self.now.mono_us.saturating_add(self.settings.timers.c_us);
        if let Some(client) = self.client(id) {
            client.c_deadline_us = deadline;
        }
    }

    /// Steps a client transaction on anything but a response.
    pub(super) fn client_event(&mut self, id: Id, event: ClientEvent) {
        let Some(client) = self.client(id) else { return };
        let reliable = client.flow.transport.is_reliable();
        let actions = client.machine.step(event, reliable);
        self.client_actions(id, actions, None);
    }

    /// Does what a client machine's table says: arm, send, pass up, forget.
    pub(super) fn client_actions(
        &mut self,
        id: Id,
        actions: Actions,
        response: Option<(Message<'_>, Flow)>,
    ) {
        for letter in actions.armed() {
            self.arm_client(id, letter, actions.has(Actions::E_AT_T2));
        }
        if actions.has(Actions::SEND_REQUEST) {
            self.transmit_request(id);
        }
        if actions.has(Actions::SEND_ACK)
            && let Some(response) = response
        {
            self.send_ack(id, response.0);
        }
        let (owner, lost) = match self.client(id) {
            Some(client) => (client.owner, client.lost_status()),
            None => return,
        };
        if actions.has(Actions::FORGET) {
            self.remove_client(id);
        } else if actions.has(Actions::ARM_M) || actions.has(Actions::ARM_K) {
            // Accepted and Completed send no request again, and live for long.
            if let Some(client) = self.client(id) {
                client.request = Box::default();
            }
        }
        let Some((server, branch)) = owner else { return };
        if actions.has(Actions::PASS_RESPONSE)
            && let Some((message, flow)) = response
        {
            let arrived = Arrived { message, flow, branch: branch as u32 };
            self.on_branch_response(server, branch, arrived);
        }
        if actions.has(Actions::INFORM_TIMEOUT) {
            self.counters.timeouts = self.counters.timeouts.wrapping_add(1);
            self.end_branch(server, branch, 408);
        }
        if actions.has(Actions::INFORM_TRANSPORT) {
            self.branch_unsent(server, branch, lost);
        }
    }

    fn arm_client(&mut self, id: Id, letter: Letter, at_t2: bool) {
        let now_us = self.now.mono_us;
        let values = self.settings.timers;
        let Some(client) = self.client(id) else { return };
        let doubling = matches!(letter, Letter::A | Letter::E);
        let attempt = match doubling {
            true if at_t2 => AT_T2,
            true => client.attempt,
            false => 0,
        };
        if doubling {
            client.attempt = client.attempt.saturating_add(1);
        }
        let after = duration_us(letter, attempt, client.flow.transport.is_reliable(), &values);
        let generation = client.generation;
        self.timers.arm(now_us, after, letter, id.slot, generation);
    }

    fn transmit_request(&mut self, id: Id) {
        let Some(client) = self.clients.get(id.slot as usize) else { return };
        let token = Ticket::Client(id).token();
        let request = &client.request;
        self.out.transmit(client.flow, token, client.may_open, |out| {
            out.extend_from_slice(request);
        });
    }

    /// RFC 3261 17.1.1.3.
    fn send_ack(&mut self, id: Id, response: Message<'_>) {
        let mut run = self.take_run();
        let limits = self.settings.bounds.message;
        let Some(client) = self.clients.get(id.slot as usize) else { return self.put_run(run) };
        run.bytes.clear();
        run.bytes.extend_from_slice(&client.request);
        if run.head.scan(&run.bytes, &limits).is_ok() {
            let flow = client.flow;
            let may_open = client.may_open;
            let token = Ticket::Client(id).token();
            self.out.transmit(flow, token, may_open, |out| {
                derived::write_ack(run.message(), response, out);
            });
        }
        self.put_run(run);
    }

    /// RFC 3261 16.7 steps 3 to 5 and 10.
    fn on_branch_response(&mut self, id: Id, branch: usize, arrived: Arrived<'_>) {
        let message = arrived.message;
        let status = message.status();
        if status == 100 {
            return; // step 5: never forwarded
        }
        let Some(server) = self.server(id) else { return };
        let invite = server.machine.is_invite();
        let finished = server.finished;
        if let Some(state) = server.branches.get_mut(branch)
            && status >= 200
        {
            state.status = status;
            state.client = None;
            if status >= 300 {
                state.response = message.bytes().into();
                state.came_by = Some(arrived.flow);
            }
        }
        match status {
            // RFC 4320 4.1: a non-INVITE gets no provisional but 100.
            101..=199 if invite && !finished => self.forward_response(id, arrived, b""),
            101..=199 => {}
            // RFC 6026: every 2xx to an INVITE goes up, late ones too.
            200..=299 if invite || !finished => {
                self.forward_response(id, arrived, b"");
                self.close_context(id);
                self.tell_call(id, message);
                self.give_back(id);
            }
            200..=299 => {}
            _ => {
                if status >= 600 {
                    self.close_context(id); // step 5: no new branches, cancel the others
                }
                self.after_final(id, branch, status);
            }
        }
    }

    /// The request could not be delivered; where a final response has come it was its ACK, and the
    /// response counts.
    fn branch_unsent(&mut self, id: Id, branch: usize, status: u16) {
        let state = self.server(id).and_then(|server| server.branches.get(branch));
        let Some(state) = state.filter(|state| state.status == 0) else { return };
        // RFC 5626 7: the phone's own flow is known to have failed.
        let own_flow = state.target.bound.is_some() && state.target.route.is_empty();
        if !self.back_to_datagrams(id, branch) {
            self.end_branch(id, branch, if own_flow { 430 } else { status });
        }
    }

    /// A datagram of ours came back as undeliverable (RFC 3261 18.4): ICMP says so, and shows as
    /// much of it as came. Only who has seen the branch can make us believe it.
    pub(super) fn on_undelivered(&mut self, flow: Flow, bytes: &[u8]) {
        let branch = shard::branch(bytes);
        let own = branch.and_then(|branch| OwnBranch::parse(branch, &self.settings.secret));
        let Some(own) = own.filter(|own| own.worker == self.settings.worker) else { return };
        let id = Id { slot: own.slot, generation: own.generation };
        let Some(client) = self.client(id) else { return };
        if client.flow.transport == flow.transport && client.flow.remote == flow.remote {
            self.counters.undelivered = self.counters.undelivered.wrapping_add(1);
            self.client_event(id, ClientEvent::TransportError);
        }
    }

    /// A branch ended without a response of its own.
    pub(super) fn end_branch(&mut self, id: Id, branch: usize, status: u16) {
        let Some(server) = self.server(id) else { return };
        if let Some(state) = server.branches.get_mut(branch) {
            state.status = status;
            state.client = None;
            state.response = Box::default();
        }
        self.after_final(id, branch, status);
    }

    /// As [`Engine::end_branch`], with the request at hand: the branch could not even be sent.
    pub(super) fn branch_failed(&mut self, id: Id, branch: usize, status: u16, run: &Run) {
        if let Some(state) = self.server(id).and_then(|s| s.branches.get_mut(branch)) {
            state.status = status;
            state.client = None;
        }
        if status == 503 && self.try_next_hop(id, branch, run) {
            return self.reopen(id, branch);
        }
        self.check_context(id);
    }

    fn after_final(&mut self, id: Id, branch: usize, status: u16) {
        self.settle_branch_media(id, branch);
        let more = self
            .server(id)
            .filter(|server| !server.finished && !server.closed)
            .and_then(|server| server.branches.get(branch))
            .is_some_and(|state| !state.hops.is_empty());
        // RFC 3263 4.3: the next hop is tried on timeout, transport error and 503.
        if more
            && matches!(status, 408 | 503)
            && let Some(run) = self.load_request(id)
        {
            let tried = self.try_next_hop(id, branch, &run);
            self.put_run(run);
            if tried {
                return self.reopen(id, branch);
            }
        }
        // The proxy that has the flow cannot be reached.
        let state = self.server(id).and_then(|server| server.branches.get(branch));
        let unsent = status == 503 && state.is_some_and(|state| state.response.is_empty());
        if status == 430 {
            self.drop_failed(id, branch);
        }
        if (matches!(status, 408 | 430) || unsent) && self.try_next_flow(id, branch) {
            return;
        }
        self.check_context(id);
    }

    /// The flow a binding was made by has failed, so nothing can reach the phone by it any more (RFC
    /// 5626 7): the binding goes, unless the phone has registered anew meanwhile.
    fn drop_failed(&mut self, id: Id, branch: usize) {
        let Some(state) = self.server(id).and_then(|server| server.branches.get(branch)) else {
            return;
        };
        let Some(bound) = state.target.bound.clone() else { return };
        let contact = state.target.uri.clone();
        let key = &*bound.key;
        let snapshot = self.location.latest(&key.table, &key.aor);
        let Some(current) = snapshot.set else { return };
        let (set, removed) = registrar::remove_failed(&current, &contact, bound.modified_ms);
        if removed > 0 {
            self.counters.flows_failed = self.counters.flows_failed.wrapping_add(1);
            let (key, based_on) = (key.clone(), snapshot.version);
            // Where another change is quicker, the next request finds out.
            self.commit_aside(vec![Change { key, based_on, set, memory_only: false }]);
        }
    }

    fn reopen(&mut self, id: Id, branch: usize) {
        if let Some(state) = self.server(id).and_then(|s| s.branches.get_mut(branch))
            && state.client.is_some()
        {
            state.status = 0;
            state.response = Box::default();
        }
    }

    /// Are all branches final? Then the next group is tried, or the best response goes back.
    pub(super) fn check_context(&mut self, id: Id) {
        let Some(server) = self.server(id) else { return };
        if server.finished || server.branches.iter().any(|state| state.status == 0) {
            return;
        }
        if !server.closed && !server.waiting.is_empty() {
            if let Some(run) = self.load_request(id) {
                self.start_group(id, &run);
                self.put_run(run);
            }
            return;
        }
        self.finish_context(id);
    }

    /// RFC 3261 16.7 step 6, after the failure route has had its say.
    fn finish_context(&mut self, id: Id) {
        let Some(server) = self.server(id) else { return };
        let index = best(server.branches.iter().map(|state| state.status));
        let Some(index) = index else { return };
        let Some(state) = server.branches.get_mut(index) else { return };
        let status = state.status;
        let response = std::mem::take(&mut state.response);
        let came_by = state.came_by;
        let looked_up = state.target.bound.is_some();
        let invite = server.machine.is_invite();
        let cancelled = server.cancelled;
        if !cancelled && self.ask_failure_policy(id, status) {
            return;
        }
        if status == 430 && looked_up {
            // RFC 5626 11.5: it is between proxies, and we are the last that knows of flows.
            return self.finish_own(id, 480, invite);
        }
        if response.is_empty() || status == 503 {
            return self.finish_own(id, status, invite);
        }
        let mut run = self.take_run();
        run.bytes.clear();
        run.bytes.extend_from_slice(&response);
        if run.head.scan(&run.bytes, &self.settings.bounds.message).is_ok() {
            let more = self.other_challenges(id, status, &response);
            let message = run.message();
            let flow = came_by.unwrap_or(run.flow);
            let arrived = Arrived { message, flow, branch: index as u32 };
            self.forward_response(id, arrived, &more);
            self.tell_call(id, message);
        }
        self.put_run(run);
        self.give_back(id);
    }

    /// No response to pass on: our own. 408 goes to an INVITE only (RFC 4320 4.2); a 503 of
    /// downstream becomes 500, as it would tell the client that *we* are overloaded (16.7 step 6).
    fn finish_own(&mut self, id: Id, status: u16, invite: bool) {
        let status = match status {
            408 if !invite => return self.server_event(id, ServerEvent::Abandon, &[]),
            503 => 500,
            status => status,
        };
        self.respond_later(id, &Answer::new(status, ""));
        self.give_back(id);
    }

    /// What the transaction holds is not needed after its final response.
    pub(super) fn give_back(&mut self, id: Id) {
        if let Some(server) = self.server(id).filter(|server| server.finished) {
            server.shrink();
        }
    }

    /// RFC 3261 16.7 step 7: a 401 or 407 carries the challenges of all branches.
    fn other_challenges(&mut self, id: Id, status: u16, chosen: &[u8]) -> Vec<u8> {
        let mut lines = Vec::new();
        if !matches!(status, 401 | 407) {
            return lines;
        }
        let limits = self.settings.bounds.message;
        let mut run = self.take_run();
        let branches = self.server(id).map(|s| std::mem::take(&mut s.branches));
        for state in branches.iter().flatten() {
            if !matches!(state.status, 401 | 407) || *state.response == *chosen {
                continue;
            }
            run.bytes.clear();
            run.bytes.extend_from_slice(&state.response);
            if run.head.scan(&run.bytes, &limits).is_err() {
                continue;
            }
            let message = run.message();
            for name in [HeaderName::WwwAuthenticate, HeaderName::ProxyAuthenticate] {
                for line in message.lines_of(name) {
                    lines.extend_from_slice(line.whole.of(message.bytes()));
                }
            }
        }
        if let (Some(branches), Some(server)) = (branches, self.server(id)) {
            server.branches = branches;
        }
        self.put_run(run);
        lines
    }

    /// Passes a response up, after the reply route (RFC 3261 16.7 steps 8 and 9). `more` are header
    /// lines to add. Responses that come while one waits for the media relay wait behind it.
    pub(super) fn forward_response(&mut self, id: Id, arrived: Arrived<'_>, more: &[u8]) {
        let Arrived { message, flow, branch } = arrived;
        let Some(server) = self.server(id).filter(|server| server.parked_reply.is_none()) else {
            return;
        };
        if let Some(waiting) = &mut server.waiting_reply {
            return waiting.line_up(arrived, more);
        }
        let version = server.version.clone();
        if message.values(HeaderName::Via).nth(1).is_none() {
            return; // It was for us.
        }
        if !self.policy.wants(&version, Phase::Reply) {
            return self.finish_response(id, arrived, more, &mut Effects::default(), None);
        }
        let mut run = self.take_run();
        run.bytes.clear();
        run.bytes.extend_from_slice(message.bytes());
        run.flow = flow;
        run.now = self.now;
        run.seed = self.next_random();
        if let Some(server) = self.server(id) {
            run.vars.clone_from(&server.vars);
        }
        run.original = self.register_of(id, message);
        if run.head.scan(&run.bytes, &self.settings.bounds.message).is_err() {
            self.put_run(run);
            return self.finish_response(id, arrived, more, &mut Effects::default(), None);
        }
        let (mut run, verdict) = self.run_policy(&version, Phase::Reply, run);
        if let Some(server) = self.server(id) {
            server.vars.clone_from(&run.vars);
        }
        // Only a provisional may be dropped: a transaction must get its final answer.
        if matches!(verdict, Ok(Verdict::Drop)) && message.status() < 200 {
            self.publish(&mut run.effects);
            let changes = std::mem::take(&mut run.effects.changes);
            self.commit_aside(changes);
            return self.put_run(run);
        }
        let order = run.effects.media.take();
        match self.relay_media_of(order, (message, flow), Some(branch)) {
            Ordered::Done(body) => {
                self.finish_response(id, arrived, more, &mut run.effects, body);
            }
            Ordered::Ask(order) => {
                let effects = std::mem::take(&mut run.effects);
                self.hold_response(id, arrived, more, effects, order);
            }
        }
        self.put_run(run);
    }

    /// Sends a response on, as the reply route and the media relay have made it, or stores first
    /// what that route has staged.
    pub(super) fn finish_response(
        &mut self,
        id: Id,
        arrived: Arrived<'_>,
        more: &[u8],
        effects: &mut Effects,
        body: Option<Vec<u8>>,
    ) {
        let Arrived { message, flow, branch } = arrived;
        let Some(server) = self.server(id) else { return };
        let is_edge = server.plan.path.as_ref().is_some_and(|path| path.ob);
        self.edits.clear();
        remove_top_via(message, &mut self.edits);
        if !more.is_empty() {
            self.edits.insert(message.headers_end(), more);
        }
        if is_edge && let Some(line) = flow_timer(message, &self.settings.registrar) {
            self.edits.insert(message.headers_end(), line.as_bytes());
        }
        header_edits(message, &effects.edits, &mut self.edits);
        if let Some(body) = body {
            body_edits(message, &body, &mut self.edits);
        }
        let mut bytes = std::mem::take(&mut self.scratch);
        bytes.clear();
        self.edits.write(message.bytes(), &mut bytes);
        let status = message.status();
        let changes = std::mem::take(&mut effects.changes);
        if !changes.is_empty() && status >= 200 {
            let effects = std::mem::take(effects);
            let reply = ParkedReply { status, bytes, flow, branch, effects };
            return self.park_reply(id, reply, message, changes);
        }
        self.publish(effects);
        self.commit_aside(changes);
        self.server_event(id, ServerEvent::Respond(status), &bytes);
        self.scratch = bytes;
    }

    /// The failure route. True where it took the matter into its hands.
    fn ask_failure_policy(&mut self, id: Id, status: u16) -> bool {
        let Some(server) = self.server(id) else { return false };
        let version = server.version.clone();
        let tried = server.branches.len();
        if !self.policy.wants(&version, Phase::Failure) {
            return false;
        }
        let Some(mut run) = self.load_request(id) else { return false };
        run.status = status;
        let (mut run, verdict) = self.run_policy(&version, Phase::Failure, run);
        self.publish(&mut run.effects);
        let changes = std::mem::take(&mut run.effects.changes);
        self.commit_aside(changes);
        if let Some(server) = self.server(id) {
            server.vars.clone_from(&run.vars);
        }
        let room = self.settings.bounds.branches.saturating_sub(tried);
        let taken = match verdict {
            Ok(Verdict::Relay) if room > 0 && !run.effects.targets.is_empty() => {
                let targets = std::mem::take(&mut run.effects.targets);
                if let Some(server) = self.server(id) {
                    server.waiting = super::fork::in_order(targets, room);
                    server.closed = false;
                }
                self.start_group(id, &run);
                true
            }
            Ok(Verdict::Reply { status, reason }) => {
                let answer =
                    Answer { status, reason: &reason, headers: &run.effects.reply_headers };
                self.respond_own(id, run.message(), &answer);
                self.give_back(id);
                true
            }
            _ => false,
        };
        if !taken {
            self.end_media(&mut run);
        }
        self.put_run(run);
        taken
    }

    fn tell_call(&mut self, id: Id, response: Message<'_>) {
        let invite = self.server(id).is_some_and(|server| server.machine.is_invite());
        if !self.settings.events || !invite {
            return;
        }
        let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned().into_boxed_str();
        self.event(Event::Call {
            call_id: lossy(response.call_id().unwrap_or_default()),
            from: lossy(response.from().map(|from| from.uri).unwrap_or_default()),
            to: lossy(response.to().map(|to| to.uri).unwrap_or_default()),
            status: response.status(),
        });
    }
}

/// RFC 5626 5.4: the first hop of a flow tells the phone how long it waits for keep-alives.
fn flow_timer(response: Message<'_>, registrar: &Registrar) -> Option<String> {
    let taken = (200..300).contains(&response.status())
        && response.has_option(HeaderName::Require, b"outbound")
        && response.value_by_label(b"Flow-Timer").is_none();
    let seconds = registrar.flow_timer_s;
    (taken && seconds > 0).then(|| format!("Flow-Timer: {seconds}\r\n"))
}

/// RFC 3261 16.7 step 3.
fn remove_top_via(message: Message<'_>, edits: &mut viaduct_message::Edits) {
    if let Some(top) = message.values(HeaderName::Via).next() {
        edits.remove_value(message, &top);
    }
}
