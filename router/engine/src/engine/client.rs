//! A client transaction: one request sent to one hop.

use super::ids::Id;
use crate::flow::Flow;
use crate::timer::Letter;
use crate::transaction::{Actions, invite_client, non_invite_client};

/// One of the two client machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClientMachine {
    Invite(invite_client::State),
    Other(non_invite_client::State),
}

/// What can happen to a client transaction.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ClientEvent {
    Response(u16),
    Timer(Letter),
    TransportError,
    Abandon,
}

impl ClientMachine {
    /// The machine for an INVITE or for another request, in its first state.
    pub(crate) fn start(invite: bool, reliable: bool) -> (ClientMachine, Actions) {
        if invite {
            let step = invite_client::start(reliable);
            (ClientMachine::Invite(step.next), step.actions)
        } else {
            let step = non_invite_client::start(reliable);
            (ClientMachine::Other(step.next), step.actions)
        }
    }

    /// Takes one step of its table; events without a meaning there do nothing.
    pub(crate) fn step(&mut self, event: ClientEvent, reliable: bool) -> Actions {
        match self {
            ClientMachine::Invite(state) => {
                use invite_client::{Event, step};
                let event = match event {
                    ClientEvent::Response(status) => Event::of_status(status),
                    ClientEvent::Timer(letter) => Event::of_timer(letter),
                    ClientEvent::TransportError => Some(Event::TransportError),
                    ClientEvent::Abandon => Some(Event::Abandon),
                };
                let taken = event.and_then(|event| step(*state, event, reliable));
                taken.map_or(Actions::NONE, |taken| {
                    *state = taken.next;
                    taken.actions
                })
            }
            ClientMachine::Other(state) => {
                use non_invite_client::{Event, step};
                let event = match event {
                    ClientEvent::Response(status) => Event::of_status(status),
                    ClientEvent::Timer(letter) => Event::of_timer(letter),
                    ClientEvent::TransportError => Some(Event::TransportError),
                    ClientEvent::Abandon => Some(Event::Abandon),
                };
                let taken = event.and_then(|event| step(*state, event, reliable));
                taken.map_or(Actions::NONE, |taken| {
                    *state = taken.next;
                    taken.actions
                })
            }
        }
    }
}

/// Where a branch stands with its CANCEL (RFC 3261 9.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cancelling {
    No,
    /// To be sent when the first provisional comes.
    Wanted,
    /// Sent: this client transaction carries it.
    Sent(Id),
}

/// A client transaction.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) generation: u32,
    pub(crate) machine: ClientMachine,
    /// The server transaction and the number of the branch; `None` for a CANCEL of ours.
    pub(crate) owner: Option<(Id, usize)>,
    pub(crate) flow: Flow,
    pub(crate) may_open: bool,
    /// The request as sent; empty once nothing can need it any more.
    pub(crate) request: Box<[u8]>,
    /// Armings of timer A or E.
    pub(crate) attempt: u32,
    /// When timer C really falls due: provisional responses push it on.
    pub(crate) c_deadline_us: u64,
    pub(crate) cancelling: Cancelling,
}

impl Client {
    /// Is this the method of its request? Of a request that is no more kept nothing is expected.
    pub(crate) fn is_of(&self, method: &[u8]) -> bool {
        let rest = self.request.strip_prefix(method);
        self.request.is_empty() || rest.is_some_and(|rest| rest.starts_with(b" "))
    }

    /// What a transport error means for the branch: 503 (RFC 3261 16.9); 430 where only an existing
    /// flow could have led to the phone (RFC 5626 5.3, R-P9).
    pub(crate) fn lost_status(&self) -> u16 {
        if self.may_open || !self.flow.transport.is_reliable() { 503 } else { 430 }
    }
}
