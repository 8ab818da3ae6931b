//! An engine on a bench: a policy that is a closure, bindings in a map, a clock that is moved by
//! hand.
// Each test file uses its own part of it, and a test stops at what it did not expect.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::panic)]
#![allow(clippy::indexing_slicing, clippy::type_complexity)]

pub mod corpus;
pub mod furnished;
pub mod game;
pub mod legal;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use viaduct_engine::auth::{Account, Algorithm, Auth, Credentials, Known, Replay, Secrets};
use viaduct_engine::http::{HttpFault, HttpResult};
use viaduct_engine::path::PathKeys;
use viaduct_engine::registrar::{BindingSet, Registrar};
use viaduct_engine::{
    Bounds, Change, CommitFault, ConnId, Engine, Event, Fact, Flow, Hop, Input, Listener, Location,
    Network, Now, Output, Phase, PingId, Policy, PolicyFailure, Query, QueryFault, Run, Settings,
    Shared, Snapshot, TimerValues, Token, Transport, Verdict,
};

pub const US: &str = "192.0.2.1:5060";
pub const ALICE: &str = "192.0.2.11:5062";
pub const BOB: &str = "192.0.2.12:5064";
/// When every test begins.
pub const START_MS: u64 = 1_800_000_000_000;
pub const CAROL: &str = "192.0.2.13:5066";

/// What the engine sent.
#[derive(Clone, Debug)]
pub struct Sent {
    pub to: SocketAddr,
    pub transport: Transport,
    /// Bytes that are no UTF-8 became U+FFFD.
    pub text: String,
    pub bytes: Vec<u8>,
    pub token: Token,
    pub flow: Flow,
    pub may_open: bool,
}

impl Sent {
    pub fn first_line(&self) -> &str {
        self.text.lines().next().unwrap()
    }
    pub fn status(&self) -> u16 {
        self.first_line().split(' ').nth(1).unwrap().parse().unwrap_or(0)
    }
    pub fn method(&self) -> &str {
        self.first_line().split(' ').next().unwrap()
    }
    /// All values of a header, as written.
    pub fn headers(&self, name: &str) -> Vec<&str> {
        let prefix = format!("{}:", name.to_lowercase());
        self.text
            .split("\r\n\r\n")
            .next()
            .unwrap()
            .lines()
            .filter(|line| line.to_lowercase().starts_with(&prefix))
            .map(|line| line[prefix.len()..].trim())
            .collect()
    }
    pub fn header(&self, name: &str) -> &str {
        self.headers(name).first().copied().unwrap_or_default()
    }
    /// A response of the next hop to this request.
    pub fn answer(&self, status: u16, reason: &str, extra: &str) -> String {
        let mut out = format!("SIP/2.0 {status} {reason}\r\n");
        for line in self.text.split("\r\n\r\n").next().unwrap().lines().skip(1) {
            let name = line.split(':').next().unwrap().to_lowercase();
            match name.as_str() {
                "via" | "from" | "call-id" | "cseq" | "record-route" | "path" => {
                    out.push_str(&format!("{line}\r\n"));
                }
                "to" if status > 100 && !line.contains("tag=") => {
                    out.push_str(&format!("{line};tag=peer{status}\r\n"));
                }
                "to" => out.push_str(&format!("{line}\r\n")),
                _ => {}
            }
        }
        format!("{out}{extra}Content-Length: 0\r\n\r\n")
    }
}

#[derive(Default)]
pub struct Map(Mutex<HashMap<Vec<u8>, (u64, Arc<BindingSet>)>>);

impl Location for Map {
    fn get(&self, _: &str, aor: &[u8]) -> Option<Arc<BindingSet>> {
        self.0.lock().unwrap().get(aor).map(|(_, set)| Arc::clone(set))
    }
    fn latest(&self, _: &str, aor: &[u8]) -> Snapshot {
        let map = self.0.lock().unwrap();
        let found = map.get(aor);
        Snapshot {
            version: found.map_or(0, |(version, _)| *version),
            set: found.map(|(_, set)| Arc::clone(set)),
            pending: false,
        }
    }
}

type Decide = dyn FnMut(Phase, &mut Run) -> Result<Verdict, PolicyFailure> + Send;

/// A policy made of a closure, asked in the phases listed.
pub struct Closure {
    phases: Vec<Phase>,
    decide: Box<Decide>,
}

impl Policy for Closure {
    type Version = ();
    fn current(&mut self) {}
    fn wants(&self, _: &(), phase: Phase) -> bool {
        self.phases.contains(&phase)
    }
    fn decide(
        &mut self,
        _: &(),
        phase: Phase,
        mut run: Box<Run>,
    ) -> (Box<Run>, Result<Verdict, PolicyFailure>) {
        let verdict = (self.decide)(phase, &mut run);
        (run, verdict)
    }
}

pub struct World<P: Policy = Closure> {
    pub engine: Engine<P>,
    pub map: Arc<Map>,
    pub now: Now,
    pub names: HashMap<String, Vec<Hop>>,
    pub events: Vec<Event>,
    pub pongs: Vec<PingId>,
    /// Commits are answered with this instead of being made.
    pub commit_fault: Option<CommitFault>,
    pub held_commits: Option<Vec<(Token, Vec<Change>)>>,
    /// Questions are kept here, where there is a list, instead of being answered.
    pub held_asks: Option<Vec<(Token, Query)>>,
    /// What each HTTP request gets.
    pub http: HttpResult,
    /// Who is found when a question is asked: user, realm, password.
    pub users: Vec<(&'static str, &'static str, &'static str)>,
}

pub fn settings() -> Settings {
    let addr: SocketAddr = US.parse().unwrap();
    let listener = |transport| Listener {
        transport,
        addr,
        host: addr.ip().to_string().into(),
        port: addr.port(),
    };
    Settings {
        worker: 3,
        listeners: vec![listener(Transport::Udp), listener(Transport::Tcp)],
        domains: vec!["example.com".into()],
        trusted: vec![Network { addr: "198.51.100.0".parse().unwrap(), bits: 24 }],
        registrar: Registrar::default(),
        auth: None,
        path_keys: PathKeys::new(vec![(1, vec![7; 32])]).unwrap(),
        use_received: true,
        force_rport: false,
        server: "".into(),
        events: true,
        timers: TimerValues::default(),
        bounds: Bounds::default(),
        secret: [9; 16],
        shared: Shared::default(),
    }
}

/// Nobody is in memory: every check of credentials has to ask.
pub struct Forgetful;

impl Credentials for Forgetful {
    fn get(&self, _: &Account, _: u64) -> Known {
        Known::NotInMemory
    }
}

/// Authentication with all algorithms; the realm is the domain.
pub fn auth() -> Auth {
    Auth {
        realm: None,
        algorithms: Algorithm::ALL.to_vec(),
        auth_int: true,
        info: false,
        nonce_life_ms: 300_000,
        replay: Arc::new(Replay::new(1000, START_MS - 1, 1)),
        credentials: Arc::new(Forgetful),
    }
}

impl World {
    pub fn new(
        decide: impl FnMut(Phase, &mut Run) -> Result<Verdict, PolicyFailure> + Send + 'static,
    ) -> World {
        World::with(settings(), &[Phase::Request], decide)
    }

    pub fn with(
        settings: Settings,
        phases: &[Phase],
        decide: impl FnMut(Phase, &mut Run) -> Result<Verdict, PolicyFailure> + Send + 'static,
    ) -> World {
        World::of_policy(settings, Closure { phases: phases.to_vec(), decide: Box::new(decide) })
    }

    pub fn flow(from: &str, transport: Transport) -> Flow {
        let conn = if transport == Transport::Udp { ConnId::NONE } else { ConnId::new(3, 77) };
        Flow { transport, local: US.parse().unwrap(), remote: from.parse().unwrap(), conn }
    }
}

impl<P: Policy> World<P> {
    pub fn of_policy(settings: Settings, policy: P) -> World<P> {
        let map = Arc::new(Map::default());
        let location: Arc<dyn Location> = Arc::<Map>::clone(&map);
        World {
            engine: Engine::new(Arc::new(settings), location, policy, 42),
            map,
            now: Now { mono_us: 1_000_000, unix_ms: START_MS },
            names: HashMap::new(),
            events: Vec::new(),
            pongs: Vec::new(),
            commit_fault: None,
            held_commits: None,
            held_asks: None,
            http: Err(HttpFault::Unreachable),
            users: Vec::new(),
        }
    }

    pub fn udp(&mut self, from: &str, text: &str) -> Vec<Sent> {
        self.receive(World::flow(from, Transport::Udp), text)
    }

    pub fn receive(&mut self, flow: Flow, text: &str) -> Vec<Sent> {
        let now = self.now;
        self.engine.handle_input(now, Input::Message { flow, bytes: text.as_bytes() });
        self.drain()
    }

    pub fn input(&mut self, input: Input<'_>) -> Vec<Sent> {
        let now = self.now;
        self.engine.handle_input(now, input);
        self.drain()
    }

    /// Moves the clock and lets timers fire on the way.
    pub fn advance(&mut self, ms: u64) -> Vec<Sent> {
        let end = self.now.mono_us + ms * 1000;
        let mut all = Vec::new();
        loop {
            let mut none = Vec::new();
            let next = match self.engine.poll_output(&mut none) {
                Output::Idle { deadline_us } => deadline_us.filter(|d| *d <= end),
                other => panic!("undrained {other:?}"),
            };
            let step = next.unwrap_or(end).max(self.now.mono_us);
            self.now.unix_ms += (step - self.now.mono_us) / 1000;
            self.now.mono_us = step;
            all.extend(self.input(Input::Tick));
            if next.is_none() {
                return all;
            }
        }
    }

    fn drain(&mut self) -> Vec<Sent> {
        let mut sent = Vec::new();
        loop {
            let mut buffer = Vec::new();
            match self.engine.poll_output(&mut buffer) {
                Output::Transmit { flow, token, may_open } => sent.push(Sent {
                    to: flow.remote,
                    transport: flow.transport,
                    text: String::from_utf8_lossy(&buffer).into_owned(),
                    bytes: buffer,
                    token,
                    flow,
                    may_open,
                }),
                Output::Commit { token, changes } => self.commit(token, changes, &mut sent),
                Output::Resolve { token, question } => {
                    let hops = self.names.get(&*question.host).cloned().unwrap_or_default();
                    self.pending_answer(token, hops, &mut sent);
                }
                Output::Pong { id, .. } => self.pongs.push(id),
                Output::Ask { token, query } => self.asked(token, query, &mut sent),
                Output::Event(event) => self.events.push(event),
                Output::Idle { .. } => return sent,
            }
        }
    }

    fn pending_answer(&mut self, token: Token, hops: Vec<Hop>, sent: &mut Vec<Sent>) {
        // Drain first: an input may only follow an idle output.
        sent.extend(self.drain());
        sent.extend(self.input(Input::Resolved { token, hops }));
    }

    fn commit(&mut self, token: Token, changes: Vec<Change>, sent: &mut Vec<Sent>) {
        sent.extend(self.drain());
        if let Some(held) = &mut self.held_commits {
            return held.push((token, changes));
        }
        let result = self.commit_fault.map_or(Ok(()), Err);
        if result.is_ok() {
            self.apply(changes);
        }
        sent.extend(self.input(Input::Committed { token, result }));
    }

    fn asked(&mut self, token: Token, query: Query, sent: &mut Vec<Sent>) {
        sent.extend(self.drain());
        match &mut self.held_asks {
            Some(held) => held.push((token, query)),
            None => sent.extend(self.answer(token, query)),
        }
    }

    /// Answers a question from [`World::users`].
    pub fn answer(&mut self, token: Token, query: Query) -> Vec<Sent> {
        let account = match query {
            Query::Credentials(account) => account,
            Query::Http(request) => {
                let fact = Fact::Http(request, self.http.clone());
                return self.told(token, fact);
            }
            Query::Media(order) => {
                let body = [order.message().body, b"a=relayed\r\n"].concat();
                return self.told(token, Fact::Media(Ok(Some(body))));
            }
            Query::MediaCall(dialog) => return self.told(token, Fact::MediaCall(dialog, None)),
        };
        let named = |(user, realm, _): &&(&str, &str, &str)| {
            *user == &*account.user && *realm == &*account.realm
        };
        let found = self.users.iter().find(named);
        let secrets = found
            .map(|(user, realm, password)| Arc::new(Secrets::of_password(user, realm, password)));
        let fact = Fact::Credentials(account, secrets);
        self.input(Input::Answered { token, result: Ok(fact) })
    }

    pub fn told(&mut self, token: Token, fact: Fact) -> Vec<Sent> {
        self.input(Input::Answered { token, result: Ok(fact) })
    }

    pub fn no_answer(&mut self, token: Token, fault: QueryFault) -> Vec<Sent> {
        self.input(Input::Answered { token, result: Err(fault) })
    }

    pub fn apply(&mut self, changes: Vec<Change>) {
        let mut map = self.map.0.lock().unwrap();
        for change in changes {
            let entry = map.entry(change.key.aor.to_vec()).or_default();
            *entry = (entry.0 + 1, change.set);
        }
    }

    pub fn contacts(&self, aor: &str) -> Vec<String> {
        let map = self.map.0.lock().unwrap();
        let Some((_, set)) = map.get(aor.as_bytes()) else { return Vec::new() };
        set.live(self.now.unix_ms)
            .map(|b| String::from_utf8_lossy(b.fields().contact).into_owned())
            .collect()
    }
}

/// A request as a UA writes it. `extra` are whole header lines.
pub fn request(method: &str, uri: &str, from: &str, branch: &str, extra: &str) -> String {
    format!(
        "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {from};branch=z9hG4bK{branch};rport\r\n\
         Max-Forwards: 70\r\nFrom: <sip:alice@example.com>;tag=a1\r\nTo: <sip:bob@example.com>\r\n\
         Call-ID: call-{branch}\r\nCSeq: 1 {method}\r\n{extra}Content-Length: 0\r\n\r\n"
    )
}

pub fn in_dialog(method: &str, uri: &str, from: &str, branch: &str, extra: &str) -> String {
    request(method, uri, from, branch, extra)
        .replace("To: <sip:bob@example.com>", "To: <sip:bob@example.com>;tag=b1")
}
