//! What carries sessions out. Every executor passes the same tests (`tests/relay`).

use std::io;
use std::net::SocketAddr;

use crate::kernel::RuleReport;
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

    /// Adds a session an earlier process had, as it stood there (`None`: not known).
    ///
    /// # Errors
    /// As [`Executor::add`].
    fn restore(&mut self, session: &Session, _stood: Option<&Report>) -> Result<(), ExecutorError> {
        self.add(std::slice::from_ref(session))
    }

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

    /// How those stand of which nobody would know if this process died; nothing where another keeps
    /// them.
    ///
    /// # Errors
    /// The executor could not be asked.
    fn mortal_reports(&mut self) -> Result<Vec<Report>, ExecutorError> {
        self.reports()
    }

    /// Relays and counts no more, as the process ends; what another keeps goes on there.
    fn halt(&mut self) {}

    /// Whether the kernel module has the session with this local address.
    fn is_in_kernel(&self, _local: SocketAddr) -> bool {
        false
    }

    /// Who carries how many sessions; each is counted once.
    fn carrying(&mut self) -> Carrying {
        let sessions = self.reports().map_or(0, |reports| reports.len());
        Carrying { userspace: sessions, ..Carrying::default() }
    }
}

/// Who carries sessions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Carrying {
    /// Sessions in the program in front of the stack.
    pub xdp: usize,
    /// Sessions in the kernel module, and not in that program.
    pub kernel: usize,
    /// Sessions in user space only.
    pub userspace: usize,
    /// Whether the module takes sessions now.
    pub has_kernel: bool,
    /// Why it does not; empty: nobody has asked for it.
    pub why: String,
    /// Orders to it that had to wait for room in their queue, so far.
    pub orders_waited: u64,
    /// What steering rules of the module have done, by their places; some seconds old.
    pub rules: Vec<RuleReport>,
}
