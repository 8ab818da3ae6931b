//! The proxy's rules (RFC 3261 16) as functions over messages: they hold no state and send nothing.
//!
//! In the order a request meets them: [`validate`] (16.3), [`route`] (16.4), [`breadth`] (RFC 5393
//! 5.3), [`hop`] and [`forward`] (16.6), [`best`] (16.7), [`derived`] (ACK 17.1.1.3, CANCEL 9.1).
//! The engine's own files apply them.

pub(crate) mod best;
pub(crate) mod breadth;
pub(crate) mod derived;
pub(crate) mod forward;
pub(crate) mod hop;
pub(crate) mod loops;
pub(crate) mod route;
pub(crate) mod validate;
