//! Who talks to whom in a call: the tags of its dialogs, and what a message means for its media.

use viaduct_engine::media::{Action, MediaMessage, Tags};
use viaduct_message::Method;

use crate::call::Side;

/// Callees that may answer one offer before one of them is chosen.
const CALLEES_MAX: usize = 16;

/// The two ends of a call. Until a 2xx has come the other end may be one of several.
#[derive(Clone, Debug)]
pub(crate) struct Parties {
    /// Tag of who called: side A.
    pub(crate) caller: Box<[u8]>,
    /// Tags of those called, the newest last; one alone once a 2xx has come.
    pub(crate) callees: Vec<Box<[u8]>>,
    /// A 2xx to the INVITE has come.
    pub(crate) confirmed: bool,
}

impl Parties {
    /// Of a request, or of a response to it.
    pub(crate) fn new(tags: Tags<'_>) -> Parties {
        let callees = if tags.to.is_empty() { Vec::new() } else { vec![tags.to.into()] };
        Parties { caller: tags.from.into(), callees, confirmed: false }
    }

    /// Which side sent the request with these tags (of a response: its request), if they are of this
    /// dialog. Before a 2xx, tags nobody has seen yet may be of it too, in a response or of a new
    /// request.
    pub(crate) fn requester(&self, tags: Tags<'_>, early: bool) -> Option<Side> {
        let knows = |tag: &[u8]| self.callees.iter().any(|callee| **callee == *tag);
        if *self.caller == *tags.from {
            let is_new = early && !self.confirmed;
            return (knows(tags.to) || is_new).then_some(Side::A);
        }
        (*self.caller == *tags.to && knows(tags.from)).then_some(Side::B)
    }

    pub(crate) fn is_called_by(&self, from: &[u8]) -> bool {
        *self.caller == *from
    }

    /// A response from a callee. True: it is a new one.
    pub(crate) fn note_callee(&mut self, tag: &[u8]) -> bool {
        let known = self.callees.iter().any(|callee| **callee == *tag);
        let is_new = !known && !tag.is_empty() && self.callees.len() < CALLEES_MAX;
        if is_new {
            self.callees.push(tag.into());
        }
        is_new
    }

    /// The callee with this tag has taken the call. False: it has no tag, or another was first.
    pub(crate) fn confirm(&mut self, tag: &[u8]) -> bool {
        if self.confirmed || tag.is_empty() {
            return false;
        }
        self.confirmed = true;
        self.callees = vec![tag.into()];
        true
    }

    pub(crate) fn caller(&self) -> &[u8] {
        &self.caller
    }

    /// The newest callee; empty: none.
    pub(crate) fn callee(&self) -> &[u8] {
        self.callees.last().map_or(&[], |tag| tag)
    }
}

/// What a message means for its call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    Offer,
    Answer,
    /// An INVITE without an offer: it is to come in a response.
    Awaited,
    Delete,
    Nothing,
}

/// How offers and answers of a call stand (RFC 3264), as somebody says something more.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Exchange {
    /// Who says it.
    pub(crate) side: Side,
    /// Who has offered last.
    pub(crate) offered_by: Option<Side>,
    /// The offer awaits its answer.
    pub(crate) is_open: bool,
}

impl Exchange {
    /// Whoever says it owes an answer, or has given one and says it again.
    fn owes(&self) -> bool {
        self.offered_by == Some(self.side.other())
    }
}

/// What a message means. `exchange`: of the call it belongs to.
pub(crate) fn meaning(
    action: Action,
    message: &MediaMessage<'_>,
    has_sdp: bool,
    exchange: Option<Exchange>,
) -> Meaning {
    let is_new = message.tags.to.is_empty();
    match action {
        Action::Offer => return Meaning::Offer,
        Action::Answer => return Meaning::Answer,
        Action::Delete => return Meaning::Delete,
        Action::Manage => {}
    }
    if message.status != 0 {
        let may_have = matches!(message.method, Method::Invite | Method::Update | Method::Prack);
        let is_good = (101..300).contains(&message.status);
        return match exchange {
            Some(exchange) if has_sdp && may_have && is_good => {
                if exchange.owes() {
                    Meaning::Answer
                } else {
                    Meaning::Offer
                }
            }
            _ => Meaning::Nothing,
        };
    }
    match (message.method, exchange) {
        (Method::Bye, _) => Meaning::Delete,
        (Method::Invite, None) if is_new && has_sdp => Meaning::Offer,
        (Method::Invite, None) if is_new => Meaning::Awaited,
        (Method::Invite | Method::Update, Some(_)) if has_sdp => Meaning::Offer,
        (Method::Prack, Some(exchange)) if has_sdp => {
            if exchange.owes() && exchange.is_open {
                Meaning::Answer
            } else {
                Meaning::Offer
            }
        }
        (Method::Ack, Some(_)) if has_sdp => Meaning::Answer,
        _ => Meaning::Nothing,
    }
}
