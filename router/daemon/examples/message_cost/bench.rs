//! An engine with a policy, driven message by message, and the time both take.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use viaduct_engine::path::PathKeys;
use viaduct_engine::registrar::Registrar;
use viaduct_engine::{
    Bounds, CommitFault, ConnId, Engine, Flow, Hop, Input, Listener, Location, Now, Output, Phase,
    Policy, PolicyFailure, Run, Settings, Shared, TimerValues, Token, Transport, Verdict,
};
use viaduct_location::{Config, LocationService};

use super::Work;
use super::messages::{AORS, in_dialog, invite, options, phone, register, response};

/// After which bindings are refreshed: they live for an hour.
const REFRESH_US: u64 = 1_800_000_000;

/// ns a message.
#[derive(Clone, Copy)]
pub(crate) struct Cost {
    pub(crate) all_ns: f64,
    pub(crate) policy_ns: f64,
    /// Messages sent for each that is received.
    pub(crate) sent: f64,
}

/// Adds up the time of a policy's runs.
struct Timed<P> {
    inner: P,
    spent: Arc<Spent>,
}

#[derive(Default)]
struct Spent {
    ns: AtomicU64,
    runs: AtomicU64,
}

impl<P: Policy> Policy for Timed<P> {
    type Version = P::Version;

    fn current(&mut self) -> P::Version {
        self.inner.current()
    }

    fn choose(&mut self, run: &Run) -> P::Version {
        self.inner.choose(run)
    }

    fn wants(&self, version: &P::Version, phase: Phase) -> bool {
        self.inner.wants(version, phase)
    }

    fn decide(
        &mut self,
        version: &P::Version,
        phase: Phase,
        run: Box<Run>,
    ) -> (Box<Run>, Result<Verdict, PolicyFailure>) {
        let begun = Instant::now();
        let decided = self.inner.decide(version, phase, run);
        let ns = begun.elapsed().as_nanos() as u64;
        self.spent.ns.fetch_add(ns, Ordering::Relaxed);
        self.spent.runs.fetch_add(1, Ordering::Relaxed);
        decided
    }
}

pub(crate) struct Bench<P: Policy> {
    engine: Engine<Timed<P>>,
    spent: Arc<Spent>,
    now: Now,
    /// Time in the engine, inputs it was read around, messages among those, and messages sent.
    all_ns: u64,
    inputs: u64,
    messages: u64,
    sent: u64,
    serial: u32,
    refresh_us: u64,
    clock_ns: f64,
    location: Arc<LocationService>,
    /// Commits that were decided at once, to be told when the engine has been drained.
    decided: Vec<(Token, Result<(), CommitFault>)>,
}

pub(crate) fn settings() -> Settings {
    let addr = ([192, 0, 2, 1], 5060).into();
    let listener =
        Listener { transport: Transport::Udp, addr, host: "192.0.2.1".into(), port: 5060 };
    Settings {
        worker: 0,
        listeners: vec![listener],
        domains: vec!["example.com".into()],
        trusted: Vec::new(),
        registrar: Registrar::default(),
        auth: None,
        path_keys: PathKeys::new(vec![(0, vec![1; 32])]).unwrap(),
        use_received: true,
        force_rport: true,
        server: "".into(),
        events: false,
        timers: TimerValues::default(),
        bounds: Bounds::default(),
        secret: [7; 16],
        shared: Shared::default(),
    }
}

/// What can be measured, whatever decides in it.
pub(crate) trait Measured {
    /// What a message of this work costs, after so many turns.
    fn measure(&mut self, work: Work, turns: u32) -> Cost;
}

impl<P: Policy> Measured for Bench<P> {
    fn measure(&mut self, work: Work, turns: u32) -> Cost {
        if self.now.mono_us >= self.refresh_us {
            // Calls need somebody to be called.
            (0..AORS).for_each(|_| drop(self.turn(Work::Register)));
            self.refresh_us = self.now.mono_us + REFRESH_US;
        }
        self.round(work, turns)
    }
}

impl<P: Policy> Bench<P> {
    pub(crate) fn new(settings: Settings, policy: P) -> Bench<P> {
        let location = Arc::new(LocationService::open(&Config::default(), 0).unwrap());
        let shared: Arc<dyn Location> = Arc::<LocationService>::clone(&location);
        let spent = Arc::<Spent>::default();
        let policy = Timed { inner: policy, spent: Arc::clone(&spent) };
        Bench {
            engine: Engine::new(Arc::new(settings), shared, policy, 1),
            spent,
            now: Now { mono_us: 0, unix_ms: 1_800_000_000_000 },
            all_ns: 0,
            inputs: 0,
            messages: 0,
            sent: 0,
            serial: 0,
            refresh_us: 0,
            clock_ns: clock_ns(),
            location,
            decided: Vec::new(),
        }
    }

    /// One round of a work.
    fn round(&mut self, work: Work, turns: u32) -> Cost {
        let before = (self.all_ns, self.messages, self.policy(), self.inputs);
        let sent_before = self.sent;
        (0..turns).for_each(|_| drop(self.turn(work)));
        let (ns, runs) = self.policy();
        let messages = (self.messages - before.1) as f64;
        let runs = (runs - before.2.1) as f64;
        let policy_ns = (ns - before.2.0) as f64 - runs * self.clock_ns;
        // The clock is read around each input and, wholly within that, around each run.
        let clocks = (self.inputs - before.3) as f64 + 2.0 * runs;
        let all_ns = (self.all_ns - before.0) as f64 - clocks * self.clock_ns;
        let sent = (self.sent - sent_before) as f64;
        Cost { all_ns: all_ns / messages, policy_ns: policy_ns / messages, sent: sent / messages }
    }

    fn policy(&self) -> (u64, u64) {
        (self.spent.ns.load(Ordering::Relaxed), self.spent.runs.load(Ordering::Relaxed))
    }

    /// One request with its response, or one call; all that was sent.
    pub(crate) fn turn(&mut self, work: Work) -> Vec<String> {
        self.serial += 1;
        let n = self.serial;
        // So that transactions end as time goes by.
        let mut sent = self.wait(50);
        match work {
            Work::Options => sent.extend(self.request(&options(n))),
            Work::Register => sent.extend(self.request(&register(n))),
            Work::Call => {
                let answered = self.request(&invite(n));
                let answer = answered.iter().find(|message| is_ok(message)).unwrap().clone();
                sent.extend(answered);
                let forwarded = self.receive(phone(n), &in_dialog("ACK", 1, n, &answer));
                assert!(forwarded.iter().any(|sent| sent.starts_with("ACK")), "{forwarded:?}");
                sent.extend(forwarded);
                sent.extend(self.request(&in_dialog("BYE", 2, n, &answer)));
            }
        }
        sent
    }

    /// Time goes by; what is sent because of it.
    pub(crate) fn wait(&mut self, ms: u64) -> Vec<String> {
        self.now.mono_us += ms * 1000;
        self.now.unix_ms += ms;
        self.input(Input::Tick)
    }

    /// A request, a 200 of whoever it is forwarded to, and the 200 that comes back.
    fn request(&mut self, request: &str) -> Vec<String> {
        let source = phone(self.serial);
        let mut sent = self.receive(source, request);
        let is_request = |message: &&String| !message.starts_with("SIP/2.0");
        if let Some(forwarded) = sent.iter().find(is_request).cloned() {
            sent.extend(self.receive(source, &response(&forwarded, 200)));
        }
        assert!(sent.iter().any(|sent| is_ok(sent)), "no 200 to {request}: {sent:#?}");
        sent
    }

    /// A message that comes in, and what is sent because of it.
    pub(crate) fn receive(&mut self, source: Ipv4Addr, message: &str) -> Vec<String> {
        let flow = Flow {
            transport: Transport::Udp,
            local: ([192, 0, 2, 1], 5060).into(),
            remote: (source, 5062).into(),
            conn: ConnId::NONE,
        };
        self.messages += 1;
        self.input(Input::Message { flow, bytes: message.as_bytes() })
    }

    /// What the engine sends because of an input.
    fn input(&mut self, input: Input<'_>) -> Vec<String> {
        let counted = !matches!(input, Input::Tick);
        let (mut ends, mut names) = (Vec::with_capacity(8), Vec::new());
        let mut buffer = Vec::with_capacity(16_384);
        let begun = Instant::now();
        self.engine.handle_input(self.now, input);
        loop {
            match self.engine.poll_output(&mut buffer) {
                Output::Transmit { .. } => ends.push(buffer.len()),
                Output::Resolve { token, .. } => names.push(token),
                Output::Idle { .. } => {
                    let Some((token, result)) = self.decided.pop() else { break };
                    self.engine.handle_input(self.now, Input::Committed { token, result });
                }
                // What upstream has granted is saved when its answer comes.
                Output::Commit { token, changes } => {
                    let later = || panic!("memory decides its commits at once");
                    let decided = self.location.commit_or_queue(changes, later);
                    self.decided.extend(decided.map(|result| (token, result)));
                }
                _ => {}
            }
        }
        if counted {
            self.all_ns += begun.elapsed().as_nanos() as u64;
            self.inputs += 1;
            self.sent += ends.len() as u64;
        }
        let starts = [0].into_iter().chain(ends.iter().copied());
        let mut sent: Vec<String> = starts
            .zip(&ends)
            .map(|(start, end)| String::from_utf8_lossy(&buffer[start..*end]).into_owned())
            .collect();
        for token in names {
            let addr = ([192, 0, 2, 9], 5060).into();
            let hops = vec![Hop { transport: Transport::Udp, addr }];
            sent.extend(self.input(Input::Resolved { token, hops }));
        }
        sent
    }
}

fn is_ok(message: &str) -> bool {
    message.starts_with("SIP/2.0 200")
}

/// What reading the clock twice costs, ns.
fn clock_ns() -> f64 {
    const TIMES: u32 = 100_000;
    let begun = Instant::now();
    let mut sum = 0;
    for _ in 0..TIMES {
        sum += Instant::now().elapsed().as_nanos();
    }
    let all = begun.elapsed().as_nanos() as f64 / f64::from(TIMES);
    // Half of it is within the time that is measured, half around it.
    std::hint::black_box(sum);
    all / 2.0
}
