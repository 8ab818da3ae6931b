//! Digest authentication (RFC 3261 22, RFC 7616, RFC 8760): who sends a request.
//!
//! A challenge carries a [`nonce`] that we recognise without having kept it: time and MAC. What
//! comes back is read by `viaduct_message`, compared in constant time with what the user's secret
//! gives ([`digest`]), and counted, so that nobody can send it again ([`replay`]). Secrets come
//! from memory ([`Credentials`]); one that is not there is asked for (see [`crate::query`]).
//!
//! Start reading at `run/auth.rs`, which does one check.

pub mod challenge;
pub mod credentials;
pub mod digest;
pub mod nonce;
pub mod replay;

use std::sync::Arc;

use viaduct_message::HeaderName;

pub use credentials::{Account, Credentials, Known};
pub use digest::{Algorithm, Secrets};
pub use replay::Replay;

/// How users are authenticated; the same for all workers.
#[derive(Clone)]
pub struct Auth {
    /// Realm of all users; `None`: each of our domains is a realm of its own.
    pub realm: Option<Box<str>>,
    /// Offered in challenges, most wanted first; others are not accepted. At least one.
    pub algorithms: Vec<Algorithm>,
    /// Offer `auth-int`, which protects the body too, beside `auth`.
    pub auth_int: bool,
    /// Show the phone in Authentication-Info that we know its secret too, and give it its next
    /// nonce (RFC 7616 3.5).
    pub info: bool,
    /// How long a nonce is accepted, milliseconds.
    pub nonce_life_ms: u64,
    /// Which nonces have been used how.
    pub replay: Arc<Replay>,
    /// What is known of users.
    pub credentials: Arc<dyn Credentials>,
}

/// As what we ask who sends a request (RFC 3261 22.2, 22.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A registrar, or another party the request is meant for: 401, Authorization.
    Registrar,
    /// A proxy on its way: 407, Proxy-Authorization.
    Proxy,
}

impl Role {
    /// Status and registered reason phrase of the challenge.
    pub fn status(self) -> (u16, &'static str) {
        match self {
            Role::Registrar => (401, "Unauthorized"),
            Role::Proxy => (407, "Proxy Authentication Required"),
        }
    }

    /// Header of the credentials.
    pub fn credentials(self) -> HeaderName {
        match self {
            Role::Registrar => HeaderName::Authorization,
            Role::Proxy => HeaderName::ProxyAuthorization,
        }
    }

    /// Header of the challenge.
    pub fn challenge(self) -> HeaderName {
        match self {
            Role::Registrar => HeaderName::WwwAuthenticate,
            Role::Proxy => HeaderName::ProxyAuthenticate,
        }
    }
}

/// Who sends a request, proven.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// User name.
    pub user: Box<str>,
    /// Realm.
    pub realm: Box<str>,
    /// The AoR in To is the user's own: what a REGISTER may change (RFC 3261 10.3 step 4).
    pub is_to: bool,
    /// The AoR in From is the user's own.
    pub is_from: bool,
}

/// Why it is not known who sends a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthFault {
    /// The router authenticates nobody.
    #[error("no authentication is configured")]
    Off,
    /// No credentials for the realm, or none that can be checked: challenge.
    #[error("no credentials")]
    NoCredentials,
    /// Right, but the nonce is too old, not ours, or was used before: challenge with `stale`.
    #[error("the nonce is stale")]
    Stale,
    /// Unknown user or wrong password, which look the same; or credentials for another request.
    #[error("wrong credentials")]
    Invalid,
    /// The user's secret is not in memory: [`crate::Run::asked`] says what is missing. End the run
    /// with [`crate::Verdict::Ask`].
    #[error("the user is not in memory")]
    Ask,
}
