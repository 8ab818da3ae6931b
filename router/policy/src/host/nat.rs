//! NAT: rport, the address a REGISTER really came from.

use crate::bindings::policy::viaduct::policy::nat::Host;
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
}
