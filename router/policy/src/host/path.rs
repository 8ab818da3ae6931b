//! Path (RFC 3327).

use viaduct_engine::run::{AddPathMode, PathRefusal};

use super::or_empty;
use crate::bindings::policy::viaduct::policy::path::{Host, Mode, PathError};
use crate::guest::Guest;

impl Host for Guest {
    fn add(&mut self, mode: Mode, user: Option<String>) -> wasmtime::Result<Result<(), PathError>> {
        add(self, mode, user, false)
    }

    fn add_received(
        &mut self,
        mode: Mode,
        user: Option<String>,
    ) -> wasmtime::Result<Result<(), PathError>> {
        add(self, mode, user, true)
    }

    fn add_flow(&mut self, mode: Mode) -> wasmtime::Result<Result<(), PathError>> {
        Ok(lower(self.call("path.add-flow", &[])?.add_path_flow(lift(mode))))
    }
}

fn add(
    guest: &mut Guest,
    mode: Mode,
    user: Option<String>,
    received: bool,
) -> wasmtime::Result<Result<(), PathError>> {
    let run = guest.call("path.add", &[or_empty(&user)])?;
    Ok(lower(run.add_path(lift(mode), user.as_deref(), received)))
}

fn lift(mode: Mode) -> AddPathMode {
    match mode {
        Mode::UaSupported => AddPathMode::UaSupported,
        Mode::Always => AddPathMode::Always,
        Mode::Require => AddPathMode::Require,
    }
}

fn lower(added: Result<(), PathRefusal>) -> Result<(), PathError> {
    added.map_err(|refusal| match refusal {
        PathRefusal::NotRegister => PathError::NotRegister,
        PathRefusal::BadUser => PathError::BadUser,
        PathRefusal::NotSupported => PathError::NotSupported,
        PathRefusal::ExtensionRequired => PathError::ExtensionRequired,
        PathRefusal::Twice => PathError::Twice,
        PathRefusal::NoKey => PathError::NoKey,
    })
}
