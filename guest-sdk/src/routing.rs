//! Where a request goes. Needs the grant `routing`.

use crate::bindings::viaduct::policy::routing as host;
use crate::message::EditError;

/// Stay in the way of the dialog this request may create: later requests of it come through here.
pub fn record_route() {
    host::record_route();
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
