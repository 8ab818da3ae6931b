//! A relay in user space opens its sockets in the namespace of the thread that adds a session; here
//! that is the relay's.

use std::fs::File;
use std::net::SocketAddr;
use std::thread;

use nix::sched::{CloneFlags, setns};
use viaduct_media::executor::Carrying;
use viaduct_media::session::{Event, Leg, Report, Session};
use viaduct_media::{Executor, ExecutorError};

pub(crate) struct Within<E> {
    pub(crate) relay: E,
    pub(crate) namespace: File,
}

impl<E: Executor> Executor for Within<E> {
    fn add(&mut self, sessions: &[Session]) -> Result<(), ExecutorError> {
        let Self { relay, namespace } = self;
        thread::scope(|scope| {
            let inside = scope.spawn(move || {
                setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
                relay.add(sessions)
            });
            inside.join().unwrap()
        })
    }

    fn set(&mut self, legs: &[Leg]) -> Result<(), ExecutorError> {
        self.relay.set(legs)
    }

    fn remove(&mut self, local: SocketAddr) -> Result<Report, ExecutorError> {
        self.relay.remove(local)
    }

    fn report(&mut self, local: SocketAddr) -> Result<Report, ExecutorError> {
        self.relay.report(local)
    }

    fn reports(&mut self) -> Result<Vec<Report>, ExecutorError> {
        self.relay.reports()
    }

    fn carrying(&mut self) -> Carrying {
        self.relay.carrying()
    }

    fn events(&mut self) -> Result<Vec<Event>, ExecutorError> {
        self.relay.events()
    }
}
