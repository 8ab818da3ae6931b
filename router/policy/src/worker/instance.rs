//! One instance of a policy and one call of it.

use std::sync::Arc;

use viaduct_engine::{Phase, Run, Verdict};
use wasmtime::{Error, Store};

use crate::bindings::policy::Policy as Exports;
use crate::failure::Failure;
use crate::guest::{Guest, MAX_CALL_BYTES, Overrides, TextCache};
use crate::verdict;
use crate::version::PolicyVersion;

/// Fuel of a start: fills memories, runs constructors. Apart from the fuel of a run, which may be
/// small.
const START_FUEL: u64 = 10_000_000;

/// A started instance.
pub(crate) struct Instance {
    store: Store<Guest>,
    exports: Exports,
    runs: u32,
    /// Linear memory after the start, bytes.
    memory_at_start: usize,
}

impl Instance {
    /// Starts an instance within the limits of its manifest.
    pub(crate) fn new(
        version: &PolicyVersion,
        overrides: &Arc<Overrides>,
    ) -> Result<Instance, Error> {
        let guest = Guest::new(version.shared_manifest().clone(), Arc::clone(overrides));
        let mut store = Store::new(version.sandbox().engine(), guest);
        store.limiter(|guest| &mut guest.memory);
        store.set_hostcall_fuel(MAX_CALL_BYTES);
        store.set_fuel(version.manifest().limits.fuel.max(START_FUEL))?;
        store.epoch_deadline_callback(|mut guest| Ok(guest.data_mut().deadline.reached()));
        let ticks = store.data_mut().deadline.begin();
        store.set_epoch_deadline(ticks);
        let exports = version.pre().instantiate(&mut store)?;
        let memory_at_start = store.data().memory.bytes;
        Ok(Instance { store, exports, runs: 0, memory_at_start })
    }

    /// Runs one phase. After a failure the instance must not be used again.
    pub(crate) fn call(
        &mut self,
        phase: Phase,
        run: Box<Run>,
    ) -> (Box<Run>, Result<Verdict, Failure>) {
        self.runs = self.runs.saturating_add(1);
        let request = verdict::request(&run);
        let status = run.status();
        self.store.data_mut().begin(run);
        let result = self.guarded(phase, request, status);
        settle(self.store.data_mut(), result)
    }

    fn guarded(
        &mut self,
        phase: Phase,
        request: crate::bindings::policy::viaduct::policy::types::Request,
        status: u16,
    ) -> Result<Returned, Error> {
        let fuel = self.store.data().manifest.limits.fuel;
        self.store.set_fuel(fuel)?;
        let ticks = self.store.data_mut().deadline.begin();
        self.store.set_epoch_deadline(ticks);
        let handler = self.exports.viaduct_policy_handler();
        let store = &mut self.store;
        Ok(match phase {
            Phase::Request => Returned::Request(handler.call_on_request(store, request)?),
            Phase::Branch => Returned::Branch(handler.call_on_branch(store, request)?),
            Phase::Reply => Returned::Reply(handler.call_on_reply(store, request, status)?),
            Phase::Failure => Returned::Failure(handler.call_on_failure(store, request, status)?),
        })
    }

    /// May it serve another message? An instance is thrown away after so many runs, and when its
    /// memory has grown to more than three quarters of its limit.
    pub(crate) fn is_reusable(&self, max_runs: u32) -> bool {
        let guest = self.store.data();
        let grown = guest.memory.bytes > self.memory_at_start;
        let limit = guest.manifest.limits.memory_bytes;
        let full = guest.memory.bytes > limit.saturating_sub(limit / 4);
        self.runs < max_runs && !(grown && full)
    }

    /// Gives the parsed flags to the next instance.
    pub(crate) fn take_texts(&mut self) -> TextCache {
        std::mem::take(&mut self.store.data_mut().texts)
    }

    pub(crate) fn set_texts(&mut self, texts: TextCache) {
        self.store.data_mut().texts = texts;
    }
}

/// Takes the run back from a guest that has ended, and judges what it returned. Of a run that has
/// failed, or asks for a fact, nothing is left.
pub(crate) fn settle(
    guest: &mut Guest,
    result: Result<Returned, Error>,
) -> (Box<Run>, Result<Verdict, Failure>) {
    let Some(mut run) = guest.end() else {
        // `begin` has put it there, and host functions only borrow it.
        unreachable!("the run is where it was put")
    };
    let result = match result {
        // The host function has stopped the guest; the engine will run it again.
        Err(_) if run.asked().is_some() => {
            let fallback = guest.manifest.fallback.status_without_fact();
            guest.restore_vars(&mut run);
            return (run, Ok(Verdict::Ask { fallback }));
        }
        Ok(returned) => returned.check(&run).map_err(|garbage| Failure::garbage(&garbage)),
        Err(error) => Err(Failure::of_call(&error, guest.memory.refused)),
    };
    if result.is_err() {
        guest.restore_vars(&mut run);
        run.discard();
    }
    (run, result)
}

/// What came back, not judged yet.
pub(crate) enum Returned {
    Request(crate::bindings::policy::exports::viaduct::policy::handler::Verdict),
    Branch(crate::bindings::policy::exports::viaduct::policy::handler::BranchVerdict),
    Reply(crate::bindings::policy::exports::viaduct::policy::handler::ReplyVerdict),
    Failure(crate::bindings::policy::exports::viaduct::policy::handler::FailureVerdict),
}

impl Returned {
    fn check(self, run: &Run) -> Result<Verdict, verdict::Garbage> {
        match self {
            Returned::Request(verdict) => verdict::of_request(verdict, run),
            Returned::Branch(verdict) => Ok(verdict::of_branch(verdict)),
            Returned::Reply(verdict) => Ok(verdict::of_reply(verdict)),
            Returned::Failure(verdict) => verdict::of_failure(verdict),
        }
    }
}
