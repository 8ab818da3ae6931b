//! A guest without WebAssembly: host functions are called as a guest's code would call them, a
//! thousand times as often a second. Fuzz targets are made of it.

use std::sync::Arc;

use viaduct_engine::{Phase, Policy, PolicyFailure, Run, Verdict};
use wasmtime::Result;

use super::calls::{CALLS, short};
use crate::bindings::policy::exports::viaduct::policy::handler::{
    BranchVerdict, FailureVerdict, ReplyVerdict, Verdict as RequestVerdict,
};
use crate::bindings::policy::viaduct::policy::types::Reply;
use crate::guest::Guest;
use crate::manifest::{Fallback, Manifest};
use crate::worker::instance::{Returned, settle};

/// Where the arguments of host calls come from.
pub trait Arguments {
    /// A text: any length, any character.
    fn text(&mut self) -> String;
    /// A number, of which an argument takes the bits it has room for, or an enum a case.
    fn number(&mut self) -> u64;
    /// Is an argument there that need not be? Also: a yes or no.
    fn is_there(&mut self) -> bool;
}

/// What a guest does in one run: host calls, with their arguments, then a verdict out of one more
/// number (and for an answer, its status and its reason).
pub trait Script: Arguments {
    /// Number of the next host call, taken modulo how many there are; `None`: the guest returns.
    fn next_call(&mut self) -> Option<usize>;
}

/// Names of all host functions, as `interface.function`, by the numbers a [`Script`] gives.
pub fn host_functions() -> impl ExactSizeIterator<Item = &'static str> {
    CALLS.iter().map(|(name, _)| *name)
}

/// A policy that does what scripts say, one made for each run. What a sandbox would see to is not
/// there: imports are not checked against grants (those of tables, sets and HTTP are), and there is
/// no fuel.
pub struct BareGuest<F> {
    guest: Guest,
    script: F,
}

impl<F> BareGuest<F> {
    /// A guest with the grants of `manifest`; `script` is asked what it does in a phase.
    pub fn new(manifest: Manifest, script: F) -> BareGuest<F> {
        BareGuest { guest: Guest::new(Arc::new(manifest), Arc::default()), script }
    }

    fn go(&mut self, phase: Phase, script: &mut impl Script) -> Result<Returned> {
        while let Some(number) = script.next_call() {
            let number = number.checked_rem(CALLS.len()).unwrap_or(0);
            if let Some((_, call)) = CALLS.get(number) {
                call(&mut self.guest, script)?;
            }
        }
        Ok(returned(phase, script))
    }
}

fn returned(phase: Phase, script: &mut impl Script) -> Returned {
    let choice = script.number();
    let mut reply = || Reply { status: short(script.number()), reason: script.text() };
    match phase {
        Phase::Request => Returned::Request(match choice % 4 {
            0 => RequestVerdict::Relay,
            1 => RequestVerdict::Reply(reply()),
            2 => RequestVerdict::Answered,
            _ => RequestVerdict::Drop,
        }),
        Phase::Branch if choice.is_multiple_of(2) => Returned::Branch(BranchVerdict::Send),
        Phase::Branch => Returned::Branch(BranchVerdict::Skip),
        Phase::Reply if choice.is_multiple_of(2) => Returned::Reply(ReplyVerdict::Forward),
        Phase::Reply => Returned::Reply(ReplyVerdict::Drop),
        Phase::Failure => Returned::Failure(match choice % 3 {
            0 => FailureVerdict::Forward,
            1 => FailureVerdict::Reply(reply()),
            _ => FailureVerdict::Retry,
        }),
    }
}

impl<S: Script, F: FnMut(Phase) -> S> Policy for BareGuest<F> {
    type Version = ();

    fn current(&mut self) {}

    fn wants(&self, (): &(), phase: Phase) -> bool {
        self.guest.manifest.wants(phase)
    }

    fn decide(
        &mut self,
        (): &(),
        phase: Phase,
        run: Box<Run>,
    ) -> (Box<Run>, Result<Verdict, PolicyFailure>) {
        let mut script = (self.script)(phase);
        self.guest.begin(run);
        let result = self.go(phase, &mut script);
        let (run, result) = settle(&mut self.guest, result);
        let status = match self.guest.manifest.fallback {
            Fallback::Unavailable => 503,
            Fallback::ServerError | Fallback::PreviousVersion => 500,
        };
        (run, result.map_err(|failure| PolicyFailure { kind: failure.kind, status }))
    }
}
