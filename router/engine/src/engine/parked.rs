//! Responses that wait for a commit: `save` in a reply route. The phone gets the upstream's 2xx
//! when its binding is stored, as it would from a registrar of ours.

use viaduct_message::{Head, Message, Method};

use super::Engine;
use super::downstream::Arrived;
use super::ids::{Id, Ticket};
use super::respond::Answer;
use super::server::ServerEvent;
use crate::flow::Flow;
use crate::hook::Policy;
use crate::io::{Output, Token};
use crate::location::{Change, CommitFault};
use crate::run::{Effects, Original};

/// A 2xx of upstream on hold.
pub(crate) struct ParkedReply {
    pub(super) status: u16,
    /// As it goes to the client.
    pub(super) bytes: Vec<u8>,
    /// How it came.
    pub(super) flow: Flow,
    /// The branch it belongs to.
    pub(super) branch: u32,
    /// What the reply route has staged besides.
    pub(super) effects: Effects,
}

/// The response as it came, to be decided again where another REGISTER was quicker.
pub(crate) struct Held {
    reply: ParkedReply,
    received: Box<[u8]>,
    rounds: u8,
}

/// A response is decided again so often at most.
const MAX_ROUNDS: u8 = 4;

impl<P: Policy> Engine<P> {
    /// The REGISTER of a transaction, for `save` in its reply route.
    pub(super) fn register_of(&mut self, id: Id, response: Message<'_>) -> Option<Box<Original>> {
        let is_register = response.cseq().is_ok_and(|cseq| cseq.method == Method::Register);
        if !is_register || !(200..300).contains(&response.status()) {
            return None;
        }
        let limits = self.settings.bounds.message;
        let server = self.server(id)?;
        let mut head = Head::new();
        let bytes = server.request.clone();
        head.scan(&bytes, &limits).ok()?;
        let (flow, trusted) = (server.flow, server.traits.trusted);
        Some(Box::new(Original { bytes, head, flow, trusted }))
    }

    /// Holds a response until its changes are stored.
    pub(super) fn park_reply(
        &mut self,
        id: Id,
        reply: ParkedReply,
        received: Message<'_>,
        changes: Vec<Change>,
    ) {
        let Some(server) = self.server(id) else { return };
        let rounds = server.reply_rounds;
        let received = received.bytes().into();
        server.parked_reply = Some(Box::new(Held { reply, received, rounds }));
        self.out.push(Output::Commit { token: Ticket::Reply(id).token(), changes });
    }

    /// The changes a response waited for are stored, or not.
    pub(super) fn on_reply_committed(&mut self, id: Id, result: Result<(), CommitFault>) {
        let Some(server) = self.server(id) else { return };
        let Some(held) = server.parked_reply.take() else { return };
        let Held { mut reply, received, rounds } = *held;
        match result {
            Ok(()) => {
                self.publish(&mut reply.effects);
                if let Some(event) = reply.effects.registered.take() {
                    self.event(event);
                }
                self.counters.registrations = self.counters.registrations.wrapping_add(1);
                self.server_event(id, ServerEvent::Respond(reply.status), &reply.bytes);
            }
            Err(CommitFault::Conflict) if rounds < MAX_ROUNDS => {
                server.reply_rounds = rounds.saturating_add(1);
                let mut head = Head::new();
                if head.scan(&received, &self.settings.bounds.message).is_ok() {
                    let message = Message::new(&received, &head);
                    let arrived = Arrived { message, flow: reply.flow, branch: reply.branch };
                    self.forward_response(id, arrived, b"");
                }
            }
            Err(_) => {
                self.publish(&mut reply.effects);
                // Upstream has it and we have not: the phone tries again.
                let seconds = self.settings.registrar.retry_after_s.max(1);
                let headers = format!("Retry-After: {seconds}\r\n");
                self.counters.registrations_refused =
                    self.counters.registrations_refused.wrapping_add(1);
                let answer = Answer { headers: headers.as_bytes(), ..Answer::new(503, "") };
                self.respond_later(id, &answer);
            }
        }
        self.give_back(id);
    }

    /// Changes nobody waits for: removals in the reply or failure route.
    pub(super) fn commit_aside(&mut self, changes: Vec<Change>) {
        if !changes.is_empty() {
            self.out.push(Output::Commit { token: Token::default(), changes });
        }
    }
}
