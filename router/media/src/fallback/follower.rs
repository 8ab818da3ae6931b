//! The thread that speaks to the module.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, Sender, TryRecvError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events as Readiness, Interest, Poll, Token};

use super::steered::Steered;
use super::{Order, View, merged};
use crate::executor::{Executor as _, ExecutorError};
use crate::kernel::{Announced, Families, KernelRelay, Owner};
use crate::session::{Event, Events, Learn, Leg, Report, Session};
use crate::userspace::Knowledge;

/// Orders have come.
pub(super) const WAKE: Token = Token(0);
const FAMILIES: Token = Token(1);
const EVENTS: Token = Token(2);

/// How often the module's counters are noted, should nobody hear its last ones when it is unloaded,
/// and how often it is looked for where its coming was not announced.
const LOOK: Duration = Duration::from_secs(5);
/// Sessions in one order to the module.
const BATCH: usize = 256;
/// Events nobody has fetched; more are lost, as on the way from the module.
const EVENTS_MAX: usize = 16_384;

/// The thread's state.
pub(super) struct Follower {
    poll: Poll,
    orders: Receiver<Order>,
    userspace: Knowledge,
    view: Arc<Mutex<View>>,
    /// `None`: the module is not to be used.
    owner: Option<Owner>,
    families: Option<Families>,
    kernel: Option<KernelRelay>,
    steered: Steered,
    /// As they were ordered last, by the local address of their first leg.
    sessions: HashMap<SocketAddr, Session>,
    /// The same address by each of both.
    first: HashMap<SocketAddr, SocketAddr>,
    /// What the module said of them last.
    stood: HashMap<SocketAddr, Report>,
    look_at: Instant,
}

impl Follower {
    pub(super) fn new(
        poll: Poll,
        orders: Receiver<Order>,
        userspace: Knowledge,
        view: Arc<Mutex<View>>,
    ) -> Self {
        Self {
            poll,
            orders,
            userspace,
            view,
            owner: None,
            families: None,
            kernel: None,
            steered: Steered::default(),
            sessions: HashMap::new(),
            first: HashMap::new(),
            stood: HashMap::new(),
            look_at: Instant::now() + LOOK,
        }
    }

    pub(super) fn run(mut self) {
        let mut readiness = Readiness::with_capacity(8);
        loop {
            let wait = self.look_at.saturating_duration_since(Instant::now());
            let wait = self.owner.map(|_| wait);
            match self.poll.poll(&mut readiness, wait) {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    tracing::error!(target: "viaduct::media", %error, "the module is not followed");
                    return;
                }
            }
            // In this order: what the module has said before it went is heard, and a session that
            // is removed is in no later report.
            self.hear_events();
            self.hear_families();
            if !self.obey() {
                return;
            }
            if self.owner.is_some() && Instant::now() >= self.look_at {
                self.look();
            }
        }
    }

    fn view(&self) -> MutexGuard<'_, View> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// False: it is to end.
    fn obey(&mut self) -> bool {
        loop {
            match self.orders.try_recv() {
                Ok(Order::Stop) | Err(TryRecvError::Disconnected) => return false,
                Err(TryRecvError::Empty) => return true,
                Ok(order) => self.carry_out(order),
            }
        }
    }

    /// Whoever asked may be gone; that is no matter of this thread's.
    fn carry_out(&mut self, order: Order) {
        match order {
            Order::Use(owner, answer) => drop(answer.send(self.use_as(owner))),
            Order::Steer(steering) => {
                self.steered.wanted = *steering;
                self.begin_steering();
            }
            Order::Leave(answer) => {
                self.leave();
                let _ = answer.send(());
            }
            Order::Add(session) => self.add(*session),
            Order::Set(legs) => self.set(&legs),
            Order::Remove(first, answer) => drop(answer.send(self.remove(first))),
            Order::Report(first, answer) => self.report(first, &answer),
            Order::Reports(answer) => {
                let reports = self.kernel.as_mut().and_then(|kernel| kernel.reports().ok());
                drop(answer.send(reports.unwrap_or_default()));
            }
            Order::Stop => {}
        }
    }

    fn use_as(&mut self, owner: Owner) -> Result<(), ExecutorError> {
        self.owner = Some(owner);
        if self.families.is_none() {
            // Without announcements the module is found by looking.
            self.families = Families::subscribe().ok();
            if let Some(families) = &self.families {
                let source = &mut SourceFd(&families.fd());
                self.poll.registry().register(source, FAMILIES, Interest::READABLE)?;
            }
        }
        self.attach(owner)
    }

    /// Attaches, and sees to it that the module has all sessions and no others of ours.
    fn attach(&mut self, owner: Owner) -> Result<(), ExecutorError> {
        self.look_at = Instant::now() + LOOK;
        let attached = KernelRelay::attach(owner).and_then(|mut kernel| {
            let source = &mut SourceFd(&kernel.events_fd());
            self.poll.registry().register(source, EVENTS, Interest::READABLE)?;
            let found = if kernel.sessions_found() == 0 { Vec::new() } else { kernel.reports()? };
            Ok((kernel, found))
        });
        let (kernel, found) = match attached {
            Ok(attached) => attached,
            Err(error) => {
                self.view().why = error.to_string();
                return Err(error);
            }
        };
        self.kernel = Some(kernel);
        self.begin_steering();
        {
            let mut view = self.view();
            (view.has_kernel, view.why) = (true, String::new());
        }
        let found = self.reclaim(found);
        let missing: Vec<SocketAddr> =
            self.sessions.keys().filter(|first| !self.stood.contains_key(first)).copied().collect();
        let taken = self.put(&missing);
        tracing::info!(
            target: "viaduct::media", found, taken, "the kernel module relays media"
        );
        Ok(())
    }

    fn begin_steering(&mut self) {
        if let (Some(kernel), Some(owner)) = (&mut self.kernel, self.owner) {
            self.steered.begin(kernel, owner.id);
            let rules = self.steered.look(kernel);
            self.view().rules = rules;
        }
    }

    /// Sessions of an earlier process go on if they are still ours, with what is signalled now; the
    /// others end. Returns how many go on.
    fn reclaim(&mut self, found: Vec<Report>) -> usize {
        let mut reclaimed = 0;
        for report in found {
            let [a, b] = &report.legs;
            let (first, second) = (a.local, b.local);
            let ours = self
                .sessions
                .get(&first)
                .cloned()
                .filter(|session| session.id == report.id && session.legs[1].local == second);
            let Some(kernel) = &mut self.kernel else { return reclaimed };
            let Some(session) = ours else {
                tracing::debug!(target: "viaduct::media", id = report.id, "a session of nobody ends");
                kernel.remove(first).ok();
                continue;
            };
            let now = settled(&session, self.userspace.report(first).as_ref());
            let told = session.legs.iter().zip(&now.legs).zip(&report.legs);
            let changed: Vec<Leg> = told
                .filter(|((leg, now), stands)| ![leg.peer, now.peer].contains(&stands.peer))
                .map(|((_, now), _)| now.clone())
                .collect();
            if changed.is_empty() || kernel.set(&changed).is_ok() {
                self.userspace.settle(&report);
                self.stood.insert(first, report);
                self.view().in_kernel.insert(first);
                reclaimed += 1;
            } else {
                kernel.remove(first).ok();
            }
        }
        reclaimed
    }

    /// Puts sessions into the module; how many it takes.
    fn put(&mut self, missing: &[SocketAddr]) -> usize {
        let mut taken = 0;
        for batch in missing.chunks(BATCH) {
            let sessions: Vec<Session> = batch
                .iter()
                .filter_map(|first| {
                    let session = self.sessions.get(first)?;
                    Some(settled(session, self.userspace.report(*first).as_ref()))
                })
                .collect();
            let Some(kernel) = &mut self.kernel else { return taken };
            let mut added = Vec::new();
            if kernel.add(&sessions).is_ok() {
                added.extend(sessions.iter().map(|session| session.legs[0].local));
            } else {
                // All or none: the one it refuses must not keep the others out.
                for session in &sessions {
                    if kernel.add(std::slice::from_ref(session)).is_ok() {
                        added.push(session.legs[0].local);
                    }
                }
            }
            taken += added.len();
            self.view().in_kernel.extend(&added);
            if added.is_empty() && !sessions.is_empty() {
                // Full, most likely: the rest would fare no better.
                return taken;
            }
        }
        taken
    }

    /// Gives all sessions back to user space while the module still answers.
    fn leave(&mut self) {
        self.owner = None;
        let Some(mut kernel) = self.kernel.take() else { return };
        for report in kernel.reports().unwrap_or_default() {
            self.stood.insert(report.legs[0].local, report);
        }
        self.forget("it is not used");
        self.stop_hearing(&kernel);
        kernel.detach().ok();
    }

    /// The module is gone, with its sessions if so said; else they may yet be found again, and go on
    /// counting.
    fn lose(&mut self, why: &str, with_sessions: bool) {
        let Some(kernel) = self.kernel.take() else { return };
        self.stop_hearing(&kernel);
        let sessions = self.view().in_kernel.len();
        if !with_sessions {
            self.stood.drain().for_each(|(_, report)| self.userspace.settle(&report));
        }
        self.forget(why);
        tracing::warn!(target: "viaduct::media", why, sessions, "media go on in user space");
    }

    fn stop_hearing(&self, kernel: &KernelRelay) {
        self.poll.registry().deregister(&mut SourceFd(&kernel.events_fd())).ok();
    }

    /// User space goes on from what the module said last.
    fn forget(&mut self, why: &str) {
        let in_kernel = {
            let mut view = self.view();
            (view.has_kernel, view.why) = (false, why.to_owned());
            view.rules.clear();
            std::mem::take(&mut view.in_kernel)
        };
        for report in in_kernel.iter().filter_map(|first| self.stood.remove(first)) {
            self.userspace.adopt(&report);
        }
        self.stood.clear();
    }

    fn add(&mut self, session: Session) {
        let first = session.legs[0].local;
        self.first.extend(session.legs.iter().map(|leg| (leg.local, first)));
        self.sessions.insert(first, session);
        self.put(&[first]);
    }

    fn set(&mut self, legs: &[Leg]) {
        let Some(first) = legs.first().and_then(|leg| self.first.get(&leg.local)).copied() else {
            return;
        };
        let Some(session) = self.sessions.get_mut(&first) else { return };
        for old in &mut session.legs {
            if let Some(leg) = legs.iter().find(|leg| leg.local == old.local) {
                *old = leg.clone();
            }
        }
        let in_kernel = self.view().in_kernel.contains(&first);
        let Some(kernel) = self.kernel.as_mut().filter(|_| in_kernel) else { return };
        if kernel.set(legs).is_err() {
            // Nothing may be relayed there by what holds no more.
            if let Some(report) = self.take_out(first) {
                self.userspace.adopt(&report);
            }
        }
    }

    fn remove(&mut self, first: SocketAddr) -> Option<Report> {
        let session = self.sessions.remove(&first)?;
        for leg in &session.legs {
            self.first.remove(&leg.local);
        }
        self.take_out(first)
    }

    /// Its report, as fresh as can be had.
    fn take_out(&mut self, first: SocketAddr) -> Option<Report> {
        let was_there = self.view().in_kernel.remove(&first);
        let stood = self.stood.remove(&first);
        let kernel = self.kernel.as_mut().filter(|_| was_there)?;
        kernel.remove(first).ok().or(stood)
    }

    fn report(&mut self, first: SocketAddr, answer: &Sender<Option<Report>>) {
        let in_kernel = self.view().in_kernel.contains(&first);
        let kernel = self.kernel.as_mut().filter(|_| in_kernel);
        let kernel = kernel.and_then(|kernel| kernel.report(first).ok());
        let kernel = kernel.or_else(|| self.stood.get(&first).cloned());
        let userspace = self.userspace.report(first);
        drop(answer.send(userspace.map(|report| merged::report(report, kernel.as_ref()))));
    }

    /// Notes how the sessions in the module stand, and tries to put others there; or looks for it.
    fn look(&mut self) {
        self.look_at = Instant::now() + LOOK;
        let Some(kernel) = &mut self.kernel else {
            if let Some(owner) = self.owner {
                self.attach(owner).ok();
            }
            return;
        };
        let rules = self.steered.look(kernel);
        match kernel.reports() {
            Ok(reports) => {
                self.view().rules = rules;
                let by_first = reports.into_iter().map(|report| (report.legs[0].local, report));
                self.stood = by_first.collect();
                let missing: Vec<SocketAddr> = {
                    let view = self.view();
                    let out = |first: &&SocketAddr| !view.in_kernel.contains(*first);
                    self.sessions.keys().filter(out).copied().collect()
                };
                self.put(&missing);
            }
            Err(error) => self.lose(&format!("the kernel module does not answer: {error}"), false),
        }
    }

    fn hear_families(&mut self) {
        let announced = self.families.as_ref().map(Families::read);
        let Some(owner) = self.owner else { return };
        for one in announced.and_then(Result::ok).unwrap_or_default() {
            match one {
                Announced::Gone => {
                    // It may have said its last since they were heard.
                    self.hear_events();
                    self.lose("the kernel module viaduct was unloaded", true);
                }
                Announced::Come if self.kernel.is_none() => drop(self.attach(owner)),
                Announced::Come => {}
            }
        }
    }

    /// Learns from the module what it has learned.
    fn hear_events(&mut self) {
        let Some(kernel) = &mut self.kernel else { return };
        let Ok(events) = kernel.events() else { return };
        let mut told: Vec<Event> = Vec::new();
        for event in events {
            let Some(report) = &event.session else { continue };
            let first = report.legs[0].local;
            if !self.sessions.contains_key(&first) {
                continue; // of another owner
            }
            if event.events.contains(Events::UNLOADED) {
                self.stood.insert(first, report.clone());
                continue;
            }
            if event.events.intersects(Events::LEARNED.union(Events::MOVED)) {
                self.userspace.settle(report);
            }
            told.push(event);
        }
        let mut view = self.view();
        let room = EVENTS_MAX.saturating_sub(view.events.len());
        view.events.extend(told.into_iter().take(room));
    }
}

/// The session as the module is to have it: settled is settled, by whomever.
fn settled(session: &Session, stands: Option<&Report>) -> Session {
    let mut session = session.clone();
    for (leg, stands) in session.legs.iter_mut().zip(stands.iter().flat_map(|r| &r.legs)) {
        if stands.locked {
            leg.peer = stands.learned.or(stands.peer);
            leg.learn = Learn::OFF;
        }
    }
    session
}
