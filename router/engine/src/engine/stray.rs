//! Requests forwarded without state: ACK to a 2xx, and a CANCEL that matches nothing (RFC 3261
//! 16.10, 16.11).
//!
//! The policy is asked about an ACK to a 2xx, for where it goes can depend on what the policy knows
//! of NAT (an alias in the Request-URI). It is not retransmitted by itself, so a swap cannot make
//! two of one (R-G3). A CANCEL is decided by its content alone.

use std::hash::Hasher;
use std::io::Write;
use std::sync::Arc;

use siphasher::sip::SipHasher13;
use viaduct_message::{Essentials, Message, Method, Uri};

use super::Engine;
use super::ids::{Id, Ticket};
use super::inbound::traits;
use super::media::Ordered;
use super::respond::Answer;
use super::server::ServerEvent;
use crate::flow::Flow;
use crate::hook::{Phase, Policy, Verdict};
use crate::io::{Hop, Output, Token};
use crate::media::MediaResult;
use crate::proxy::forward::{Branch, Plan};
use crate::proxy::hop::{NextHop, next_hop};
use crate::proxy::route::preprocess;
use crate::registrar::Target;
use crate::run::Traits;
use crate::transaction::ServerKey;

/// Requests that may wait so at a time; more are dropped, as the network may do.
const MAX_STRAYS: usize = 4096;
/// Keeps this use of the secret apart.
const BRANCH_DOMAIN: u8 = 0x21;

/// A request that waits for a name, or for the media relay.
pub(super) struct Stray {
    generation: u32,
    flow: Flow,
    bytes: Box<[u8]>,
    plan: Plan,
}

impl<P: Policy> Engine<P> {
    /// An ACK: to a failure of ours it ends the transaction; to a 2xx it is a request of its own.
    pub(super) fn on_ack(&mut self, message: Message<'_>, key: ServerKey, flow: Flow) {
        if let Some(id) = self.keys.get(&key).copied() {
            let accepted = self.server(id).is_some_and(|server| {
                use crate::transaction::invite_server::State;
                server.machine == super::server::ServerMachine::Invite(State::Accepted)
            });
            if !accepted {
                return self.server_event(id, ServerEvent::Ack, &[]);
            }
        }
        self.forward_stray(message, flow);
    }

    /// Forwards a request without state, where the policy lets it: a CANCEL by its Route and
    /// Request-URI alone, an ACK as the policy says, which knows about NAT. What is meant for us
    /// ends here.
    pub(super) fn forward_stray(&mut self, message: Message<'_>, flow: Flow) {
        let trusted = self.settings.is_trusted(flow.remote.ip());
        let Ok(read) = Essentials::read(message) else { return };
        let Ok(routing) = preprocess(message, &read, &self.settings, trusted, &flow) else {
            return;
        };
        if read.max_forwards == Some(0) {
            return;
        }
        // Out of a dialog nobody may choose our next hop (R-G2): an ACK to a 2xx has a To tag, and
        // a CANCEL whose INVITE we did not forward has nothing to end.
        let traits = traits(message, &read, &self.settings, &routing, trusted);
        if message.method() == Method::Cancel {
            let led = routing.more_routes || routing.received.is_some();
            if traits.uri_is_ours && !led {
                return self.respond_rough(message, flow, &Answer::new(481, ""));
            }
        }
        if !traits.in_dialog && !trusted {
            return;
        }
        let mut plan = Plan { routing, ..Plan::default() };
        let media = match message.method() {
            Method::Ack => self.ask_about_ack(message, flow, traits, &mut plan),
            _ => Some(Ordered::Done(None)),
        };
        match media {
            Some(Ordered::Done(body)) => {
                plan.body = body.map(Vec::into_boxed_slice);
                self.route_stray(message, flow, &plan);
            }
            Some(Ordered::Ask(order)) => {
                if let Some(id) = self.hold_stray(message, flow, &plan) {
                    self.ask_media(Ticket::StrayMedia(id), order);
                }
            }
            None => {}
        }
    }

    /// The request route, for an ACK to a 2xx: `relay` forwards it, with the next hop, Request-URI
    /// and headers it stages; every other verdict drops it, as an ACK is never answered. Gives its
    /// body; `None`: it is dropped.
    fn ask_about_ack(
        &mut self,
        message: Message<'_>,
        flow: Flow,
        traits: Traits,
        plan: &mut Plan,
    ) -> Option<Ordered<Option<Vec<u8>>>> {
        let mut run = self.take_run();
        run.bytes.clear();
        run.bytes.extend_from_slice(message.bytes());
        if run.head.scan(&run.bytes, &self.settings.bounds.message).is_err() {
            self.put_run(run);
            return None;
        }
        run.flow = flow;
        run.now = self.now;
        run.seed = self.next_random();
        run.traits = traits;
        let version = self.policy.choose(&run);
        let (mut run, verdict) = self.run_policy(&version, Phase::Request, run);
        self.publish(&mut run.effects);
        let relayed = matches!(verdict, Ok(Verdict::Relay));
        plan.destination = run.effects.destination.take();
        plan.request_uri = run.effects.request_uri.take();
        plan.edits = std::mem::take(&mut run.effects.edits);
        let order = run.effects.media.take();
        let body = relayed.then(|| self.relay_media_of(order, (run.message(), flow), None));
        self.put_run(run);
        body
    }

    /// Keeps a request until what it waits for is there; `None`: too many wait.
    fn hold_stray(&mut self, message: Message<'_>, flow: Flow, plan: &Plan) -> Option<Id> {
        if self.strays.len() >= MAX_STRAYS {
            return None;
        }
        let generation = self.next_generation();
        let (bytes, plan) = (message.bytes().into(), plan.clone());
        let slot = self.strays.insert(Stray { generation, flow, bytes, plan }) as u32;
        Some(Id { slot, generation })
    }

    fn take_stray(&mut self, id: Id) -> Option<Stray> {
        let slot = id.slot as usize;
        let is_there = self.strays.get(slot).is_some_and(|stray| id.is(stray.generation));
        is_there.then(|| self.strays.remove(slot))
    }

    /// The media relay has answered about an ACK.
    pub(super) fn resume_stray_media(&mut self, id: Id, result: MediaResult) {
        let Some(mut stray) = self.take_stray(id) else { return };
        let mut run = self.take_run();
        if run.head.scan(&stray.bytes, &self.settings.bounds.message).is_ok() {
            let message = Message::new(&stray.bytes, &run.head);
            let body = self.relayed(result, message.call_id().unwrap_or_default());
            stray.plan.body = body.ok().flatten().map(Vec::into_boxed_slice);
            self.route_stray(message, stray.flow, &stray.plan);
        }
        self.put_run(run);
    }

    fn route_stray(&mut self, message: Message<'_>, flow: Flow, plan: &Plan) {
        let target = Target::default();
        let uri = plan.request_uri(message);
        let first = plan.routes_left(message).next().map(|value| value.bytes);
        let ours = Uri::parse(uri).is_ok_and(|uri| self.settings.is_ours(&uri));
        let destination = plan.destination.as_deref();
        if ours && first.is_none() && destination.is_none() && !plan.routing.is_known() {
            return;
        }
        match next_hop(&target, &plan.routing, destination, first, uri) {
            Ok(NextHop::Flow(to)) => self.send_stray(message, flow, plan, to, false),
            Ok(NextHop::Existing(hop)) => self.send_stray_to(message, flow, plan, hop, false),
            Ok(NextHop::Address(hop) | NextHop::Datagrams(hop)) => {
                self.send_stray_to(message, flow, plan, hop, true);
            }
            Ok(NextHop::Name(question)) => {
                if let Some(id) = self.hold_stray(message, flow, plan) {
                    let token = Ticket::Stray(id).token();
                    self.out.push(Output::Resolve { token, question });
                }
            }
            Err(_) => {}
        }
    }

    /// The name a request waited for is known.
    pub(super) fn resume_stray(&mut self, id: Id, hops: &[Hop]) {
        let Some(stray) = self.take_stray(id) else { return };
        let Some(hop) = hops.first().copied() else { return };
        let mut run = self.take_run();
        if run.head.scan(&stray.bytes, &self.settings.bounds.message).is_ok() {
            let message = Message::new(&stray.bytes, &run.head);
            self.send_stray_to(message, stray.flow, &stray.plan, hop, true);
        }
        self.put_run(run);
    }

    fn send_stray_to(
        &mut self,
        message: Message<'_>,
        inbound: Flow,
        plan: &Plan,
        hop: Hop,
        may_open: bool,
    ) {
        let preferred = plan.routing.local.or(Some(inbound.local));
        if let Some(to) = self.flow_to(hop, preferred) {
            self.send_stray(message, inbound, plan, to, may_open);
        }
    }

    fn send_stray(
        &mut self,
        message: Message<'_>,
        inbound: Flow,
        plan: &Plan,
        outbound: Flow,
        may_open: bool,
    ) {
        let settings = Arc::clone(&self.settings);
        let remote = outbound.remote.ip();
        let listener = settings.listener_for(outbound.transport, remote, Some(outbound.local));
        let Some(listener) = listener else { return };
        let mut branch = Vec::with_capacity(32);
        stateless_branch(message, &settings.secret, &mut branch);
        let target = Target::default();
        let branch = Branch {
            settings: &settings,
            plan,
            message,
            inbound,
            target: &target,
            outbound,
            listener,
            branch: &branch,
            breadth: None,
        };
        let edits = &mut self.edits;
        self.counters.forwarded = self.counters.forwarded.wrapping_add(1);
        self.out.transmit(outbound, Token::default(), may_open, |out| branch.write(edits, out));
    }
}

/// RFC 3261 16.11: the branch of a request forwarded without state is the same for its
/// retransmissions, and made of the received branch.
fn stateless_branch(message: Message<'_>, secret: &[u8; 16], out: &mut Vec<u8>) {
    let mut hasher = SipHasher13::new_with_key(secret);
    hasher.write(&[BRANCH_DOMAIN]);
    let via = message.top_via().ok();
    hasher.write(via.and_then(|via| via.branch()).unwrap_or_default());
    hasher.write(message.call_id().unwrap_or_default());
    hasher.write(message.request_uri());
    // Writing to a Vec cannot fail.
    let _ = write!(out, "z9hG4bKs{:016x}", hasher.finish());
}
