//! Variables of the transaction.

use super::{edited, or_empty};
use crate::bindings::policy::viaduct::policy::types::EditError;
use crate::bindings::policy::viaduct::policy::vars::Host;
use crate::guest::Guest;

impl Host for Guest {
    fn get(&mut self, name: String) -> wasmtime::Result<Option<String>> {
        Ok(self.call("vars.get", &[&name])?.var(&name).map(str::to_owned))
    }

    fn set(
        &mut self,
        name: String,
        value: Option<String>,
    ) -> wasmtime::Result<Result<(), EditError>> {
        self.call("vars.set", &[&name, or_empty(&value)])?;
        self.note_var(&name);
        let set = self.current()?.set_var(&name, value.as_deref());
        Ok(edited(self, "vars.set", set))
    }
}
