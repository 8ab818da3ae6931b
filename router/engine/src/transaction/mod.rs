//! The transaction layer's rules, without its state: RFC 3261 17 as amended by RFC 6026 (Accepted
//! states, timers L and M), RFC 4320 (non-INVITE) and RFC 5393 (loop hash in the branch).
//!
//! Everything here is a pure function. Nothing keeps a transaction, reads a message but to compute
//! its key, or sends anything; the owner of the transactions does what a [`Step`] says.
//!
//! Start reading at [`invite_client`], with figure 5 of RFC 3261 and section 7.2 of RFC 6026 beside
//! it; [`non_invite_client`], [`invite_server`] and [`non_invite_server`] have the same shape:
//!
//! * `start(reliable)`: what to do when the transaction is made, and its first state;
//! * `step(state, event, reliable)`: one cell of the table. `Some` with no action means that the
//!   RFC wants the event absorbed; `None` means that the event has no meaning in the state (a stale
//!   timer, a response nobody waits for) and is to be ignored as well, but may be counted.
//!
//! `reliable` is the transport's, and does not change in a transaction's life. Timers that are zero
//! on reliable transports (D, I, J, K) are not armed there: the step ends the transaction at once.
//!
//! Every letter is armed at most once at a time (but C, which the proxy core restarts by keeping
//! its newer deadline and arming again when the older one falls due), so a generation per
//! transaction is enough: the tables ignore letters that a state does not wait for.
//!
//! [`actions`] lists what a step can ask for, [`duration`] how long each timer runs, [`key`] how a
//! request finds its server transaction, [`branch`] how a response finds its client transaction.

pub mod actions;
pub mod branch;
pub mod duration;
pub mod invite_client;
pub mod invite_server;
pub mod key;
pub mod non_invite_client;
pub mod non_invite_server;

pub use actions::Actions;
pub use branch::OwnBranch;
pub use duration::duration_us;
pub(crate) use key::Hashed;
pub use key::ServerKey;

/// One cell of a table: the state after the event, and what is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step<S> {
    /// The state after the event.
    pub next: S,
    /// What to do, in the order in which [`Actions::iter`] gives them.
    pub actions: Actions,
}

/// A cell that does something.
const fn go<S>(next: S, actions: Actions) -> Option<Step<S>> {
    Some(Step { next, actions })
}

/// A cell whose event is absorbed: the RFC says that nothing is to happen.
const fn absorb<S>(state: S) -> Option<Step<S>> {
    Some(Step { next: state, actions: Actions::NONE })
}
