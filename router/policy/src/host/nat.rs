//! NAT: rport, the address a REGISTER really came from.

use super::edit_error;
use crate::bindings::policy::viaduct::policy::nat::Host;
use crate::bindings::policy::viaduct::policy::types::EditError;
use crate::guest::Guest;

impl Host for Guest {
    fn force_rport(&mut self) -> wasmtime::Result<()> {
        self.call(&[])?.force_rport();
        Ok(())
    }

    fn fix_register(&mut self) -> wasmtime::Result<()> {
        self.call(&[])?.fix_nat_register();
        Ok(())
    }

    fn is_behind_nat(&mut self) -> wasmtime::Result<bool> {
        Ok(self.call(&[])?.is_behind_nat())
    }

    fn test(&mut self, names: String) -> wasmtime::Result<Result<bool, String>> {
        Ok(self.call(&[&names])?.nat_test(&names).map_err(|unknown| unknown.0))
    }

    fn fix_contact(&mut self) -> wasmtime::Result<Result<bool, EditError>> {
        Ok(self.call(&[])?.fix_nat_contact().map_err(edit_error))
    }
}
