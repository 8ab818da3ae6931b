//! Sets of destinations to share requests out to. Needs the grant
//! `dispatcher = { SET = "read" }`, or `"write"` for [`report`].
//!
//! ```no_run
//! # use viaduct_guest::prelude::*;
//! # struct Edge;
//! #[viaduct::policy]
//! impl Policy for Edge {
//!     fn on_request(_: &Request) -> Verdict {
//!         match dispatcher::select("gateways", Algorithm::CallId) {
//!             Ok(_) => relay(),
//!             Err(_) => reply(503, "No Gateway"),
//!         }
//!     }
//!
//!     fn on_failure(_: &Request, status: u16) -> FailureVerdict {
//!         if status == 408 || status >= 500 {
//!             let _ = dispatcher::report(false);
//!             if dispatcher::next().is_ok() {
//!                 return FailureVerdict::Retry;
//!             }
//!         }
//!         FailureVerdict::Forward
//!     }
//! }
//! # fn main() {}
//! ```
//!
//! Which destinations there are is the router's configuration (`[[destination]]`); which are up it
//! finds out by OPTIONS (`[probe]`) and from [`report`].

use crate::bindings::viaduct::policy::dispatcher as host;

pub use host::{Algorithm, Destination, DispatcherError, State};

/// Most destinations tried for one request.
const MOST: u32 = 16;

/// Stages the destination to try first as the next hop; then [`relay`](crate::relay). The
/// Request-URI stays. The others that are up follow by [`next`].
pub fn select(set: &str, by: Algorithm) -> Result<Destination, DispatcherError> {
    host::select(set, by, MOST)
}

/// [`select`], with at most so many destinations in all (1 to 16).
pub fn select_most(set: &str, by: Algorithm, most: u32) -> Result<Destination, DispatcherError> {
    host::select(set, by, most)
}

/// In `on_failure`: stages the next destination that is up; then return
/// [`FailureVerdict::Retry`](crate::FailureVerdict::Retry).
pub fn next() -> Result<Destination, DispatcherError> {
    host::next()
}

/// Says of the destination tried last that it lives, or that it does not. The configuration says
/// how many signs in a row take it out and bring it back.
pub fn report(alive: bool) -> Result<(), DispatcherError> {
    host::report(alive)
}

/// The destinations of a set, at most 64.
pub fn destinations(set: &str) -> Vec<Destination> {
    host::destinations(set)
}

/// The destination of a set that has the IP address the message came from.
pub fn source(set: &str) -> Option<Destination> {
    host::source(set)
}
