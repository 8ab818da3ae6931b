//! Tests of a policy as a component of world `policy-tests`: listing, running, failing.
// What fails here is a fault of the test, and helpers may say so.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::net::SocketAddr;
use std::sync::Arc;

use common::{Guest, core, host, invite, manifest};
use parking_lot::Mutex;
use viaduct_engine::Policy;
use viaduct_engine::dispatcher::DestinationConfig;
use viaduct_engine::http::{HttpMethod, HttpRequest, HttpResult};
use viaduct_policy::testing::{
    ChallengeAnswer, Outcome, Probe, RecordedRun, Recording, RouterUnderTest, SentMessage,
    TestRunner, selected,
};
use viaduct_policy::{Sandbox, package};

/// Tests `a::one` (uses the router), `a::two` (says why, then traps), `b::three` (traps),
/// `b::four` (never ends), `b::five` (hands in a bad source).
const SUITE: &str = r#"(module
  (import "viaduct:policy/router@1.0.0" "receive" (func $receive (param i32 i32 i32 i32 i32)))
  (import "viaduct:policy/router@1.0.0" "set-setting" (func $set (param i32 i32 i32 i32 i32)))
  (import "viaduct:policy/router@1.0.0" "runs" (func $runs (param i32)))
  (import "viaduct:policy/router@1.0.0" "fail" (func $fail (param i32 i32)))
  (memory (export "memory") 1)
  (global $heap (mut i32) (i32.const 4096))
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
    (local $at i32)
    (local.set $at (i32.and (i32.add (global.get $heap) (i32.const 7)) (i32.const -8)))
    (global.set $heap (i32.add (local.get $at) (local.get 3)))
    (local.get $at))
  (func (export "viaduct:policy/tests@1.0.0#names") (result i32)
    (i32.store (i32.const 0) (i32.const 300)) (i32.store (i32.const 4) (i32.const 5))
    (i32.const 0))
  (func (export "viaduct:policy/tests@1.0.0#run") (param $name i32) (param $bytes i32)
    (local $letter i32)
    ;; The letter after the first of the function's name tells them apart: oNe, tWo, tHree ...
    (local.set $letter (i32.load8_u offset=4 (local.get $name)))
    (if (i32.eq (local.get $letter) (i32.const 110)) (then ;; o-n-e
      (call $receive (i32.const 240) (i32.const 14) (i32.const 260) (i32.const 5) (i32.const 16))
      (if (i32.ne (i32.load (i32.const 20)) (i32.const 1)) (then unreachable))
      (call $set (i32.const 260) (i32.const 5) (i32.const 1) (i32.const 240) (i32.const 4))
      (call $runs (i32.const 16))
      (if (i32.ne (i32.load (i32.const 20)) (i32.const 1)) (then unreachable))
      (return)))
    (if (i32.eq (local.get $letter) (i32.const 119)) (then ;; t-w-o
      (call $fail (i32.const 270) (i32.const 9)) (unreachable)))
    (if (i32.eq (local.get $letter) (i32.const 111)) (then ;; f-o-ur
      (loop $l (br $l))))
    (if (i32.eq (local.get $letter) (i32.const 105)) (then ;; f-i-ve
      (call $receive (i32.const 260) (i32.const 5) (i32.const 260) (i32.const 5) (i32.const 16))))
    (unreachable))
  (data (i32.const 200) "a::onea::twob::threeb::fourb::five")
  (data (i32.const 240) "192.0.2.1:5060")
  (data (i32.const 260) "hello")
  (data (i32.const 270) "two != 2!")
  (data (i32.const 300) "\c8\00\00\00\06\00\00\00" "\ce\00\00\00\06\00\00\00"
    "\d4\00\00\00\08\00\00\00" "\dc\00\00\00\07\00\00\00" "\e3\00\00\00\07\00\00\00"))"#;

#[derive(Default)]
struct Fake(Arc<Mutex<Vec<String>>>);

impl RouterUnderTest for Fake {
    fn set_binding(&mut self, _: &str, _: &str, _: &str, _: u32) -> Result<(), String> {
        Ok(())
    }
    fn contacts(&mut self, _: &str) -> Result<Vec<String>, String> {
        Ok(Vec::new())
    }
    fn set_password(&mut self, _: &str, _: &str, _: Option<&str>) -> Result<(), String> {
        Ok(())
    }
    fn answer_after(&mut self, _: Option<u64>) -> Result<(), String> {
        Ok(())
    }
    fn authorize(&mut self, _: &str, _: &ChallengeAnswer<'_>) -> Result<String, String> {
        Err("there is no challenge".into())
    }
    fn add_trusted(&mut self, _: &str) -> Result<(), String> {
        Ok(())
    }
    fn add_domain(&mut self, _: &str) -> Result<(), String> {
        Ok(())
    }
    fn set_destination(&mut self, _: DestinationConfig, _: bool) -> Result<(), String> {
        Ok(())
    }
    fn set_http(&mut self, _: HttpMethod, _: &str, _: HttpResult) -> Result<(), String> {
        Ok(())
    }
    fn http_requests(&mut self) -> Vec<Arc<HttpRequest>> {
        Vec::new()
    }
    fn destinations_up(&mut self, _: &str) -> Vec<String> {
        Vec::new()
    }
    fn set_setting(&mut self, name: &str, value: Option<&str>) -> Result<(), String> {
        self.0.lock().push(format!("{name} = {value:?}"));
        Ok(())
    }
    fn receive(&mut self, source: SocketAddr, message: &[u8]) -> Result<Vec<SentMessage>, String> {
        self.0.lock().push(format!("{source} {}", String::from_utf8_lossy(message)));
        Ok(vec![SentMessage { to: "udp:192.0.2.1:5060".into(), text: "SIP/2.0 200 OK".into() }])
    }
    fn advance(&mut self, _: u64) -> Result<Vec<SentMessage>, String> {
        Ok(Vec::new())
    }
    fn runs(&mut self) -> Vec<RecordedRun> {
        let relay = |name: &str| RecordedRun {
            phase: name.into(),
            verdict: "relay".into(),
            effects: Vec::new(),
            logs: Vec::new(),
        };
        vec![relay("on-request")]
    }
}

fn runner() -> TestRunner {
    let component = package::build_tests(&core(SUITE, "policy-tests")).unwrap();
    TestRunner::load(&Sandbox::new().unwrap(), &component).unwrap()
}

fn failure(runner: &TestRunner, name: &str) -> String {
    match runner.run(name, Box::new(Fake::default())).outcome {
        Outcome::Failed { message } => message,
        Outcome::Ok => panic!("{name} should fail"),
    }
}

#[test]
fn tests_are_listed_and_chosen_by_name() {
    let runner = runner();
    assert_eq!(runner.names(), ["a::one", "a::two", "b::three", "b::four", "b::five"]);
    let chosen = |filters: &[&str], exact| {
        let filters: Vec<_> = filters.iter().map(|f| f.to_string()).collect();
        selected(runner.names(), &filters, exact)
    };
    assert_eq!(chosen(&[], false).len(), 5);
    assert_eq!(chosen(&["a::"], false), ["a::one", "a::two"]);
    assert_eq!(chosen(&["one", "five"], false), ["a::one", "b::five"]);
    assert_eq!(chosen(&["a::one", "five"], true), ["a::one"]);
}

#[test]
fn a_test_that_returns_is_ok_and_has_driven_the_router() {
    let fake = Fake::default();
    let seen = Arc::clone(&fake.0);
    let result = runner().run("a::one", Box::new(fake));
    assert_eq!((&*result.name, &result.outcome), ("a::one", &Outcome::Ok));
    assert_eq!(*seen.lock(), ["192.0.2.1:5060 hello", "hello = Some(\"192.\")"]);
    // One the test has asked for, one that was left.
    assert_eq!(result.runs.len(), 2);
}

#[test]
fn a_test_that_fails_says_why() {
    let runner = runner();
    assert_eq!(failure(&runner, "a::two"), "two != 2!");
    assert!(failure(&runner, "b::three").contains("unreachable"));
    let bad_source = failure(&runner, "b::five");
    assert!(bad_source.contains("`hello` is no source; write `192.0.2.1:5060`"), "{bad_source}");
    assert_eq!(runner.run("a::one", Box::new(Fake::default())).outcome, Outcome::Ok);
}

#[test]
fn a_test_without_end_is_ended() {
    let message = failure(&runner(), "b::four");
    assert!(message.contains("fuel") || message.contains("interrupt"), "{message}");
}

#[test]
fn a_policy_is_no_test_suite() {
    let policy = Guest::default().build(&manifest(""));
    let error = TestRunner::load(&Sandbox::new().unwrap(), &policy).err().unwrap().to_string();
    assert!(error.contains("world `policy-tests`"), "{error}");
}

const WATCHED: &str = r#"
  (import "viaduct:policy/log@1.0.0" "write" (func $log (param i32 i32 i32)))
  (import "viaduct:policy/settings@1.0.0" "get" (func $get (param i32 i32 i32)))
  (import "viaduct:policy/routing@1.0.0" "record-route" (func $rr))"#;

#[test]
fn runs_are_recorded_in_words_and_settings_can_be_changed() {
    let on_request = format!(
        "(call $get (i32.const 200) (i32.const 4) (i32.const 16))
         (if (i32.eqz (i32.load8_u (i32.const 16))) (then unreachable))
         (call $log (i32.const 1) (i32.load (i32.const 20)) (i32.load (i32.const 24)))
         (call $rr) {}",
        common::reply(404, 200, 4)
    );
    let rest = r#"(data (i32.const 200) "mode")"#;
    let guest = Guest { imports: WATCHED, on_request: &on_request, rest, ..Guest::default() };
    let grants = "[grants]\nlog = true\nsettings = true\nrouting = true\n[settings]\nmode = \"a\"";
    let probe = Probe::default();
    let mut watched = Recording::new(host(&guest.build(&manifest(grants))), probe.clone());
    let mut ask = || {
        let version = watched.current();
        let _ = watched.decide(&version, viaduct_engine::Phase::Request, invite());
        probe.take_runs()
    };
    let wanted = |log: &str| RecordedRun {
        phase: "on-request".into(),
        verdict: "reply 404 mode".into(),
        effects: vec!["record-route".into()],
        logs: vec![format!("warn: {log}")],
    };
    assert_eq!(ask(), [wanted("a")]);
    probe.set_setting("mode", Some("b"));
    assert_eq!(ask(), [wanted("b")]);
    probe.set_setting("mode", None);
    let failed = &ask()[0];
    assert!(failed.verdict.starts_with("failed (Trap), answered 500: "), "{}", failed.verdict);
    assert!(failed.effects.is_empty() && failed.logs.is_empty());
    assert!(probe.take_runs().is_empty());
}
