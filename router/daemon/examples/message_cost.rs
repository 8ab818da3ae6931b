//! What one message costs in scan, engine, policy and serialisation, kernel I/O aside.
//!
//! `cargo run --release -p viaduct --example message_cost -- policies/registrar/registrar.wasm`
//! prints nanoseconds of thread CPU a message: low decile and median of many rounds. Two more
//! arguments help a profiler: a part of the names of those to measure, and the number of rounds.
// A measuring program stops at what it did not expect.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::sync::{Arc, Mutex};

use nix::time::{ClockId, clock_gettime};
use viaduct_engine::path::PathKeys;
use viaduct_engine::registrar::Registrar;
use viaduct_engine::{
    Bounds, ConnId, Engine, Flow, Input, Listener, Location, Now, Output, Policy, Settings, Shared,
    TimerValues, Token, Transport,
};
use viaduct_location::{Config, LocationService};
use viaduct_policy::{PolicyCatalog, WorkerOptions};

// As in the router.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const MESSAGES: u32 = 2_000;
const ROUNDS: usize = 60;

/// What to measure, and how often.
#[derive(Clone)]
struct Choice {
    only: String,
    rounds: usize,
}
const AORS: u32 = 1_000;

fn settings() -> Settings {
    let addr = ([192, 0, 2, 1], 5060).into();
    Settings {
        worker: 0,
        listeners: vec![Listener {
            transport: Transport::Udp,
            addr,
            host: "192.0.2.1".into(),
            port: 5060,
        }],
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

fn options(n: u32) -> Vec<u8> {
    format!(
        "OPTIONS sip:example.com SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.7:5062;branch=z9hG4bK{n:08x};rport\r\n\
         Max-Forwards: 70\r\nFrom: <sip:probe@example.com>;tag={n:x}\r\nTo: <sip:example.com>\r\n\
         Call-ID: {n:08x}@192.0.2.7\r\nCSeq: {n} OPTIONS\r\nContact: <sip:probe@192.0.2.7:5062>\r\n\
         Accept: application/sdp\r\nUser-Agent: cost\r\nContent-Length: 0\r\n\r\n"
    )
    .into_bytes()
}

fn register(n: u32) -> Vec<u8> {
    let user = n % AORS;
    format!(
        "REGISTER sip:example.com SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.7:5062;branch=z9hG4bK{n:08x};rport\r\n\
         Max-Forwards: 70\r\nFrom: <sip:user{user}@example.com>;tag={n:x}\r\n\
         To: <sip:user{user}@example.com>\r\nCall-ID: reg-{user}@192.0.2.7\r\nCSeq: {n} REGISTER\r\n\
         Contact: <sip:user{user}@192.0.2.7:5062>;expires=3600\r\nSupported: path\r\n\
         Allow: INVITE, ACK, BYE, CANCEL, OPTIONS\r\nUser-Agent: cost\r\nContent-Length: 0\r\n\r\n"
    )
    .into_bytes()
}

fn thread_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap();
    now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64
}

struct Bench<P: Policy> {
    engine: Engine<P>,
    location: Arc<LocationService>,
    buffer: Vec<u8>,
    now: Now,
}

impl<P: Policy> Bench<P> {
    /// One message in, its answer out; the answer's status must be 200.
    fn handle(&mut self, bytes: &[u8]) {
        let flow = Flow {
            transport: Transport::Udp,
            local: ([192, 0, 2, 1], 5060).into(),
            remote: ([192, 0, 2, 7], 5062).into(),
            conn: ConnId::NONE,
        };
        self.now.mono_us += 10;
        self.buffer.clear();
        self.engine.handle_input(self.now, Input::Message { flow, bytes });
        let done: Arc<Mutex<Option<Token>>> = Arc::default();
        let mut committing = false;
        loop {
            match self.engine.poll_output(&mut self.buffer) {
                Output::Commit { token, changes } => {
                    let done = Arc::clone(&done);
                    committing = true;
                    self.location.commit(changes, move |result| {
                        result.unwrap();
                        *done.lock().unwrap() = Some(token);
                    });
                }
                Output::Idle { .. } if committing => {
                    let token = done.lock().unwrap().take().unwrap();
                    committing = false;
                    self.engine.handle_input(self.now, Input::Committed { token, result: Ok(()) });
                }
                Output::Idle { .. } => break,
                _ => {}
            }
        }
        assert!(self.buffer.starts_with(b"SIP/2.0 200"), "{}", self.buffer.escape_ascii());
    }

    fn measure(&mut self, choice: &Choice, what: &str, make: fn(u32) -> Vec<u8>) {
        if !what.contains(&choice.only) {
            return;
        }
        let mut serial = 1;
        let mut rounds: Vec<u64> = (0..choice.rounds)
            .map(|_| {
                let messages: Vec<Vec<u8>> = (serial..serial + MESSAGES).map(make).collect();
                serial += MESSAGES;
                let start = thread_ns();
                for message in &messages {
                    self.handle(message);
                }
                (thread_ns() - start) / u64::from(MESSAGES)
            })
            .collect();
        rounds.sort_unstable();
        println!(
            "{what:<28} {:>6} ns low decile  {:>6} ns median",
            rounds[choice.rounds / 10],
            rounds[choice.rounds / 2]
        );
    }
}

/// Decides natively what the registrar policy decides: what the sandbox costs is the difference.
struct Native;

impl Policy for Native {
    type Version = ();
    fn current(&mut self) {}
    fn wants(&self, (): &(), _: viaduct_engine::Phase) -> bool {
        false
    }
    fn decide(
        &mut self,
        (): &(),
        _: viaduct_engine::Phase,
        mut run: Box<viaduct_engine::Run>,
    ) -> (Box<viaduct_engine::Run>, Result<viaduct_engine::Verdict, viaduct_engine::PolicyFailure>)
    {
        use viaduct_engine::Verdict;
        let verdict = if run.method() == viaduct_message::Method::Register {
            let flags = viaduct_engine::registrar::SaveFlags::default();
            run.save("location", &flags, None).unwrap();
            Verdict::Answered
        } else {
            Verdict::Reply { status: 200, reason: "OK".into() }
        };
        (run, Ok(verdict))
    }
}

fn bench<P: Policy>(policy: P) -> Bench<P> {
    let location = Arc::new(LocationService::open(&Config::default(), 0).unwrap());
    let shared: Arc<dyn Location> = Arc::<LocationService>::clone(&location);
    Bench {
        engine: Engine::new(Arc::new(settings()), shared, policy, 1),
        location,
        buffer: Vec::new(),
        now: Now { mono_us: 0, unix_ms: 1_800_000_000_000 },
    }
}

fn main() {
    let file = std::env::args().nth(1).unwrap_or("policies/registrar/registrar.wasm".to_owned());
    let choice = Choice {
        only: std::env::args().nth(2).unwrap_or_default(),
        rounds: std::env::args().nth(3).map_or(ROUNDS, |count| count.parse().unwrap()),
    };
    let mut native = bench(Native);
    native.measure(&choice, "OPTIONS, native decision", options);
    native.measure(&choice, "REGISTER, native decision", register);
    let catalog = PolicyCatalog::in_memory().unwrap();
    catalog.deploy(&std::fs::read(file).unwrap()).unwrap();
    let mut wasm = bench(catalog.worker(WorkerOptions::default()).unwrap());
    wasm.measure(&choice, "OPTIONS, registrar.wasm", options);
    wasm.measure(&choice, "REGISTER, registrar.wasm", register);
}
