//! One dialog, or one branch on its way to be one, with its media.

use std::collections::HashMap;
use std::net::SocketAddr;

use viaduct_engine::media::{MediaFlags, MediaMessage, Tags};

use super::view::Ended;

use crate::call::{Call, Side};

/// Callees that may answer one offer before one of them is chosen.
const CALLEES_MAX: usize = 16;

/// A call that is relayed.
pub(super) struct Dialog {
    pub(super) id: u64,
    /// Tag of who called: side A.
    pub(super) caller: Box<[u8]>,
    /// Tags of those called, the newest last; one alone once a 2xx has come.
    pub(super) callees: Vec<Box<[u8]>>,
    /// The branch it belongs to; `None`: all.
    pub(super) branch: Option<u32>,
    /// A 2xx to the INVITE has come.
    pub(super) confirmed: bool,
    /// An offer has been answered.
    pub(super) answered: bool,
    pub(super) call: Call,
    /// Flags of its first order.
    pub(super) flags: MediaFlags,
    /// Which interfaces face A and B; `None`: nothing has been described yet.
    pub(super) places: Option<[usize; 2]>,
    /// By the clock of the ports.
    pub(super) begun_ms: u64,
    /// How old it was then: of an earlier process's, how long that had it and nobody did.
    pub(super) aged_ms: u64,
    pub(super) begun_unix_ms: u64,
    /// When signalling changed it last.
    pub(super) changed_ms: u64,
    /// What streams are, by our address for RTP at A; also of those that have ended.
    pub(super) kinds: HashMap<SocketAddr, Box<str>>,
    /// Streams that have ended before the call.
    pub(super) ended: Ended,
}

/// When a dialog begins.
#[derive(Clone, Copy)]
pub(super) struct Begun {
    pub(super) id: u64,
    pub(super) ms: u64,
    pub(super) unix_ms: u64,
}

impl Dialog {
    pub(super) fn new(
        begun: Begun,
        message: &MediaMessage<'_>,
        call: Call,
        flags: MediaFlags,
    ) -> Dialog {
        let Tags { from, to, .. } = message.tags;
        Dialog {
            id: begun.id,
            caller: from.into(),
            callees: if to.is_empty() { Vec::new() } else { vec![to.into()] },
            branch: message.branch.filter(|_| to.is_empty()),
            confirmed: false,
            answered: false,
            call,
            flags,
            places: None,
            begun_ms: begun.ms,
            aged_ms: 0,
            begun_unix_ms: begun.unix_ms,
            changed_ms: begun.ms,
            kinds: HashMap::new(),
            ended: Ended::default(),
        }
    }

    /// Which side sent the request with these tags (of a response: its request), if they are of this
    /// dialog. Before a 2xx, tags nobody has seen yet may be of it too, in a response or of a new
    /// request.
    pub(super) fn requester(&self, tags: Tags<'_>, early: bool) -> Option<Side> {
        let knows = |tag: &[u8]| self.callees.iter().any(|callee| **callee == *tag);
        if *self.caller == *tags.from {
            let is_new = early && !self.confirmed;
            return (knows(tags.to) || is_new).then_some(Side::A);
        }
        (*self.caller == *tags.to && knows(tags.from)).then_some(Side::B)
    }

    /// Does a message of that branch belong here? One of a dialog names no branch that counts.
    pub(super) fn is_of_branch(&self, branch: Option<u32>) -> bool {
        self.branch.is_none() || self.branch == branch
    }

    pub(super) fn has_branch(&self) -> bool {
        self.branch.is_some()
    }

    pub(super) fn is_called_by(&self, from: &[u8]) -> bool {
        *self.caller == *from
    }

    /// A response from a callee. True: it is a new one.
    pub(super) fn note_callee(&mut self, tag: &[u8]) -> bool {
        let known = self.callees.iter().any(|callee| **callee == *tag);
        let is_new = !known && !tag.is_empty() && self.callees.len() < CALLEES_MAX;
        if is_new {
            self.callees.push(tag.into());
        }
        is_new
    }

    /// The callee with this tag has taken the call. False: it has no tag, or another was first.
    pub(super) fn confirm(&mut self, tag: &[u8]) -> bool {
        if self.confirmed || tag.is_empty() {
            return false;
        }
        self.confirmed = true;
        self.callees = vec![tag.into()];
        true
    }

    pub(super) fn caller(&self) -> &[u8] {
        &self.caller
    }

    /// The newest callee; empty: none.
    pub(super) fn callee(&self) -> &[u8] {
        self.callees.last().map_or(&[], |tag| tag)
    }
}
