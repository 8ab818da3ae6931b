//! What the engine needs of a media relay. `router/media` provides it.
//!
//! A policy stages an [`Order`]; when its run has ended well the engine hands it to the [`Media`]
//! with the message it is about, and sends the message on with the description it gets back. The
//! engine ends what came to nothing: an offer whose request fails or is cancelled.

pub mod flags;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use viaduct_message::Method;

use crate::time::Now;

pub use flags::{MediaFlagError, MediaFlags};

/// What is to be done with the description of a message, or with its call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// It is an offer (RFC 3264): relay it.
    Offer,
    /// It is the answer.
    Answer,
    /// The call's media end here.
    Delete,
    /// What the message itself says: offer, answer, delete, or nothing.
    Manage,
}

/// A staged order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Order {
    /// What.
    pub action: Action,
    /// How.
    pub flags: MediaFlags,
}

/// The tags of a dialog, as a message has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tags<'a> {
    /// Call-ID.
    pub call_id: &'a [u8],
    /// Of From.
    pub from: &'a [u8],
    /// Of To; empty: none yet.
    pub to: &'a [u8],
}

/// A message as the media relay sees it.
#[derive(Clone, Copy, Debug)]
pub struct MediaMessage<'a> {
    /// Whose it is.
    pub tags: Tags<'a>,
    /// Method; of a response, that of its request.
    pub method: Method,
    /// Status of a response; 0: a request.
    pub status: u16,
    /// Which branch of its request it belongs to, where the branches have media of their own.
    pub branch: Option<u32>,
    /// Where it came from.
    pub source: IpAddr,
    /// Our address it came to.
    pub local: IpAddr,
    /// Content-Type as written.
    pub content_type: &'a [u8],
    /// Its body.
    pub body: &'a [u8],
}

/// An order with the message it is about, for a relay that is asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MediaOrder {
    /// What, and how.
    pub order: Order,
    call_id: Box<[u8]>,
    from: Box<[u8]>,
    to: Box<[u8]>,
    method: Method,
    status: u16,
    branch: Option<u32>,
    source: IpAddr,
    local: IpAddr,
    content_type: Box<[u8]>,
    body: Box<[u8]>,
}

impl MediaOrder {
    /// Copies both.
    #[must_use]
    pub fn new(order: &Order, message: &MediaMessage<'_>) -> MediaOrder {
        MediaOrder {
            order: order.clone(),
            call_id: message.tags.call_id.into(),
            from: message.tags.from.into(),
            to: message.tags.to.into(),
            method: message.method,
            status: message.status,
            branch: message.branch,
            source: message.source,
            local: message.local,
            content_type: message.content_type.into(),
            body: message.body.into(),
        }
    }

    /// The message.
    #[must_use]
    pub fn message(&self) -> MediaMessage<'_> {
        MediaMessage {
            tags: Tags { call_id: &self.call_id, from: &self.from, to: &self.to },
            method: self.method,
            status: self.status,
            branch: self.branch,
            source: self.source,
            local: self.local,
            content_type: &self.content_type,
            body: &self.body,
        }
    }
}

/// What came of an order: a body, as it is to be sent on; `None`: as it came.
pub type MediaResult = Result<Option<Vec<u8>>, MediaFault>;

/// What comes of an order at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Handled {
    /// It has been carried out; the body as in [`MediaResult`].
    Done(Option<Vec<u8>>),
    /// The relay has to be asked, with this question.
    Ask(Arc<MediaOrder>),
}

/// The tags of a dialog whose media are asked about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MediaDialog {
    call_id: Box<[u8]>,
    from: Box<[u8]>,
    to: Box<[u8]>,
}

impl MediaDialog {
    /// Copies them.
    #[must_use]
    pub fn new(tags: Tags<'_>) -> MediaDialog {
        MediaDialog { call_id: tags.call_id.into(), from: tags.from.into(), to: tags.to.into() }
    }

    /// The tags.
    #[must_use]
    pub fn tags(&self) -> Tags<'_> {
        Tags { call_id: &self.call_id, from: &self.from, to: &self.to }
    }
}

/// Why an order was not carried out. Nothing was changed then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MediaFault {
    /// The description cannot be read, or cannot be relayed: 488 (RFC 3261 21.4.26).
    #[error("{0}")]
    Description(String),
    /// No port, no address of that family, too many sessions: 503.
    #[error("{0}")]
    Busy(String),
    /// The relay has failed: 500.
    #[error("{0}")]
    Failed(String),
}

impl MediaFault {
    /// What a request is answered that needs what failed.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            MediaFault::Description(_) => 488,
            MediaFault::Busy(_) => 503,
            MediaFault::Failed(_) => 500,
        }
    }
}

/// One side of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LegView {
    /// Our address that receives its RTP.
    pub local: SocketAddr,
    /// Where it is: learned, else as signalled; `None`: not known.
    pub peer: Option<SocketAddr>,
    /// That is settled.
    pub locked: bool,
    /// Packets it sent that were relayed, RTP and RTCP.
    pub packets: u64,
    /// Octets of UDP payload in them.
    pub octets: u64,
    /// Packets that were dropped.
    pub dropped: u64,
    /// RTP packets that never came, by their sequence numbers; `None`: not known here.
    pub lost: Option<u64>,
    /// Jitter (RFC 3550 6.4.1), microseconds; `None`: not known here.
    pub jitter_us: Option<u32>,
    /// Mean opinion score, estimated, hundredths, 100 to 450; `None`: not known here.
    pub mos_centi: Option<u16>,
}

/// What relays a stream's packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Carrier {
    /// The router's own process.
    #[default]
    UserSpace,
    /// The kernel module; what it leaves alone still comes to user space.
    Kernel,
    /// The program in front of the stack; what it leaves alone comes to the module or to user space.
    Xdp,
    /// A media node, elsewhere.
    Node,
}

impl Carrier {
    /// All of them.
    pub const ALL: [Carrier; 4] =
        [Carrier::UserSpace, Carrier::Kernel, Carrier::Xdp, Carrier::Node];

    /// As people and metrics read it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Carrier::UserSpace => "user space",
            Carrier::Kernel => "kernel",
            Carrier::Xdp => "xdp",
            Carrier::Node => "node",
        }
    }
}

/// One stream of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamView {
    /// `audio`, `video`...
    pub kind: Box<str>,
    /// Where its RTP is carried; of one that has ended, where it was at the end.
    pub carrier: Carrier,
    /// The side that sent the INVITE.
    pub caller: LegView,
    /// The other.
    pub callee: LegView,
}

/// How the media of a call stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallView {
    /// Since its first offer, seconds.
    pub age_s: u64,
    /// An offer of it has been answered.
    pub answered: bool,
    /// Its streams that are relayed.
    pub streams: Vec<StreamView>,
}

/// Why the media of a call were relayed no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EndReason {
    /// A BYE, or the policy.
    Ended,
    /// Its INVITE failed, or was cancelled.
    Refused,
    /// An offer was never answered.
    Unanswered,
    /// Nothing was relayed for too long.
    Idle,
    /// It was too old.
    Lifetime,
    /// An operator.
    Killed,
    /// The router stops.
    Stopped,
}

impl EndReason {
    /// All of them.
    pub const ALL: [EndReason; 7] = [
        EndReason::Ended,
        EndReason::Refused,
        EndReason::Unanswered,
        EndReason::Idle,
        EndReason::Lifetime,
        EndReason::Killed,
        EndReason::Stopped,
    ];

    /// As logs and metrics write it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            EndReason::Ended => "ended",
            EndReason::Refused => "refused",
            EndReason::Unanswered => "unanswered",
            EndReason::Idle => "idle",
            EndReason::Lifetime => "lifetime",
            EndReason::Killed => "killed",
            EndReason::Stopped => "stopped",
        }
    }
}

/// What is left of a call whose media were relayed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaRecord {
    /// Call-ID.
    pub call_id: Box<str>,
    /// Tag of who called.
    pub caller_tag: Box<str>,
    /// Tag of who was called; empty: nobody answered.
    pub callee_tag: Box<str>,
    /// First offer, milliseconds since 1970-01-01 UTC.
    pub begun_unix_ms: u64,
    /// From then to the end, milliseconds.
    pub duration_ms: u64,
    /// An offer was answered.
    pub answered: bool,
    /// Why it ended.
    pub reason: EndReason,
    /// All streams it had.
    pub streams: Vec<StreamView>,
}

/// A media relay, shared by all workers. Its answers come at once: nothing in it waits for a
/// network.
pub trait Media: Send + Sync {
    /// Carries out an order about a message, or says what to ask. What ends media is never asked
    /// about: nobody waits for it.
    ///
    /// # Errors
    /// See [`MediaFault`].
    fn handle(
        &self,
        now: Now,
        order: &Order,
        message: &MediaMessage<'_>,
    ) -> Result<Handled, MediaFault>;

    /// The request with these tags has come to nothing: what its offer has changed is taken back,
    /// and media that had only this offer end. `branch`: that branch alone has failed.
    fn refused(&self, now: Now, tags: Tags<'_>, branch: Option<u32>);

    /// How the media of that dialog stand, as far as is known here; `None`: they are not relayed.
    fn query(&self, now: Now, tags: Tags<'_>) -> Option<CallView>;

    /// Whether more about that dialog is known elsewhere ([`crate::Query::MediaCall`]).
    fn is_elsewhere(&self, _tags: Tags<'_>) -> bool {
        false
    }

    /// Whether these flags can be obeyed.
    ///
    /// # Errors
    /// Names what is not there: an interface that is not configured.
    fn check(&self, flags: &MediaFlags) -> Result<(), String>;
}
