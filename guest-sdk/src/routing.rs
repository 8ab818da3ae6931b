//! Where a request goes. Needs the grant `routing`.

use crate::bindings::viaduct::policy::routing as host;
use crate::message::EditError;

pub use host::Sides;

/// Stay in the way of the dialog this request may create: later requests of it come through here.
pub fn record_route() {
    host::record_route();
}

/// [`record_route`], naming the flow of the caller, of the callee, or of both (RFC 5626 5.3): later
/// requests of the dialog reach that side over the flow alone, whatever its Contact says. For
/// phones behind NAT or on streams; not for servers. False, and nothing is staged, where the router
/// has no key to sign it with.
///
/// ```no_run
/// # use viaduct_guest::prelude::*;
/// routing::record_route_flows(routing::Sides::CALLER);
/// ```
pub fn record_route_flows(sides: Sides) -> bool {
    host::record_route_flows(sides)
}

/// Adds a target, a SIP URI. Targets of equal `q_milli` (0 to 1000) are tried at the same time,
/// higher ones before lower ones.
pub fn add_target(uri: &str, q_milli: u16) -> Result<(), EditError> {
    host::add_target(uri, q_milli)
}

/// Sets the next hop, a SIP URI, of all targets that name none. The Request-URI stays.
pub fn set_destination(uri: &str) -> Result<(), EditError> {
    host::set_destination(uri)
}

/// Adds a header to the reply this policy makes.
pub fn add_reply_header(name: &str, value: &str) -> Result<(), EditError> {
    host::add_reply_header(name, value)
}

/// Adds several headers to the reply this policy makes, `Name: value` a line; all or none. One call
/// to the router instead of one a header.
pub fn add_reply_headers(lines: &str) -> Result<(), EditError> {
    host::add_reply_headers(lines)
}
