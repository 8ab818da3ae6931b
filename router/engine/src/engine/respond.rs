//! Answers go out: our own, with and without state, and forwarded ones (RFC 3261 8.2.6, 16.7, 18.2.2).

use std::hash::Hasher;
use std::io::Write;
use std::net::SocketAddr;

use siphasher::sip::SipHasher24;
use viaduct_message::Message;
use viaduct_message::response::{self, Reply};

use super::Engine;
use super::ids::{Id, Ticket};
use super::server::ServerEvent;
use crate::flow::{ConnId, Flow, Transport};
use crate::hook::Policy;
use crate::io::Token;
use crate::settings::Settings;
use crate::timer::Letter;
use crate::transaction::{Actions, duration_us};

/// Keeps this use of the secret apart from those of keys and branches.
const TAG_DOMAIN: u8 = 0x20;

impl<P: Policy> Engine<P> {
    /// Answers without state. The To-tag depends on the request alone, so that retransmissions get
    /// the same (RFC 3261 8.2.7).
    pub(super) fn respond_stateless(
        &mut self,
        message: Message<'_>,
        flow: Flow,
        status: u16,
        reason: &str,
        headers: &[u8],
        force_rport: bool,
    ) {
        let force = force_rport || self.settings.force_rport;
        let reply_flow = reply_flow(message, flow, force, &self.settings);
        let settings = &self.settings;
        self.counters.response(status);
        self.out.transmit(
            reply_flow,
            Token::default(),
            reply_flow.transport.is_reliable(),
            |out| {
                write_own(message, flow.remote, settings, status, reason, headers, force, out);
            },
        );
    }

    /// Answers in a transaction. `message` is its request.
    pub(super) fn respond_own(
        &mut self,
        id: Id,
        message: Message<'_>,
        status: u16,
        reason: &str,
        headers: &[u8],
        force_rport: bool,
    ) {
        let Some(server) = self.server(id) else { return };
        let source = server.flow.remote;
        let force = force_rport || self.settings.force_rport;
        let mut bytes = std::mem::take(&mut self.scratch);
        bytes.clear();
        write_own(message, source, &self.settings, status, reason, headers, force, &mut bytes);
        self.server_event(id, ServerEvent::Respond(status), &bytes);
        self.scratch = bytes;
    }

    /// As [`Engine::respond_own`], where the request has to be read again.
    pub(super) fn respond_later(&mut self, id: Id, status: u16, reason: &str, headers: &[u8]) {
        let Some(run) = self.load_request(id) else { return };
        let force = self.server(id).is_some_and(|server| server.plan.force_rport);
        self.respond_own(id, run.message(), status, reason, headers, force);
        self.put_run(run);
    }

    /// The request of a transaction in a run of its own.
    pub(super) fn load_request(&mut self, id: Id) -> Option<Box<crate::run::Run>> {
        let mut run = self.take_run();
        let limits = self.settings.bounds.message;
        let Some(server) = self.servers.get(id.slot as usize) else {
            self.put_run(run);
            return None;
        };
        run.bytes.clear();
        run.bytes.extend_from_slice(&server.request);
        run.flow = server.flow;
        run.now = self.now;
        run.traits = server.traits;
        run.vars.clone_from(&server.vars);
        if run.head.scan(&run.bytes, &limits).is_err() {
            // It was read once, so this is a transaction that has given its request back.
            self.put_run(run);
            return None;
        }
        run.seed = self.next_random();
        Some(run)
    }

    /// Steps a server transaction and does what the table says. `response` is what
    /// [`ServerEvent::Respond`] sends.
    pub(super) fn server_event(&mut self, id: Id, event: ServerEvent, response: &[u8]) {
        let Some(server) = self.server(id) else { return };
        let reliable = server.flow.transport.is_reliable();
        let actions = server.machine.step(event, reliable);
        if let ServerEvent::Respond(status) = event {
            if status >= 200 && !actions.is_empty() {
                server.finished = true;
            }
        }
        self.server_actions(id, actions, event, response);
    }

    fn server_actions(&mut self, id: Id, actions: Actions, event: ServerEvent, response: &[u8]) {
        for letter in actions.armed() {
            self.arm_server(id, letter);
        }
        if actions.has(Actions::SEND_RESPONSE) {
            if let ServerEvent::Respond(status) = event {
                self.counters.response(status);
            }
            if let Some(server) = self.server(id) {
                server.response = response.into();
            }
            self.transmit_response(id);
        }
        if actions.has(Actions::RESEND_RESPONSE) {
            self.counters.retransmitted = self.counters.retransmitted.wrapping_add(1);
            self.transmit_response(id);
        }
        if actions.has(Actions::SEND_TRYING) {
            self.send_trying(id);
        }
        // PASS_REQUEST needs nothing here: a new request is with the policy already, and an ACK to a
        // 2xx (RFC 6026 7.1) is a request of its own for a proxy, which `on_ack` forwards.
        if actions.has(Actions::FORGET) {
            self.remove_server(id);
        }
    }

    fn arm_server(&mut self, id: Id, letter: Letter) {
        let now_us = self.now.mono_us;
        let values = self.settings.timers;
        let Some(server) = self.server(id) else { return };
        let attempt = if letter == Letter::G { server.attempt } else { 0 };
        if letter == Letter::G {
            server.attempt = server.attempt.saturating_add(1);
        }
        let after = duration_us(letter, attempt, server.flow.transport.is_reliable(), &values);
        let generation = server.generation;
        self.timers.arm(now_us, after, letter, id.slot, generation);
    }

    /// Arms what the machine wants when a transaction begins to wait for its branches.
    pub(super) fn arm_late_trying(&mut self, id: Id) {
        self.arm_server(id, Letter::LateTrying);
    }

    /// Sends the transaction's response (again).
    fn transmit_response(&mut self, id: Id) {
        let Some(server) = self.servers.get(id.slot as usize) else { return };
        if server.response.is_empty() {
            return;
        }
        let flow = server.reply_flow;
        let token = Ticket::Server(id).token();
        let response = &server.response;
        self.out.transmit(flow, token, false, |out| out.extend_from_slice(response));
    }

    /// 100 (Trying), unless something was sent already.
    pub(super) fn send_trying(&mut self, id: Id) {
        let sent = self.server(id).is_none_or(|server| !server.response.is_empty());
        if sent {
            return;
        }
        let Some(run) = self.load_request(id) else { return };
        self.send_trying_for(id, run.message());
        self.put_run(run);
    }

    /// 100 (Trying) to a request at hand.
    pub(super) fn send_trying_for(&mut self, id: Id, message: Message<'_>) {
        let force = self.settings.force_rport;
        let Some(server) = self.server(id) else { return };
        let source = server.flow.remote;
        let mut bytes = Vec::with_capacity(512);
        write_own(message, source, &self.settings, 100, "Trying", b"", force, &mut bytes);
        if let Some(server) = self.server(id) {
            server.response = bytes.into();
        }
        self.counters.response(100);
        self.transmit_response(id);
    }

    /// A response could not be sent on its connection. RFC 3261 18.2.2: open one to the address in
    /// `received`, at the port of sent-by.
    pub(super) fn on_response_lost(&mut self, id: Id) {
        let Some(run) = self.load_request(id) else {
            return self.server_event(id, ServerEvent::TransportError, &[]);
        };
        let fallback = run.message().top_via().ok().map(|via| {
            let port = via.port.unwrap_or(run.flow.transport.default_port());
            SocketAddr::new(run.flow.remote.ip(), port)
        });
        self.put_run(run);
        let Some(server) = self.servers.get_mut(id.slot as usize) else { return };
        let mut flow = server.reply_flow;
        match fallback {
            Some(remote) if flow.transport == Transport::Tcp && flow.conn != ConnId::NONE => {
                flow.conn = ConnId::NONE;
                flow.remote = remote;
                server.reply_flow = flow;
                let response = &server.response;
                // No token: where this fails too, the client's own timers end it.
                self.out.transmit(flow, Token::default(), true, |out| {
                    out.extend_from_slice(response);
                });
            }
            _ => self.server_event(id, ServerEvent::TransportError, &[]),
        }
    }
}

/// Where answers to a request go (RFC 3261 18.2.2, RFC 3581 4). Streams: the same connection. UDP:
/// the source address; the source port where rport was asked for (or is forced), else the port of
/// sent-by. A `maddr` is obeyed for trusted peers only: it is an instruction to send to somebody
/// else.
pub(super) fn reply_flow(
    message: Message<'_>,
    flow: Flow,
    force_rport: bool,
    settings: &Settings,
) -> Flow {
    if flow.transport.is_reliable() {
        return flow;
    }
    let Ok(via) = message.top_via() else { return flow };
    let port = via.port.unwrap_or(flow.transport.default_port());
    if let Some(Some(maddr)) = via.params.get(b"maddr") {
        let ip = std::str::from_utf8(maddr).ok().and_then(|text| text.parse().ok());
        if let Some(ip) = ip.filter(|_| settings.is_trusted(flow.remote.ip())) {
            return Flow { remote: SocketAddr::new(ip, port), ..flow };
        }
    }
    if force_rport || via.params.has(b"rport") {
        return flow;
    }
    Flow { remote: SocketAddr::new(flow.remote.ip(), port), ..flow }
}

#[allow(clippy::too_many_arguments)]
fn write_own(
    message: Message<'_>,
    source: SocketAddr,
    settings: &Settings,
    status: u16,
    reason: &str,
    headers: &[u8],
    force_rport: bool,
    out: &mut Vec<u8>,
) {
    let mut tag = [0u8; 16];
    let tag = if status == 100 { &[][..] } else { to_tag(message, settings, &mut tag) };
    let reason = if reason.is_empty() { response::reason_phrase(status) } else { reason };
    let mut lines = Vec::new();
    let headers = if settings.server.is_empty() {
        headers
    } else {
        lines.reserve(headers.len().saturating_add(settings.server.len()).saturating_add(16));
        lines.extend_from_slice(headers);
        for part in [b"Server: ", settings.server.as_bytes(), b"\r\n"] {
            lines.extend_from_slice(part);
        }
        &lines
    };
    let reply = Reply { status, reason: reason.as_bytes(), to_tag: tag, headers, body: b"" };
    response::write(message, source, force_rport, &reply, out);
}

/// Our To-tag for a request: sixteen hex digits over what names it, under the secret.
fn to_tag<'a>(message: Message<'_>, settings: &Settings, buffer: &'a mut [u8; 16]) -> &'a [u8] {
    let mut hasher = SipHasher24::new_with_key(&settings.secret);
    hasher.write(&[TAG_DOMAIN]);
    hasher.write(message.call_id().unwrap_or_default());
    let from = message.from().ok().and_then(|from| from.tag()).unwrap_or_default();
    hasher.write(from);
    let branch = message.top_via().ok().and_then(|via| via.branch()).unwrap_or_default();
    hasher.write(branch);
    // Writing sixteen digits into sixteen bytes cannot fail.
    let _ = write!(&mut buffer[..], "{:016x}", hasher.finish());
    buffer
}
