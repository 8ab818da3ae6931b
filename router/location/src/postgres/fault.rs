//! Why there is no connection, and whether waiting helps.

use std::error::Error;

use tokio_postgres::error::SqlState;

use super::config::describe;

/// Why there is no connection.
#[derive(Debug)]
pub(crate) struct Fault {
    /// For people; no secret.
    pub(crate) text: String,
    /// It is wrong until somebody changes something: a password, a name, a certificate.
    pub(super) lasts: bool,
}

impl Fault {
    /// What does not pass by itself.
    pub(super) fn lasting(text: impl Into<String>) -> Fault {
        Fault { text: text.into(), lasts: true }
    }

    /// What may be over soon.
    pub(super) fn passing(text: impl Into<String>) -> Fault {
        Fault { text: text.into(), lasts: false }
    }
}

impl From<tokio_postgres::Error> for Fault {
    fn from(error: tokio_postgres::Error) -> Fault {
        let lasts = match error.code() {
            Some(state) => !passes(state),
            None => is_of_tls(&error),
        };
        Fault { text: describe(&error), lasts }
    }
}

/// Classes of errors a server reports of its own state (PostgreSQL, appendix A): connections,
/// recovery, conflicts, resources, locks, shutdown and start, system.
fn passes(state: &SqlState) -> bool {
    ["08", "25", "40", "53", "55", "57", "58"].contains(&state.code().get(..2).unwrap_or_default())
}

/// The certificate is not believed, or the server does not speak TLS.
fn is_of_tls(error: &tokio_postgres::Error) -> bool {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(inner) = cause {
        // An I/O error gives what it wraps by this way only.
        let wrapped = inner.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if wrapped.is_some_and(|wrapped| wrapped.is::<rustls::Error>())
            || inner.is::<rustls::Error>()
            || inner.to_string() == "server does not support TLS"
        {
            return true;
        }
        cause = inner.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_starts_or_is_full_passes_and_a_wrong_password_does_not() {
        for state in [
            SqlState::CANNOT_CONNECT_NOW,
            SqlState::TOO_MANY_CONNECTIONS,
            SqlState::ADMIN_SHUTDOWN,
            SqlState::READ_ONLY_SQL_TRANSACTION,
        ] {
            assert!(passes(&state), "{state:?}");
        }
        for state in [
            SqlState::INVALID_PASSWORD,
            SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
            SqlState::INVALID_CATALOG_NAME,
            SqlState::INSUFFICIENT_PRIVILEGE,
        ] {
            assert!(!passes(&state), "{state:?}");
        }
    }
}
