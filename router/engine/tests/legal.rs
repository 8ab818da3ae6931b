//! Illegal SIP cannot leave: whatever a policy calls, in whatever order, and whatever it decides, each
//! message the engine sends passes our scanner, the crate `rsip`, and a third look written here.
// What fails here is a fault of the test, and helpers may say so.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(dead_code)]

mod world;

use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use viaduct_engine::registrar::{LookupFlags, SaveFlags};
use viaduct_engine::run::{AddPathMode, ReplyLines};
use viaduct_engine::{Phase, PolicyFailure, Run, Verdict};
use viaduct_message::{Head, HeaderName, Limits, Message};
use world::{ALICE, BOB, Sent, World, settings};

/// One call of a host function.
#[derive(Clone, Debug)]
enum Call {
    AddHeader(String, String),
    RemoveHeader(String),
    RequestUri(String),
    Target(String, u16),
    Destination(String),
    ReplyHeader(String, String),
    ReplyLines(String),
    Path(u8, Option<String>, bool),
    RecordRoute(u8),
    Nat(u8),
    Var(String, Option<String>),
    Save(String),
    Lookup(Option<String>),
}

fn call(call: &Call, run: &mut Run) {
    // Refusals are part of the game.
    match call {
        Call::AddHeader(name, value) => drop(run.add_header(name, value)),
        Call::RemoveHeader(name) => drop(run.remove_header(name)),
        Call::RequestUri(uri) => drop(run.set_request_uri(uri)),
        Call::Target(uri, q) => drop(run.add_target(uri, *q)),
        Call::Destination(uri) => drop(run.set_destination(uri)),
        Call::ReplyHeader(name, value) => drop(run.add_reply_header(name, value)),
        Call::ReplyLines(lines) => {
            if let Ok(lines) = ReplyLines::parse(lines) {
                let _ = run.add_reply_headers(&lines);
            }
        }
        Call::Path(mode, user, received) => {
            let modes = [AddPathMode::UaSupported, AddPathMode::Always, AddPathMode::Require];
            let mode = modes[usize::from(*mode) % 3];
            let _ = run.add_path(mode, user.as_deref(), *received);
        }
        Call::RecordRoute(0) => run.record_route(),
        Call::RecordRoute(n) => drop(run.record_route_flows(n & 1 == 0, n & 2 == 0)),
        Call::Nat(0) => run.force_rport(),
        Call::Nat(1) => run.fix_nat_register(),
        Call::Nat(_) => drop(run.fix_nat_contact()),
        Call::Var(name, value) => drop(run.set_var(name, value.as_deref())),
        Call::Save(flags) => {
            let flags = SaveFlags::parse(flags).unwrap_or_default();
            let _ = run.save("location", &flags, None);
        }
        Call::Lookup(aor) => {
            let _ = run.lookup("location", &LookupFlags::default(), aor.as_deref());
        }
    }
}

/// Texts that try to break out: controls, delimiters, half UTF-8 sequences of meaning.
fn nasty() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => "[ -~]{0,40}",
        2 => "[\\x00-\\x20a\"<>;,:@\\\\\\x7f-\\xff\r\n]{0,20}",
        1 => Just("x\r\nInjected: yes".to_owned()),
        1 => Just("x\rInjected: yes".to_owned()),
        1 => Just("x\n Injected: yes".to_owned()),
        1 => "[a-z]{2000,9000}",
    ]
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[A-Za-z][A-Za-z-]{0,12}",
        2 => prop::sample::select(vec![
            "Via", "v", "CSeq", "Call-ID", "i", "From", "f", "To", "t", "Content-Length", "l",
            "Max-Forwards", "Route", "Record-Route", "Path", "Contact", "m", "Content-Type", "c",
            "Subject", "Require", "Supported", "Allow", "Date", "Expires", "Proxy-Authorization",
        ]).prop_map(str::to_owned),
        1 => nasty(),
    ]
}

fn uri() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => "sip:[a-z]{1,8}@192\\.0\\.2\\.[1-9]",
        2 => "sips?:[a-z0-9%;=?&@:.<>\" \\[\\]-]{0,40}",
        1 => "(tel|http|urn|SIP):[ -~]{0,20}",
        1 => nasty(),
        1 => nasty().prop_map(|text| format!("sip:bob@192.0.2.12;x={text}")),
    ]
}

fn calls() -> impl Strategy<Value = Vec<Call>> {
    let one = prop_oneof![
        (name(), nasty()).prop_map(|(n, v)| Call::AddHeader(n, v)),
        name().prop_map(Call::RemoveHeader),
        uri().prop_map(Call::RequestUri),
        (uri(), any::<u16>()).prop_map(|(u, q)| Call::Target(u, q)),
        uri().prop_map(Call::Destination),
        (name(), nasty()).prop_map(|(n, v)| Call::ReplyHeader(n, v)),
        nasty().prop_map(Call::ReplyLines),
        (any::<u8>(), prop::option::of(nasty()), any::<bool>())
            .prop_map(|(m, u, r)| Call::Path(m, u, r)),
        (0u8..4).prop_map(Call::RecordRoute),
        (0u8..3).prop_map(Call::Nat),
        (nasty(), prop::option::of(nasty())).prop_map(|(n, v)| Call::Var(n, v)),
        "[prcefv0-9]{0,4}".prop_map(Call::Save),
        prop::option::of(uri()).prop_map(Call::Lookup),
    ];
    prop::collection::vec(one, 0..12)
}

fn verdict() -> impl Strategy<Value = Verdict> {
    prop_oneof![
        4 => Just(Verdict::Relay),
        // The host checks statuses and reasons before the engine sees them (verdict.rs).
        2 => (200u16..700, "[ -~]{0,30}").prop_map(|(status, reason)| Verdict::Reply {
            status,
            reason: reason.into(),
        }),
        2 => Just(Verdict::Answered),
        1 => Just(Verdict::Drop),
        1 => Just(Verdict::Continue),
    ]
}

const METHODS: [&str; 4] = ["INVITE", "REGISTER", "MESSAGE", "SUBSCRIBE"];

fn request(method: &str, branch: u32) -> String {
    let uri = if method == "REGISTER" { "sip:example.com" } else { "sip:bob@example.com" };
    format!(
        "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {ALICE};branch=z9hG4bK{branch};rport\r\n\
         Max-Forwards: 70\r\nFrom: <sip:bob@example.com>;tag=a\r\nTo: <sip:bob@example.com>\r\n\
         Call-ID: legal-{branch}\r\nCSeq: 7 {method}\r\nContact: <sip:bob@{BOB}>\r\n\
         Supported: path\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\nbody"
    )
}

/// `text` as `rsip` can read it. Its tokenizer takes nothing but token characters in the parameters of
/// a Request-URI (RFC 3261 25.1 has `[ ] / : & + $ ( )` too) and any other scheme for a SIP-URI with
/// strange parameters. So the URI is looked at here, and what it misreads of one that is legal is
/// masked. `Err` tells what is wrong with the URI.
fn for_rsip(text: &str) -> Result<String, String> {
    let (line, rest) = text.split_once("\r\n").ok_or("no first line")?;
    let words: Vec<&str> = line.split(' ').collect();
    let &[method, uri, version] = words.as_slice() else {
        return if line.starts_with("SIP/2.0 ") {
            Ok(text.to_owned())
        } else {
            Err(line.to_owned())
        };
    };
    if method == "SIP/2.0" {
        return Ok(text.to_owned());
    }
    // `#` is for service codes as phones dial them (`chars.rs` of the scanner).
    let of_uri = |c: char| c.is_ascii_alphanumeric() || "-_.!~*'();/?:@&=+$,%[]#".contains(c);
    let (scheme, after) = uri.split_once(':').ok_or("a Request-URI without a scheme")?;
    if !uri.chars().all(of_uri) || after.is_empty() {
        return Err(format!("Request-URI {uri:?}"));
    }
    let uri = if scheme.eq_ignore_ascii_case("sip") || scheme.eq_ignore_ascii_case("sips") {
        let (address, parameters) = uri.split_at(uri.find(';').unwrap_or(uri.len()));
        address.to_owned() + &parameters.replace(|c: char| "[]/:&+$()".contains(c), "x")
    } else {
        "sip:another.scheme".to_owned()
    };
    Ok(format!("{method} {uri} {version}\r\n{rest}"))
}

/// Why a message is illegal.
fn fault_of(sent: &Sent) -> Option<String> {
    let bytes = sent.text.as_bytes();
    let mut head = Head::new();
    if let Err(fault) = head.scan(bytes, &Limits::default()) {
        return Some(format!("our scanner: {fault}"));
    }
    let message = Message::new(bytes, &head);
    match for_rsip(&sent.text) {
        Err(fault) => return Some(fault),
        Ok(text) => {
            if let Err(error) = rsip::SipMessage::try_from(text.as_bytes()) {
                return Some(format!("rsip: {error}"));
            }
        }
    }
    let (lines, body) = sent.text.split_once("\r\n\r\n")?;
    for name in [
        HeaderName::From,
        HeaderName::To,
        HeaderName::CallId,
        HeaderName::CSeq,
        HeaderName::ContentLength,
    ] {
        let count = message.lines_of(name).count();
        if count != 1 {
            return Some(format!("{count} lines of {name:?}"));
        }
    }
    let told = message.lines_of(HeaderName::ContentLength).next()?.value.of(bytes);
    if std::str::from_utf8(told).ok()?.trim().parse() != Ok(body.len()) {
        return Some("Content-Length is another than the body's".to_owned());
    }
    if message.is_request() && message.lines_of(HeaderName::MaxForwards).count() != 1 {
        return Some("Max-Forwards".to_owned());
    }
    if !sent.headers("Injected").is_empty() {
        return Some("a header was injected".to_owned());
    }
    let control = |c: char| c.is_control() && c != '\t';
    if lines.split("\r\n").any(|line| line.contains(control)) {
        return Some("a control character".to_owned());
    }
    if bytes.len() > 65_535 {
        return Some("longer than any datagram".to_owned());
    }
    None
}

fn check(sent: &[Sent]) {
    for message in sent {
        // What was lossy text to begin with was no UTF-8: the policies here write texts alone.
        if let Some(fault) = fault_of(message) {
            panic!("{fault}:\n{}", message.text);
        }
    }
}

type Script = Vec<(Vec<Call>, Verdict)>;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn whatever_a_policy_does_what_leaves_is_legal(
        script in prop::collection::vec((calls(), verdict()), 4),
        method in 0usize..4,
        answer in prop::sample::select(vec![180u16, 200, 302, 404, 486, 503]),
    ) {
        let script: Arc<Mutex<Script>> = Arc::new(Mutex::new(script));
        let shared = Arc::clone(&script);
        let decide = move |phase: Phase, run: &mut Run| -> Result<Verdict, PolicyFailure> {
            let script = shared.lock().unwrap();
            let (calls, verdict) = &script[phase as usize];
            for one in calls {
                call(one, run);
            }
            // As the WebAssembly host does it: what does not fit the phase is no verdict.
            Ok(match (phase, verdict) {
                (Phase::Request, Verdict::Continue) => Verdict::Relay,
                (Phase::Request, Verdict::Answered) if run.effects.answer.is_none() => Verdict::Drop,
                (Phase::Branch | Phase::Reply, Verdict::Drop) => Verdict::Drop,
                (Phase::Branch | Phase::Reply, _) => Verdict::Continue,
                (Phase::Failure, Verdict::Drop | Verdict::Answered) => Verdict::Continue,
                (_, verdict) => verdict.clone(),
            })
        };
        let phases = [Phase::Request, Phase::Branch, Phase::Reply, Phase::Failure];
        let mut world = World::with(settings(), &phases, decide);
        for branch in 0..2 {
            let sent = world.udp(ALICE, &request(METHODS[method], branch));
            check(&sent);
            let forwarded: Vec<Sent> =
                sent.into_iter().filter(|sent| sent.method() != "SIP/2.0").collect();
            for request in forwarded {
                let from = request.to.to_string();
                let text = request.answer(answer, "Answer", "Contact: <sip:bob@192.0.2.12>\r\n");
                check(&world.udp(&from, &text));
            }
            check(&world.advance(40_000));
        }
    }
}
