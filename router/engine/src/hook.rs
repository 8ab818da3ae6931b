//! The policy hook: what the engine asks a policy, and what a policy may look at and stage.
//!
//! A run is a function of (phase, message, facts, now, seed). The policy reads through [`Run`] and
//! stages effects in it; nothing takes effect until the run has ended well, so a trap leaves
//! nothing behind. `Run` is owned: the engine lends it as a box and gets it back, which keeps
//! borrowed memory, and so `unsafe`, out of the WebAssembly host.

use crate::run::Run;

/// When a policy is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Phase {
    /// A request has come in (request route).
    Request = 0,
    /// One branch is about to be sent.
    Branch = 1,
    /// A response has come in (reply route).
    Reply = 2,
    /// All branches have failed, before the best response goes back (failure route).
    Failure = 3,
}

/// What a policy decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Request: forward to the staged targets, or to the Request-URI where there are none.
    /// Failure: try the staged targets.
    Relay,
    /// Request, failure: answer with this.
    Reply {
        /// 200 to 699.
        status: u16,
        /// Reason phrase; empty: the registered one.
        reason: Box<str>,
    },
    /// Request: send the answer a host function has staged (`save`).
    Answered,
    /// Request: no answer, no forwarding. Branch: do not send it. Reply: do not forward it (only
    /// provisional responses can be dropped).
    Drop,
    /// Branch: send it. Reply, failure: go on as the RFC says.
    Continue,
    /// Request: not decided, as what [`Run::asked`] says is not in memory. Ask, and run again.
    Ask {
        /// What is answered where it cannot be had: 500 or 503.
        fallback: u16,
    },
}

/// Why a run gave no verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureKind {
    /// The guest trapped (unreachable, out of bounds, ...), or a host function refused it hard.
    Trap,
    /// Out of fuel.
    Fuel,
    /// Over its memory or table limit.
    Memory,
    /// Over its wall-clock limit.
    Time,
    /// Returned something that is no verdict, or one that does not fit the phase.
    Garbage,
    /// No instance could be had.
    Unavailable,
    /// Needs what is not in memory, in a phase that cannot wait for it.
    Fact,
}

/// A run that ended badly, and what its manifest says to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PolicyFailure {
    /// What happened.
    pub kind: FailureKind,
    /// The manifest's fallback: 500 or 503.
    pub status: u16,
}

/// A source of decisions. `router/policy` is the WebAssembly one; tests use closures.
pub trait Policy {
    /// Pins a version: held by each transaction, freed with the last (R-G3).
    type Version: Clone;

    /// The version new transactions begin with.
    fn current(&mut self) -> Self::Version;

    /// The version this new transaction begins with, where several are live.
    fn choose(&mut self, run: &Run) -> Self::Version {
        let _ = run;
        self.current()
    }

    /// Does that version want to be asked in that phase?
    fn wants(&self, version: &Self::Version, phase: Phase) -> bool;

    /// Runs the policy. `run` comes back in every case, with its effects as the policy left them;
    /// after a failure the engine discards them.
    fn decide(
        &mut self,
        version: &Self::Version,
        phase: Phase,
        run: Box<Run>,
    ) -> (Box<Run>, Result<Verdict, PolicyFailure>);
}
