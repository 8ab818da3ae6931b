//! What an engine has counted since its start: plain numbers, read by the worker between batches.

use viaduct_message::Method;

use crate::location::CommitFault;

/// Counters of one engine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Requests by method, retransmissions included; index: `Method as usize`.
    pub requests: [u64; Method::Other as usize + 1],
    /// Responses sent by class, ours and forwarded ones; index: first digit, 0 unused.
    pub responses: [u64; 7],
    /// Requests sent on, retransmissions not counted.
    pub forwarded: u64,
    /// Requests and responses sent again by a timer.
    pub retransmitted: u64,
    /// Requests recognised as retransmissions.
    pub absorbed: u64,
    /// Messages that could not be read.
    pub malformed: u64,
    /// Responses that matched no transaction, or another's branch.
    pub stray_responses: u64,
    /// Requests answered 503 because a bound was reached.
    pub shed: u64,
    /// Requests dropped without an answer, as even those came too fast.
    pub ignored: u64,
    /// Policy runs, all phases.
    pub policy_runs: u64,
    /// Failed policy runs; index: `FailureKind as usize`.
    pub policy_failures: [u64; 7],
    /// Credentials that were right.
    pub auth_accepted: u64,
    /// Credentials that were wrong.
    pub auth_refused: u64,
    /// Changes of shared tables that found no room any more.
    pub table_full: u64,
    /// Questions put for runs that needed what was not in memory.
    pub asked: u64,
    /// Requests answered by a fallback, as there was no answer.
    pub ask_failed: u64,
    /// REGISTERs whose bindings were saved.
    pub registrations: u64,
    /// REGISTERs refused.
    pub registrations_refused: u64,
    /// Commits that memory decided ([`crate::Location::commit_in_memory`]): made, conflict, store
    /// fault, table full.
    pub commits_in_memory: [u64; 4],
    /// Branches that ended by Timer B, F or C.
    pub timeouts: u64,
    /// Bindings removed because their flow has failed.
    pub flows_failed: u64,
    /// Requests that came back as undeliverable.
    pub undelivered: u64,
    /// Orders about media that were not carried out.
    pub media_failed: u64,
}

impl Counters {
    pub(crate) fn request(&mut self, method: Method) {
        if let Some(n) = self.requests.get_mut(method as usize) {
            *n = n.wrapping_add(1);
        }
    }

    pub(crate) fn response(&mut self, status: u16) {
        if let Some(n) = self.responses.get_mut(usize::from(status / 100)) {
            *n = n.wrapping_add(1);
        }
    }

    pub(crate) fn commit_in_memory(&mut self, result: &Result<(), CommitFault>) {
        let index = match result {
            Ok(()) => 0,
            Err(CommitFault::Conflict) => 1,
            Err(CommitFault::Store) => 2,
            Err(CommitFault::Full) => 3,
        };
        if let Some(n) = self.commits_in_memory.get_mut(index) {
            *n = n.wrapping_add(1);
        }
    }

    pub(crate) fn policy_failure(&mut self, kind: crate::FailureKind) {
        if let Some(n) = self.policy_failures.get_mut(kind as usize) {
            *n = n.wrapping_add(1);
        }
    }
}
