//! The module where there is one, this process where there is none: every session is in user space,
//! with its sockets, and in the module too if that takes it. What the module does not relay reaches
//! the sockets, so a session that leaves the module loses no call (R-M8).

use std::collections::HashMap;
use std::net::SocketAddr;

use crate::executor::{Executor, ExecutorError};
use crate::kernel::{KernelRelay, Owner};
use crate::session::{Counter, Event, Events, Learn, Leg, LegReport, Report, Session};
use crate::userspace::UserspaceRelay;

/// Both executors, with the same sessions.
pub struct FallbackRelay {
    kernel: Option<KernelRelay>,
    userspace: UserspaceRelay,
    /// As they were ordered last, by the local address of their first leg.
    sessions: HashMap<SocketAddr, Session>,
}

impl FallbackRelay {
    /// Starts in user space; see [`FallbackRelay::take_up`].
    ///
    /// # Errors
    /// The system has no room for the thread.
    pub fn start() -> Result<Self, ExecutorError> {
        let userspace = UserspaceRelay::start()?;
        Ok(Self { kernel: None, userspace, sessions: HashMap::new() })
    }

    /// Puts all sessions into the module, from where they are in user space: a peer that was learned
    /// there is settled here. Where the module holds some from an earlier process, those go on.
    /// Returns how many it takes.
    ///
    /// # Errors
    /// There is no module, or it does not let us.
    pub fn take_up(&mut self, owner: Owner) -> Result<usize, ExecutorError> {
        let mut kernel = KernelRelay::attach(owner)?;
        let mut taken = 0;
        for session in self.sessions.values() {
            let mut session = session.clone();
            let report = self.userspace.report(session.legs[0].local)?;
            for (leg, stands) in session.legs.iter_mut().zip(&report.legs) {
                // Settled is settled, also by what the module had learned before it went away.
                if stands.locked {
                    leg.peer = stands.learned.or(stands.peer);
                    leg.learn = Learn::OFF;
                }
            }
            taken += usize::from(kernel.add(std::slice::from_ref(&session)).is_ok());
        }
        self.kernel = Some(kernel);
        Ok(taken)
    }

    /// Takes all sessions out of the module. They go on in user space.
    pub fn leave_kernel(&mut self) {
        let Some(mut kernel) = self.kernel.take() else { return };
        // Asked, not waited for: an event may still be on its way.
        for report in kernel.reports().unwrap_or_default() {
            self.settle(&report).ok();
        }
        kernel.detach().ok();
    }

    /// Lets user space know the peers the module has learned.
    fn settle(&mut self, report: &Report) -> Result<(), ExecutorError> {
        let Some(session) = self.sessions.get(&report.legs[0].local) else { return Ok(()) };
        for (leg, stands) in session.legs.iter().zip(&report.legs) {
            if let Some(settled) = settled(leg, stands) {
                self.userspace.set(&[settled])?;
            }
        }
        Ok(())
    }

    /// Learns from the module what it has learned, and tells what happened there.
    fn follow(&mut self) -> Result<Vec<Event>, ExecutorError> {
        let Some(kernel) = &mut self.kernel else { return Ok(Vec::new()) };
        let events = kernel.events()?;
        for event in &events {
            let moved = event.events.intersects(Events::LEARNED.union(Events::MOVED));
            if let Some(report) = event.session.as_ref().filter(|_| moved) {
                self.settle(report)?;
            }
        }
        Ok(events)
    }

    /// The module's share of a session's report, where it has it.
    fn in_kernel(&mut self, local: SocketAddr, remove: bool) -> Option<Report> {
        let kernel = self.kernel.as_mut()?;
        if remove { kernel.remove(local).ok() } else { kernel.report(local).ok() }
    }
}

/// The leg with its learned peer for the signalled one. What was learned before signalling changed
/// counts no more.
fn settled(leg: &Leg, stands: &LegReport) -> Option<Leg> {
    let learned = stands.learned.filter(|_| stands.locked && stands.peer == leg.peer)?;
    Some(Leg { peer: Some(learned), learn: Learn::OFF, ..leg.clone() })
}

impl Executor for FallbackRelay {
    fn add(&mut self, sessions: &[Session]) -> Result<(), ExecutorError> {
        self.userspace.add(sessions)?;
        for session in sessions {
            self.sessions.insert(session.legs[0].local, session.clone());
            // Full, or gone: the session is in user space all the same.
            if let Some(kernel) = &mut self.kernel {
                kernel.add(std::slice::from_ref(session)).ok();
            }
        }
        Ok(())
    }

    fn set(&mut self, legs: &[Leg]) -> Result<(), ExecutorError> {
        self.userspace.set(legs)?;
        let stored = self.sessions.values_mut().flat_map(|session| &mut session.legs);
        for old in stored {
            if let Some(leg) = legs.iter().find(|leg| leg.local == old.local) {
                *old = leg.clone();
            }
        }
        let Some(kernel) = &mut self.kernel else { return Ok(()) };
        if let (Err(_), Some(leg)) = (kernel.set(legs), legs.first()) {
            // Nothing may be relayed there by what holds no more.
            kernel.remove(leg.local).ok();
        }
        Ok(())
    }

    fn remove(&mut self, local: SocketAddr) -> Result<Report, ExecutorError> {
        let kernel = self.in_kernel(local, true);
        let report = self.userspace.remove(local)?;
        self.sessions.remove(&report.legs[0].local);
        Ok(merged(report, kernel))
    }

    fn report(&mut self, local: SocketAddr) -> Result<Report, ExecutorError> {
        let report = self.userspace.report(local)?;
        let kernel = self.in_kernel(local, false);
        Ok(merged(report, kernel))
    }

    fn reports(&mut self) -> Result<Vec<Report>, ExecutorError> {
        let in_kernel = match &mut self.kernel {
            Some(kernel) => kernel.reports().unwrap_or_default(),
            None => Vec::new(),
        };
        let mut in_kernel: HashMap<SocketAddr, Report> =
            in_kernel.into_iter().map(|report| (report.legs[0].local, report)).collect();
        let reports = self.userspace.reports()?.into_iter();
        Ok(reports
            .map(|report| {
                let kernel = in_kernel.remove(&report.legs[0].local);
                merged(report, kernel)
            })
            .collect())
    }

    /// Call it often: what the module learned is followed here.
    fn events(&mut self) -> Result<Vec<Event>, ExecutorError> {
        let mut events = self.follow()?;
        let kernel = &mut self.kernel;
        for mut event in self.userspace.events()? {
            let local = event.session.as_ref().map(|session| session.legs[0].local);
            let in_kernel = kernel.as_mut().zip(local).is_some_and(|(k, l)| k.report(l).is_ok());
            // Idle here is what a session is whose packets the module relays.
            event.events.set(Events::IDLE, event.events.contains(Events::IDLE) && !in_kernel);
            if !event.events.is_empty() {
                events.push(event);
            }
        }
        Ok(events)
    }
}

/// One report of two: what was counted is added, and what the module knows of the peer is newer.
fn merged(userspace: Report, kernel: Option<Report>) -> Report {
    let Some(kernel) = kernel else { return userspace };
    let [a, b] = userspace.legs;
    let [kernel_a, kernel_b] = kernel.legs;
    Report { id: userspace.id, legs: [merged_leg(a, &kernel_a), merged_leg(b, &kernel_b)] }
}

fn merged_leg(userspace: LegReport, kernel: &LegReport) -> LegReport {
    let mut counters = userspace.counters;
    for counter in Counter::ALL {
        counters.add(counter, kernel.counters.get(counter));
    }
    LegReport {
        learned: kernel.learned.or(userspace.learned),
        locked: kernel.locked,
        seen_ms: [kernel.seen_ms, userspace.seen_ms].into_iter().flatten().min(),
        ssrc: kernel.ssrc.or(userspace.ssrc),
        counters,
        // The module does not look: what was heard here is not all.
        quality: userspace.quality.filter(|_| kernel.counters.get(Counter::Rtp) == 0),
        ..userspace
    }
}
