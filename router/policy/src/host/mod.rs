//! The host interfaces of the contract, as functions on a guest's store data. They only translate:
//! what is allowed and what it means is decided by [`viaduct_engine::Run`].
//!
//! One file an interface. A refusal the guest can act on is a value of the contract; one it cannot
//! (a table not granted, a text too long, too many calls) ends the run.

mod auth;
mod dispatcher;
mod http;
mod log;
mod media;
mod message;
mod metrics;
mod nat;
mod path;
mod routing;
mod settings;
mod table;
mod usrloc;
mod vars;

pub use crate::guest::{MAX_CALLS, MAX_TEXT_BYTES};

use viaduct_engine::run::EditFault;

use crate::bindings::policy::viaduct::policy::types;
use crate::guest::Guest;

impl types::Host for Guest {}

/// What the guest learns of an edit; a refusal shows in the log and in a counter too.
fn edited<T>(
    guest: &mut Guest,
    call: &'static str,
    done: Result<T, EditFault>,
) -> Result<T, types::EditError> {
    done.map_err(|fault| {
        let (error, word) = match fault {
            EditFault::Syntax => (types::EditError::InvalidSyntax, "invalid-syntax"),
            EditFault::Forbidden => (types::EditError::Forbidden, "forbidden"),
            EditFault::TooLarge => (types::EditError::TooLarge, "too-large"),
        };
        guest.note_refusal(call, word);
        error
    })
}

/// Bytes of a peer as text; what is no UTF-8 becomes U+FFFD.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A text argument that may be absent, for the length check.
fn or_empty(text: &Option<String>) -> &str {
    text.as_deref().unwrap_or_default()
}
