//! Runs are recorded with all they were told, and made again with any version.
// What fails here is a fault of the test, and helpers may say so.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::sync::Arc;

use common::{ANSWERED, Guest, RELAY, UNIX_MS, ask, invite, manifest, register, reply, settings};
use viaduct_engine::{Phase, Policy, Verdict};
use viaduct_policy::record::case::Bytes;
use viaduct_policy::record::{Case, Filter, RecordLimits, Replay, Replayed, Session};
use viaduct_policy::{PolicyCatalog, WorkerOptions};

const LIMITS: RecordLimits =
    RecordLimits { cases: 100, waiting_bytes: 1 << 20, until_ms: UNIX_MS + 1000 };

fn filter() -> Filter {
    Filter { share: 1000, ..Filter::default() }
}

/// Saves a REGISTER, looks everybody else up; the flags of `save` are the setting.
fn registrar(flags: &str) -> Vec<u8> {
    let imports = r#"
      (import "viaduct:policy/usrloc@1.0.0" "save"
        (func $save (param i32 i32 i32 i32 i32 i32 i32 i32)))
      (import "viaduct:policy/usrloc@1.0.0" "lookup"
        (func $lookup (param i32 i32 i32 i32 i32 i32 i32 i32)))"#;
    let body = format!(
        "(if (result i32) (i32.eq (local.get $method) (i32.const 4))
          (then (call $save (i32.const 200) (i32.const 8) (i32.const 208) (i32.const {})
              (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 16)) {ANSWERED})
          (else (call $lookup (i32.const 200) (i32.const 8) (i32.const 0) (i32.const 0)
              (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 16)) {RELAY}))",
        flags.len()
    );
    let rest = format!(r#"(data (i32.const 200) "location{flags}")"#);
    let guest = Guest { imports, on_request: &body, rest: &rest, ..Guest::default() };
    guest.build(&manifest("[grants]\nusrloc = { location = \"write\" }"))
}

/// An INVITE and a REGISTER as the policy decided them.
fn recorded(component: &[u8], filter: Filter, limits: RecordLimits) -> Vec<Case> {
    let catalog = PolicyCatalog::in_memory().unwrap();
    catalog.deploy(component).unwrap();
    let mut host = catalog.worker(WorkerOptions::default()).unwrap();
    let session = Arc::new(Session::new(filter, limits));
    catalog.record(Some(Arc::clone(&session)));
    for run in [invite(), register()] {
        let (run, verdict) = ask(&mut host, run);
        assert!(verdict.is_ok());
        assert!(run.location().get("location", b"bob@example.com").is_some(), "the tap is gone");
    }
    let (lines, _) = session.take(UNIX_MS);
    lines.iter().map(|line| Case::parse(line).unwrap()).collect()
}

fn replayed(component: &[u8], cases: &[Case]) -> Vec<Replayed> {
    let catalog = PolicyCatalog::in_memory().unwrap();
    catalog.deploy(component).unwrap();
    let settings = settings();
    let mut replay = Replay::new(catalog.worker(WorkerOptions::default()).unwrap(), &settings);
    cases.iter().map(|case| replay.run(case).unwrap()).collect()
}

#[test]
fn the_same_version_decides_alike_and_another_shows_its_difference() {
    let component = registrar("p1");
    let cases = recorded(&component, filter(), LIMITS);
    assert_eq!(cases.len(), 2);
    assert_eq!(cases[0].verdict, "relay");
    assert!(cases[0].effects[0].starts_with("target sip:bob@192.0.2.4"), "{:?}", cases[0].effects);
    let again = replayed(&component, &cases);
    assert!(again.iter().all(|one| one.same && !one.missing), "{again:#?}");
    let other = Guest { on_request: &reply(404, 0, 0), ..Guest::default() }.build(&manifest(""));
    let other = replayed(&other, &cases);
    assert!(other.iter().all(|one| !one.same && one.verdict == "reply 404"), "{other:#?}");
}

/// Branches to a binding with attributes of five bytes are skipped, others sent.
fn picky() -> Vec<u8> {
    let imports = r#"(import "viaduct:policy/usrloc@1.0.0" "attributes" (func $of (param i32)))"#;
    let on_branch = "(call $of (i32.const 16)) (i32.eq (i32.load (i32.const 20)) (i32.const 5))";
    let guest = Guest { imports, on_branch, ..Guest::default() };
    let phases = "phases = [\"on-request\", \"on-branch\"]\n";
    guest.build(&manifest(&format!("{phases}[grants]\nusrloc = {{ location = \"read\" }}")))
}

#[test]
fn the_attributes_of_a_branch_s_binding_are_recorded_and_replayed() {
    let catalog = PolicyCatalog::in_memory().unwrap();
    catalog.deploy(&picky()).unwrap();
    let mut host = catalog.worker(WorkerOptions::default()).unwrap();
    let session = Arc::new(Session::new(filter(), LIMITS));
    catalog.record(Some(Arc::clone(&session)));
    let version = host.current();
    for (attributes, verdict) in [("queue", Verdict::Drop), ("", Verdict::Continue)] {
        let mut run = invite();
        run.set_phase(Phase::Branch);
        run.set_attributes(attributes).unwrap();
        let (_, decided) = host.decide(&version, Phase::Branch, run);
        assert_eq!(decided, Ok(verdict), "{attributes:?}");
    }
    let (lines, _) = session.take(UNIX_MS);
    let mut cases: Vec<Case> = lines.iter().map(|line| Case::parse(line).unwrap()).collect();
    assert_eq!((&*cases[0].phase, &*cases[0].verdict), ("on-branch", "drop"));
    assert_eq!(cases[0].attributes, Bytes::Text("queue".to_owned()));
    assert!(!lines[1].contains("attributes\":"), "{}", lines[1]);
    let again = replayed(&picky(), &cases);
    assert!(again.iter().all(|one| one.same && !one.missing), "{again:#?}");
    // It was them that decided.
    cases[0].attributes = Bytes::default();
    let other = replayed(&picky(), &cases);
    assert_eq!((other[0].same, &*other[0].verdict), (false, "continue"));
}

#[test]
fn what_the_recorded_version_never_asked_is_missing() {
    let other = Guest { on_request: RELAY, ..Guest::default() }.build(&manifest(""));
    let cases = recorded(&other, filter(), LIMITS);
    assert!(cases[0].bindings.is_empty());
    let again = replayed(&registrar("p1"), &cases);
    assert!(again[0].missing && !again[1].same);
}

#[test]
fn a_recording_keeps_what_is_asked_for_and_ends_by_itself() {
    let component = registrar("p1");
    let methods = vec!["REGISTER".to_owned()];
    let cases = recorded(&component, Filter { methods, ..filter() }, LIMITS);
    assert_eq!((cases.len(), &*cases[0].verdict), (1, "answered"));
    let domain = Some("other.example".to_owned());
    assert!(recorded(&component, Filter { domain, ..filter() }, LIMITS).is_empty());
    assert_eq!(recorded(&component, filter(), RecordLimits { cases: 1, ..LIMITS }).len(), 1);
    let over = RecordLimits { until_ms: UNIX_MS, ..LIMITS };
    assert!(recorded(&component, filter(), over).is_empty());
    let small = RecordLimits { waiting_bytes: 10, ..LIMITS };
    assert!(recorded(&component, filter(), small).is_empty());
}

#[test]
fn a_replay_commits_nothing_and_a_bad_case_is_named() {
    let cases = recorded(&registrar("p1"), filter(), LIMITS);
    let mut broken = cases[0].clone();
    broken.phase = "on-monday".to_owned();
    let catalog = PolicyCatalog::in_memory().unwrap();
    catalog.deploy(&registrar("p1")).unwrap();
    let settings = settings();
    let mut replay = Replay::new(catalog.worker(WorkerOptions::default()).unwrap(), &settings);
    let error = replay.run(&broken).unwrap_err().to_string();
    assert_eq!(error, "`on-monday` is no phase");
    assert!(Case::parse("{}").unwrap_err().to_string().contains("not a recorded case"));
    let mut host = catalog.worker(WorkerOptions::default()).unwrap();
    assert_eq!(ask(&mut host, invite()).1, Ok(Verdict::Relay));
}
