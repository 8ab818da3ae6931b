//! The media relay: RTP goes through the router, so that phones behind NAT hear each other. Needs
//! the grant `media`, and `[media]` in the router's configuration.
//!
//! ```no_run
//! # use viaduct_guest::prelude::*;
//! # struct Edge;
//! #[viaduct::policy]
//! impl Policy for Edge {
//!     fn on_request(request: &Request) -> Verdict {
//!         // INVITE and what follows in its dialog, BYE included.
//!         if media::manage("").is_err() {
//!             return reply(488, "");
//!         }
//!         relay()
//!     }
//!
//!     fn on_reply(_: &Response) -> ReplyVerdict {
//!         let _ = media::manage("");
//!         ReplyVerdict::Forward
//!     }
//! }
//! # fn main() {}
//! ```
//!
//! What is staged here happens when the message is sent on: its session description (SDP) then names
//! the router's addresses, and packets are relayed. An offer that cannot be relayed is answered by
//! the router: 488 where the SDP is at fault, 503 where ports or sessions have run out. What fails or
//! is cancelled, and calls that fall silent, the router ends by itself.
//!
//! Flags are words with spaces or commas between them, named as in the rtpengine modules of Kamailio
//! and OpenSIPS; `policies/README.md` lists them.

use crate::bindings::viaduct::policy::media as host;

pub use host::{Call, Leg, MediaError, Stream};

/// Does what the message means, in every phase; call it for all requests and responses of calls
/// that are to be relayed.
///
/// * INVITE, UPDATE and PRACK with SDP: an offer. Only an INVITE outside of a dialog begins a relay.
/// * A response or ACK with SDP: its answer, or the offer where the INVITE had none.
/// * BYE: the end.
/// * All else, and dialogs that are not relayed: nothing.
///
/// In `on_branch`, instead of `on_request`, each branch of a forked INVITE gets ports of its own.
pub fn manage(flags: &str) -> Result<(), MediaError> {
    host::manage(flags)
}

/// [`manage`] for phones that may be behind NAT: where a description names a private address, packets are
/// awaited from where the message came from (flag `SIP-source-address`). Needs the grant `nat` too.
pub fn manage_nat() -> Result<(), MediaError> {
    let is_private = crate::nat::test("private-sdp").unwrap_or(false);
    manage(if is_private { "SIP-source-address" } else { "" })
}

/// The SDP of the message is an offer, also in a dialog that is not relayed yet.
pub fn offer(flags: &str) -> Result<(), MediaError> {
    host::offer(flags)
}

/// The SDP of the message is the answer to the last offer.
pub fn answer(flags: &str) -> Result<(), MediaError> {
    host::answer(flags)
}

/// The relay of the message's dialog ends.
pub fn delete() -> Result<(), MediaError> {
    host::delete()
}

/// How the media of the message's dialog stand; `None`: they are not relayed.
pub fn query() -> Option<Call> {
    host::query()
}
