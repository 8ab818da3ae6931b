//! Who sends a request.

use viaduct_engine::AuthFault;
use viaduct_engine::auth::Role as Asked;

use super::or_empty;
use crate::bindings::policy::viaduct::policy::auth::{AuthError, Host, Identity, Role};
use crate::guest::{Guest, Refused};

impl Host for Guest {
    fn check(
        &mut self,
        role: Role,
        realm: Option<String>,
    ) -> wasmtime::Result<Result<Identity, AuthError>> {
        let run = self.call("auth.check", &[or_empty(&realm)])?;
        match run.check_auth(asked(role), realm.as_deref()) {
            Ok(found) => Ok(Ok(Identity {
                user: found.user.into_string(),
                realm: found.realm.into_string(),
                is_to: found.is_to,
                is_from: found.is_from,
            })),
            Err(fault) => Ok(Err(auth_error(fault)?)),
        }
    }

    fn challenge(
        &mut self,
        role: Role,
        realm: Option<String>,
        stale: bool,
    ) -> wasmtime::Result<Result<(), AuthError>> {
        let run = self.call("auth.challenge", &[or_empty(&realm)])?;
        match run.challenge(asked(role), realm.as_deref(), stale) {
            Ok(()) => Ok(Ok(())),
            Err(fault) => Ok(Err(auth_error(fault)?)),
        }
    }
}

fn asked(role: Role) -> Asked {
    match role {
        Role::Registrar => Asked::Registrar,
        Role::Proxy => Asked::Proxy,
    }
}

/// What the guest learns; a question stops it.
fn auth_error(fault: AuthFault) -> Result<AuthError, Refused> {
    match fault {
        AuthFault::Off => Ok(AuthError::Off),
        AuthFault::NoCredentials => Ok(AuthError::NoCredentials),
        AuthFault::Stale => Ok(AuthError::Stale),
        AuthFault::Invalid => Ok(AuthError::Invalid),
        AuthFault::Ask => Err(Refused::Asked),
    }
}
