//! The media relay of a simulated router. Its control side is the real one; what carries sessions is
//! in memory, on the virtual clock: it dies with the router, loses sessions, and is full. What the
//! control side keeps for the next process is on a disk that may miss the last moment of a crash.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::{io, mem};

use viaduct_media::call::Settings;
use viaduct_media::relay::{Now, Packet, Relay, Verdict};
use viaduct_media::service::{Config, Interface, Journal, Key};
use viaduct_media::session::{Event, Learn, Leg, Rank, Report, Session};
use viaduct_media::{Executor, ExecutorError};

/// One that nothing is relayed for ends after so long, seconds; on hold a little later.
pub(crate) const IDLE_S: u32 = 30;
pub(crate) const HELD_S: u64 = 40;
/// A call nobody answers, and one of any kind.
pub(crate) const UNANSWERED_S: u64 = 100;
pub(crate) const LIFETIME_S: u64 = 150;
/// A port rests.
const REST_MS: u64 = 5_000;
/// Calls wait so long for the router.
const GRACE_S: u32 = 30;
/// The journal is written in groups: a crash may cost so much of it.
const UNWRITTEN_US: u64 = 20_000;
/// First of the ports.
const FIRST_PORT: u16 = 30_000;
/// Ports a call with one stream has: RTP and RTCP on both sides.
pub(crate) const PORTS_A_CALL: u64 = 4;

/// Where media arrive.
pub(crate) fn address() -> IpAddr {
    [192, 0, 2, 2].into()
}

/// Is that an address of the relay?
pub(crate) fn is_ours(at: SocketAddr) -> bool {
    at.ip() == address() && at.port() >= FIRST_PORT
}

/// How calls are relayed where `calls` have room.
pub(crate) fn config(calls: u16) -> Config {
    let ports = calls * PORTS_A_CALL as u16;
    Config {
        interfaces: vec![Interface {
            name: "default".into(),
            ip: address(),
            advertised: None,
            ports: FIRST_PORT..=FIRST_PORT + ports - 1,
        }],
        settings: Settings {
            learn: Learn { window_ms: 60_000, settle_ms: 500, lowest: Rank::Any },
            idle_s: IDLE_S,
            dscp_audio: None,
            dscp_video: None,
            loopback: false,
            handover: false,
        },
        calls: calls.into(),
        lifetime_s: LIFETIME_S,
        unanswered_s: UNANSWERED_S,
        held_s: HELD_S,
        rest_ms: REST_MS,
        grace_s: GRACE_S,
    }
}

/// A session the relay has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    /// Its local addresses.
    pub(crate) locals: [SocketAddr; 2],
    /// When it began, in whichever life of the router.
    pub(crate) began_us: u64,
}

/// Sessions and journal of a router. Its clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Rig(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    now_us: u64,
    relay: Relay,
    /// By number; those of a router that is down are waiting to be taken up again.
    held: BTreeMap<u64, Held>,
    /// When a local address was last in use.
    ended_us: BTreeMap<SocketAddr, u64>,
    /// No session is added until then.
    full_until_us: u64,
    /// What control side and relay must not do.
    broken: Option<String>,
    kept: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Not in `kept` yet, and since when.
    unwritten: VecDeque<(u64, Vec<u8>, Option<Vec<u8>>)>,
}

impl State {
    fn now(&self) -> Now {
        Now { ns: self.now_us * 1_000 }
    }

    /// Writes what has waited for long enough; all of it where `all`.
    fn write(&mut self, all: bool) {
        while let Some((since_us, ..)) = self.unwritten.front() {
            if !all && since_us + UNWRITTEN_US > self.now_us {
                return;
            }
            match self.unwritten.pop_front() {
                Some((_, key, Some(value))) => drop(self.kept.insert(key, value)),
                Some((_, key, None)) => drop(self.kept.remove(&key)),
                None => return,
            }
        }
    }

    /// A port in use is not handed out, and neither is one that rests.
    fn look_at_ports(&mut self, session: &Session) {
        for local in session.legs.iter().map(|leg| leg.local) {
            let holder = self.held.iter().find(|(_, held)| held.locals.contains(&local));
            let other = holder.filter(|(id, _)| **id != session.id);
            let rests = self.ended_us.get(&local);
            let rests = rests.filter(|ended_us| *ended_us + REST_MS * 1_000 > self.now_us);
            let what = match (other, rests) {
                (Some((id, _)), _) => format!("{local} is that of session {id}"),
                (None, Some(ended_us)) => format!("{local} was in use at {ended_us} us"),
                (None, None) => continue,
            };
            let id = session.id;
            self.broken.get_or_insert(format!("a port twice: session {id} is added, {what}"));
        }
    }
}

impl Rig {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_now(&self, now_us: u64) {
        let mut state = self.lock();
        state.now_us = now_us;
        state.write(false);
    }

    /// The router starts: what it finds on its disk.
    pub(crate) fn start(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut state = self.lock();
        (state.relay, state.full_until_us) = (Relay::new(), 0);
        // Which ports rest, dies with the process.
        state.ended_us.clear();
        state.kept.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    /// The router has started: sessions it has not taken up again are gone.
    pub(crate) fn started(&self) {
        let mut state = self.lock();
        let now = state.now();
        let there: Vec<u64> = state.relay.reports(now).iter().map(|report| report.id).collect();
        state.held.retain(|id, _| there.contains(id));
    }

    /// The router dies. True: the last moment is not on its disk.
    pub(crate) fn crash(&self, written: bool) -> bool {
        let mut state = self.lock();
        state.write(written);
        state.relay = Relay::new();
        !mem::take(&mut state.unwritten).is_empty()
    }

    /// All sessions are lost, and nobody says so.
    pub(crate) fn lose(&self) {
        let mut state = self.lock();
        state.relay = Relay::new();
        state.held.clear();
    }

    pub(crate) fn fill(&self, until_us: u64) {
        self.lock().full_until_us = until_us;
    }

    /// What must not happen, and has.
    pub(crate) fn broken(&self) -> Option<String> {
        self.lock().broken.take()
    }

    /// Sessions by number.
    pub(crate) fn held(&self) -> BTreeMap<u64, Held> {
        self.lock().held.clone()
    }

    /// An RTP packet: where it is sent on to.
    pub(crate) fn packet(&self, source: SocketAddr, local: SocketAddr) -> Option<SocketAddr> {
        let mut state = self.lock();
        let now = state.now();
        let mut data = [0; 32];
        (data[0], data[11]) = (0x80, 1);
        let packet = Packet { source, tclass: 0, ttl: 64, data: &data };
        let Verdict::Forward(forward) = state.relay.receive(now, local, packet) else {
            return None;
        };
        state.relay.sent(now, local, (packet, forward), None);
        Some(forward.to)
    }
}

impl Executor for Rig {
    fn add(&mut self, sessions: &[Session]) -> Result<(), ExecutorError> {
        let mut state = self.lock();
        if state.now_us < state.full_until_us {
            let errno = io::ErrorKind::StorageFull.into();
            return Err(ExecutorError::Refused { reason: "no room".to_owned(), errno });
        }
        let now = state.now();
        sessions.iter().for_each(|session| state.look_at_ports(session));
        state.relay.add(now, sessions)?;
        for session in sessions {
            let locals = session.legs.each_ref().map(|leg| leg.local);
            let began_us = state.now_us;
            state.held.entry(session.id).or_insert(Held { locals, began_us });
        }
        Ok(())
    }

    fn set(&mut self, legs: &[Leg]) -> Result<(), ExecutorError> {
        let mut state = self.lock();
        let now = state.now();
        state.relay.set(now, legs)
    }

    fn remove(&mut self, local: SocketAddr) -> Result<Report, ExecutorError> {
        let mut state = self.lock();
        let now = state.now();
        let report = state.relay.remove(local, now)?;
        state.held.remove(&report.id);
        let now_us = state.now_us;
        state.ended_us.extend(report.legs.each_ref().map(|leg| (leg.local, now_us)));
        Ok(report)
    }

    fn report(&mut self, local: SocketAddr) -> Result<Report, ExecutorError> {
        let state = self.lock();
        state.relay.report(local, state.now())
    }

    fn reports(&mut self) -> Result<Vec<Report>, ExecutorError> {
        let state = self.lock();
        Ok(state.relay.reports(state.now()))
    }

    fn restore(&mut self, session: &Session, stood: Option<&Report>) -> Result<(), ExecutorError> {
        self.add(std::slice::from_ref(session))?;
        let mut state = self.lock();
        let now = state.now();
        stood.into_iter().for_each(|stood| state.relay.adopt(now, stood));
        Ok(())
    }

    fn events(&mut self) -> Result<Vec<Event>, ExecutorError> {
        let mut state = self.lock();
        let now = state.now();
        Ok(state.relay.events(now))
    }
}

impl Journal for Rig {
    fn put(&self, key: Key, value: Vec<u8>) {
        let mut state = self.lock();
        let now_us = state.now_us;
        state.unwritten.push_back((now_us, key.octets(), Some(value)));
    }

    fn remove(&self, key: Key) {
        let mut state = self.lock();
        let now_us = state.now_us;
        state.unwritten.push_back((now_us, key.octets(), None));
    }
}
