//! A request, and a response, as a policy sees them.

use core::ops::Deref;

use crate::bindings::viaduct::policy::types::{Request as Facts, Traits};
use crate::message::{Field, Message};

pub use crate::bindings::viaduct::policy::types::{Method, Transport};

impl Method {
    /// Can a request of this method create a dialog, so that only a Record-Route keeps us in its
    /// way (RFC 3261 16.6 step 4; RFC 6665 4.4.1 for NOTIFY)? Unknown methods might.
    pub fn forms_dialog(self) -> bool {
        use Method::{Invite, Notify, Other, Refer, Subscribe};
        matches!(self, Invite | Subscribe | Notify | Refer | Other)
    }
}

/// A request. What it says is read by the functions of [`Message`]; what the router has found out
/// about it came with the call and costs nothing to ask.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    facts: Facts,
}

impl Request {
    pub(crate) fn new(facts: Facts) -> Request {
        Request { facts }
    }

    fn is(&self, which: Traits) -> bool {
        self.facts.traits.contains(which)
    }

    /// Method; for [`Method::Other`] ask [`Request::method_name`].
    pub fn method(&self) -> Method {
        self.facts.method
    }

    /// Method as written.
    pub fn method_name(&self) -> String {
        self.get(Field::Method)
    }

    /// To has a tag: the request belongs to a dialog, or claims to.
    pub fn in_dialog(&self) -> bool {
        self.is(Traits::IN_DIALOG)
    }

    /// A Route of ours was removed; the rest of the Route set, else the Request-URI, says where the
    /// request goes.
    pub fn loose_routed(&self) -> bool {
        self.is(Traits::LOOSE_ROUTED)
    }

    /// Not in a dialog, and Route values of others are left. Obeyed blindly, that makes an open
    /// relay (R-G2): answer 403 unless the sender may do it.
    pub fn preloaded_route(&self) -> bool {
        self.is(Traits::PRELOADED_ROUTE)
    }

    /// The Request-URI is in one of our domains, or names one of our addresses.
    pub fn uri_is_ours(&self) -> bool {
        self.is(Traits::URI_IS_OURS)
    }

    /// The Request-URI is ours and has no user: the request is meant for the router itself.
    pub fn uri_is_router(&self) -> bool {
        self.is(Traits::URI_IS_ROUTER)
    }

    /// From's host is one of our domains. A claim, not a proof.
    pub fn from_is_ours(&self) -> bool {
        self.is(Traits::FROM_IS_OURS)
    }

    /// The source address is a peer the router's configuration trusts.
    pub fn trusted(&self) -> bool {
        self.is(Traits::TRUSTED)
    }

    /// One Via: it came from the UA itself, not by way of another proxy.
    pub fn first_hop(&self) -> bool {
        self.is(Traits::FIRST_HOP)
    }

    /// Has a Path header.
    pub fn has_path(&self) -> bool {
        self.is(Traits::HAS_PATH)
    }

    /// Says `Supported: path`.
    pub fn supports_path(&self) -> bool {
        self.is(Traits::SUPPORTS_PATH)
    }

    /// Has a body.
    pub fn has_body(&self) -> bool {
        self.is(Traits::HAS_BODY)
    }

    /// The removed Route carried a `received` of ours: the next hop is set from it.
    pub fn by_received(&self) -> bool {
        self.is(Traits::BY_RECEIVED)
    }

    /// Transport it came by.
    pub fn transport(&self) -> Transport {
        self.facts.transport
    }

    /// Port it came from; the address is [`Message::source_ip`].
    pub fn source_port(&self) -> u16 {
        self.facts.source_port
    }

    /// Time of this run, milliseconds since 1970-01-01 UTC.
    pub fn now_ms(&self) -> u64 {
        self.facts.now_ms
    }

    /// Random number of this run; the same when the run is repeated.
    pub fn seed(&self) -> u64 {
        self.facts.seed
    }
}

impl Deref for Request {
    type Target = Message;

    fn deref(&self) -> &Message {
        &Message::CURRENT
    }
}

/// A response that has come in for a request we forwarded. [`Message`]'s functions read and edit
/// the response.
#[derive(Clone, Copy, Debug)]
pub struct Response {
    facts: Facts,
    status: u16,
}

impl Response {
    pub(crate) fn new(facts: Facts, status: u16) -> Response {
        Response { facts, status }
    }

    /// Status, 101 to 699.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Is another response to follow?
    pub fn is_provisional(&self) -> bool {
        self.status < 200
    }

    /// Method of the request it answers.
    pub fn method(&self) -> Method {
        self.facts.method
    }

    /// Transport the response came by.
    pub fn transport(&self) -> Transport {
        self.facts.transport
    }

    /// Port the response came from.
    pub fn source_port(&self) -> u16 {
        self.facts.source_port
    }

    /// Time of this run, milliseconds since 1970-01-01 UTC.
    pub fn now_ms(&self) -> u64 {
        self.facts.now_ms
    }
}

impl Deref for Response {
    type Target = Message;

    fn deref(&self) -> &Message {
        &Message::CURRENT
    }
}
