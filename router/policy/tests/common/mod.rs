//! Guests written by hand in WebAssembly text, and runs to feed them.
// Each test file uses its part, and what fails here is a fault of the test.
#![allow(dead_code, unreachable_pub, clippy::expect_used)]

use std::path::Path;
use std::sync::Arc;

use viaduct_engine::path::PathKeys;
use viaduct_engine::registrar::{Binding, BindingFields, BindingSet, Registrar};
use viaduct_engine::{
    Bounds, ConnId, Flow, Location, Now, Phase, Policy, PolicyFailure, Run, Settings, Shared,
    Snapshot, TimerValues, Transport, Verdict,
};
use viaduct_policy::{PolicyCatalog, PolicyHost, WorkerOptions, package};
use wit_component::StringEncoding;
use wit_parser::Resolve;

pub const UNIX_MS: u64 = 1_700_000_000_000;

/// Parts of a guest; the rest is filled in: memory, a bump allocator, handlers that let all pass.
#[derive(Clone, Default)]
pub struct Guest<'a> {
    /// Imports and other things that come first.
    pub imports: &'a str,
    /// Locals of on-request.
    pub locals: &'a str,
    /// Body of on-request; gives the address of a verdict.
    pub on_request: &'a str,
    pub on_branch: &'a str,
    pub on_reply: &'a str,
    pub on_failure: &'a str,
    /// Functions, data, a start function.
    pub rest: &'a str,
    /// Memory in pages, with or without a maximum.
    pub pages: &'a str,
}

/// Verdict `relay` at address 0.
pub const RELAY: &str =
    "(block (result i32) (i32.store8 (i32.const 0) (i32.const 0)) (i32.const 0))";
/// Verdict `answered` at address 0.
pub const ANSWERED: &str =
    "(block (result i32) (i32.store8 (i32.const 0) (i32.const 2)) (i32.const 0))";

/// Verdict `reply` with a status and a reason at an address.
pub fn reply(status: i32, reason_at: i32, reason_bytes: i32) -> String {
    format!(
        "(block (result i32)
         (i32.store8 (i32.const 0) (i32.const 1))
         (i32.store16 (i32.const 4) (i32.const {status}))
         (i32.store (i32.const 8) (i32.const {reason_at}))
         (i32.store (i32.const 12) (i32.const {reason_bytes}))
         (i32.const 0))"
    )
}

impl Guest<'_> {
    pub fn wat(&self) -> String {
        let or = |body: &str, default: &str| {
            if body.is_empty() { default.to_owned() } else { body.to_owned() }
        };
        let facts = "(param $method i32) (param $traits i32) (param $transport i32) \
                     (param $port i32) (param $now i64) (param $seed i64)";
        let pages = or(self.pages, "1");
        let [request, branch, reply, failure] = [
            or(self.on_request, RELAY),
            or(self.on_branch, "(i32.const 0)"),
            or(self.on_reply, "(i32.const 0)"),
            or(self.on_failure, RELAY),
        ];
        format!(
            r#"(module
  {imports}
  (memory (export "memory") {pages})
  (global $heap (mut i32) (i32.const 4096))
  (func $alloc (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
    (local $at i32)
    (local.set $at (i32.and (i32.add (global.get $heap) (i32.const 7)) (i32.const -8)))
    (global.set $heap (i32.add (local.get $at) (local.get 3)))
    (local.get $at))
  (func (export "viaduct:policy/handler@1.0.0#on-request") {facts} (result i32)
    {locals}
    (global.set $heap (i32.const 4096))
    {request})
  (func (export "viaduct:policy/handler@1.0.0#on-branch") {facts} (result i32) {branch})
  (func (export "viaduct:policy/handler@1.0.0#on-reply") {facts} (param $status i32) (result i32)
    {reply})
  (func (export "viaduct:policy/handler@1.0.0#on-failure") {facts} (param $status i32) (result i32)
    {failure})
  {rest})"#,
            imports = self.imports,
            locals = self.locals,
            rest = self.rest,
        )
    }

    /// As a deployable component.
    pub fn build(&self, manifest: &str) -> Vec<u8> {
        package::build(&core(&self.wat(), "policy"), manifest).expect("a guest that builds")
    }
}

/// A core module that says for which world it was made, as a guest compiler leaves it.
pub fn core(wat: &str, world: &str) -> Vec<u8> {
    let mut module = wat::parse_str(wat).expect("WebAssembly text");
    let mut resolve = Resolve::default();
    let wit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../guest-sdk/wit");
    let (package, _) = resolve.push_dir(&wit).expect("the contract parses");
    let world = resolve.select_world(&[package], Some(world)).expect("the world is there");
    wit_component::embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)
        .expect("metadata");
    module
}

/// A manifest with these lines under its name.
pub fn manifest(rest: &str) -> String {
    format!("name = \"guest\"\nversion = \"1.0.0\"\n{rest}")
}

/// A catalog in memory with one policy live, and one worker's host.
pub fn host(component: &[u8]) -> PolicyHost {
    let catalog = PolicyCatalog::in_memory().expect("a catalog");
    catalog.deploy(component).expect("a policy that loads");
    catalog.worker(WorkerOptions::default()).expect("a worker")
}

/// Asks the live version.
pub fn ask(host: &mut PolicyHost, run: Box<Run>) -> (Box<Run>, Result<Verdict, PolicyFailure>) {
    let version = host.current();
    host.decide(&version, Phase::Request, run)
}

pub fn settings() -> Arc<Settings> {
    Arc::new(Settings {
        worker: 0,
        listeners: Vec::new(),
        domains: vec!["example.com".into()],
        trusted: Vec::new(),
        registrar: Registrar::default(),
        auth: None,
        path_keys: PathKeys::new(vec![(1, vec![7; 32])]).expect("a key"),
        use_received: false,
        force_rport: false,
        server: "".into(),
        events: false,
        timers: TimerValues::default(),
        bounds: Bounds::default(),
        secret: [0; 16],
        shared: Shared::default(),
    })
}

/// A location service with one AoR, `bob@example.com` in table `location`.
struct Bob(Arc<BindingSet>);

impl Location for Bob {
    fn get(&self, table: &str, aor: &[u8]) -> Option<Arc<BindingSet>> {
        (table == "location" && aor == b"bob@example.com").then(|| Arc::clone(&self.0))
    }
    fn latest(&self, table: &str, aor: &[u8]) -> Snapshot {
        Snapshot { set: self.get(table, aor), ..Snapshot::default() }
    }
}

fn bob() -> Bob {
    let binding = Binding::pack(&BindingFields {
        contact: b"sip:bob@192.0.2.4",
        contact_params: b"",
        path: b"<sip:p1.example.com;lr>",
        received: b"",
        call_id: b"c1",
        user_agent: b"desk phone",
        instance: b"",
        attributes: b"",
        cseq: 1,
        q_milli: None,
        reg_id: 0,
        methods: None,
        expires_ms: UNIX_MS + 90_500,
        modified_ms: UNIX_MS,
        transport: Transport::Udp,
        local: "192.0.2.1:5060".parse().expect("an address"),
        conn: ConnId::NONE,
        nat: false,
    });
    Bob(Arc::new(BindingSet { bindings: Box::new([binding]) }))
}

pub fn run(message: &str) -> Box<Run> {
    run_with(settings(), message)
}

pub fn run_with(settings: Arc<Settings>, message: &str) -> Box<Run> {
    let flow = Flow {
        transport: Transport::Udp,
        local: "192.0.2.1:5060".parse().expect("an address"),
        remote: "198.51.100.7:40000".parse().expect("an address"),
        conn: ConnId::NONE,
    };
    let now = Now { mono_us: 5, unix_ms: UNIX_MS };
    let bytes = message.replace('\n', "\r\n");
    Run::for_tests(settings, Arc::new(bob()), flow, now, bytes.as_bytes()).expect("a message")
}

pub fn register() -> Box<Run> {
    run("REGISTER sip:example.com SIP/2.0
Via: SIP/2.0/UDP 198.51.100.7:40000;branch=z9hG4bK1;rport
Max-Forwards: 70
From: <sip:alice@example.com>;tag=1
To: <sip:alice@example.com>
Call-ID: r1@alice
CSeq: 1 REGISTER
Contact: <sip:alice@198.51.100.7:40000>;expires=60
Supported: path
X-Note: one
User-Agent: soft phone
x-note: two
Content-Length: 0

")
}

pub fn invite() -> Box<Run> {
    run("INVITE sip:bob@example.com SIP/2.0
Via: SIP/2.0/UDP 198.51.100.7:40000;branch=z9hG4bK2
Max-Forwards: 70
From: \"Alice\" <sip:alice@example.com>;tag=a1
To: <sip:bob@example.com>
Call-ID: i1@alice
CSeq: 7 INVITE
Contact: <sip:alice@198.51.100.7:40000>
Content-Length: 4

body")
}
