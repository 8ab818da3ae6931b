//! Requests forwarded without state: ACK to a 2xx, and a CANCEL that matches nothing (RFC 3261 16.10,
//! 16.11). Only message content and the Route header decide, never a policy (R-G3).

use std::hash::Hasher;
use std::io::Write;
use std::sync::Arc;

use siphasher::sip::SipHasher24;
use viaduct_message::{Message, Method};

use super::Engine;
use super::ids::{Id, Ticket};
use super::server::ServerEvent;
use crate::flow::Flow;
use crate::hook::Policy;
use crate::io::{Hop, Output, Token};
use crate::proxy::forward::{Branch, Plan};
use crate::proxy::hop::{NextHop, next_hop};
use crate::proxy::route::preprocess;
use crate::registrar::Target;
use crate::transaction::ServerKey;

/// Requests that may wait for a name at a time; more are dropped, as the network may do.
const MAX_STRAYS: usize = 4096;
/// Keeps this use of the secret apart.
const BRANCH_DOMAIN: u8 = 0x21;

/// A request that waits for a name.
pub(super) struct Stray {
    generation: u32,
    flow: Flow,
    bytes: Box<[u8]>,
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

    /// Forwards by Route and Request-URI alone. What is meant for us ends here.
    pub(super) fn forward_stray(&mut self, message: Message<'_>, flow: Flow) {
        let trusted = self.settings.is_trusted(flow.remote.ip());
        let Ok(routing) = preprocess(message, &self.settings, trusted) else { return };
        if message.max_forwards() == Ok(Some(0)) {
            return;
        }
        let plan = Plan { routing, ..Plan::default() };
        let uri = plan.request_uri(message);
        let ours = viaduct_message::Uri::parse(uri).is_ok_and(|uri| self.settings.is_ours(&uri));
        let led = plan.routing.more_routes || plan.routing.received.is_some();
        if ours && !led {
            if message.method() == Method::Cancel {
                let reason = "Call/Transaction Does Not Exist";
                self.respond_stateless(message, flow, 481, reason, b"", false);
            }
            return;
        }
        // Out of a dialog nobody may choose our next hop (R-G2): an ACK to a 2xx has a To tag, and a
        // CANCEL whose INVITE we did not forward has nothing to end.
        let in_dialog = message.to().is_ok_and(|to| to.tag().is_some());
        if !in_dialog && !trusted {
            return;
        }
        let target = Target::default();
        let first = plan.routes_left(message).next().map(|value| value.bytes);
        match next_hop(&target, &plan.routing, None, first, uri) {
            Ok(NextHop::Flow(to)) => self.send_stray(message, flow, &plan, to, false),
            Ok(NextHop::Existing(hop)) => self.send_stray_to(message, flow, &plan, hop, false),
            Ok(NextHop::Address(hop)) => self.send_stray_to(message, flow, &plan, hop, true),
            Ok(NextHop::Name(question)) => {
                if self.strays.len() < MAX_STRAYS {
                    let generation = self.next_generation();
                    let bytes = message.bytes().into();
                    let slot = self.strays.insert(Stray { generation, flow, bytes }) as u32;
                    let token = Ticket::Stray(Id { slot, generation }).token();
                    self.out.push(Output::Resolve { token, question });
                }
            }
            Err(_) => {}
        }
    }

    /// The name a request waited for is known.
    pub(super) fn resume_stray(&mut self, id: Id, hops: &[Hop]) {
        let slot = id.slot as usize;
        if !self.strays.get(slot).is_some_and(|stray| id.is(stray.generation)) {
            return;
        }
        let stray = self.strays.remove(slot);
        let Some(hop) = hops.first().copied() else { return };
        let mut run = self.take_run();
        if run.head.scan(&stray.bytes, &self.settings.bounds.message).is_ok() {
            let message = Message::new(&stray.bytes, &run.head);
            let trusted = self.settings.is_trusted(stray.flow.remote.ip());
            if let Ok(routing) = preprocess(message, &self.settings, trusted) {
                let plan = Plan { routing, ..Plan::default() };
                self.send_stray_to(message, stray.flow, &plan, hop, true);
            }
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
        };
        let edits = &mut self.edits;
        self.counters.forwarded = self.counters.forwarded.wrapping_add(1);
        self.out.transmit(outbound, Token::default(), may_open, |out| branch.write(edits, out));
    }
}

/// RFC 3261 16.11: the branch of a request forwarded without state is the same for its
/// retransmissions, and made of the received branch.
fn stateless_branch(message: Message<'_>, secret: &[u8; 16], out: &mut Vec<u8>) {
    let mut hasher = SipHasher24::new_with_key(secret);
    hasher.write(&[BRANCH_DOMAIN]);
    let via = message.top_via().ok();
    hasher.write(via.and_then(|via| via.branch()).unwrap_or_default());
    hasher.write(message.call_id().unwrap_or_default());
    hasher.write(message.request_uri());
    // Writing to a Vec cannot fail.
    let _ = write!(out, "z9hG4bKs{:016x}", hasher.finish());
}
