//! Both sides of a comparison decide alike: on the works, and on messages that take the other branches
//! of the policies.

use std::net::Ipv4Addr;
use std::sync::Arc;

use viaduct_engine::auth::credentials::{Account, Credentials, Known};
use viaduct_engine::auth::{Algorithm, Replay};
use viaduct_engine::{
    Auth, ConnId, Flow, Location, Network, Now, Phase, Policy, Run, Settings, Verdict,
};
use viaduct_location::{Config, LocationService};

use super::messages::{AORS, in_dialog, invite, response};
use super::*;

const PHONE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
const OTHER_PHONE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 11);
const FLOODER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 12);
const PEER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 250);

/// A policy and its counterpart, each in an engine of its own with the same seeds.
struct Pair {
    policy: Bench<PolicyHost>,
    native: Bench<Native>,
    serial: u32,
}

impl Pair {
    fn of(name: &str, settings: impl Fn() -> Settings) -> Option<Pair> {
        let file = format!("{}/../../policies/{name}/{name}.wasm", env!("CARGO_MANIFEST_DIR"));
        let component = match std::fs::read(&file) {
            Ok(component) => component,
            Err(error) => {
                println!("skipped: {file}: {error}");
                return None;
            }
        };
        let policy = Bench::new(settings(), host(&component, KEPT));
        let native = Bench::new(settings(), Native::of(name).expect("a counterpart"));
        Some(Pair { policy, native, serial: 0 })
    }

    fn turn(&mut self, work: Work) {
        assert_eq!(self.policy.turn(work), self.native.turn(work), "{}", work.name());
    }

    fn wait(&mut self, ms: u64) -> Vec<String> {
        let sent = self.policy.wait(ms);
        assert_eq!(sent, self.native.wait(ms), "after {ms} ms");
        sent
    }

    fn receive(&mut self, source: Ipv4Addr, message: &str) -> Vec<String> {
        let sent = self.policy.receive(source, message);
        assert_eq!(sent, self.native.receive(source, message), "to {message}");
        sent
    }

    /// A request and all that comes of it. Those it is forwarded to answer with these in turn, and
    /// with 200 when they are used up; all that was sent.
    fn exchange(&mut self, source: Ipv4Addr, request: &str, statuses: &[u16]) -> Vec<String> {
        self.wait(100);
        let mut statuses = statuses.iter().copied().chain(std::iter::repeat(200));
        let mut all = self.receive(source, request);
        let mut at = 0;
        while let Some(sent) = all.get(at).cloned() {
            at += 1;
            if !sent.starts_with("SIP/2.0") && !sent.starts_with("ACK") {
                let answer = response(&sent, statuses.next().unwrap());
                all.extend(self.receive(OTHER_PHONE, &answer));
            }
        }
        all
    }

    /// The same for a request that is written here.
    fn ask(&mut self, source: Ipv4Addr, method: &str, uri: &str, more: &str) -> Vec<String> {
        let request = self.written(source, method, uri, more);
        self.exchange(source, &request, &[])
    }

    /// `more`: lines in place of the usual ones, and beside them.
    fn written(&mut self, source: Ipv4Addr, method: &str, uri: &str, more: &str) -> String {
        self.serial += 1;
        let n = self.serial;
        let mut lines = format!("{method} {uri} SIP/2.0\r\nMax-Forwards: 70\r\n");
        for usual in [
            format!("Via: SIP/2.0/UDP {source}:5062;branch=z9hG4bKt{n}"),
            format!("From: <sip:user1@example.com>;tag=t{n}"),
            format!("To: <{uri}>"),
            format!("Contact: <sip:user1@{source}:5062>"),
        ] {
            let name = usual.split_inclusive(": ").next().unwrap();
            if !more.lines().any(|line| line.starts_with(name)) {
                lines += &format!("{usual}\r\n");
            }
        }
        let more = more.replace('\n', "\r\n");
        let length = if more.contains("\r\n\r\n") { "" } else { "Content-Length: 0\r\n\r\n" };
        format!("{lines}Call-ID: t{n}@test\r\nCSeq: {n} {method}\r\n{more}{length}")
    }
}

/// The same decisions on the works, message by message.
/// A run's verdict is freed when the next begins, and nothing it says stays behind: memory that grows
/// would end the instance.
#[test]
fn a_policy_that_answers_with_a_text_keeps_its_instance() {
    const RUNS: u32 = 60_000;
    let file = format!("{}/../../policies/registrar/registrar.wasm", env!("CARGO_MANIFEST_DIR"));
    let component = match std::fs::read(&file) {
        Ok(component) => component,
        Err(error) => return println!("skipped: {file}: {error}"),
    };
    let mut host = host(&component, u32::MAX);
    let (settings, location) = (Arc::new(settings()), LocationService::open(&Config::default(), 0));
    let location: Arc<dyn Location> = Arc::new(location.unwrap());
    let local = ([192, 0, 2, 1], 5060).into();
    let remote = (PHONE, 5062).into();
    let flow = Flow { transport: Transport::Udp, local, remote, conn: ConnId::NONE };
    let foreign =
        messages::register(1).replace("REGISTER sip:example.com", "REGISTER sip:elsewhere.net");
    let (bytes, now) = (foreign.as_bytes(), Now::default());
    let mut run = Run::for_tests(settings, location, flow, now, bytes).unwrap();
    for _ in 0..RUNS {
        let version = host.choose(&run);
        let (back, verdict) = host.decide(&version, Phase::Request, run);
        let refused = Verdict::Reply { status: 403, reason: "Not Our Domain".into() };
        assert_eq!(verdict, Ok(refused));
        run = back;
    }
    let counts = host.current().counts();
    assert_eq!((counts.runs, counts.instances), (u64::from(RUNS), 1));
}

#[test]
fn every_work_is_decided_alike() {
    for name in POLICIES {
        let Some(mut pair) = Pair::of(name, settings) else { continue };
        // Calls find who has registered before.
        (0..AORS).for_each(|_| pair.turn(Work::Register));
        for work in Work::ALL {
            (0..40).for_each(|_| pair.turn(work));
        }
    }
}

#[test]
fn what_the_works_do_not_ask_is_decided_alike() {
    for name in POLICIES {
        let Some(mut pair) = Pair::of(name, plain) else { continue };
        registrations(&mut pair);
        refusals(&mut pair);
        from_inside(&mut pair);
        behind_nat(&mut pair);
        failures(&mut pair);
        flood(&mut pair);
    }
}

#[test]
fn where_users_have_passwords_challenges_are_alike() {
    for name in POLICIES {
        let asking = || Settings {
            auth: Some(Auth {
                realm: None,
                algorithms: vec![Algorithm::Sha256, Algorithm::Md5],
                auth_int: false,
                info: false,
                nonce_life_ms: 60_000,
                replay: Arc::new(Replay::new(1000, 0, 1)),
                credentials: Arc::new(Nobody),
            }),
            ..plain()
        };
        let Some(mut pair) = Pair::of(name, asking) else { continue };
        registrations(&mut pair);
        refusals(&mut pair);
        from_inside(&mut pair);
    }
}

/// The measurement itself goes through, with the least of rounds.
#[test]
fn every_shipped_policy_is_measured() {
    let choice = Choice { part: "kept".into(), rounds: 1, turns: 60 };
    let mut report = Report::begin(Io { receive_ns: 250.0, send_ns: 700.0 });
    for name in POLICIES {
        let file = format!("{}/../../policies/{name}/{name}.wasm", env!("CARGO_MANIFEST_DIR"));
        match std::fs::read(&file) {
            Ok(component) => measure(name, &component, &choice, &mut report),
            Err(error) => println!("skipped: {file}: {error}"),
        }
    }
    report.end();
}

fn registrations(pair: &mut Pair) {
    let router = "sip:example.com";
    for user in ["alice", "bob", "user2"] {
        pair.ask(PHONE, "REGISTER", router, &format!("To: <sip:{user}@example.com>\n"));
    }
    let user3 = "To: <sip:user3@example.com>\n";
    pair.ask(PHONE, "REGISTER", router, &format!("{user3}Contact: *\nExpires: 0\n"));
    pair.ask(PHONE, "REGISTER", router, &format!("{user3}Contact: *\n"));
    pair.ask(PHONE, "REGISTER", router, &format!("{user3}Contact: <sip:a@h>;methods=\"INVITE\"\n"));
    pair.ask(PHONE, "REGISTER", router, &format!("{user3}Path: <sip:192.0.2.8;lr>\n"));
    pair.ask(PHONE, "REGISTER", "sip:example.org", user3);
    pair.ask(PHONE, "REGISTER", router, "To: <sip:user4@example.org>\n");
    pair.ask(PHONE, "MESSAGE", "sip:user3@example.com", "");
}

fn refusals(pair: &mut Pair) {
    let methods = ["INVITE", "OPTIONS", "SUBSCRIBE", "PUBLISH", "MESSAGE", "NOTIFY", "WHATEVER"];
    let route = "Route: <sip:192.0.2.9;lr>\n";
    let ours = "Route: <sip:192.0.2.1;lr>\n";
    let stranger = "From: <sip:someone@example.org>;tag=x\n";
    for method in methods {
        for uri in [
            "sip:example.com",
            "sip:user2@example.com",
            "sip:nobody@example.com",
            "sip:+4930123@example.com",
            "sip:sales@example.com",
            "sip:someone@example.org",
            "sip:192.0.2.1",
            "tel:+4930123",
        ] {
            let in_dialog = format!("To: <{uri}>;tag=d\n");
            for more in ["", stranger, route, ours, &in_dialog] {
                pair.ask(PHONE, method, uri, more);
                pair.ask(PHONE, method, uri, &format!("{ours}{more}"));
                // Out of the window of those that are counted.
                pair.wait(2_000);
            }
        }
    }
}

fn from_inside(pair: &mut Pair) {
    for method in ["INVITE", "MESSAGE", "REGISTER"] {
        for uri in [
            "sip:user2@example.com",
            "sip:nobody@example.com",
            "sip:a@192.0.2.77",
            "sip:example.com",
        ] {
            for route in ["", "Route: <sip:192.0.2.1;lr>\n", "Route: <sip:192.0.2.9;lr>\n"] {
                pair.ask(PEER, method, uri, route);
                pair.ask(PEER, method, uri, &format!("{route}From: <sip:x@example.org>;tag=x\n"));
            }
        }
    }
}

/// Another address in Via, in Contact and in the answer; then along the Path and the Route set that
/// were made of it.
fn behind_nat(pair: &mut Pair) {
    let private = "Contact: <sip:user7@10.0.0.4>\nVia: SIP/2.0/UDP 10.0.0.4;branch=z9hG4bKnat\n";
    let to = "To: <sip:user7@example.com>\n";
    let registered = pair.ask(PHONE, "REGISTER", "sip:example.com", &format!("{to}{private}"));
    let path =
        registered.iter().flat_map(|sent| sent.lines()).find(|line| line.starts_with("Path: "));
    if let Some(path) = path {
        let route = format!("{}\n", path.replace("Path: ", "Route: "));
        pair.ask(PEER, "INVITE", "sip:user7@10.0.0.4", &route);
        pair.ask(PEER, "MESSAGE", "sip:user7@example.com", &route);
    }
    pair.ask(PHONE, "MESSAGE", "sip:user7@example.com", "");
    for source in [PHONE, PEER] {
        let private = private.replace("nat", &format!("nat{source}"));
        let invite = pair.written(source, "INVITE", "sip:user7@example.com", &private);
        let answered = pair.exchange(source, &invite, &[]);
        if let Some(ok) = answered.iter().find(|sent| sent.starts_with("SIP/2.0 200")) {
            pair.exchange(source, &in_dialog("BYE", 2, 0, ok), &[]);
        }
    }
    let forwarded = pair.receive(PHONE, &invite(2));
    if let Some(request) = forwarded.iter().find(|sent| sent.starts_with("INVITE")) {
        let answer = response(request, 200).replace("callee@192.0.2.7:5062", "callee@10.0.0.5");
        let answered = pair.receive(OTHER_PHONE, &answer);
        let ok = answered.first().expect("the 200 goes back");
        let forwarded = pair.receive(PHONE, &in_dialog("ACK", 1, 2, ok));
        assert!(!forwarded.is_empty(), "no ACK after {ok}");
        pair.exchange(PHONE, &in_dialog("BYE", 2, 2, ok), &[]);
        pair.exchange(PHONE, &in_dialog("NOTIFY", 3, 2, ok), &[]);
    }
}

fn failures(pair: &mut Pair) {
    for statuses in [&[486][..], &[486, 480], &[486, 486, 486], &[603], &[503, 180], &[404], &[100]]
    {
        for uri in ["sip:sales@example.com", "sip:user2@example.com", "sip:alice@example.com"] {
            let request = pair.written(PHONE, "INVITE", uri, "");
            pair.exchange(PHONE, &request, statuses);
        }
    }
    // Nobody answers.
    let request = pair.written(PHONE, "INVITE", "sip:sales@example.com", "");
    pair.receive(PHONE, &request);
    (0..200).for_each(|_| drop(pair.wait(500)));
}

fn flood(pair: &mut Pair) {
    for _ in 0..40 {
        let request = pair.written(FLOODER, "OPTIONS", "sip:example.com", "");
        pair.receive(FLOODER, &request);
    }
    for ms in [5_000, 200_000, 300_000] {
        pair.wait(ms);
        pair.ask(FLOODER, "OPTIONS", "sip:example.com", "");
    }
}

/// The settings do nothing that is for the policy to do, and trust one peer.
fn plain() -> Settings {
    let trusted = vec![Network { addr: PEER.into(), bits: 32 }];
    Settings { trusted, force_rport: false, ..settings() }
}

/// A router whose users are all unknown.
struct Nobody;

impl Credentials for Nobody {
    fn get(&self, _: &Account, _: u64) -> Known {
        Known::Nobody
    }
}
