//! Branches go out (RFC 3261 16.5, 16.6): targets in groups of equal q, a client transaction each.

use std::collections::VecDeque;
use std::sync::Arc;

use viaduct_message::{Message, Method};

use super::Engine;
use super::client::{Cancelling, Client, ClientMachine};
use super::decide::Incoming;
use super::ids::{Id, Ticket};
use super::media::Ordered;
use super::respond::Answer;
use super::server::BranchState;
use crate::flow::{ConnId, Flow, Transport};
use crate::hook::{Phase, Policy, Verdict};
use crate::io::{Hop, Output, Token};
use crate::proxy::breadth;
use crate::proxy::forward::{Branch, Plan, body_edits, header_edits};
use crate::proxy::hop::{NextHop, NoHop, next_hop};
use crate::proxy::loops;
use crate::registrar::Target;
use crate::run::Run;
use crate::timer::Letter;
use crate::transaction::OwnBranch;

/// Hops one name may give; the rest are not tried.
const MAX_HOPS: usize = 8;

impl<P: Policy> Engine<P> {
    /// Forwards a request to the staged targets, or to where it says itself.
    pub(super) fn relay(
        &mut self,
        mut incoming: Box<Incoming>,
        version: P::Version,
        id: Option<Id>,
        mut run: Box<Run>,
    ) {
        let traits = run.traits;
        let elsewhere = run.effects.destination.is_some()
            || run.effects.request_uri.is_some()
            || incoming.routing.is_known()
            || incoming.routing.more_routes;
        if run.effects.targets.is_empty() && traits.uri_is_ours && !elsewhere {
            // RFC 3261 16.5: the Request-URI is ours, so only the location service can say where.
            return self.answer(incoming, version, id, run, &Answer::new(404, ""));
        }
        let breadth = breadth::given(run.message());
        if breadth == Some(0) {
            return self.answer(incoming, version, id, run, &Answer::new(440, ""));
        }
        if run.effects.force_rport {
            incoming.back.force_rport();
        }
        let media = match self.relay_media(&mut run) {
            Ok(Ordered::Done(media)) => media,
            Ok(Ordered::Ask(order)) => {
                return self.wait_for_media(incoming, version, id, run, order);
            }
            Err(status) => {
                let headers = self.retry_after(status);
                let answer = Answer { headers: headers.as_bytes(), ..Answer::new(status, "") };
                return self.answer(incoming, version, id, run, &answer);
            }
        };
        let targets = std::mem::take(&mut run.effects.targets);
        let plan = Plan { body: media.body, ..plan_of(&mut run, &incoming) };
        let id = id.unwrap_or_else(|| self.open_server(&incoming, version, &run));
        let invite = run.method() == Method::Invite;
        let loop_hash = loops::hash(run.message(), &self.settings.secret);
        let most = self.settings.bounds.branches;
        if let Some(server) = self.server(id) {
            server.back = incoming.back;
            server.plan = Arc::new(plan);
            server.loop_hash = loop_hash;
            server.breadth = breadth;
            server.waiting = in_order(targets, most);
            server.vars.clone_from(&run.vars);
            server.media = media.offered;
        }
        if invite {
            // 17.2.1 gives the TU 200 ms; a proxy never has the answer by then, so it says 100 at
            // once and keeps a timer less per call.
            // Where it had to wait for an answer or a commit, it was said already.
            let said = self.server(id).is_some_and(|server| !server.response.is_empty());
            if !said {
                self.send_trying_for(id, run.message());
            }
        } else {
            self.arm_late_trying(id);
        }
        self.start_group(id, &run);
        self.put_run(run);
    }

    /// Starts all waiting targets of the highest q (RFC 3261 16.6: parallel within one q), as far as
    /// Max-Breadth allows. No other branch is under way.
    pub(super) fn start_group(&mut self, id: Id, run: &Run) {
        let Some(server) = self.server(id) else { return };
        let q = server.waiting.front().map(|target| target.q_milli);
        let equal = server.waiting.iter().take_while(|target| Some(target.q_milli) == q).count();
        let count = equal.min(breadth::most(server.breadth));
        let first = server.branches.len();
        for (index, target) in server.waiting.drain(..count).enumerate() {
            let breadth = breadth::share(server.breadth, count, index);
            server.branches.push(BranchState { target, breadth, ..BranchState::default() });
        }
        for branch in first..first.saturating_add(count) {
            self.route_branch(id, branch, run);
        }
    }

    /// Finds the next hop of a branch and sends it there, or asks for the name.
    fn route_branch(&mut self, id: Id, branch: usize, run: &Run) {
        let Some(server) = self.server(id) else { return };
        let plan = Arc::clone(&server.plan);
        let inbound = server.flow;
        let Some(state) = server.branches.get_mut(branch) else { return };
        let first_route = plan.routes_left(run.message()).next().map(|value| value.bytes);
        let target = &state.target;
        let uri = if target.uri.is_empty() { plan.request_uri(run.message()) } else { &target.uri };
        let hop = next_hop(target, &plan.routing, plan.destination.as_deref(), first_route, uri);
        let preferred = target.local.or(plan.routing.local).or(Some(inbound.local));
        state.any_transport = match &hop {
            Ok(NextHop::Datagrams(_)) => true,
            Ok(NextHop::Name(question)) => question.transport.is_none() && !question.secure,
            _ => false,
        };
        match hop {
            Ok(NextHop::Flow(flow)) => self.send_branch(id, branch, run, flow, false),
            Ok(NextHop::Existing(hop)) => match self.flow_to(hop, preferred) {
                Some(flow) => self.send_branch(id, branch, run, flow, false),
                None => self.branch_failed(id, branch, 503, run),
            },
            Ok(NextHop::Address(hop) | NextHop::Datagrams(hop)) => {
                match self.flow_to(hop, preferred) {
                    Some(flow) => self.send_branch(id, branch, run, flow, true),
                    None => self.branch_failed(id, branch, 503, run),
                }
            }
            Ok(NextHop::Name(question)) => {
                let token = Ticket::Resolve(id, branch as u8).token();
                self.out.push(Output::Resolve { token, question });
            }
            Err(NoHop::Scheme) => self.branch_failed(id, branch, 416, run),
            Err(NoHop::Syntax) => self.branch_failed(id, branch, 500, run),
        }
    }

    /// A name has been resolved: the branch goes to the first hop, and to the others when it fails
    /// (RFC 3263 4.3).
    pub(super) fn on_resolved(&mut self, token: Token, hops: Vec<Hop>) {
        match Ticket::of(token) {
            Some(Ticket::Resolve(id, branch)) => {
                let branch = usize::from(branch);
                let Some(run) = self.load_request(id) else { return };
                let open = self
                    .server(id)
                    .and_then(|server| server.branches.get_mut(branch))
                    .filter(|state| state.status == 0 && state.client.is_none());
                if let Some(state) = open {
                    state.hops = hops.into_iter().take(MAX_HOPS).collect();
                    if !self.try_next_hop(id, branch, &run) {
                        self.branch_failed(id, branch, 503, &run);
                    }
                }
                self.put_run(run);
            }
            Some(Ticket::Stray(id)) => self.resume_stray(id, &hops),
            Some(Ticket::Ping(id)) => self.resume_ping(id, &hops),
            _ => {}
        }
    }

    /// Another way to the same phone (RFC 5626 7): after 430 and 408, and where nobody took the
    /// request; every other answer is the phone's own. Was there one?
    pub(super) fn try_next_flow(&mut self, id: Id, branch: usize) -> bool {
        let open = self.server(id).filter(|server| !server.finished && !server.closed);
        let Some(state) = open.and_then(|server| server.branches.get_mut(branch)) else {
            return false;
        };
        let mut flows = std::mem::take(&mut state.target.flows).into_iter();
        let Some(next) = flows.next() else { return false };
        let target = Target { flows: flows.collect(), ..next };
        *state = BranchState { target, breadth: state.breadth, ..BranchState::default() };
        if let Some(run) = self.load_request(id) {
            self.route_branch(id, branch, &run);
            self.put_run(run);
        }
        true
    }

    /// Sends a branch to its next untried hop that we have a socket for. Was there one?
    pub(super) fn try_next_hop(&mut self, id: Id, branch: usize, run: &Run) -> bool {
        loop {
            let Some(server) = self.server(id) else { return false };
            let local = server.flow.local;
            if server.closed {
                return false;
            }
            let Some(state) = server.branches.get_mut(branch) else { return false };
            let Some(hop) = state.hops.pop_front() else { return false };
            if let Some(flow) = self.flow_to(hop, Some(local)) {
                self.send_branch(id, branch, run, flow, true);
                return true;
            }
        }
    }

    /// The flow to a hop: which of our sockets to use.
    pub(super) fn flow_to(
        &self,
        hop: Hop,
        preferred: Option<std::net::SocketAddr>,
    ) -> Option<Flow> {
        let listener = self.settings.listener_for(hop.transport, hop.addr.ip(), preferred)?;
        Some(Flow {
            transport: hop.transport,
            local: listener.addr,
            remote: hop.addr,
            conn: ConnId::NONE,
        })
    }

    /// The stream a datagram of this length is to go by instead (RFC 3261 18.1.1), if any.
    fn by_stream(&mut self, id: Id, branch: usize, flow: Flow, bytes: usize) -> Option<Flow> {
        let most = self.settings.bounds.datagram_bytes;
        if most == 0 || bytes <= most || flow.transport != Transport::Udp {
            return None;
        }
        let hop = Hop { transport: Transport::Tcp, addr: flow.remote };
        let stream = self.flow_to(hop, Some(flow.local))?;
        let state = self.server(id)?.branches.get_mut(branch)?;
        if !state.any_transport {
            return None;
        }
        state.datagrams = Some(flow);
        Some(stream)
    }

    /// TCP, tried for the request's length, is not there: by UDP after all. Was it so?
    pub(super) fn back_to_datagrams(&mut self, id: Id, branch: usize) -> bool {
        let open = self.server(id).filter(|server| !server.finished && !server.closed);
        let Some(state) = open.and_then(|server| server.branches.get_mut(branch)) else {
            return false;
        };
        let Some(flow) = state.datagrams.take() else { return false };
        state.any_transport = false;
        state.client = None;
        let Some(run) = self.load_request(id) else { return false };
        self.send_branch(id, branch, &run, flow, true);
        self.put_run(run);
        true
    }

    /// Writes the branch's request and starts its client transaction.
    pub(super) fn send_branch(
        &mut self,
        id: Id,
        branch: usize,
        run: &Run,
        mut flow: Flow,
        may_open: bool,
    ) {
        let way = (flow, may_open);
        let generation = self.next_generation();
        let slot = self.clients.vacant_key() as u32;
        let client = Id { slot, generation };
        let mut bytes = std::mem::take(&mut self.scratch);
        bytes.clear();
        let mut written = self.write_branch(id, branch, run.message(), flow, client, &mut bytes);
        if let Some(stream) = self.by_stream(id, branch, flow, bytes.len()) {
            flow = stream;
            bytes.clear();
            written = self.write_branch(id, branch, run.message(), flow, client, &mut bytes);
        }
        let wanted = match written {
            true => self.ask_branch_policy(id, branch, &mut bytes),
            false => Err(503),
        };
        match wanted {
            Ok(Ordered::Done(())) => {}
            Ok(Ordered::Ask(order)) => {
                self.scratch = bytes;
                return self.hold_branch(id, branch, way, order);
            }
            Err(status) => {
                self.scratch = bytes;
                return self.branch_failed(id, branch, status, run);
            }
        }
        let invite = run.method() == Method::Invite;
        let reliable = flow.transport.is_reliable();
        let (machine, actions) = ClientMachine::start(invite, reliable);
        let now_us = self.now.mono_us;
        let c_deadline_us = now_us.saturating_add(self.settings.timers.c_us);
        self.clients.insert(Client {
            generation,
            machine,
            owner: Some((id, branch)),
            flow,
            may_open,
            request: bytes.as_slice().into(),
            attempt: 0,
            c_deadline_us,
            cancelling: Cancelling::No,
        });
        self.scratch = bytes;
        if let Some(state) = self.server(id).and_then(|s| s.branches.get_mut(branch)) {
            state.client = Some(client);
        }
        self.counters.forwarded = self.counters.forwarded.wrapping_add(1);
        if invite {
            // RFC 3261 16.6 step 11.
            let after = self.settings.timers.c_us;
            self.timers.arm(now_us, after, Letter::C, slot, generation);
        }
        self.client_actions(client, actions, None);
    }

    /// Appends the request as the branch sends it. False where we have no socket for the flow.
    fn write_branch(
        &mut self,
        id: Id,
        branch: usize,
        message: Message<'_>,
        flow: Flow,
        client: Id,
        out: &mut Vec<u8>,
    ) -> bool {
        let Some(server) = self.servers.get(id.slot as usize) else { return false };
        let Some(state) = server.branches.get(branch) else { return false };
        let remote = flow.remote.ip();
        let listener = self.settings.listener_for(flow.transport, remote, Some(flow.local));
        let Some(listener) = listener else { return false };
        let mut via_branch = Vec::with_capacity(crate::transaction::branch::BRANCH_LEN);
        OwnBranch {
            worker: self.settings.worker,
            slot: client.slot,
            generation: client.generation,
            loop_hash: server.loop_hash,
        }
        .write(&self.settings.secret, &mut via_branch);
        Branch {
            settings: &self.settings,
            plan: &server.plan,
            message,
            inbound: server.flow,
            target: &state.target,
            outbound: flow,
            listener,
            branch: &via_branch,
            breadth: state.breadth,
        }
        .write(&mut self.edits, out);
        true
    }

    /// The branch route: the policy sees the request as it is about to be sent, and may edit
    /// headers or skip the branch. The error is the status the branch then counts as failed with.
    fn ask_branch_policy(
        &mut self,
        id: Id,
        branch: usize,
        bytes: &mut Vec<u8>,
    ) -> Result<Ordered<()>, u16> {
        let Some(server) = self.server(id) else { return Err(480) };
        let version = server.version.clone();
        if !self.policy.wants(&version, Phase::Branch) {
            return Ok(Ordered::Done(()));
        }
        let Some(mut run) = self.load_request(id) else { return Err(480) };
        if let Some(state) = self.server(id).and_then(|server| server.branches.get(branch)) {
            run.attributes.extend_from_slice(&state.target.attributes);
        }
        std::mem::swap(&mut run.bytes, bytes);
        if run.head.scan(&run.bytes, &self.settings.bounds.message).is_err() {
            self.put_run(run);
            return Err(480);
        }
        let (mut run, verdict) = self.run_policy(&version, Phase::Branch, run);
        // A branch route that fails has staged nothing: the branch goes as it is.
        let media = match verdict {
            Ok(Verdict::Drop) => Err(480),
            _ => self.relay_branch_media((id, branch), &mut run),
        };
        if let Ok(Ordered::Ask(order)) = media {
            // It runs again when the relay has answered: this run has never been.
            run.discard();
            self.put_run(run);
            return Ok(Ordered::Ask(order));
        }
        self.publish(&mut run.effects);
        bytes.clear();
        self.edits.clear();
        header_edits(run.message(), &run.effects.edits, &mut self.edits);
        if let Ok(Ordered::Done(Some(body))) = &media {
            body_edits(run.message(), body, &mut self.edits);
        }
        self.edits.write(&run.bytes, bytes);
        if let Some(server) = self.server(id) {
            server.vars.clone_from(&run.vars);
        }
        self.put_run(run);
        media.map(|media| media.map(drop))
    }
}

/// What all branches share, taken from what the run has staged.
fn plan_of(run: &mut Run, incoming: &Incoming) -> Plan {
    Plan {
        routing: incoming.routing.clone(),
        request_uri: run.effects.request_uri.take(),
        destination: run.effects.destination.take(),
        path: run.effects.path.take(),
        record_route: run.effects.record_route,
        caller_flow: run.effects.caller_flow,
        callee_flow: run.effects.callee_flow,
        edits: std::mem::take(&mut run.effects.edits),
        force_rport: run.effects.force_rport,
        body: None,
    }
}

/// Targets by q, highest first, equal ones in the order given; without any, the Request-URI.
pub(super) fn in_order(mut targets: Vec<Target>, most: usize) -> VecDeque<Target> {
    if targets.is_empty() {
        targets.push(Target { q_milli: 1000, ..Target::default() });
    }
    targets.sort_by_key(|target| std::cmp::Reverse(target.q_milli));
    targets.truncate(most.clamp(1, 255));
    targets.into()
}
