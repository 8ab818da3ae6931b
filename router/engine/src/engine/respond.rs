//! Answers go out: our own, with and without state, and forwarded ones (RFC 3261 8.2.6, 16.7,
//! 18.2.2).

use std::net::SocketAddr;

use viaduct_message::response::{self, Copied, Reply};
use viaduct_message::{Essentials, Message, Via};

use super::Engine;
use super::ids::{Id, Ticket};
use super::server::{ServerEvent, ServerMachine};
use crate::flow::{ConnId, Flow, Transport};
use crate::hook::Policy;
use crate::io::Token;
use crate::settings::Settings;
use crate::timer::Letter;
use crate::transaction::invite_server::State;
use crate::transaction::{Actions, Hashed, ServerKey, duration_us};

/// Keeps this use of the secret apart from those of keys and branches.
const TAG_DOMAIN: u8 = 0x20;

/// The way back to a client, worked out while its request is being read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Back {
    /// Where responses go.
    pub(crate) flow: Flow,
    /// Where the request came from.
    source: SocketAddr,
    /// What is copied from the request.
    copied: Copied,
    /// Write rport into the Via though the client did not ask: worked out anew.
    force_rport: bool,
    /// Our To-tag. It depends on the request alone, so that retransmissions answered without state
    /// get the same (RFC 3261 8.2.7).
    tag: [u8; 16],
}

impl Back {
    /// Of a request whose transaction has the name `key`.
    pub(super) fn new(
        read: &Essentials<'_>,
        key: &ServerKey,
        flow: Flow,
        settings: &Settings,
    ) -> Back {
        Back {
            flow: reply_flow(&read.via, flow, settings),
            source: flow.remote,
            copied: Copied::of(read, flow.remote, settings.force_rport),
            force_rport: false,
            tag: to_tag(key.name(), settings),
        }
    }

    /// For a request that cannot be read as a whole.
    fn rough(message: Message<'_>, flow: Flow, settings: &Settings) -> Back {
        let via = message.top_via().ok();
        let key = via.and_then(|via| ServerKey::of(message, &via, &settings.secret).ok());
        // It says least about itself where not even its Via can be read, but what it says, its
        // retransmission says too.
        let unnamed = || message.call_id().unwrap_or_default();
        Back {
            flow: via.map_or(flow, |via| reply_flow(&via, flow, settings)),
            source: flow.remote,
            copied: Copied::rough(message, flow.remote, settings.force_rport),
            force_rport: false,
            tag: to_tag(key.as_ref().map_or_else(unnamed, ServerKey::name), settings),
        }
    }

    /// The policy wants the answer at the port the request came from.
    pub(super) fn force_rport(&mut self) {
        self.force_rport = true;
        if !self.flow.transport.is_reliable() {
            self.flow.remote = self.source;
        }
    }

    /// Appends a response of our own.
    fn write(
        &self,
        message: Message<'_>,
        settings: &Settings,
        answer: &Answer<'_>,
        out: &mut Vec<u8>,
    ) {
        let (status, reason) = (answer.status, answer.reason);
        let to_tag = if status == 100 { &[][..] } else { &self.tag };
        let reply = Reply {
            status,
            reason: reason.as_bytes(),
            to_tag,
            headers: answer.headers,
            server: &settings.server,
            body: b"",
        };
        if self.force_rport {
            response::write(message, self.source, true, &reply, out);
        } else {
            response::write_copied(message, &self.copied, &reply, out);
        }
    }
}

/// What an answer of our own says.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Answer<'a> {
    pub(crate) status: u16,
    /// Empty: the registered one.
    pub(crate) reason: &'a str,
    /// Whole header lines.
    pub(crate) headers: &'a [u8],
}

impl<'a> Answer<'a> {
    pub(crate) fn new(status: u16, reason: &'a str) -> Answer<'a> {
        Answer { status, reason, headers: b"" }
    }
}

impl<P: Policy> Engine<P> {
    /// Answers without state.
    pub(super) fn respond_stateless(
        &mut self,
        message: Message<'_>,
        back: &Back,
        answer: &Answer<'_>,
    ) {
        let settings = &self.settings;
        self.counters.response(answer.status);
        let may_open = back.flow.transport.is_reliable();
        self.out.transmit(back.flow, Token::default(), may_open, |out| {
            back.write(message, settings, answer, out);
        });
    }

    /// Answers a request that could not be read as a whole, or of which nothing is kept.
    pub(super) fn respond_rough(&mut self, message: Message<'_>, flow: Flow, answer: &Answer<'_>) {
        let back = Back::rough(message, flow, &self.settings);
        self.respond_stateless(message, &back, answer);
    }

    /// Answers in a transaction. `message` is its request.
    pub(super) fn respond_own(&mut self, id: Id, message: Message<'_>, answer: &Answer<'_>) {
        let Some(server) = self.server(id) else { return };
        let back = server.back;
        let mut bytes = std::mem::take(&mut self.scratch);
        bytes.clear();
        back.write(message, &self.settings, answer, &mut bytes);
        self.server_event(id, ServerEvent::Respond(answer.status), &bytes);
        self.scratch = bytes;
    }

    /// As [`Engine::respond_own`], where the request has to be read again.
    pub(super) fn respond_later(&mut self, id: Id, answer: &Answer<'_>) {
        let Some(run) = self.load_request(id) else { return };
        self.respond_own(id, run.message(), answer);
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
        if let ServerEvent::Respond(status) = event
            && status >= 200
            && !actions.is_empty()
        {
            server.finished = true;
            if server.media.is_some() {
                let offered = server.media.take();
                self.settle_media(offered, status);
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
            self.drop_unneeded_response(id);
        }
        if actions.has(Actions::RESEND_RESPONSE) {
            self.counters.retransmitted = self.counters.retransmitted.wrapping_add(1);
            self.transmit_response(id);
        }
        if actions.has(Actions::SEND_TRYING) {
            self.send_trying(id);
        }
        // PASS_REQUEST needs nothing here: a new request is with the policy already, and an ACK to
        // a 2xx (RFC 6026 7.1) is a request of its own for a proxy, which `on_ack` forwards.
        if actions.has(Actions::FORGET) {
            self.remove_server(id);
        }
    }

    /// An accepted INVITE's transaction repeats no response of itself (RFC 6026 7.1) and lives for
    /// 32 s: its 2xx is kept only where a stream may yet fail to take it.
    fn drop_unneeded_response(&mut self, id: Id) {
        if let Some(server) = self.server(id)
            && server.machine == ServerMachine::Invite(State::Accepted)
            && !server.flow.transport.is_reliable()
        {
            server.response = Box::default();
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
        let flow = server.back.flow;
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
        let Some(server) = self.server(id) else { return };
        let back = server.back;
        let mut bytes = std::mem::take(&mut self.scratch);
        bytes.clear();
        back.write(message, &self.settings, &Answer::new(100, "Trying"), &mut bytes);
        if let Some(server) = self.server(id) {
            server.response = bytes.as_slice().into();
        }
        self.scratch = bytes;
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
        let mut flow = server.back.flow;
        match fallback {
            Some(remote) if flow.transport == Transport::Tcp && flow.conn != ConnId::NONE => {
                flow.conn = ConnId::NONE;
                flow.remote = remote;
                server.back.flow = flow;
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
fn reply_flow(via: &Via<'_>, flow: Flow, settings: &Settings) -> Flow {
    if flow.transport.is_reliable() {
        return flow;
    }
    let port = via.port.unwrap_or(flow.transport.default_port());
    if let Some(maddr) = via.maddr() {
        let ip = std::str::from_utf8(maddr).ok().and_then(|text| text.parse().ok());
        if let Some(ip) = ip.filter(|_| settings.is_trusted(flow.remote.ip())) {
            return Flow { remote: SocketAddr::new(ip, port), ..flow };
        }
    }
    if settings.force_rport || via.rport_text().is_some() {
        return flow;
    }
    Flow { remote: SocketAddr::new(flow.remote.ip(), port), ..flow }
}

/// Sixteen hex digits over what names a request, under the secret. A CANCEL has its INVITE's (RFC 3261
/// 9.2). Hashed again, so that nobody learns in which bucket of a table his transaction is.
fn to_tag(name: &[u8], settings: &Settings) -> [u8; 16] {
    let mut hashed = Hashed::new(&settings.secret);
    hashed.put(&[TAG_DOMAIN]);
    hashed.put(name);
    let [low @ .., _, _, _, _, _, _, _, _] = hashed.finish();
    let mut rest = u64::from_le_bytes(low);
    let mut digits = [b'0'; 16];
    for digit in &mut digits {
        let nibble = (rest & 0xf) as u8;
        *digit = if nibble < 10 { b'0' | nibble } else { b'W'.wrapping_add(nibble) };
        rest >>= 4;
    }
    digits
}

#[cfg(test)]
mod tests {
    use viaduct_message::Head;

    use super::*;

    fn tag(bytes: &[u8]) -> [u8; 16] {
        let settings = crate::settings::tests::settings();
        let mut head = Head::new();
        head.scan(bytes, &settings.bounds.message).unwrap();
        let message = Message::new(bytes, &head);
        let remote = "192.0.2.1:5060".parse().unwrap();
        let flow = Flow { transport: Transport::Udp, local: remote, remote, conn: ConnId::NONE };
        let rough = Back::rough(message, flow, &settings).tag;
        if let Ok(read) = viaduct_message::check::request(message) {
            let key = ServerKey::of(message, &read.via, &settings.secret).unwrap();
            assert_eq!(Back::new(&read, &key, flow, &settings).tag, rough);
        }
        rough
    }

    fn request(method: &str, branch: &str, sent_by: &str) -> Vec<u8> {
        format!(
            "{method} sip:a@example.com SIP/2.0\r\nVia: SIP/2.0/UDP {sent_by};branch={branch}\r\n\
             From: <sip:b@example.com>;tag=f\r\nTo: <sip:a@example.com>\r\nCall-ID: c\r\n\
             CSeq: 1 {method}\r\nMax-Forwards: 9\r\nContent-Length: 0\r\n\r\n"
        )
        .into_bytes()
    }

    #[test]
    fn a_to_tag_is_of_what_names_the_transaction() {
        let one = tag(&request("INVITE", "z9hG4bKx", "192.0.2.1"));
        assert!(one.iter().all(u8::is_ascii_hexdigit));
        assert_eq!(one, tag(&request("INVITE", "z9hG4bKx", "192.0.2.1:5060")), "sent again");
        assert_eq!(one, tag(&request("CANCEL", "z9hG4bKx", "192.0.2.1")), "RFC 3261 9.2");
        let others = [("z9hG4bKy", "192.0.2.1"), ("z9hG4bKx", "192.0.2.2"), ("old", "192.0.2.1")];
        for (branch, sent_by) in others {
            assert_ne!(one, tag(&request("INVITE", branch, sent_by)), "{branch} {sent_by}");
        }
    }

    #[test]
    fn a_request_whose_via_cannot_be_read_has_a_to_tag_of_its_own() {
        let [one, same, other] = ["a", "a", "b"].map(|call_id| {
            let text = String::from_utf8(request("INVITE", "z9hG4bKx", ";")).unwrap();
            tag(text.replace("Call-ID: c", &format!("Call-ID: {call_id}")).as_bytes())
        });
        assert_eq!(one, same);
        assert_ne!(one, other);
    }
}
