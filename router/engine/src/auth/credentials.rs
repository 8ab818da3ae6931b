//! What the engine needs of whoever keeps users' secrets. The daemon provides it.

use std::sync::Arc;

use super::digest::Secrets;

/// Names one user.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Account {
    /// Realm, which is a domain of ours or the configured realm.
    pub realm: Box<str>,
    /// User name as the credentials give it, unescaped; no control characters.
    pub user: Box<str>,
}

/// What memory says about a user.
#[derive(Clone, Debug)]
pub enum Known {
    /// There is one.
    User(Arc<Secrets>),
    /// There is none.
    Nobody,
    /// Memory does not say: ask.
    NotInMemory,
}

/// Read access for the policy's run; all answers come from memory, at once.
pub trait Credentials: Send + Sync {
    /// What is known at `unix_ms`.
    fn get(&self, account: &Account, unix_ms: u64) -> Known;
}
