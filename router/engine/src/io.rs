//! What goes into the engine and what comes out.

use crate::flow::{Flow, Transport};
use crate::hook::FailureKind;
use crate::location::{Change, CommitFault};
use crate::media::{MediaFault, MediaRecord};
use crate::query::{Fact, Query, QueryFault};
use crate::registrar::Target;
use std::net::SocketAddr;
use std::sync::Arc;

/// Something that happened outside.
#[derive(Debug)]
pub enum Input<'a> {
    /// A datagram, or one framed message of a stream.
    Message {
        /// How it came.
        flow: Flow,
        /// One whole message, keep-alives and STUN taken out.
        bytes: &'a [u8],
    },
    /// What is left of a stream whose framing broke: answered where its head says whom to tell.
    Broken {
        /// How it came.
        flow: Flow,
        /// The message as far as it came.
        bytes: &'a [u8],
        /// What is wrong.
        fault: viaduct_message::Fault,
    },
    /// Time has passed: run what is due.
    Tick,
    /// A commit has ended.
    Committed {
        /// From [`Output::Commit`].
        token: Token,
        /// Stored, or why not.
        result: Result<(), CommitFault>,
    },
    /// A name has been resolved.
    Resolved {
        /// From [`Output::Resolve`].
        token: Token,
        /// Where to try, in order (RFC 3263); empty: nothing found.
        hops: Vec<Hop>,
    },
    /// A contact is to be pinged.
    Ping(Ping),
    /// A question has been answered.
    Answered {
        /// From [`Output::Ask`].
        token: Token,
        /// The answer, or why there is none.
        result: Result<Fact, QueryFault>,
    },
    /// A datagram came back: nobody takes it where it was sent.
    Undelivered {
        /// How it was sent.
        flow: Flow,
        /// As much of it as came back.
        bytes: &'a [u8],
    },
    /// A stream could not be opened or written, or a datagram was refused at once.
    SendFailed {
        /// The branch whose request it was: from [`Output::Transmit`].
        token: Token,
    },
}

/// A keep-alive ping.
#[derive(Clone, Debug)]
pub struct Ping {
    /// Given back in [`Output::Pong`].
    pub id: PingId,
    /// Whom, and which way: see [`crate::registrar::target_of`].
    pub target: Target,
    /// Send OPTIONS; else four zero bytes, where the target is an address on UDP.
    pub options: bool,
    /// Open a connection where there is none. Never to a phone (R-P9).
    pub may_open: bool,
    /// URI of From.
    pub from: Arc<str>,
}

/// Names a ping in the branch of its OPTIONS. Both numbers are the caller's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PingId {
    /// Below 2^31.
    pub slot: u32,
    /// Tells it from earlier users of the slot.
    pub generation: u32,
}

/// Names something the engine waits for; opaque to the shell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Token(pub u64);

/// A resolved next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    /// Protocol.
    pub transport: Transport,
    /// Address.
    pub addr: SocketAddr,
}

/// Something the shell is to do.
#[derive(Debug)]
pub enum Output {
    /// Send the bytes the call has appended to the caller's buffer.
    Transmit {
        /// The way. For a stream with [`crate::ConnId::NONE`]: reuse a connection to `remote` or
        /// open one.
        flow: Flow,
        /// Give this back in [`Input::SendFailed`]; `Token(0)`: nobody asks.
        token: Token,
        /// A connection may be opened where there is none. Never to an address behind NAT (R-P9).
        may_open: bool,
    },
    /// Apply and store these changes, then say [`Input::Committed`].
    Commit {
        /// Give this back.
        token: Token,
        /// The changes of one run.
        changes: Vec<Change>,
    },
    /// Find the next hops of a SIP URI's host by RFC 3263, then say [`Input::Resolved`].
    Resolve {
        /// Give this back.
        token: Token,
        /// What to look for.
        question: Question,
    },
    /// A ping was answered.
    Pong {
        /// From [`Input::Ping`].
        id: PingId,
        /// Final status.
        status: u16,
    },
    /// Find out what a policy's run needs, then say [`Input::Answered`].
    Ask {
        /// Give this back.
        token: Token,
        /// What is needed.
        query: Query,
    },
    /// For logs, metrics, and whoever watches.
    Event(Event),
    /// Nothing more to do now.
    Idle {
        /// When to come back with [`Input::Tick`] at the latest, in `mono_us`; `None`: no timer.
        deadline_us: Option<u64>,
    },
}

/// A name to resolve (RFC 3263 4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Host name.
    pub host: Box<str>,
    /// Port of the URI: where given, no SRV look-up is made.
    pub port: Option<u16>,
    /// Transport of the URI, where given.
    pub transport: Option<Transport>,
    /// `sips`: TLS only.
    pub secure: bool,
}

/// Something worth telling. All fields are copies: events outlive the message. Those of usual
/// traffic (`Registered`, `Call`, `Bye`) are made only where [`crate::Settings::events`] asks for
/// them; counting is done by [`crate::Counters`], which costs nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Bindings of an AoR changed, or were refreshed.
    Registered {
        /// The AoR.
        aor: Box<str>,
        /// Bindings it has now.
        contacts: usize,
        /// Longest expiry among them from now, seconds.
        expires_s: u64,
        /// Who asked.
        source: SocketAddr,
    },
    /// An INVITE got its final answer.
    Call {
        /// Call-ID.
        call_id: Box<str>,
        /// From URI.
        from: Box<str>,
        /// To URI.
        to: Box<str>,
        /// Final status.
        status: u16,
    },
    /// A BYE passed through.
    Bye {
        /// Call-ID.
        call_id: Box<str>,
    },
    /// A message that was refused or dropped as malformed.
    Malformed {
        /// What was wrong.
        fault: viaduct_message::Fault,
        /// Who sent it.
        source: SocketAddr,
    },
    /// A request came with credentials that are wrong: an unknown user, a bad password.
    AuthRefused {
        /// Who sent it.
        source: SocketAddr,
        /// Method as written.
        method: Box<str>,
        /// Realm.
        realm: Box<str>,
        /// User name as claimed.
        user: Box<str>,
    },
    /// A request was answered by the fallback, as what its policy needed could not be had.
    QueryFailed {
        /// What was asked for: [`Query::word`].
        what: &'static str,
        /// Why there was no answer.
        fault: QueryFault,
        /// What was answered.
        status: u16,
    },
    /// A policy's order about media was not carried out.
    MediaFailed {
        /// Call-ID.
        call_id: Box<str>,
        /// Why.
        fault: MediaFault,
        /// What a request was answered; a response or an ACK went on as it was.
        status: u16,
    },
    /// The media of a call are relayed no longer.
    MediaEnded(Box<MediaRecord>),
    /// A policy run failed and its fallback was used.
    PolicyFailed {
        /// How.
        kind: FailureKind,
        /// What was answered.
        status: u16,
    },
    /// A policy logged something.
    PolicyLog {
        /// 0 error to 4 trace.
        level: u8,
        /// What.
        text: String,
    },
    /// A destination of a dispatcher set has come up or gone down.
    Destination {
        /// Its set.
        set: Box<str>,
        /// Its URI.
        uri: Box<str>,
        /// What it is now.
        state: crate::dispatcher::State,
    },
    /// A policy counted something.
    PolicyCount {
        /// Counter.
        name: String,
        /// By how much.
        by: u64,
    },
}
