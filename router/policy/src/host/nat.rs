//! NAT: rport, the address a REGISTER really came from.

use super::edited;
use crate::bindings::policy::viaduct::policy::nat::Host;
use crate::bindings::policy::viaduct::policy::types::EditError;
use crate::guest::Guest;

impl Host for Guest {
    fn force_rport(&mut self) -> wasmtime::Result<()> {
        self.call("nat.force-rport", &[])?.force_rport();
        Ok(())
    }

    fn fix_register(&mut self) -> wasmtime::Result<()> {
        self.call("nat.fix-register", &[])?.fix_nat_register();
        Ok(())
    }

    fn is_behind_nat(&mut self) -> wasmtime::Result<bool> {
        Ok(self.call("nat.is-behind-nat", &[])?.is_behind_nat())
    }

    fn test(&mut self, names: String) -> wasmtime::Result<Result<bool, String>> {
        Ok(self.call("nat.test", &[&names])?.nat_test(&names).map_err(|unknown| unknown.0))
    }

    fn fix_contact(&mut self) -> wasmtime::Result<Result<bool, EditError>> {
        let fixed = self.call("nat.fix-contact", &[])?.fix_nat_contact();
        Ok(edited(self, "nat.fix-contact", fixed))
    }
}
