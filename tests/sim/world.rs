//! The simulation: a queue of what happens next, a clock that jumps from one to the next, and
//! everybody on the network.
//!
//! First the plan with its faults, then a time without any in which everything has to recover, a
//! call to everybody who is registered, and at last silence, in which everything has to end.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;

use anyhow::Result;
use viaduct_engine::{Flow, Input, Token, Transport};

use crate::dice::Dice;
use crate::ladder::{Fate, Ladder};
use crate::network::{Network, Way};
use crate::phone::{Outgoing, Phone};
use crate::plan::{Act, FAULTS_END_US, Plan};
use crate::policy::{Role, Shelf, swap};
use crate::promises;
use crate::relay::Rig;
use crate::relayed;
use crate::router::{Effects, Router, Sent, flow, set_traps};
use crate::store::Order;
use crate::streams::{Stream, Streams, Towards};

/// How long everybody has to recover, once the faults have ended.
const RECOVERY_US: u64 = 200_000_000;
/// How long the last calls take.
const CALLS_US: u64 = 60_000_000;
/// How long it takes until nothing is left: Timer C, and the longest timers behind it.
const SILENCE_US: u64 = 400_000_000;
/// How often what has expired is dropped, and the promises are looked at.
const ROUND_US: u64 = 5_000_000;
/// How often media are looked after, and phones talk.
const SECOND_US: u64 = 1_000_000;
/// Most events of one simulation: more is a storm.
const MOST_EVENTS: u64 = 400_000;

/// Why a simulation failed.
#[derive(Debug)]
pub(crate) struct Failure {
    /// Which promise was broken, and how.
    pub(crate) what: String,
    pub(crate) at_us: u64,
    pub(crate) ladder: String,
}

/// What a simulation that went well has done.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) events: u64,
    pub(crate) messages: u64,
    pub(crate) crashes: u64,
    pub(crate) registered: u64,
    pub(crate) answered_calls: u64,
    pub(crate) policy_failures: u64,
    /// Calls whose phones have heard each other.
    pub(crate) heard_calls: u64,
}

impl Tally {
    /// Adds another's numbers.
    pub(crate) fn add(&mut self, other: Tally) {
        self.events += other.events;
        self.messages += other.messages;
        self.crashes += other.crashes;
        self.registered += other.registered;
        self.answered_calls += other.answered_calls;
        self.policy_failures += other.policy_failures;
        self.heard_calls += other.heard_calls;
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// A datagram is there.
    Arrive { from: SocketAddr, to: SocketAddr, bytes: Vec<u8> },
    /// A piece of a stream is there, if that is still open.
    Piece { stream: u64, towards: Towards, bytes: Vec<u8> },
    /// A router's timer.
    Tick(usize),
    /// A router's store ends a write, if it is still in that life.
    Stored { router: usize, life: u64 },
    /// A phone's timer.
    Wake(usize),
    /// The next act of the plan.
    Act(usize),
    /// A crashed router is there again.
    Start(usize),
    /// Traps of a router's policy end.
    NoTraps(usize),
    /// Housekeeping.
    Round,
    /// A router looks after its media, and phones talk.
    Second,
}

/// Everybody, and what happens next.
pub(crate) struct World {
    pub(crate) now_us: u64,
    pub(crate) routers: Vec<Router>,
    pub(crate) phones: Vec<Phone>,
    /// How far calendars have jumped, all jumps together, milliseconds.
    pub(crate) jumped_ms: u64,
    pub(crate) ladder: Ladder,
    pub(crate) tally: Tally,
    pub(crate) plan: Plan,
    pub(crate) network: Network,
    streams: Streams,
    queue: BinaryHeap<Reverse<(u64, u64, Event)>>,
    serial: u64,
    dice: Dice,
    /// The store refuses writes until then.
    store_down_until_us: u64,
    broken: Option<String>,
}

/// Runs a plan to its end. `Ok(Err(_))`: a promise was broken.
pub(crate) fn run(plan: &Plan, shelf: &Shelf) -> Result<Result<Tally, Failure>> {
    let mut world = World::new(plan, shelf)?;
    let outcome = world.play();
    for router in &mut world.routers {
        router.crash(world.now_us, false);
    }
    match outcome {
        Ok(()) => Ok(Ok(world.tally)),
        Err(what) => Ok(Err(Failure { what, at_us: world.now_us, ladder: world.ladder.text() })),
    }
}

impl World {
    fn new(plan: &Plan, shelf: &Shelf) -> Result<World> {
        let seed = plan.seed;
        let mut network = Network::new(plan.weather, Dice::new(seed, 2));
        let mut ladder = Ladder::default();
        let mut routers = Vec::new();
        for role in [Role::Edge, Role::Registrar] {
            ladder.name(role.at(), &format!("{role:?}"));
            let mut router = Router::new(role, seed, shelf.fresh(role, plan.media > 0)?);
            if role == Role::Registrar && plan.media > 0 {
                router.rig = Some((Rig::default(), plan.media));
            }
            router.start(0)?;
            routers.push(router);
        }
        let mut phones = Vec::new();
        for (n, plan) in plan.phones.iter().enumerate() {
            let at = phone_address(n, plan.nat);
            if plan.nat {
                network.add_nat(at, [198, 51, 100, n as u8 + 1].into());
            }
            ladder.name(at, &format!("phone {n} (u{})", plan.user));
            let proxy = if plan.by_edge { Role::Edge } else { Role::Registrar };
            let dice = Dice::new(seed, 10 + n as u64);
            let user = format!("u{}", plan.user);
            phones.push(Phone::new(at, plan.stream, &user, proxy.at(), dice));
        }
        // The last one only calls, when the faults have ended.
        let at = phone_address(plan.phones.len(), false);
        ladder.name(at, "checker");
        phones.push(Phone::new(at, false, "checker", Role::Registrar.at(), Dice::new(seed, 9)));
        let mut world = World {
            now_us: 0,
            routers,
            phones,
            jumped_ms: 0,
            ladder,
            tally: Tally::default(),
            plan: plan.clone(),
            network,
            streams: Streams::new(Dice::new(seed, 4)),
            queue: BinaryHeap::new(),
            serial: 0,
            dice: Dice::new(seed, 3),
            store_down_until_us: 0,
            broken: None,
        };
        for (index, (at_us, _)) in plan.acts.iter().enumerate() {
            world.at(*at_us, Event::Act(index));
        }
        world.at(ROUND_US, Event::Round);
        if plan.media > 0 {
            world.phones.iter_mut().for_each(|phone| phone.media = true);
            world.at(SECOND_US, Event::Second);
        }
        Ok(world)
    }

    fn play(&mut self) -> Result<(), String> {
        self.until(FAULTS_END_US)?;
        self.end_faults()?;
        self.until(FAULTS_END_US + RECOVERY_US)?;
        promises::everybody_is_back(self)?;
        self.call_everybody();
        self.until(FAULTS_END_US + RECOVERY_US + CALLS_US)?;
        promises::calls_went_well(self)?;
        for phone in &mut self.phones {
            phone.rest();
        }
        self.until(FAULTS_END_US + RECOVERY_US + CALLS_US + SILENCE_US)?;
        promises::nothing_is_left(self)?;
        relayed::nothing_is_left(self)
    }

    fn end_faults(&mut self) -> Result<(), String> {
        self.ladder.note(self.now_us, "the faults end");
        self.network.calm_down();
        self.store_down_until_us = 0;
        for index in 0..self.routers.len() {
            self.start(index)?;
            if let Some(router) = self.routers.get(index) {
                set_traps(router, 0);
            }
        }
        for phone in &mut self.phones {
            phone.polite = true;
        }
        Ok(())
    }

    fn call_everybody(&mut self) {
        let checker = self.phones.len() - 1;
        for user in 0..self.plan.users {
            let name = format!("u{user}");
            if self.phones.iter().any(|phone| phone.wants && phone.user == name) {
                let mut out = Outgoing::new();
                if let Some(phone) = self.phones.get_mut(checker) {
                    phone.call(self.now_us, &name, 30_000_000, &mut out);
                }
                self.send_all(checker, out);
            }
        }
    }

    fn at(&mut self, at_us: u64, event: Event) {
        self.serial += 1;
        self.queue.push(Reverse((at_us, self.serial, event)));
    }

    /// Lets happen what happens up to then.
    fn until(&mut self, end_us: u64) -> Result<(), String> {
        while let Some(Reverse((at_us, ..))) = self.queue.peek() {
            if *at_us > end_us {
                break;
            }
            let Some(Reverse((at_us, _, event))) = self.queue.pop() else { break };
            self.now_us = at_us.max(self.now_us);
            self.tally.events += 1;
            if self.tally.events > MOST_EVENTS {
                return Err(format!("a storm: {MOST_EVENTS} events"));
            }
            self.happen(event)?;
            if let Some(broken) = self.broken.take() {
                return Err(broken);
            }
        }
        self.now_us = end_us;
        Ok(())
    }

    fn happen(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Arrive { from, to, bytes } => self.arrive(from, to, &bytes),
            Event::Piece { stream, towards, bytes } => match self.streams.get(stream) {
                Some(stream) => self.piece(&stream, towards, &bytes),
                None => Ok(()),
            },
            Event::Tick(index) => {
                let due = self.routers.get(index).and_then(Router::deadline_us);
                if due.is_some_and(|due| due <= self.now_us) {
                    self.router(index, |router, now| router.input(now, Input::Tick))?;
                }
                Ok(())
            }
            Event::Stored { router, life } => self.stored(router, life),
            Event::Wake(index) => {
                let mut out = Outgoing::new();
                if let Some(phone) = self.phones.get_mut(index) {
                    phone.wake(self.now_us, &mut out);
                }
                self.send_all(index, out);
                Ok(())
            }
            Event::Act(index) => match self.plan.acts.get(index).copied() {
                Some((_, act)) => self.act(act),
                None => Ok(()),
            },
            Event::Start(index) => self.start(index),
            Event::NoTraps(index) => {
                self.routers.get(index).into_iter().for_each(|router| set_traps(router, 0));
                Ok(())
            }
            Event::Round => {
                for index in 0..self.routers.len() {
                    self.router(index, |router, now| router.expire(now))?;
                }
                promises::bindings_are_as_acknowledged(self)?;
                promises::versions_do_not_mix(self)?;
                self.at(self.now_us + ROUND_US, Event::Round);
                Ok(())
            }
            Event::Second => {
                self.routers.iter().for_each(|router| router.look_after_media(self.now_us));
                self.talk()?;
                self.at(self.now_us + SECOND_US, Event::Second);
                relayed::media_are_as_signalled(self)
            }
        }
    }

    fn act(&mut self, act: Act) -> Result<(), String> {
        self.ladder.note(self.now_us, &format!("{act:?}"));
        let (now_us, mut out) = (self.now_us, Outgoing::new());
        match act {
            Act::Register { phone } => {
                let expires_s = self.plan.phones.get(phone).map_or(60, |plan| plan.expires_s);
                self.phone(phone, |phone| phone.register(now_us, expires_s, &mut out));
                self.send_all(phone, out);
            }
            Act::Unregister { phone } => {
                self.phone(phone, |phone| phone.unregister(now_us, &mut out));
                self.send_all(phone, out);
            }
            Act::Call { phone, user, patience_us } => {
                let user = format!("u{user}");
                self.phone(phone, |phone| {
                    phone.call(now_us, &user, patience_us, &mut out);
                });
                self.send_all(phone, out);
            }
            Act::Crash { router, down_us, written } => {
                let index = router as usize;
                if let Some(router) = self.routers.get_mut(index) {
                    router.crash(now_us, written);
                    self.tally.crashes += 1;
                }
                for phone in &mut self.phones {
                    (phone.lives, phone.crashed_us) = (phone.lives + 1, Some(now_us));
                }
                for stream in self.streams.router_ended(index) {
                    self.lose_stream(stream.phone);
                }
                self.at(now_us + down_us, Event::Start(index));
            }
            Act::StoreDown { for_us } => self.store_down_until_us = now_us + for_us,
            Act::Cut { for_us } => {
                let (a, b) = (Role::Edge.at(), Role::Registrar.at());
                self.network.cut(a, b, now_us + for_us);
            }
            Act::Traps { router, permille, for_us } => {
                let index = router as usize;
                self.routers.get(index).into_iter().for_each(|r| set_traps(r, permille));
                self.at(now_us + for_us, Event::NoTraps(index));
            }
            Act::Swap { router } => {
                if let Some(router) = self.routers.get(router as usize) {
                    swap(&router.catalog).map_err(|error| format!("{error:#}"))?;
                }
            }
            Act::Jump { router, by_ms } => {
                self.jumped_ms += by_ms.unsigned_abs();
                if let Some(router) = self.routers.get_mut(router as usize) {
                    router.off_ms += by_ms;
                }
            }
            Act::Rebind { phone } => {
                self.phones.get(phone).into_iter().for_each(|p| self.network.rebind(p.at));
                self.reset(phone)?;
            }
            Act::Reset { phone } => self.reset(phone)?,
            Act::RelayLoses | Act::RelayFull { .. } | Act::Kill { .. } => self.break_relay(act),
        }
        Ok(())
    }

    fn phone(&mut self, index: usize, what: impl FnOnce(&mut Phone)) {
        if let Some(phone) = self.phones.get_mut(index) {
            what(phone);
        }
    }

    fn start(&mut self, index: usize) -> Result<(), String> {
        let down = self.routers.get(index).filter(|router| !router.is_up());
        let Some(role) = down.map(|router| router.role) else { return Ok(()) };
        self.ladder.note(self.now_us, &format!("{role:?} starts"));
        self.router(index, |router, now_us| router.start(now_us))?;
        promises::bindings_are_as_acknowledged(self)
    }

    /// Gives a router something to do, and carries out what comes of it.
    fn router(
        &mut self,
        index: usize,
        what: impl FnOnce(&mut Router, u64) -> Result<Effects>,
    ) -> Result<(), String> {
        let now_us = self.now_us;
        let Some(router) = self.routers.get_mut(index) else { return Ok(()) };
        let effects = what(router, now_us).map_err(|error| format!("{error:#}"))?;
        let life = router.lives;
        let deadline_us = router.deadline_us();
        self.tally.policy_failures += effects.policy_failures as u64;
        if effects.writing {
            let after_us = self.dice.between(500, 40_000);
            self.at(now_us + after_us, Event::Stored { router: index, life });
        }
        if let Some(deadline_us) = deadline_us {
            self.at(deadline_us.max(now_us), Event::Tick(index));
        }
        for sent in effects.sent {
            promises::message_is_legal(&sent.bytes)?;
            self.send_of_router(index, sent)?;
        }
        Ok(())
    }

    fn send_of_router(&mut self, index: usize, sent: Sent) -> Result<(), String> {
        let Flow { transport, local, remote, conn } = sent.flow;
        if transport == Transport::Udp {
            self.send(local, remote, sent.bytes);
            return Ok(());
        }
        let stream = self.streams.known(index, conn, remote).or_else(|| {
            // Whoever is behind a NAT takes no streams.
            let takes = |phone: &Phone| phone.stream && phone.at == remote;
            let phone = self.phones.iter().position(takes).filter(|_| sent.may_open)?;
            self.plan.phones.get(phone).filter(|plan| !plan.nat)?;
            Some(self.open(phone, index, remote))
        });
        if let Some(stream) = stream {
            self.write(&stream, Towards::Phone, sent.bytes);
            return Ok(());
        }
        self.ladder.message(self.now_us, local, remote, &sent.bytes, Fate::Refused);
        if sent.token == Token::default() {
            return Ok(());
        }
        self.router(index, |router, now| router.input(now, Input::SendFailed { token: sent.token }))
    }

    fn open(&mut self, phone: usize, router: usize, outside: SocketAddr) -> Stream {
        let stream = self.streams.open(phone, router, outside);
        if let Some(router) = self.routers.get_mut(router) {
            router.stream_opened(stream.conn);
        }
        stream
    }

    fn write(&mut self, stream: &Stream, towards: Towards, bytes: Vec<u8>) {
        self.tally.messages += 1;
        let ends = (self.phones.get(stream.phone), self.routers.get(stream.router));
        if let (Some(phone), Some(router)) = ends {
            let (phone, router) = (phone.at, router.role.at());
            let (from, to) = match towards {
                Towards::Router => (phone, router),
                Towards::Phone => (router, phone),
            };
            self.ladder.message(self.now_us, from, to, &bytes, Fate::Sent);
        }
        let at_us = self.streams.arrival(stream.serial, towards, self.now_us);
        self.at(at_us, Event::Piece { stream: stream.serial, towards, bytes });
    }

    fn piece(&mut self, stream: &Stream, towards: Towards, bytes: &[u8]) -> Result<(), String> {
        let Some(role) = self.routers.get(stream.router).map(|router| router.role) else {
            return Ok(());
        };
        if towards == Towards::Phone {
            return self.receive(stream.phone, role.at(), bytes);
        }
        let flow = flow(role, stream.peer, Some(stream));
        self.router(stream.router, |router, now| router.input(now, Input::Message { flow, bytes }))
    }

    /// All streams of a phone break, and both ends see it.
    fn reset(&mut self, phone: usize) -> Result<(), String> {
        for stream in self.streams.reset(|stream| stream.phone == phone) {
            self.router(stream.router, |router, _| router.stream_closed(stream.conn))?;
            self.lose_stream(phone);
        }
        Ok(())
    }

    fn lose_stream(&mut self, phone: usize) {
        let now_us = self.now_us;
        self.phone(phone, |phone| phone.lose_stream(now_us));
        self.send_all(phone, Outgoing::new());
    }

    fn send_by_stream(&mut self, phone: usize, to: SocketAddr, bytes: Vec<u8>) {
        let router = self.routers.iter().position(|router| router.role.at() == to);
        let (Some(router), Some(at)) = (router, self.phones.get(phone).map(|phone| phone.at))
        else {
            return;
        };
        if self.routers.get(router).is_none_or(|router| !router.is_up()) {
            self.ladder.message(self.now_us, at, to, &bytes, Fate::Refused);
            return self.lose_stream(phone);
        }
        let stream = self.streams.between(phone, router).unwrap_or_else(|| {
            let outside = self.network.outside(at);
            self.open(phone, router, outside)
        });
        self.write(&stream, Towards::Router, bytes);
    }

    fn stored(&mut self, index: usize, life: u64) -> Result<(), String> {
        if self.routers.get(index).is_none_or(|router| router.lives != life) {
            return Ok(());
        }
        let down = self.now_us < self.store_down_until_us;
        let order = if down { Order::Fail } else { Order::Apply };
        self.router(index, |router, now| router.end_write(now, order))
    }

    fn arrive(&mut self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) -> Result<(), String> {
        if let Some(index) = self.routers.iter().position(|router| router.role.at() == to) {
            if bytes == b"\r\n\r\n" {
                return Ok(()); // a keepalive: transport's business
            }
            let role = if index == 0 { Role::Edge } else { Role::Registrar };
            return self.router(index, |router, now| {
                router.input(now, Input::Message { flow: flow(role, from, None), bytes })
            });
        }
        let at = match self.network.inward(self.now_us, Way { from, to }) {
            Ok(Some(phone)) => phone,
            Ok(None) => {
                self.ladder.message(self.now_us, from, to, bytes, Fate::Refused);
                return Ok(());
            }
            Err(()) => to,
        };
        let Some(index) = self.phones.iter().position(|phone| phone.at == at) else {
            self.ladder.message(self.now_us, from, to, bytes, Fate::Refused);
            return Ok(());
        };
        self.receive(index, from, bytes)
    }

    /// A phone gets a message.
    fn receive(&mut self, index: usize, from: SocketAddr, bytes: &[u8]) -> Result<(), String> {
        let mut out = Outgoing::new();
        let (now_us, phone) = (self.now_us, self.phones.get_mut(index));
        let outcome = phone.map_or(Ok(()), |phone| phone.receive(now_us, from, bytes, &mut out));
        self.send_all(index, out);
        outcome.map_err(|what| format!("phone {index}: {what}"))
    }

    fn send_all(&mut self, phone: usize, out: Outgoing) {
        let Some((at, stream)) = self.phones.get(phone).map(|phone| (phone.at, phone.stream))
        else {
            return;
        };
        for (to, bytes) in out {
            match stream {
                true => self.send_by_stream(phone, to, bytes),
                false => self.send(at, to, bytes),
            }
        }
        if let Some(next_us) = self.phones.get(phone).and_then(Phone::next_us) {
            self.at(next_us.max(self.now_us), Event::Wake(phone));
        }
    }

    fn send(&mut self, from: SocketAddr, to: SocketAddr, bytes: Vec<u8>) {
        self.tally.messages += 1;
        let way = self.network.outward(self.now_us, Way { from, to });
        let arrivals = self.network.arrivals(self.now_us, way);
        let fate = if arrivals.is_empty() { Fate::Lost } else { Fate::Sent };
        self.ladder.message(self.now_us, from, to, &bytes, fate);
        for at_us in arrivals {
            self.at(at_us, Event::Arrive { from: way.from, to: way.to, bytes: bytes.clone() });
        }
    }
}

/// Where phone `n` is: a public address, or one behind a NAT.
fn phone_address(n: usize, nat: bool) -> SocketAddr {
    let host = if nat { [10, 0, n as u8, 5] } else { [203, 0, 113, n as u8 + 10] };
    (host, 5060).into()
}
