//! What carries sessions out. Every executor passes the same tests (`tests/relay`).

use std::io;
use std::net::SocketAddr;

use crate::session::{Event, Leg, Report, Session};

/// Why an order was not carried out. Nothing was changed then.
#[derive(Debug, thiserror::Error)]
pub enum ExecutorError {
    /// The executor is not there: no module, no permission.
    #[error("{0}")]
    Unavailable(String),
    /// The order itself is wrong, or does not fit what there is.
    #[error("refused: {reason} ({errno})")]
    Refused {
        /// In the executor's words.
        reason: String,
        /// As an error of the system.
        errno: io::Error,
    },
    /// The executor's answer could not be understood.
    #[error("an answer that makes no sense: {0}")]
    Answer(&'static str),
    /// The way to the executor failed.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Carries out relay sessions. A session is named by the local address of either of its legs.
pub trait Executor: Send {
    /// Adds all of them, or none.
    ///
    /// # Errors
    /// A local address is in use, there is no room, or a session is wrong in itself.
    fn add(&mut self, sessions: &[Session]) -> Result<(), ExecutorError>;

    /// Replaces what is known of these legs, one or both of one session. Their counters go on, and
    /// learning begins anew by the terms given.
    ///
    /// # Errors
    /// There is no such leg, the legs are of two sessions, or a leg is wrong in itself.
    fn set(&mut self, legs: &[Leg]) -> Result<(), ExecutorError>;

    /// Ends a session and says how it stood.
    ///
    /// # Errors
    /// There is no such session.
    fn remove(&mut self, local: SocketAddr) -> Result<Report, ExecutorError>;

    /// How a session stands.
    ///
    /// # Errors
    /// There is no such session.
    fn report(&mut self, local: SocketAddr) -> Result<Report, ExecutorError>;

    /// How all stand.
    ///
    /// # Errors
    /// The executor could not be asked.
    fn reports(&mut self) -> Result<Vec<Report>, ExecutorError>;

    /// What happened since the last call; does not wait.
    ///
    /// # Errors
    /// The executor could not be asked.
    fn events(&mut self) -> Result<Vec<Event>, ExecutorError>;
}
