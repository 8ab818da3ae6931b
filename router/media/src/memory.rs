//! Sessions without sockets: what an order would do, for tests of policies and for dry runs.

use std::net::SocketAddr;

use crate::executor::{Executor, ExecutorError};
use crate::relay::{Now, Relay};
use crate::session::{Event, Leg, Report, Session};

/// Takes every order and relays nothing.
pub struct MemoryRelay {
    relay: Relay,
}

impl Default for MemoryRelay {
    fn default() -> Self {
        Self { relay: Relay::new() }
    }
}

/// Time stands still: nothing arrives.
const NOW: Now = Now { ns: 0 };

impl Executor for MemoryRelay {
    fn add(&mut self, sessions: &[Session]) -> Result<(), ExecutorError> {
        self.relay.add(NOW, sessions)
    }

    fn set(&mut self, legs: &[Leg]) -> Result<(), ExecutorError> {
        self.relay.set(NOW, legs)
    }

    fn remove(&mut self, local: SocketAddr) -> Result<Report, ExecutorError> {
        self.relay.remove(local, NOW)
    }

    fn report(&mut self, local: SocketAddr) -> Result<Report, ExecutorError> {
        self.relay.report(local, NOW)
    }

    fn reports(&mut self) -> Result<Vec<Report>, ExecutorError> {
        Ok(self.relay.reports(NOW))
    }

    fn events(&mut self) -> Result<Vec<Event>, ExecutorError> {
        Ok(self.relay.events(NOW))
    }
}
