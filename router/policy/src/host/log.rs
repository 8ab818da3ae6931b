//! Log lines. Staged with the other effects: a failed run leaves none.

use crate::bindings::policy::viaduct::policy::log::{Host, Level};
use crate::guest::Guest;

impl Host for Guest {
    fn write(&mut self, level: Level, text: String) -> wasmtime::Result<()> {
        let level = match level {
            Level::Error => 0,
            Level::Warn => 1,
            Level::Info => 2,
            Level::Debug => 3,
            Level::Trace => 4,
        };
        self.call("log.write", &[&text])?.log(level, &text);
        Ok(())
    }
}
