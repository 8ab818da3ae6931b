//! Settings of the manifest.

use crate::bindings::policy::viaduct::policy::settings::Host;
use crate::guest::Guest;

impl Host for Guest {
    fn get(&mut self, name: String) -> wasmtime::Result<Option<String>> {
        self.call("settings.get", &[&name])?;
        Ok(self.setting(&name).map(str::to_owned))
    }
}
