//! A hostile guest: in each phase host functions in any order with any arguments, then any verdict.
//! What it stages stays within its grants and bounds, what has failed leaves nothing behind, and
//! what the router then sends can be read, and is legal where what came in was.
//!
//! Input: parts with a group separator (1D) between: requests (numbers of [`REQUESTS`], or one as it is
//! written), what the guest does on-request, on-branch, on-reply and on-failure (see `script.rs`), how
//! next hops answer.
#![no_main]

use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use viaduct_engine::http::HttpResponse;
use viaduct_engine::run::Effects;
use viaduct_engine::{Hop, Input, Phase, Policy, PolicyFailure, Query, Run, Transport, Verdict};
use viaduct_message::{Head, Limits};
use viaduct_policy::Manifest;
use viaduct_policy::testing::BareGuest;

mod script;
#[path = "../../../engine/tests/world/mod.rs"]
mod world;

use script::Bytes;
use world::furnished::furnished;
use world::{ALICE, BOB, Sent, World, legal};

/// Each name is granted as it is called: nobody may write what is called `read`.
static MANIFEST: LazyLock<Manifest> = LazyLock::new(|| {
    let text = r#"
        name = "hostile"
        version = "1.0.0"
        phases = ["on-request", "on-branch", "on-reply", "on-failure"]
        fallback = "503"
        [grants]
        message = true
        path = true
        routing = true
        auth = true
        nat = true
        vars = true
        log = true
        metrics = true
        settings = true
        media = true
        usrloc = { location = "write", read = "read" }
        dispatcher = { gateways = "write", read = "read" }
        table = { t = "write", read = "read" }
        http = ["https://api.example.com"]
        [settings]
        a = "b"
    "#;
    Manifest::parse(text).expect("a manifest")
});

/// Looks at each run when it is over.
struct Watched<P>(P);

impl<P: Policy<Version = ()>> Policy for Watched<P> {
    type Version = ();

    fn current(&mut self) {}

    fn wants(&self, (): &(), phase: Phase) -> bool {
        self.0.wants(&(), phase)
    }

    fn decide(
        &mut self,
        (): &(),
        phase: Phase,
        run: Box<Run>,
    ) -> (Box<Run>, Result<Verdict, PolicyFailure>) {
        let before = variables(&run);
        let (run, verdict) = self.0.decide(&(), phase, run);
        match &verdict {
            Ok(Verdict::Ask { .. }) => {
                assert_eq!(variables(&run), before, "it will run again");
                if let Some(Query::Http(request)) = run.asked() {
                    assert_eq!(request.origin.to_string(), "https://api.example.com");
                }
            }
            Ok(_) => check(&run.effects),
            Err(_) => {
                assert_eq!(variables(&run), before, "of a run that has failed");
                assert!(is_empty(&run.effects), "of a run that has failed: {:?}", run.effects);
            }
        }
        (run, verdict)
    }
}

/// Variables with names of one letter, and the router's own.
fn variables(run: &Run) -> Vec<Option<String>> {
    let letters = ('a'..='z').map(String::from).chain([Run::dispatch_var().to_owned()]);
    letters.map(|name| run.var(&name).map(str::to_owned)).collect()
}

fn is_empty(effects: &Effects) -> bool {
    effects.answer.is_none()
        && effects.changes.is_empty()
        && effects.targets.is_empty()
        && effects.request_uri.is_none()
        && effects.destination.is_none()
        && effects.path.is_none()
        && !effects.record_route
        && effects.edits.is_empty()
        && effects.reply_headers.is_empty()
        && !effects.force_rport
        && effects.media.is_none()
        && effects.logs.is_empty()
        && effects.counters.is_empty()
        && effects.tables.is_empty()
        && effects.dispatcher.is_empty()
}

/// Within grants and bounds.
fn check(effects: &Effects) {
    assert!(effects.changes.iter().all(|change| &*change.key.table == "location"));
    assert!(effects.tables.iter().all(|change| &*change.table == "t"));
    // Beside the 64 edits of a policy, the lines of credentials that were found right are removed.
    assert!(effects.targets.len() <= 64 && effects.edits.len() <= 64 + 16);
    assert!(effects.tables.len() <= 32 && effects.counters.len() <= 32);
    assert!(effects.logs.len() <= 32 && effects.reply_headers.len() <= 16 * 1024);
    for (level, line) in &effects.logs {
        assert!(*level <= 4 && line.len() <= 1024 && !line.contains(char::is_control), "{line:?}");
    }
}

fuzz_target!(|bytes: &[u8]| {
    let mut parts = bytes.split(|byte| *byte == 0x1d).map(Bytes::new);
    let mut part = || parts.next().unwrap_or_default();
    let messages = requests(part().rest());
    let scripts = [part(), part(), part(), part()];
    let mut answers = part();
    let guest =
        BareGuest::new(MANIFEST.clone(), move |phase: Phase| scripts[phase as usize].clone());
    let mut world = World::of_policy(furnished(), Watched(guest));
    world.users = vec![("bob", "example.com", "secret")];
    let response = HttpResponse { status: 200, headers: Box::default(), body: Box::default() };
    world.http = Ok(Arc::new(response));
    let hop = Hop { transport: Transport::Udp, addr: BOB.parse().expect("an address") };
    world.names.insert("example.net".to_owned(), vec![hop]);
    let came = Came {
        scan: messages.iter().all(|message| scans(message)),
        legal: messages.iter().all(|message| legal::fault_of(message).is_none()),
    };
    for message in messages {
        let flow = World::flow(ALICE, Transport::Udp);
        let sent = world.input(Input::Message { flow, bytes: &message });
        came.judge(&sent);
        for request in sent.iter().filter(|sent| sent.method() != "SIP/2.0").take(4) {
            let status = 100 + u16::from(answers.byte()) * 3 % 600;
            let text = request.answer(status, "Answer", "Contact: <sip:bob@192.0.2.12>\r\n");
            came.judge(&world.receive(request.flow, &text));
        }
    }
    came.judge(&world.advance(40_000));
    came.judge(&world.advance(800_000));
    assert_eq!(world.engine.transactions(), 0, "something never ends");
});

/// Method, Request-URI, more headers and body.
const REQUESTS: [(&str, &str, &str, &str); 6] = [
    ("REGISTER", "sip:example.com", "Supported: path\r\nExpires: 60\r\n", ""),
    ("INVITE", "sip:bob@example.com", "Content-Type: application/sdp\r\n", SDP),
    ("INVITE", "sip:bob@192.0.2.12:5064", "Content-Type: application/sdp\r\n", SDP),
    ("MESSAGE", "sip:bob@192.0.2.12:5064", "Subject: a\r\n", "text"),
    ("BYE", "sip:bob@example.net", "Route: <sip:192.0.2.13;lr>\r\n", ""),
    ("OPTIONS", "sip:example.com", "Require: path\r\n", ""),
];
const SDP: &str = "v=0\r\no=- 1 1 IN IP4 192.0.2.11\r\ns=-\r\nc=IN IP4 192.0.2.11\r\nt=0 0\r\n\
                   m=audio 4000 RTP/AVP 0\r\n";

/// At most four numbers, or a message.
fn requests(part: Vec<u8>) -> Vec<Vec<u8>> {
    if part.len() > 4 {
        return vec![part];
    }
    part.into_iter().enumerate().map(|(n, number)| request(n, number)).collect()
}

fn request(n: usize, number: u8) -> Vec<u8> {
    let (method, uri, extra, body) = REQUESTS[usize::from(number) % REQUESTS.len()];
    format!(
        "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {ALICE};branch=z9hG4bK{n};rport\r\n\
         Max-Forwards: 70\r\nFrom: <sip:bob@example.com>;tag=a\r\nTo: <sip:bob@example.com>\r\n\
         Call-ID: {n}\r\nCSeq: 7 {method}\r\nContact: <sip:bob@{BOB}>\r\n{extra}\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

fn scans(bytes: &[u8]) -> bool {
    Head::new().scan(bytes, &Limits::default()).is_ok()
}

/// What is known of the messages that came in.
struct Came {
    scan: bool,
    legal: bool,
}

impl Came {
    fn judge(&self, sent: &[Sent]) {
        for message in sent {
            assert!(!self.scan || scans(&message.bytes), "does not scan:\n{}", message.text);
            if self.legal
                && let Some(fault) = legal::fault_of(&message.bytes)
            {
                panic!("{fault}:\n{}", message.text);
            }
        }
    }
}
