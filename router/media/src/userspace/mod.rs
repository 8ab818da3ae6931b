//! The relay in this process: a thread that receives and sends in batches. What it does with a
//! packet is decided by [`Relay`].

mod batch;
mod socket;

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mio::{Events as Readiness, Poll, Token, Waker};

use self::batch::Batch;
use self::socket::LegSocket;
use crate::executor::{Carrying, Executor, ExecutorError};
use crate::relay::{Now, Relay};
use crate::session::{Event, Leg, Report, Session};

/// Wakes the thread to end.
const STOP: Token = Token(usize::MAX);
/// Batches from one socket before the others have their turn.
const BATCHES_A_TURN: usize = 4;

struct State {
    relay: Relay,
    sockets: HashMap<Token, Arc<LegSocket>>,
    by_local: HashMap<SocketAddr, Token>,
    next_token: usize,
    stopping: bool,
}

struct Shared {
    state: Mutex<State>,
    started: Instant,
}

impl Shared {
    fn now(&self) -> Now {
        Now { ns: u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX) }
    }

    /// Nobody panics while holding it; if somebody did, the table is still whole.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What else may be told to the relay by whoever carries its sessions as well.
#[derive(Clone)]
pub(crate) struct Knowledge(Arc<Shared>);

impl Knowledge {
    /// See [`Relay::settle`].
    pub(crate) fn settle(&self, report: &Report) {
        self.0.lock().relay.settle(report);
    }

    /// See [`Relay::adopt`].
    pub(crate) fn adopt(&self, report: &Report) {
        let now = self.0.now();
        self.0.lock().relay.adopt(now, report);
    }

    /// How a session stands here.
    pub(crate) fn report(&self, local: SocketAddr) -> Option<Report> {
        self.0.lock().relay.report(local, self.0.now()).ok()
    }
}

/// Relays in user space. Its sockets are of the network namespace of the thread that adds sessions.
pub struct UserspaceRelay {
    shared: Arc<Shared>,
    registry: mio::Registry,
    waker: Waker,
    thread: Option<JoinHandle<()>>,
}

impl UserspaceRelay {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system has no room for it.
    pub fn start() -> Result<Self, ExecutorError> {
        let poll = Poll::new()?;
        let registry = poll.registry().try_clone()?;
        let waker = Waker::new(poll.registry(), STOP)?;
        let state = State {
            relay: Relay::new(),
            sockets: HashMap::new(),
            by_local: HashMap::new(),
            next_token: 0,
            stopping: false,
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), started: Instant::now() });
        let of_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("media".to_owned())
            .spawn(move || run(poll, &of_thread))?;
        Ok(Self { shared, registry, waker, thread: Some(thread) })
    }

    pub(crate) fn knowledge(&self) -> Knowledge {
        Knowledge(Arc::clone(&self.shared))
    }

    /// How many sessions there are.
    pub(crate) fn len(&self) -> usize {
        self.shared.lock().by_local.len() / 2
    }

    fn open(&self, sessions: &[Session]) -> Result<Vec<Arc<LegSocket>>, ExecutorError> {
        let legs = sessions.iter().flat_map(|session| &session.legs);
        legs.map(|leg| {
            LegSocket::open(leg).map(Arc::new).map_err(|errno| ExecutorError::Refused {
                reason: format!("{} is in use or not ours", leg.local),
                errno,
            })
        })
        .collect()
    }

    /// Forgets the sockets of these legs. Packets in their queues are lost with them.
    fn close(&self, state: &mut State, locals: &[SocketAddr]) {
        for local in locals {
            let token = state.by_local.remove(local);
            if let Some(socket) = token.and_then(|token| state.sockets.remove(&token)) {
                self.registry.deregister(&mut socket.source()).ok();
            }
        }
    }
}

impl Executor for UserspaceRelay {
    fn add(&mut self, sessions: &[Session]) -> Result<(), ExecutorError> {
        let now = self.shared.now();
        let mut state = self.shared.lock();
        state.relay.add(now, sessions)?;
        let locals: Vec<_> =
            sessions.iter().flat_map(|session| &session.legs).map(|leg| leg.local).collect();
        let opened = self.open(sessions).and_then(|sockets| {
            for (socket, local) in sockets.into_iter().zip(&locals) {
                let token = Token(state.next_token);
                state.next_token += 1;
                self.registry.register(&mut socket.source(), token, mio::Interest::READABLE)?;
                state.sockets.insert(token, socket);
                state.by_local.insert(*local, token);
            }
            Ok(())
        });
        if opened.is_err() {
            self.close(&mut state, &locals);
            for session in sessions {
                state.relay.remove(session.legs[0].local, now).ok();
            }
        }
        opened
    }

    fn set(&mut self, legs: &[Leg]) -> Result<(), ExecutorError> {
        let mut state = self.shared.lock();
        state.relay.set(self.shared.now(), legs)?;
        for leg in legs {
            let token = state.by_local.get(&leg.local);
            if let Some(socket) = token.and_then(|token| state.sockets.get(token)) {
                socket.set_priority(leg.priority)?;
            }
        }
        Ok(())
    }

    fn remove(&mut self, local: SocketAddr) -> Result<Report, ExecutorError> {
        let mut state = self.shared.lock();
        let report = state.relay.remove(local, self.shared.now())?;
        self.close(&mut state, &[report.legs[0].local, report.legs[1].local]);
        Ok(report)
    }

    fn report(&mut self, local: SocketAddr) -> Result<Report, ExecutorError> {
        self.shared.lock().relay.report(local, self.shared.now())
    }

    fn reports(&mut self) -> Result<Vec<Report>, ExecutorError> {
        Ok(self.shared.lock().relay.reports(self.shared.now()))
    }

    fn restore(&mut self, session: &Session, stood: Option<&Report>) -> Result<(), ExecutorError> {
        self.add(std::slice::from_ref(session))?;
        if let Some(stood) = stood {
            self.knowledge().adopt(stood);
        }
        Ok(())
    }

    fn events(&mut self) -> Result<Vec<Event>, ExecutorError> {
        Ok(self.shared.lock().relay.events(self.shared.now()))
    }

    fn halt(&mut self) {
        self.shared.lock().stopping = true;
        self.waker.wake().ok();
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }

    fn carrying(&mut self) -> Carrying {
        Carrying { userspace: self.len(), ..Carrying::default() }
    }
}

impl Drop for UserspaceRelay {
    fn drop(&mut self) {
        self.halt();
    }
}

/// The thread. Sockets are watched by edge, so one that still has packets when its turn is over is
/// remembered.
fn run(mut poll: Poll, shared: &Shared) {
    let mut readiness = Readiness::with_capacity(256);
    let mut batch = Batch::new();
    let mut unfinished: Vec<Token> = Vec::new();
    loop {
        let wait = if unfinished.is_empty() { None } else { Some(Duration::ZERO) };
        match poll.poll(&mut readiness, wait) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return,
        }
        let mut turn = std::mem::take(&mut unfinished);
        turn.extend(readiness.iter().map(|event| event.token()).filter(|&token| token != STOP));
        turn.sort_unstable();
        turn.dedup();
        for token in turn {
            if has_more(&mut batch, shared, token) {
                unfinished.push(token);
            }
        }
        if shared.lock().stopping {
            return;
        }
    }
}

/// Relays what has arrived at a socket, for one turn. True: there may be more.
fn has_more(batch: &mut Batch, shared: &Shared, token: Token) -> bool {
    for _ in 0..BATCHES_A_TURN {
        let socket = shared.lock().sockets.get(&token).cloned();
        let Some(socket) = socket else { return false };
        if !batch.receive(&socket) {
            return false;
        }
        let mut state = shared.lock();
        let state = &mut *state;
        let out = state.relay.locals(socket.local()).ok().and_then(|locals| {
            let other = locals.into_iter().find(|local| *local != socket.local())?;
            state.sockets.get(state.by_local.get(&other)?)
        });
        let Some(out) = out else { return false };
        batch.relay(&mut state.relay, shared.now(), socket.local(), out);
    }
    true
}
