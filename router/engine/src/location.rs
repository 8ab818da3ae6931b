//! What the engine needs of a location service (usrloc). `router/location` provides it.

use std::sync::Arc;

use crate::registrar::BindingSet;

/// Names one record: a table (`location`) and a canonical AoR (`user@host`).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AorKey {
    /// Table, as in `save("location")`.
    pub table: Arc<str>,
    /// Canonical AoR, see [`viaduct_message::uri::write_aor`].
    pub aor: Box<[u8]>,
}

/// The bindings of an AoR with the version a change must be based on.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Grows with every staged change of this AoR; 0 where it has none.
    pub version: u64,
    /// `None` where the AoR has no bindings.
    pub set: Option<Arc<BindingSet>>,
    /// The set waits for its commit: an answer that shows it must wait too, or it would acknowledge
    /// what a crash can still take back.
    pub pending: bool,
}

/// A staged change of one AoR: its whole new set. Applied whole or not at all (RFC 3261 10.3,
/// R-G1).
#[derive(Clone, Debug)]
pub struct Change {
    /// Whose bindings.
    pub key: AorKey,
    /// The version it was computed from; another version in the table means: compute again.
    pub based_on: u64,
    /// The new set; empty removes the record.
    pub set: Arc<BindingSet>,
    /// Do not write it to the store (`memory-only`).
    pub memory_only: bool,
}

/// Why a change did not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitFault {
    /// Another change came first: compute again from the newer set.
    #[error("the bindings have changed meanwhile")]
    Conflict,
    /// The store could not write it; nothing was changed.
    #[error("the store did not take the change")]
    Store,
    /// The table is at its configured limit; nothing was changed.
    #[error("the location table is full")]
    Full,
}

/// Read access for the policy's run, and commits that need no store; all answers come from memory,
/// at once.
pub trait Location: Send + Sync {
    /// Acknowledged bindings, expired ones possibly still among them: callers compare with `now`.
    fn get(&self, table: &str, aor: &[u8]) -> Option<Arc<BindingSet>>;
    /// The newest bindings, those waiting for their commit included: what a REGISTER starts from.
    fn latest(&self, table: &str, aor: &[u8]) -> Snapshot;
    /// Makes the changes, all or none, where memory alone decides. `None`: nothing was done, they
    /// are to go out as [`crate::Output::Commit`].
    fn commit_in_memory(&self, _changes: &[Change]) -> Option<Result<(), CommitFault>> {
        None
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Where nobody is registered.
    pub(crate) struct Nobody;

    impl Location for Nobody {
        fn get(&self, _: &str, _: &[u8]) -> Option<Arc<BindingSet>> {
            None
        }
        fn latest(&self, _: &str, _: &[u8]) -> Snapshot {
            Snapshot::default()
        }
    }
}
