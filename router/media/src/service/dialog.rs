//! One dialog, or one branch on its way to be one, with its media.

use std::collections::HashMap;
use std::net::SocketAddr;

use viaduct_engine::media::{MediaFlags, MediaMessage};

use super::view::Ended;

use crate::call::Call;
use crate::dialog::Parties;

/// A call that is relayed.
pub(super) struct Dialog {
    pub(super) id: u64,
    pub(super) parties: Parties,
    /// The branch it belongs to; `None`: all.
    pub(super) branch: Option<u32>,
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
        Dialog {
            id: begun.id,
            parties: Parties::new(message.tags),
            branch: message.branch.filter(|_| message.tags.to.is_empty()),
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

    /// Does a message of that branch belong here? One of a dialog names no branch that counts.
    pub(super) fn is_of_branch(&self, branch: Option<u32>) -> bool {
        self.branch.is_none() || self.branch == branch
    }

    pub(super) fn has_branch(&self) -> bool {
        self.branch.is_some()
    }
}
