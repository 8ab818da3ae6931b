//! Runs to feed a policy: a REGISTER and an INVITE, a location service that knows one user. The fuzz
//! targets use this file too.
// Each test file uses its part, and what fails here is a fault of the test.
#![allow(dead_code, unreachable_pub, clippy::expect_used)]

use std::sync::Arc;

use viaduct_engine::path::PathKeys;
use viaduct_engine::registrar::{Binding, BindingFields, BindingSet, Registrar};
use viaduct_engine::{
    Bounds, ConnId, Flow, Location, Now, Run, Settings, Shared, Snapshot, TimerValues, Transport,
};

pub const UNIX_MS: u64 = 1_700_000_000_000;

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
    Bob(Arc::new(BindingSet { bindings: [binding].into() }))
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
