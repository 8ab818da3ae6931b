//! The module where there is one, this process where there is none: every session is in user space,
//! with its sockets, and in the module too if that takes it. What the module does not relay reaches
//! the sockets, so a session that leaves the module loses no call (R-M8).
//!
//! Orders reach the module by a thread of its own: it alone needs the capability for that, and it
//! notices when the module comes and goes. Orders that only change something are not waited for; until
//! they are carried out the session goes on in user space.

mod follower;
mod merged;
mod steered;

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, SyncSender, TrySendError, channel, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use mio::{Poll, Waker};

use self::follower::Follower;
use crate::executor::{Carrying, Executor, ExecutorError};
use crate::kernel::{Owner, RuleReport, Steering};
use crate::session::{Event, Events, Leg, Report, Session};
use crate::userspace::UserspaceRelay;

/// Orders on their way to the thread; whoever has one more waits.
const ORDERS: usize = 4_096;

/// The thread's work, for whoever starts threads.
pub type Work = Box<dyn FnOnce() + Send>;

/// What the thread is asked for.
enum Order {
    /// Use the module from now on; tells how the first try went.
    Use(Owner, Sender<Result<(), ExecutorError>>),
    /// Have it steer so, now and whenever it is there again.
    Steer(Box<Steering>),
    /// Take everything out of it, and use it no more.
    Leave(Sender<()>),
    Add(Box<Session>),
    Set(Vec<Leg>),
    /// Tells the module's share of the session's report.
    Remove(SocketAddr, Sender<Option<Report>>),
    /// Tells the whole report.
    Report(SocketAddr, Sender<Option<Report>>),
    /// Tells all there are in the module.
    Reports(Sender<Vec<Report>>),
    Stop,
}

/// What the thread lets others see.
#[derive(Default)]
struct View {
    /// Sessions in the module, by the local address of their first leg.
    in_kernel: HashSet<SocketAddr>,
    has_kernel: bool,
    why: String,
    events: Vec<Event>,
    /// What the steering rules have done.
    rules: Vec<RuleReport>,
}

/// The way to the thread.
#[derive(Clone)]
pub struct Module {
    orders: SyncSender<Order>,
    waker: Arc<Waker>,
    view: Arc<Mutex<View>>,
    /// Orders that found the queue full.
    waited: Arc<AtomicU64>,
}

impl Module {
    /// Puts all sessions into the module, now and whenever it is there again, from where they are in
    /// user space: a peer that was learned there is settled here. Sessions the module holds from an
    /// earlier process go on if they are among them, and are removed else.
    ///
    /// # Errors
    /// There is no module now, or it does not let us. It is looked for again all the same.
    pub fn use_as(&self, owner: Owner) -> Result<(), ExecutorError> {
        self.ask(|answer| Order::Use(owner, answer)).unwrap_or_else(|| Err(ended()))
    }

    /// Has the module steer so while it is used. What it refuses is logged; devices that are not there
    /// yet are looked for every 5 s.
    pub fn steer(&self, steering: Steering) {
        // Without the thread there is no module either.
        self.order(Order::Steer(Box::new(steering))).ok();
    }

    /// Takes all sessions out of the module. They go on in user space.
    pub fn leave(&self) {
        self.ask(Order::Leave);
    }

    fn view(&self) -> MutexGuard<'_, View> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does it take sessions now?
    fn is_there(&self) -> bool {
        self.view().has_kernel
    }

    /// Its sender is not waited for; that of a full queue is.
    fn order(&self, order: Order) -> Result<(), ExecutorError> {
        let sent = match self.orders.try_send(order) {
            Err(TrySendError::Full(order)) => {
                self.waited.fetch_add(1, Ordering::Relaxed);
                self.orders.send(order).is_ok()
            }
            sent => sent.is_ok(),
        };
        self.waker.wake()?;
        if sent { Ok(()) } else { Err(ended()) }
    }

    /// Waits for the answer; `None`: the thread has ended.
    fn ask<T>(&self, order: impl FnOnce(Sender<T>) -> Order) -> Option<T> {
        let (answer, answered) = channel();
        self.order(order(answer)).ok()?;
        answered.recv().ok()
    }
}

fn ended() -> ExecutorError {
    ExecutorError::Unavailable("the thread for the kernel module has ended".to_owned())
}

/// Both executors, with the same sessions.
pub struct FallbackRelay {
    userspace: UserspaceRelay,
    module: Module,
    thread: Option<JoinHandle<()>>,
}

impl FallbackRelay {
    /// Starts in user space; see [`Module::use_as`]. `spawn` starts the thread that speaks to the
    /// module: it needs `CAP_NET_ADMIN`, and to be in the sessions' network namespace.
    ///
    /// # Errors
    /// The system has no room for the threads.
    pub fn start(
        spawn: impl FnOnce(Work) -> io::Result<JoinHandle<()>>,
    ) -> Result<Self, ExecutorError> {
        let userspace = UserspaceRelay::start()?;
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), follower::WAKE)?);
        let (orders, received) = sync_channel(ORDERS);
        let view: Arc<Mutex<View>> = Arc::default();
        let follower = Follower::new(poll, received, userspace.knowledge(), Arc::clone(&view));
        let thread = Some(spawn(Box::new(move || follower.run()))?);
        Ok(Self {
            userspace,
            module: Module { orders, waker, view, waited: Arc::default() },
            thread,
        })
    }

    /// Who decides whether the module is used.
    #[must_use]
    pub fn module(&self) -> Module {
        self.module.clone()
    }

    fn stop(&mut self) {
        self.module.order(Order::Stop).ok();
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

impl Executor for FallbackRelay {
    fn add(&mut self, sessions: &[Session]) -> Result<(), ExecutorError> {
        self.userspace.add(sessions)?;
        for session in sessions {
            // Without the thread it is in user space all the same.
            self.module.order(Order::Add(Box::new(session.clone()))).ok();
        }
        Ok(())
    }

    fn set(&mut self, legs: &[Leg]) -> Result<(), ExecutorError> {
        self.userspace.set(legs)?;
        self.module.order(Order::Set(legs.to_vec())).ok();
        Ok(())
    }

    fn remove(&mut self, local: SocketAddr) -> Result<Report, ExecutorError> {
        let first = self.userspace.report(local)?.legs[0].local;
        // The module first: what it leaves alone still comes to user space. Without one the thread is
        // told, and nobody waits for what it would say.
        let kernel = if self.module.is_there() {
            self.module.ask(|answer| Order::Remove(first, answer)).flatten()
        } else {
            self.module.order(Order::Remove(first, channel().0)).ok();
            None
        };
        Ok(merged::report(self.userspace.remove(local)?, kernel.as_ref()))
    }

    fn restore(&mut self, session: &Session, stood: Option<&Report>) -> Result<(), ExecutorError> {
        self.userspace.restore(session, stood)?;
        self.module.order(Order::Add(Box::new(session.clone()))).ok();
        Ok(())
    }

    fn report(&mut self, local: SocketAddr) -> Result<Report, ExecutorError> {
        let report = self.userspace.report(local)?;
        let first = report.legs[0].local;
        if !self.is_in_kernel(first) {
            return Ok(report);
        }
        let whole = self.module.ask(|answer| Order::Report(first, answer)).flatten();
        Ok(whole.unwrap_or(report))
    }

    fn reports(&mut self) -> Result<Vec<Report>, ExecutorError> {
        let there = self.module.is_there();
        let in_kernel =
            there.then(|| self.module.ask(Order::Reports)).flatten().unwrap_or_default();
        Ok(merged::reports(self.userspace.reports()?, in_kernel))
    }

    fn events(&mut self) -> Result<Vec<Event>, ExecutorError> {
        let mut events = std::mem::take(&mut self.module.view().events);
        for mut event in self.userspace.events()? {
            // Idle here is what a session is whose packets the module relays.
            if event.session.as_ref().is_some_and(|one| self.is_in_kernel(one.legs[0].local)) {
                event.events.remove(Events::IDLE);
            }
            if !event.events.is_empty() {
                events.push(event);
            }
        }
        Ok(events)
    }

    fn mortal_reports(&mut self) -> Result<Vec<Report>, ExecutorError> {
        self.userspace.reports()
    }

    fn halt(&mut self) {
        self.stop();
        self.userspace.halt();
    }

    fn is_in_kernel(&self, first: SocketAddr) -> bool {
        self.module.view().in_kernel.contains(&first)
    }

    fn carrying(&mut self) -> Carrying {
        let all = self.userspace.len();
        let view = self.module.view();
        let kernel = view.in_kernel.len();
        let userspace = all.saturating_sub(kernel);
        Carrying {
            xdp: 0,
            kernel,
            userspace,
            has_kernel: view.has_kernel,
            why: view.why.clone(),
            orders_waited: self.module.waited.load(Ordering::Relaxed),
            rules: view.rules.clone(),
        }
    }
}

impl Drop for FallbackRelay {
    fn drop(&mut self) {
        self.stop();
    }
}
