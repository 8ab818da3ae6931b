//! Counters of the policy's own.

use crate::bindings::policy::viaduct::policy::metrics::Host;
use crate::guest::Guest;

impl Host for Guest {
    fn add(&mut self, name: String, by: u64) -> wasmtime::Result<()> {
        self.call("metrics.add", &[&name])?.count(&name, by);
        Ok(())
    }
}
