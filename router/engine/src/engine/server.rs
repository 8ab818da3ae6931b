//! A server transaction with the response context of the proxy behind it (RFC 3261 16.2: the two
//! live and die together, so they are one record).

use std::sync::Arc;

use viaduct_message::Method;

use super::ask::Asking;
use super::decide::Parked;
use super::media::Offered;
use super::media_wait::WaitingReply;
use super::parked::Held;
use super::respond::Back;
use crate::flow::Flow;
use crate::io::Hop;
use crate::media::MediaResult;
use crate::proxy::forward::Plan;
use crate::registrar::Target;
use crate::run::Traits;
use crate::timer::Letter;
use crate::transaction::{Actions, ServerKey, invite_server, non_invite_server};

/// One of the two server machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServerMachine {
    Invite(invite_server::State),
    Other(non_invite_server::State),
}

/// What can happen to a server transaction.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ServerEvent {
    Request,
    Ack,
    Respond(u16),
    Timer(Letter),
    TransportError,
    Abandon,
}

impl ServerMachine {
    /// The machine of a request's method, in its first state.
    pub(crate) fn start(method: Method, reliable: bool) -> (ServerMachine, Actions) {
        if method == Method::Invite {
            let step = invite_server::start(reliable);
            (ServerMachine::Invite(step.next), step.actions)
        } else {
            let step = non_invite_server::start(reliable);
            (ServerMachine::Other(step.next), step.actions)
        }
    }

    /// Takes one step of its table; events without a meaning there do nothing.
    pub(crate) fn step(&mut self, event: ServerEvent, reliable: bool) -> Actions {
        match self {
            ServerMachine::Invite(state) => {
                use invite_server::{Event, step};
                let event = match event {
                    ServerEvent::Request => Some(Event::Request),
                    ServerEvent::Ack => Some(Event::Ack),
                    ServerEvent::Respond(status) => Event::of_status(status),
                    ServerEvent::Timer(letter) => Event::of_timer(letter),
                    ServerEvent::TransportError => Some(Event::TransportError),
                    ServerEvent::Abandon => Some(Event::Abandon),
                };
                let taken = event.and_then(|event| step(*state, event, reliable));
                taken.map_or(Actions::NONE, |taken| {
                    *state = taken.next;
                    taken.actions
                })
            }
            ServerMachine::Other(state) => {
                use non_invite_server::{Event, step};
                let event = match event {
                    ServerEvent::Request => Some(Event::Request),
                    ServerEvent::Ack => None,
                    ServerEvent::Respond(status) => Event::of_status(status),
                    ServerEvent::Timer(letter) => Event::of_timer(letter),
                    ServerEvent::TransportError => Some(Event::TransportError),
                    ServerEvent::Abandon => Some(Event::Abandon),
                };
                let taken = event.and_then(|event| step(*state, event, reliable));
                taken.map_or(Actions::NONE, |taken| {
                    *state = taken.next;
                    taken.actions
                })
            }
        }
    }

    /// Is it an INVITE's?
    pub(crate) fn is_invite(self) -> bool {
        matches!(self, ServerMachine::Invite(_))
    }
}

/// One branch of the response context.
#[derive(Debug, Default)]
pub(crate) struct BranchState {
    pub(crate) target: Target,
    /// Its client transaction, while it has one.
    pub(crate) client: Option<super::ids::Id>,
    /// Hops not tried yet, after a name was resolved (RFC 3263 4.3).
    pub(crate) hops: std::collections::VecDeque<Hop>,
    /// Its final status; 0 while it is open.
    pub(crate) status: u16,
    /// Its final response as received; empty where the status is our own.
    pub(crate) response: Box<[u8]>,
    /// How it came.
    pub(crate) came_by: Option<Flow>,
    /// Its Max-Breadth; `None`: as it came.
    pub(crate) breadth: Option<u16>,
    /// Nobody has named a transport: a long request may go by TCP.
    pub(crate) any_transport: bool,
    /// The way by UDP, while it is tried by TCP for its length.
    pub(crate) datagrams: Option<Flow>,
    /// The way it goes when the media relay has answered, and whether a connection may be opened.
    pub(crate) held: Option<(Flow, bool)>,
    /// What the media relay has answered.
    pub(crate) media: Option<MediaResult>,
}

/// A server transaction.
pub(crate) struct Server<V> {
    pub(crate) generation: u32,
    pub(crate) key: ServerKey,
    pub(crate) machine: ServerMachine,
    /// Armings of timer G.
    pub(crate) attempt: u32,
    /// How the request came.
    pub(crate) flow: Flow,
    /// The way back to the client.
    pub(crate) back: Back,
    /// The request as received; empty once nothing can need it any more.
    pub(crate) request: Box<[u8]>,
    /// The response last sent.
    pub(crate) response: Box<[u8]>,
    /// The policy version that began it (R-G3).
    pub(crate) version: V,
    pub(crate) vars: Vec<(Box<str>, Box<str>)>,
    pub(crate) traits: Traits,
    /// Hash of RFC 5393 4.2.1, once it is forwarded.
    pub(crate) loop_hash: u32,
    /// Its Max-Breadth.
    pub(crate) breadth: Option<u16>,
    pub(crate) plan: Arc<Plan>,
    pub(crate) branches: Vec<BranchState>,
    /// Targets of lower q, in order of trial.
    pub(crate) waiting: std::collections::VecDeque<Target>,
    /// A final response has been given; late 2xx still pass.
    pub(crate) finished: bool,
    /// Cancelled, or a 6xx came: no new branches.
    pub(crate) closed: bool,
    /// A CANCEL came.
    pub(crate) cancelled: bool,
    /// A policy's verdict that waits for its commit, or for the media relay.
    pub(crate) parked: Option<Box<Parked>>,
    /// A response that waits for its commit.
    pub(crate) parked_reply: Option<Box<Held>>,
    /// A response that waits for the media relay.
    pub(crate) waiting_reply: Option<Box<WaitingReply>>,
    /// How often a response was decided again after a conflict.
    pub(crate) reply_rounds: u8,
    /// A policy's run that waits for an answer.
    pub(crate) asking: Option<Box<Asking>>,
    /// The offer it has made to the media relay, while it has no final response.
    pub(crate) media: Option<Box<Offered>>,
}

impl<V> Server<V> {
    /// Gives back what is not needed after the final response: a transaction lives on for 32 s.
    pub(crate) fn shrink(&mut self) {
        self.request = Box::default();
        self.branches = Vec::new();
        self.waiting = std::collections::VecDeque::new();
        self.vars = Vec::new();
        self.plan = Arc::default();
        self.parked = None;
        self.asking = None;
    }
}
