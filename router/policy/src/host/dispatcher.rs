//! Sets of destinations. `select` and what looks at a set need a grant for it.

use viaduct_engine::dispatcher::{DestinationConfig, State as Known};
use viaduct_engine::run::{SelectBy, SelectFault};

use crate::bindings::policy::viaduct::policy::dispatcher::{
    Algorithm, Destination, DispatcherError, Host, State,
};
use crate::guest::Guest;
use crate::manifest::{Access, Interface};

/// Most destinations handed to a policy.
const MAX_DESTINATIONS: usize = 64;

impl Host for Guest {
    fn select(
        &mut self,
        set: String,
        by: Algorithm,
        most: u32,
    ) -> wasmtime::Result<Result<Destination, DispatcherError>> {
        self.call_table("dispatcher.select", Interface::Dispatcher, &set, Access::Read, &[&set])?;
        self.note_var(viaduct_engine::Run::dispatch_var());
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let chosen = self.current()?.dispatch(&set, lift(by), most);
        Ok(chosen.map(|config| up(&config)).map_err(lower))
    }

    fn next(&mut self) -> wasmtime::Result<Result<Destination, DispatcherError>> {
        self.call("dispatcher.next", &[])?;
        self.note_var(viaduct_engine::Run::dispatch_var());
        Ok(self.current()?.dispatch_next().map(|config| up(&config)).map_err(lower))
    }

    fn report(&mut self, alive: bool) -> wasmtime::Result<Result<(), DispatcherError>> {
        let run = self.call("dispatcher.report", &[])?;
        let set = run.dispatched_set().unwrap_or_default().to_owned();
        if !set.is_empty() {
            self.call_table("dispatcher.report", Interface::Dispatcher, &set, Access::Write, &[])?;
        }
        Ok(self.current()?.dispatch_report(alive).map_err(lower))
    }

    fn destinations(&mut self, set: String) -> wasmtime::Result<Vec<Destination>> {
        let (run, _) = self.call_table(
            "dispatcher.destinations",
            Interface::Dispatcher,
            &set,
            Access::Read,
            &[&set],
        )?;
        let found = run.dispatcher_set(&set).map(|set| set.destinations()).unwrap_or_default();
        let all = found.iter().take(MAX_DESTINATIONS);
        Ok(all.map(|one| destination(one.config(), one.state())).collect())
    }

    fn source(&mut self, set: String) -> wasmtime::Result<Option<Destination>> {
        let (run, _) = self.call_table(
            "dispatcher.source",
            Interface::Dispatcher,
            &set,
            Access::Read,
            &[&set],
        )?;
        let Some(config) = run.dispatch_source(&set) else { return Ok(None) };
        let known = run.dispatcher_set(&set).and_then(|set| set.find(&config.uri));
        let state = known.map(|known| known.state()).unwrap_or_default();
        Ok(Some(destination(&config, state)))
    }
}

fn up(config: &DestinationConfig) -> Destination {
    destination(config, Known::Up)
}

fn destination(config: &DestinationConfig, state: Known) -> Destination {
    Destination {
        uri: config.uri.to_string(),
        weight: config.weight,
        priority: config.priority,
        attributes: config.attributes.to_string(),
        state: match state {
            Known::Up => State::Up,
            Known::Down => State::Down,
            Known::Disabled => State::Disabled,
        },
    }
}

fn lift(by: Algorithm) -> SelectBy {
    match by {
        Algorithm::RoundRobin => SelectBy::RoundRobin,
        Algorithm::Weighted => SelectBy::Weighted,
        Algorithm::Priority => SelectBy::Priority,
        Algorithm::CallId => SelectBy::CallId,
        Algorithm::From => SelectBy::From,
        Algorithm::To => SelectBy::To,
        Algorithm::RequestUri => SelectBy::RequestUri,
        Algorithm::AuthUser => SelectBy::AuthUser,
    }
}

fn lower(fault: SelectFault) -> DispatcherError {
    match fault {
        SelectFault::NoSet => DispatcherError::NoSet,
        SelectFault::NoneUp => DispatcherError::NoneUp,
        SelectFault::Phase => DispatcherError::WrongPhase,
    }
}
