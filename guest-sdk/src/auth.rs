//! Who sends a request, by digest (RFC 3261 22, RFC 7616, RFC 8760). Needs the grant `auth`.
//!
//! ```no_run
//! # use viaduct_guest::prelude::*;
//! # use viaduct_guest::auth::{AuthError, Role};
//! fn register() -> Verdict {
//!     match auth::check(Role::Registrar) {
//!         Ok(user) if !user.is_to => reply(403, ""),
//!         Ok(_) | Err(AuthError::Off) => usrloc::save("location", "").into(),
//!         Err(error) => auth::challenge(Role::Registrar, error),
//!     }
//! }
//!
//! // Or, the same:
//! fn shorter() -> Verdict {
//!     match auth::demand(Role::Registrar) {
//!         Ok(Some(user)) if !user.is_to => reply(403, ""),
//!         Ok(_) => usrloc::save("location", "").into(),
//!         Err(challenge) => challenge,
//!     }
//! }
//! ```
//!
//! Users, passwords, realms and algorithms are the router's configuration (`[auth]`); without it
//! every check is [`AuthError::Off`]. ACK and CANCEL are never challenged: let them pass.
//!
//! A user who is not in memory is fetched, and the run is done again from the top; nothing of that
//! is seen here, but for the time that passes. It works in `on_request` only.

use crate::bindings::viaduct::policy::auth as host;
use crate::{Verdict, reply};

pub use host::{AuthError, Identity, Role};

/// Who sends this request? The realm is the configured one, or the domain of To (REGISTER) or From.
/// Proxy-Authorization that was right is not forwarded.
pub fn check(role: Role) -> Result<Identity, AuthError> {
    host::check(role, None)
}

/// The user, `None` where the router has no users, or the challenge to answer with.
pub fn demand(role: Role) -> Result<Option<Identity>, Verdict> {
    match check(role) {
        Ok(user) => Ok(Some(user)),
        Err(AuthError::Off) => Ok(None),
        Err(error) => Err(challenge(role, error)),
    }
}

/// [`check`] for another realm.
pub fn check_in(role: Role, realm: &str) -> Result<Identity, AuthError> {
    host::check(role, Some(realm))
}

/// 401 or 407 with a challenge; `error` is what [`check`] said. 500 where there is nothing to
/// challenge with.
pub fn challenge(role: Role, error: AuthError) -> Verdict {
    answered(host::challenge(role, None, error == AuthError::Stale))
}

/// [`challenge`] for another realm.
pub fn challenge_in(role: Role, realm: &str, error: AuthError) -> Verdict {
    answered(host::challenge(
        role,
        Some(realm),
        error == AuthError::Stale,
    ))
}

fn answered(staged: Result<(), AuthError>) -> Verdict {
    match staged {
        Ok(()) => Verdict::Answered,
        Err(_) => reply(500, ""),
    }
}
