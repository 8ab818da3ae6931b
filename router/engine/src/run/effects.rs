//! What a run stages. Nothing of it has happened yet.

use crate::dispatcher::DispatcherChange;
use crate::location::Change;
use crate::media::Order;
use crate::registrar::Target;
use crate::table::TableChange;

/// Why a header edit is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditFault {
    /// Name is no token, the value holds a control character, or the URI is none.
    #[error("invalid syntax")]
    Syntax,
    /// The header is the engine's: Via, CSeq, Call-ID, From, To, Content-Length, Max-Forwards,
    /// Route, Record-Route, Path.
    #[error("forbidden")]
    Forbidden,
    /// Over the limit of 64 edits or 16 KiB a run, or a URI over 4 KiB.
    #[error("too large")]
    TooLarge,
}

/// Why `add_path` is refused; the message stays as it was (R-P7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathRefusal {
    /// Not a REGISTER (R-P8).
    #[error("Path belongs to REGISTER")]
    NotRegister,
    /// The user part is no legal URI user.
    #[error("bad user part")]
    BadUser,
    /// The UA does not say `Supported: path` and the mode respects that: forward without.
    #[error("the UA does not support Path")]
    NotSupported,
    /// As before, and the mode requires Path: 421 with `Require: path` is staged (RFC 3327 5.2).
    #[error("Path is required")]
    ExtensionRequired,
    /// Already added in this run.
    #[error("Path was added already")]
    Twice,
    /// A flow token needs a key to sign it.
    #[error("there is no path key")]
    NoKey,
}

/// When Path is added (R-P4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddPathMode {
    /// Only where the UA says `Supported: path` (RFC 3327 5.2).
    UaSupported,
    /// Always.
    Always,
    /// Add `Require: path` too; a UA without support gets 421.
    Require,
}

/// A staged Path value, rendered late, when the outgoing socket is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StagedPath {
    /// User part; empty: none.
    pub user: Box<[u8]>,
    /// Write `received`.
    pub received: bool,
    /// The user part is the token of the flow the request came by.
    pub flow: bool,
    /// Write `ob` (RFC 5626 5.1).
    pub ob: bool,
    /// Add `Require: path`.
    pub require: bool,
}

/// One staged header edit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderEdit {
    /// Append a header line.
    Add {
        /// Name as to be written.
        name: Box<[u8]>,
        /// Value.
        value: Box<[u8]>,
    },
    /// Remove all lines of a header, compact or full form.
    Remove {
        /// Name in any case.
        name: Box<[u8]>,
    },
    /// Remove one line of the message the run is about.
    RemoveLine {
        /// From its name to the end of its line end.
        whole: viaduct_message::Span,
    },
}

/// An answer staged by a host function, or extra headers for a reply.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StagedReply {
    /// Status.
    pub status: u16,
    /// Reason phrase; empty: the registered one.
    pub reason: Box<str>,
    /// Whole header lines.
    pub headers: Vec<u8>,
}

/// Everything a run has staged.
#[derive(Clone, Debug, Default)]
pub struct Effects {
    /// The answer `save` or a Path refusal wants sent.
    pub answer: Option<StagedReply>,
    /// Location changes; at most one per AoR.
    pub changes: Vec<Change>,
    /// Targets, in order.
    pub targets: Vec<Target>,
    /// New Request-URI.
    pub request_uri: Option<Box<[u8]>>,
    /// Next hop of all targets that name none.
    pub destination: Option<Box<[u8]>>,
    /// Path to add.
    pub path: Option<StagedPath>,
    /// Record-Route wanted.
    pub record_route: bool,
    /// It names the flow the request came by.
    pub caller_flow: bool,
    /// It names the flow the request leaves by.
    pub callee_flow: bool,
    /// Header edits of the forwarded message (in phase reply: of the response).
    pub edits: Vec<HeaderEdit>,
    /// Header lines for a reply the policy makes.
    pub reply_headers: Vec<u8>,
    /// Fill rport though the client did not ask.
    pub force_rport: bool,
    /// What is to be done with its media.
    pub media: Option<Box<Order>>,
    /// Log lines: level (0 error to 4 trace) and text.
    pub logs: Vec<(u8, String)>,
    /// Counters to add to.
    pub counters: Vec<(String, u64)>,
    /// `save` has removed bindings, or found none to remove.
    pub(crate) took_back: bool,
    /// Changes of shared tables.
    pub tables: Vec<TableChange>,
    /// What dispatcher sets are told.
    pub dispatcher: Vec<DispatcherChange>,
    /// Credentials were found right.
    pub(crate) authenticated: bool,
    /// Credentials that were wrong, for whoever keeps attackers out.
    pub(crate) refused: Option<crate::io::Event>,
    /// What `save` did, for whoever watches; only where events are wanted.
    pub(crate) registered: Option<crate::io::Event>,
}

impl Effects {
    /// Forgets everything, keeps the memory.
    pub fn clear(&mut self) {
        self.answer = None;
        self.changes.clear();
        self.targets.clear();
        self.request_uri = None;
        self.destination = None;
        self.path = None;
        self.record_route = false;
        self.caller_flow = false;
        self.callee_flow = false;
        self.edits.clear();
        self.reply_headers.clear();
        self.force_rport = false;
        self.media = None;
        self.logs.clear();
        self.counters.clear();
        self.took_back = false;
        self.tables.clear();
        self.dispatcher.clear();
        self.authenticated = false;
        self.refused = None;
        self.registered = None;
    }

    /// Stages an answer in place of an earlier one.
    pub(crate) fn answer(&mut self, status: u16, reason: &str, headers: Vec<u8>) {
        self.answer = Some(StagedReply { status, reason: reason.into(), headers });
    }
}
