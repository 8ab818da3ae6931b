//! Path (RFC 3327): have later requests to the phone come back by way of this proxy.
//!
//! Needs the grant `path`. The value is written when the message is serialised, because only then
//! the outgoing address is known.

use crate::bindings::viaduct::policy::path as host;

pub use host::{Mode, PathError};

/// Adds `<sip:[user@]us;lr>` on top of Path (R-P3).
///
/// On failure nothing is added and the message stays as it was (R-P7). The customary answer is
/// `503 Internal Path Error`, but [`PathError::NotSupported`] means "forward without", and after
/// [`PathError::ExtensionRequired`] return [`Verdict::Answered`](crate::Verdict::Answered).
pub fn add(mode: Mode, user: Option<&str>) -> Result<(), PathError> {
    host::add(mode, user)
}

/// [`add`] with `;received=` the address the REGISTER came from, signed by us (R-P10): later
/// requests that come back with it are sent there, through the phone's NAT.
pub fn add_received(mode: Mode, user: Option<&str>) -> Result<(), PathError> {
    host::add_received(mode, user)
}

/// Adds `<sip:TOKEN@us;lr>`, where the token names the flow the REGISTER came by (RFC 5626 5):
/// later requests that come back with it are sent over that flow and no other, and get 430 where it
/// has ended. With `;ob` where we are the first hop of a phone that registers a flow.
pub fn add_flow(mode: Mode) -> Result<(), PathError> {
    host::add_flow(mode)
}
