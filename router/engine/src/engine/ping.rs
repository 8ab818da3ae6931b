//! Keep-alive pings (sip-behaviour 2.6): one datagram of four bytes, or one OPTIONS without a
//! transaction. Who is pinged when, and what silence means, is the caller's business.

use std::io::Write as _;

use viaduct_message::Message;

use super::Engine;
use super::ids::{Id, Ticket};
use crate::flow::{Flow, Transport};
use crate::hook::Policy;
use crate::io::{Hop, Output, Ping, PingId, Token};
use crate::proxy::forward::write_request_uri;
use crate::proxy::hop::{NextHop, next_hop};
use crate::proxy::route::Routing;
use crate::transaction::OwnBranch;

/// Marks the slots of pings in our branches: no table of transactions has so many.
const PING_SLOT: u32 = 0x8000_0000;
/// Pings that may wait for a name at a time; more are left out.
const MAX_WAITING: usize = 4096;

/// A ping that waits for a name.
pub(super) struct WaitingPing {
    generation: u32,
    ping: Ping,
}

impl<P: Policy> Engine<P> {
    /// Sends a ping along the target's Path, or over its flow.
    pub(super) fn on_ping(&mut self, ping: Ping) {
        if !ping.options {
            return self.send_bytes(&ping);
        }
        match next_hop(&ping.target, &Routing::default(), None, None, &ping.target.uri) {
            Ok(NextHop::Flow(flow)) => self.send_options(&ping, flow),
            Ok(NextHop::Existing(hop) | NextHop::Address(hop) | NextHop::Datagrams(hop)) => {
                self.ping_hop(&ping, hop);
            }
            Ok(NextHop::Name(question)) if self.pings.len() < MAX_WAITING => {
                let generation = self.next_generation();
                let slot = self.pings.insert(WaitingPing { generation, ping }) as u32;
                let token = Ticket::Ping(Id { slot, generation }).token();
                self.out.push(Output::Resolve { token, question });
            }
            Ok(NextHop::Name(_)) | Err(_) => {}
        }
    }

    /// The name a ping waited for is known.
    pub(super) fn resume_ping(&mut self, id: Id, hops: &[Hop]) {
        let slot = id.slot as usize;
        if !self.pings.get(slot).is_some_and(|waiting| id.is(waiting.generation)) {
            return;
        }
        let WaitingPing { ping, .. } = self.pings.remove(slot);
        if let Some(hop) = hops.first() {
            self.ping_hop(&ping, *hop);
        }
    }

    fn ping_hop(&mut self, ping: &Ping, hop: Hop) {
        if let Some(flow) = self.flow_to(hop, ping.target.local) {
            self.send_options(ping, flow);
        }
    }

    /// Four zero bytes keep the NAT's mapping open and mean nothing to SIP. Only straight to an
    /// address: along a Path they would end at the first proxy.
    fn send_bytes(&mut self, ping: &Ping) {
        let target = &ping.target;
        let hop = next_hop(target, &Routing::default(), None, None, &target.uri);
        let hop = match hop {
            Ok(NextHop::Address(hop) | NextHop::Datagrams(hop)) if target.route.is_empty() => hop,
            _ => return,
        };
        if let Some(flow) = self.flow_to(hop, target.local).filter(is_udp) {
            self.out.transmit(flow, Token::default(), false, |out| out.extend_from_slice(&[0; 4]));
        }
    }

    fn send_options(&mut self, ping: &Ping, flow: Flow) {
        let settings = std::sync::Arc::clone(&self.settings);
        let remote = flow.remote.ip();
        let Some(listener) = settings.listener_for(flow.transport, remote, Some(flow.local)) else {
            return;
        };
        let mut branch = Vec::with_capacity(crate::transaction::branch::BRANCH_LEN);
        OwnBranch {
            worker: settings.worker,
            slot: ping.id.slot | PING_SLOT,
            generation: ping.id.generation,
            loop_hash: 0,
        }
        .write(&settings.secret, &mut branch);
        let (tag, call) = (self.next_random(), self.next_random());
        self.out.transmit(flow, Token::default(), ping.may_open, |out| {
            out.extend_from_slice(b"OPTIONS ");
            write_request_uri(&ping.target.uri, out);
            let via = listener.transport.via_name();
            let _ = write!(out, " SIP/2.0\r\nVia: SIP/2.0/{via} {}:", listener.host);
            let _ = write!(out, "{};branch=", listener.port);
            out.extend_from_slice(&branch);
            out.extend_from_slice(b";rport\r\n");
            if !ping.target.route.is_empty() {
                for part in [&b"Route: "[..], &ping.target.route, b"\r\n"] {
                    out.extend_from_slice(part);
                }
            }
            let from = &ping.from;
            let _ = write!(out, "Max-Forwards: 70\r\nFrom: <{from}>;tag={tag:016x}\r\nTo: <");
            out.extend_from_slice(&ping.target.uri);
            let _ = write!(out, ">\r\nCall-ID: {call:016x}\r\nCSeq: 1 OPTIONS\r\n");
            out.extend_from_slice(b"Content-Length: 0\r\n\r\n");
        });
    }

    /// A response to a ping? Then whoever sent it is told of the final one.
    pub(super) fn is_pong(&mut self, own: &OwnBranch, response: Message<'_>) -> bool {
        if own.slot & PING_SLOT == 0 {
            return false;
        }
        if response.status() >= 200 {
            let id = PingId { slot: own.slot & !PING_SLOT, generation: own.generation };
            self.out.push(Output::Pong { id, status: response.status() });
        }
        true
    }
}

fn is_udp(flow: &Flow) -> bool {
    flow.transport == Transport::Udp
}
