//! The router a policy's tests run against: the real engine and policy host, an in-memory location
//! service, a media relay without sockets, one UDP listener on a virtual network, and a clock that only tests move.

mod users;
mod web;

use std::net::SocketAddr;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, unbounded};
use viaduct_engine::dispatcher::{DestinationConfig, Dispatcher, State};
use viaduct_engine::http::{HttpMethod, HttpRequest, HttpResult};
use viaduct_engine::media::Media;
use viaduct_engine::path::PathKeys;
use viaduct_engine::registrar::{Binding, BindingFields, BindingSet, Registrar};
use viaduct_engine::{
    AorKey, Bounds, Change, CommitFault, ConnId, Engine, Flow, Input, Listener, Location, Now,
    Output, Query, QueryFault, Settings, Shared, TimerValues, Token, Transport,
};
use viaduct_location::{Config, LocationService};
use viaduct_media::Service;
use viaduct_media::memory::MemoryRelay;
use viaduct_media::service::Interface;
use viaduct_media::session::Learn;
use viaduct_policy::testing::{
    ChallengeAnswer, Outcome, Probe, RecordedRun, Recording, RouterUnderTest, SentMessage,
    TestRunner, selected,
};
use viaduct_policy::{PolicyCatalog, WorkerOptions};

use crate::cli::TestRun;
use crate::config::network;
use users::{Questions, VirtualUsers};
use web::VirtualWeb;

/// Where the router under test listens.
const LISTENER: ([u8; 4], u16) = ([192, 0, 2, 1], 5060);
/// 2026-01-01 00:00:00 UTC.
const START_MS: u64 = 1_767_225_600_000;
/// The table `set_binding` and `contacts` work on.
const TABLE: &str = "location";

/// Runs a policy's tests, each against a router of its own, and tells each result.
pub fn run(
    run: &TestRun<'_>,
    tell: &mut dyn FnMut(&str, Result<(), String>),
) -> anyhow::Result<()> {
    let catalog = PolicyCatalog::in_memory()?;
    catalog.deploy(run.component)?;
    let runner = TestRunner::load(catalog.sandbox(), run.tests)?;
    let filters: Vec<String> = run.filter.into_iter().map(str::to_owned).collect();
    for name in selected(runner.names(), &filters, false) {
        let router = VirtualRouter::new(&catalog)?;
        let result = runner.run(name, Box::new(router));
        let outcome = match result.outcome {
            Outcome::Ok => Ok(()),
            Outcome::Failed { message } => Err(with_runs(message, &result.runs)),
        };
        tell(name, outcome);
    }
    Ok(())
}

/// What a failed test said, and below it what the policy did in it.
fn with_runs(mut message: String, runs: &[RecordedRun]) -> String {
    for run in runs {
        message.push_str(&format!("\n  {}: {}", run.phase, run.verdict));
        for line in run.effects.iter().chain(&run.logs) {
            message.push_str(&format!("\n    {line}"));
        }
    }
    message
}

struct VirtualRouter {
    engine: Engine<Recording>,
    probe: Probe,
    settings: Settings,
    location: Arc<LocationService>,
    now: Now,
    deadline_us: Option<u64>,
    committed: (Sender<Commit>, Receiver<Commit>),
    users: Arc<VirtualUsers>,
    questions: Questions,
    web: VirtualWeb,
}

type Commit = (Token, Result<(), CommitFault>);

impl VirtualRouter {
    fn new(catalog: &Arc<PolicyCatalog>) -> anyhow::Result<VirtualRouter> {
        let settings = virtual_settings()?;
        let location = Arc::new(LocationService::open(&Config::default(), START_MS)?);
        let probe = Probe::default();
        let policy = Recording::new(catalog.worker(WorkerOptions::default())?, probe.clone());
        let shared: Arc<dyn Location> = Arc::<LocationService>::clone(&location);
        // One seed for all tests: a test that fails once fails always.
        let engine = Engine::new(Arc::new(settings.clone()), shared, policy, 1);
        let now = Now { mono_us: 0, unix_ms: START_MS };
        let committed = unbounded();
        Ok(VirtualRouter {
            engine,
            probe,
            settings,
            location,
            now,
            deadline_us: None,
            committed,
            users: Arc::default(),
            questions: Questions::default(),
            web: VirtualWeb::default(),
        })
    }

    /// One input and all that comes of it, commits and answers that take no time included.
    fn input(&mut self, input: Input<'_>) -> Vec<SentMessage> {
        let mut sent = Vec::new();
        self.engine.handle_input(self.now, input);
        self.drain(&mut sent);
        loop {
            let next = if let Ok((token, result)) = self.committed.1.try_recv() {
                Input::Committed { token, result }
            } else if let Some((token, query)) = self.questions.due(self.now.mono_us) {
                let result = match query {
                    Query::Credentials(account) => Ok(self.users.answer(account)),
                    Query::Http(request) => Ok(self.web.answer(request)),
                    // Its relay answers at once.
                    Query::Media(_) | Query::MediaCall(_) => Err(QueryFault::Unavailable),
                };
                Input::Answered { token, result }
            } else {
                return sent;
            };
            self.engine.handle_input(self.now, next);
            self.drain(&mut sent);
        }
    }

    fn drain(&mut self, sent: &mut Vec<SentMessage>) {
        let mut names = Vec::new();
        loop {
            let mut bytes = Vec::new();
            match self.engine.poll_output(&mut bytes) {
                Output::Transmit { flow, .. } => sent.push(SentMessage {
                    to: format!("{}:{}", flow.transport.param_name(), flow.remote),
                    text: String::from_utf8_lossy(&bytes).into_owned(),
                }),
                Output::Commit { token, changes } => {
                    let done = self.committed.0.clone();
                    self.location.commit(changes, move |result| {
                        // The receiver lives as long as the router.
                        let _ = done.send((token, result));
                    });
                }
                Output::Resolve { token, .. } => names.push(token),
                Output::Ask { token, query } => {
                    self.questions.put(self.now.mono_us, token, query);
                }
                // Nobody is pinged here.
                Output::Pong { .. } | Output::Event(_) => {}
                Output::Idle { deadline_us } => {
                    self.deadline_us = deadline_us;
                    break;
                }
            }
        }
        // There is no name server on the virtual network.
        for token in names {
            self.engine.handle_input(self.now, Input::Resolved { token, hops: Vec::new() });
            self.drain(sent);
        }
    }

    fn change_settings(&mut self, change: impl FnOnce(&mut Settings)) {
        change(&mut self.settings);
        self.engine.reconfigure(Arc::new(self.settings.clone()));
    }
}

/// A media relay at the router's address that takes every order and relays nothing.
fn virtual_media() -> anyhow::Result<Arc<dyn Media>> {
    let interface = Interface {
        name: "default".into(),
        ip: LISTENER.0.into(),
        advertised: None,
        ports: 30_000..=39_999,
    };
    let settings = viaduct_media::call::Settings {
        learn: Learn::OFF,
        idle_s: 0,
        dscp_audio: None,
        dscp_video: None,
        loopback: true,
        handover: false,
    };
    let config = viaduct_media::service::Config {
        interfaces: vec![interface],
        settings,
        calls: 1000,
        lifetime_s: 0,
        unanswered_s: 600,
        held_s: 0,
        rest_ms: 0,
        grace_s: 60,
    };
    let executor = Box::new(MemoryRelay::default());
    Ok(Arc::new(Service::new(config, executor, Box::new(drop))?))
}

/// The settings of the router under test.
pub(crate) fn virtual_settings() -> anyhow::Result<Settings> {
    let addr = SocketAddr::from(LISTENER);
    Ok(Settings {
        worker: 0,
        listeners: vec![Listener {
            transport: Transport::Udp,
            addr,
            host: addr.ip().to_string().into(),
            port: addr.port(),
        }],
        domains: vec!["example.com".into()],
        trusted: Vec::new(),
        registrar: Registrar::default(),
        auth: None,
        path_keys: PathKeys::new(vec![(0, vec![0x5a; 32])])?,
        use_received: true,
        force_rport: true,
        server: "".into(),
        events: false,
        timers: TimerValues::default(),
        bounds: Bounds::default(),
        secret: [0x5a; 16],
        shared: Shared { media: Some(virtual_media()?), ..Shared::default() },
    })
}

impl RouterUnderTest for VirtualRouter {
    fn set_binding(
        &mut self,
        aor: &str,
        contact: &str,
        path: &str,
        expires_s: u32,
    ) -> Result<(), String> {
        let aor = aor.strip_prefix("sip:").unwrap_or(aor);
        let now = self.now.unix_ms;
        let binding = Binding::pack(&BindingFields {
            contact: contact.as_bytes(),
            contact_params: b"",
            path: path.as_bytes(),
            received: b"",
            call_id: b"set-binding",
            user_agent: b"",
            instance: b"",
            attributes: b"",
            cseq: 1,
            q_milli: None,
            reg_id: 0,
            methods: None,
            expires_ms: now.saturating_add(u64::from(expires_s).saturating_mul(1000)),
            modified_ms: now,
            transport: Transport::Udp,
            local: LISTENER.into(),
            conn: ConnId::NONE,
            nat: false,
        });
        let snapshot = self.location.latest(TABLE, aor.as_bytes());
        let before = snapshot.set.iter().flat_map(|set| set.live(now)).cloned();
        let bindings = before.chain([binding]).collect();
        let change = Change {
            key: AorKey { table: TABLE.into(), aor: aor.as_bytes().into() },
            based_on: snapshot.version,
            set: Arc::new(BindingSet { bindings }),
            memory_only: false,
        };
        let (done, outcome) = unbounded();
        self.location.commit(vec![change], move |result| {
            let _ = done.send(result);
        });
        match outcome.recv() {
            Ok(Ok(())) => Ok(()),
            Ok(Err(fault)) => Err(fault.to_string()),
            Err(fault) => Err(fault.to_string()),
        }
    }

    fn contacts(&mut self, aor: &str) -> Result<Vec<String>, String> {
        let aor = aor.strip_prefix("sip:").unwrap_or(aor);
        let set = self.location.get(TABLE, aor.as_bytes());
        let live = set.iter().flat_map(|set| set.live(self.now.unix_ms));
        let text =
            |binding: &Binding| String::from_utf8_lossy(binding.fields().contact).into_owned();
        Ok(live.map(text).collect())
    }

    fn set_password(
        &mut self,
        user: &str,
        realm: &str,
        password: Option<&str>,
    ) -> Result<(), String> {
        self.users.set(user, realm, password);
        if self.settings.auth.is_none() {
            let auth = self.users.auth(self.now.unix_ms);
            self.change_settings(|settings| settings.auth = Some(auth));
        }
        Ok(())
    }

    fn answer_after(&mut self, milliseconds: Option<u64>) -> Result<(), String> {
        self.questions.delay_us = milliseconds.map(|ms| ms.saturating_mul(1000));
        Ok(())
    }

    fn authorize(&mut self, request: &str, answer: &ChallengeAnswer<'_>) -> Result<String, String> {
        users::authorize(request, answer)
    }

    fn add_trusted(&mut self, net: &str) -> Result<(), String> {
        let network = network::parse(net).map_err(|fault| fault.to_string())?;
        self.change_settings(|settings| settings.trusted.push(network));
        Ok(())
    }

    fn add_domain(&mut self, domain: &str) -> Result<(), String> {
        let domain = domain.to_ascii_lowercase();
        self.change_settings(|settings| settings.domains.push(domain.into()));
        Ok(())
    }

    fn set_destination(&mut self, config: DestinationConfig, up: bool) -> Result<(), String> {
        let old = Arc::clone(&self.settings.shared.dispatcher);
        let all = old.sets().iter().flat_map(|set| set.destinations());
        let same = |known: &DestinationConfig| known.set == config.set && known.uri == config.uri;
        let others = all.map(|known| known.config().clone()).filter(|known| !same(known));
        let others: Vec<DestinationConfig> = others.collect();
        let (set, uri) = (config.set.clone(), config.uri.clone());
        let new = Dispatcher::new(others.into_iter().chain([config]), old.thresholds());
        let new = new.succeeding(&old);
        if let Some(changed) = new.set(&set).and_then(|set| set.find(&uri)) {
            changed.set_state(if up { State::Up } else { State::Down });
        }
        self.change_settings(|settings| settings.shared.dispatcher = Arc::new(new));
        Ok(())
    }

    fn set_http(
        &mut self,
        method: HttpMethod,
        url: &str,
        answer: HttpResult,
    ) -> Result<(), String> {
        self.web.set(method, url, answer);
        Ok(())
    }

    fn http_requests(&mut self) -> Vec<Arc<HttpRequest>> {
        self.web.take_requests()
    }

    fn destinations_up(&mut self, set: &str) -> Vec<String> {
        let set = self.settings.shared.dispatcher.set(set);
        let all = set.map(|set| set.destinations()).unwrap_or_default().iter();
        let up = all.filter(|destination| destination.state() == State::Up);
        up.map(|destination| destination.config().uri.to_string()).collect()
    }

    fn set_setting(&mut self, name: &str, value: Option<&str>) -> Result<(), String> {
        self.probe.set_setting(name, value);
        Ok(())
    }

    fn receive(&mut self, source: SocketAddr, message: &[u8]) -> Result<Vec<SentMessage>, String> {
        let flow = Flow {
            transport: Transport::Udp,
            local: LISTENER.into(),
            remote: source,
            conn: ConnId::NONE,
        };
        Ok(self.input(Input::Message { flow, bytes: message }))
    }

    fn advance(&mut self, milliseconds: u64) -> Result<Vec<SentMessage>, String> {
        let end_us = self.now.mono_us.saturating_add(milliseconds.saturating_mul(1000));
        let mut sent = Vec::new();
        loop {
            let next = [self.deadline_us, self.questions.next_us()].into_iter().flatten().min();
            let due = next.filter(|at| *at <= end_us);
            let step = due.unwrap_or(end_us).max(self.now.mono_us);
            let passed_us = step.saturating_sub(self.now.mono_us);
            self.now.unix_ms = self.now.unix_ms.saturating_add(passed_us / 1000);
            self.now.mono_us = step;
            sent.extend(self.input(Input::Tick));
            if due.is_none() {
                return Ok(sent);
            }
        }
    }

    fn runs(&mut self) -> Vec<RecordedRun> {
        self.probe.take_runs()
    }
}
