//! Illegal SIP cannot leave: whatever a policy calls, in whatever order, and whatever it decides, each
//! message the engine sends passes our scanner, the crate `rsip`, and a third look written here.
// What fails here is a fault of the test, and helpers may say so.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(dead_code)]

mod world;

use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use viaduct_engine::auth::{AuthFault, Role};
use viaduct_engine::http::{HttpFault, HttpMethod, HttpOrigin, HttpRequest, HttpResponse};
use viaduct_engine::media::Action;
use viaduct_engine::registrar::{BindingFilter, LookupFlags, SaveFlags};
use viaduct_engine::run::{AddPathMode, ReplyLines, SelectBy};
use viaduct_engine::{Phase, PolicyFailure, Run, Verdict};
use world::furnished::furnished;
use world::{ALICE, BOB, Sent, World, legal};

/// One call of a host function: of every interface all that change something, or end the run.
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
    Remove(String, Option<String>),
    Attributes(String),
    PathFlow(u8),
    Check(bool, Option<String>),
    Challenge(bool, Option<String>, bool),
    Select(u8, usize),
    Next,
    Report(bool),
    Media(u8, String),
    Table(u8, String, String),
    Http(String),
    Tell(String),
}

/// False: the run is to be made again when the answer is there.
fn call(call: &Call, run: &mut Run) -> bool {
    match call {
        Call::Check(proxy, realm) => {
            return run.check_auth(role(*proxy), realm.as_deref()) != Err(AuthFault::Ask);
        }
        Call::Http(path) => return run.http(http_request(path)) != Err(HttpFault::Ask),
        Call::Remove(..) | Call::Attributes(_) | Call::Select(..) | Call::Next => stage(call, run),
        Call::Challenge(..) | Call::Report(_) | Call::Media(..) => stage(call, run),
        Call::Table(..) | Call::Tell(_) => stage(call, run),
        edit => self::edit(edit, run),
    }
    true
}

fn role(proxy: bool) -> Role {
    if proxy { Role::Proxy } else { Role::Registrar }
}

fn http_request(path: &str) -> HttpRequest {
    HttpRequest {
        method: HttpMethod::Get,
        origin: HttpOrigin { secure: true, host: "api.example.com".into(), port: 443 },
        path: path.into(),
        headers: Box::default(),
        body: Box::default(),
        timeout_ms: None,
    }
}

/// What is no edit of the message. Refusals are part of the game.
fn stage(call: &Call, run: &mut Run) {
    match call {
        Call::Remove(aor, contact) => {
            let contact = contact.as_deref().map(str::as_bytes);
            run.remove("location", aor, &BindingFilter { contact, ..BindingFilter::default() });
        }
        Call::Attributes(text) => drop(run.set_attributes(text)),
        Call::Challenge(proxy, realm, stale) => {
            let _ = run.challenge(role(*proxy), realm.as_deref(), *stale);
        }
        Call::Select(by, most) => {
            drop(run.dispatch("gateways", ALGORITHMS[usize::from(*by)], *most))
        }
        Call::Next => drop(run.dispatch_next()),
        Call::Report(alive) => drop(run.dispatch_report(*alive)),
        Call::Media(action, flags) => drop(run.media(ACTIONS[usize::from(*action)], flags)),
        Call::Table(0, key, value) => drop(run.table_set("t", key, Some(value), 60)),
        Call::Table(1, key, _) => drop(run.table_add("t", key, i64::MAX, 60)),
        Call::Table(_, key, _) => drop(run.table_hit("t", key, 10)),
        Call::Tell(text) => {
            run.log(2, text);
            run.count(text, u64::MAX);
        }
        other => panic!("{other:?} belongs elsewhere"),
    }
}

const ALGORITHMS: [SelectBy; 8] = [
    SelectBy::RoundRobin,
    SelectBy::Weighted,
    SelectBy::Priority,
    SelectBy::CallId,
    SelectBy::From,
    SelectBy::To,
    SelectBy::RequestUri,
    SelectBy::AuthUser,
];
const ACTIONS: [Action; 4] = [Action::Manage, Action::Offer, Action::Answer, Action::Delete];

/// Edits, and what decides where the message goes. Refusals are part of the game.
fn edit(call: &Call, run: &mut Run) {
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
        Call::PathFlow(mode) => {
            let modes = [AddPathMode::UaSupported, AddPathMode::Always, AddPathMode::Require];
            let _ = run.add_path_flow(modes[usize::from(*mode) % 3]);
        }
        other => panic!("{other:?} belongs elsewhere"),
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
    // As often an edit as anything else.
    prop::collection::vec(prop_oneof![one, others()], 0..16)
}

fn others() -> impl Strategy<Value = Call> {
    let flag = prop_oneof![Just(""), Just("replace-origin"), Just("TOS=184"), Just("no-flag")];
    prop_oneof![
        (uri(), prop::option::of(uri())).prop_map(|(aor, contact)| Call::Remove(aor, contact)),
        nasty().prop_map(Call::Attributes),
        any::<u8>().prop_map(Call::PathFlow),
        (any::<bool>(), realm()).prop_map(|(proxy, realm)| Call::Check(proxy, realm)),
        (any::<bool>(), realm(), any::<bool>())
            .prop_map(|(proxy, realm, stale)| Call::Challenge(proxy, realm, stale)),
        (0u8..8, 0usize..20).prop_map(|(by, most)| Call::Select(by, most)),
        Just(Call::Next),
        any::<bool>().prop_map(Call::Report),
        (0u8..4, flag).prop_map(|(action, flags)| Call::Media(action, flags.to_owned())),
        (0u8..3, nasty(), nasty()).prop_map(|(n, key, value)| Call::Table(n, key, value)),
        nasty().prop_map(|text| Call::Http(format!("/{text}"))),
        nasty().prop_map(Call::Tell),
    ]
}

/// A realm stands in the challenge.
fn realm() -> impl Strategy<Value = Option<String>> {
    prop_oneof![2 => Just(None), 1 => Just(Some("example.com".to_owned())), 2 => nasty().prop_map(Some)]
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

const METHODS: [&str; 6] = ["INVITE", "REGISTER", "MESSAGE", "SUBSCRIBE", "OPTIONS", "BYE"];

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
/// strange parameters. What it misreads of one that is legal is masked.
fn for_rsip(text: &str) -> String {
    let Some((method, uri, rest)) = legal::request_line(text) else { return text.to_owned() };
    let scheme = uri.split(':').next().unwrap();
    let uri = if scheme.eq_ignore_ascii_case("sip") || scheme.eq_ignore_ascii_case("sips") {
        let (address, parameters) = uri.split_at(uri.find(';').unwrap_or(uri.len()));
        address.to_owned() + &parameters.replace(|c: char| "[]/:&+$()".contains(c), "x")
    } else {
        "sip:another.scheme".to_owned()
    };
    format!("{method} {uri} {rest}")
}

/// Why a message is illegal.
fn fault_of(sent: &Sent) -> Option<String> {
    if let Some(fault) = legal::fault_of(&sent.bytes) {
        return Some(fault);
    }
    if !sent.headers("Injected").is_empty() {
        return Some("a header was injected".to_owned());
    }
    let error = rsip::SipMessage::try_from(for_rsip(&sent.text).as_bytes()).err()?;
    Some(format!("rsip: {error}"))
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
        method in 0..METHODS.len(),
        answer in prop::sample::select(vec![180u16, 200, 302, 404, 486, 503]),
    ) {
        let script: Arc<Mutex<Script>> = Arc::new(Mutex::new(script));
        let shared = Arc::clone(&script);
        let decide = move |phase: Phase, run: &mut Run| -> Result<Verdict, PolicyFailure> {
            let script = shared.lock().unwrap();
            let (calls, verdict) = &script[phase as usize];
            if !calls.iter().all(|one| call(one, run)) {
                return Ok(Verdict::Ask { fallback: 503 });
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
        let mut world = World::with(furnished(), &phases, decide);
        world.users = vec![("bob", "example.com", "secret")];
        let response = HttpResponse { status: 200, headers: Box::default(), body: Box::default() };
        world.http = Ok(Arc::new(response));
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
