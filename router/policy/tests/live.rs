//! Several versions live at once: scopes, canary, shadow; pins; and what rolls back by itself.
// What fails here is a fault of the test, and helpers may say so.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::path::PathBuf;
use std::sync::Arc;

use common::{Guest, RELAY, ask, invite, manifest, register, reply, run};
use viaduct_engine::{Phase, Policy, Run, Verdict};
use viaduct_policy::{
    CatalogError, Guard, GuardLimits, PolicyCatalog, PolicyHost, Scope, WorkerOptions,
};

fn answering(status: i32) -> Vec<u8> {
    let on_request = reply(status, 0, 0);
    Guest { on_request: &on_request, ..Guest::default() }.build(&manifest(""))
}

/// Traps on INVITE (method 0), answers 299 to all else.
fn trapping() -> Vec<u8> {
    let on_request =
        format!("(if (i32.eqz (local.get $method)) (then unreachable)) {}", reply(299, 0, 0));
    Guest { on_request: &on_request, ..Guest::default() }.build(&manifest(""))
}

fn catalog(status: i32) -> (Arc<PolicyCatalog>, PolicyHost) {
    let catalog = PolicyCatalog::in_memory().unwrap();
    catalog.deploy(&answering(status)).unwrap();
    let host = catalog.worker(WorkerOptions::default()).unwrap();
    (catalog, host)
}

/// Status of the version this new transaction begins with.
fn begun(host: &mut PolicyHost, run: Box<Run>) -> u16 {
    let version = host.choose(&run);
    match host.decide(&version, Phase::Request, run).1 {
        Ok(Verdict::Reply { status, .. }) => status,
        Err(failure) => failure.status,
        other => panic!("no reply: {other:?}"),
    }
}

fn message(uri: &str, from: &str, call_id: &str) -> Box<Run> {
    run(&format!(
        "MESSAGE {uri} SIP/2.0
Via: SIP/2.0/UDP 198.51.100.7:40000;branch=z9hG4bK1;rport
Max-Forwards: 70
From: <{from}>;tag=1
To: <{uri}>
Call-ID: {call_id}
CSeq: 1 MESSAGE
Content-Length: 0

"
    ))
}

fn scope(text: &str) -> Scope {
    text.parse().unwrap()
}

#[test]
fn each_domain_and_listener_has_its_own_policy() {
    let (catalog, mut host) = catalog(201);
    catalog.deploy_in(&answering(202), &scope("domain:a.example")).unwrap();
    catalog.deploy_in(&answering(203), &scope("domain:b.example")).unwrap();
    let mut status = |uri, from| begun(&mut host, message(uri, from, "c"));
    assert_eq!(status("sip:x@A.EXAMPLE:5070", "sip:y@b.example"), 202);
    assert_eq!(status("sip:x@other.example", "sip:y@b.example"), 203);
    assert_eq!(status("sip:x@other.example", "sip:y@example.com"), 201);
    // The listener is narrower than a domain.
    catalog.deploy_in(&answering(204), &scope("listener:udp:192.0.2.1:5060")).unwrap();
    assert_eq!(status("sip:x@a.example", "sip:y@b.example"), 204);
    catalog.withdraw(&scope("listener:udp:192.0.2.1:5060")).unwrap();
    assert_eq!(status("sip:x@a.example", "sip:y@b.example"), 202);
    // Each scope has its own history.
    catalog.deploy_in(&answering(205), &scope("domain:a.example")).unwrap();
    assert_eq!(status("sip:x@a.example", "sip:y@b.example"), 205);
    catalog.rollback_in(&scope("domain:a.example")).unwrap();
    assert_eq!(status("sip:x@a.example", "sip:y@b.example"), 202);
    assert!(matches!(catalog.rollback(), Err(CatalogError::NothingEarlier)));
    let none = catalog.withdraw(&scope("domain:c.example"));
    assert!(matches!(none, Err(CatalogError::NoScope(_))));
}

#[test]
fn r_g3_a_transaction_of_a_scope_keeps_its_version() {
    let (catalog, mut host) = catalog(201);
    catalog.deploy_in(&answering(202), &scope("domain:a.example")).unwrap();
    let run = || message("sip:x@a.example", "sip:y@b.example", "c");
    let pinned = host.choose(&run());
    catalog.withdraw(&scope("domain:a.example")).unwrap();
    assert_eq!(begun(&mut host, run()), 201);
    let verdict = host.decide(&pinned, Phase::Request, run()).1.unwrap();
    assert!(matches!(verdict, Verdict::Reply { status: 202, .. }), "{verdict:?}");
    assert!(catalog.list()[1].loaded);
    drop(pinned);
    host.current();
    assert!(!catalog.list()[1].loaded);
}

#[test]
fn a_canary_gets_its_share_and_the_same_calls_on_every_worker() {
    let (catalog, mut host) = catalog(201);
    catalog.canary(&answering(202), 100).unwrap();
    let mut other = catalog.worker(WorkerOptions::default()).unwrap();
    let mut taken = 0;
    for n in 0..2000 {
        let run = || message("sip:x@example.com", "sip:y@example.com", &format!("call-{n}"));
        let status = begun(&mut host, run());
        assert_eq!(begun(&mut other, run()), status);
        taken += u32::from(status == 202);
    }
    assert!((140..260).contains(&taken), "{taken} of 2000 at 10 %");
    assert_eq!(catalog.list()[1].canary, Some(100));
    assert!(matches!(catalog.canary(&answering(203), 1000), Err(CatalogError::BadShare(1000))));
    catalog.promote().unwrap();
    assert_eq!(begun(&mut host, invite()), 202);
    assert!(matches!(catalog.stop_canary(), Err(CatalogError::NoGuest(_))));
    catalog.rollback().unwrap();
    assert_eq!(begun(&mut host, invite()), 201);
}

#[test]
fn a_shadow_is_compared_and_never_applied() {
    let (catalog, mut host) = catalog(404);
    catalog.shadow(&answering(404)).unwrap();
    assert_eq!(begun(&mut host, invite()), 404);
    let shadow = |catalog: &PolicyCatalog| catalog.list().into_iter().find_map(|i| i.shadow);
    // The same component as the live one: nothing to tell apart.
    assert_eq!(shadow(&catalog).unwrap().same, 1);
    catalog.shadow(&trapping()).unwrap();
    for _ in 0..3 {
        assert_eq!(begun(&mut host, invite()), 404);
        assert_eq!(begun(&mut host, register()), 404);
    }
    let counts = shadow(&catalog).unwrap();
    assert_eq!((counts.same, counts.different, counts.failed), (0, 3, 3));
    let last = counts.last.unwrap();
    assert!(last.contains("live: reply 404 | shadow: reply 299"), "{last}");
    catalog.stop_shadow().unwrap();
    assert!(shadow(&catalog).is_none());
}

#[test]
fn what_a_shadow_stages_has_no_effect() {
    let imports = r#"(import "viaduct:policy/table@1.0.0" "hit"
        (func $hit (param i32 i32 i32 i32 i32 i32)))"#;
    let body = format!(
        "(call $hit (i32.const 200) (i32.const 1) (i32.const 201) (i32.const 1) (i32.const 60)
          (i32.const 16)) {RELAY}"
    );
    let rest = r#"(data (i32.const 200) "tk")"#;
    let guest = Guest { imports, on_request: &body, rest, ..Guest::default() };
    let hitting = guest.build(&manifest("[grants]\ntable = { t = \"write\" }"));
    let (catalog, mut host) = catalog(201);
    catalog.shadow(&hitting).unwrap();
    let run = invite();
    let version = host.choose(&run);
    let (run, _) = host.decide(&version, Phase::Request, run);
    assert!(run.effects.tables.is_empty());
    catalog.promote().unwrap_err();
    catalog.deploy(&hitting).unwrap();
    let (run, verdict) = ask(&mut host, run);
    assert_eq!((verdict, run.effects.tables.len()), (Ok(Verdict::Relay), 1));
}

#[test]
fn what_is_pinned_nothing_changes() {
    let (catalog, mut host) = catalog(201);
    catalog.deploy(&answering(202)).unwrap();
    catalog.pin(&Scope::All, true).unwrap();
    assert!(matches!(catalog.deploy(&answering(203)), Err(CatalogError::Pinned(_))));
    assert!(matches!(catalog.rollback(), Err(CatalogError::Pinned(_))));
    catalog.canary(&answering(204), 500).unwrap();
    assert!(matches!(catalog.promote(), Err(CatalogError::Pinned(_))));
    catalog.stop_canary().unwrap();
    assert_eq!(begun(&mut host, invite()), 202);
    assert!(catalog.list()[1].pinned);
    catalog.pin(&Scope::All, false).unwrap();
    assert_eq!(catalog.rollback().unwrap().serial, 1);
}

const LIMITS: GuardLimits = GuardLimits { failures: 5, percent: 20 };

#[test]
fn a_version_that_keeps_trapping_is_rolled_back_by_itself() {
    let (catalog, mut host) = catalog(201);
    catalog.deploy(&trapping()).unwrap();
    let mut guard = Guard::default();
    for _ in 0..4 {
        assert_eq!(begun(&mut host, invite()), 500);
    }
    assert!(guard.look(&catalog, LIMITS).is_empty(), "4 failures are below the limit");
    for _ in 0..6 {
        begun(&mut host, invite());
    }
    let done = guard.look(&catalog, LIMITS);
    assert_eq!(done.len(), 1);
    assert_eq!((done[0].serial, done[0].failures, &done[0].to), (2, 6, &Ok(1)));
    assert_eq!(begun(&mut host, invite()), 201);
    let note = catalog.list()[1].note.clone().unwrap();
    assert_eq!(note, "6 of 6 runs failed");
    assert!(guard.look(&catalog, LIMITS).is_empty());
}

#[test]
fn few_failures_among_many_runs_roll_nothing_back() {
    let (catalog, mut host) = catalog(201);
    catalog.deploy(&trapping()).unwrap();
    for n in 0..100 {
        begun(&mut host, if n % 10 == 0 { invite() } else { register() });
    }
    assert!(Guard::default().look(&catalog, LIMITS).is_empty(), "10 of 100 are below 20 percent");
}

#[test]
fn a_pinned_version_and_the_only_one_stay_whatever_they_do() {
    let catalog = PolicyCatalog::in_memory().unwrap();
    catalog.deploy(&trapping()).unwrap();
    let mut host = catalog.worker(WorkerOptions::default()).unwrap();
    let fail = |host: &mut PolicyHost| {
        (0..9).for_each(|_| assert_eq!(begun(host, invite()), 500));
    };
    fail(&mut host);
    let done = Guard::default().look(&catalog, LIMITS);
    assert!(done[0].to.as_ref().unwrap_err().contains("no earlier version"));
    catalog.pin(&Scope::All, true).unwrap();
    fail(&mut host);
    assert!(Guard::default().look(&catalog, LIMITS).is_empty());
}

#[test]
fn a_canary_that_traps_is_ended_by_itself() {
    let (catalog, mut host) = catalog(201);
    catalog.canary(&trapping(), 999).unwrap();
    for n in 0..40 {
        begun(&mut host, message("sip:x@example.com", "sip:y@example.com", &n.to_string()));
        let call = run(&format!(
            "INVITE sip:b@example.com SIP/2.0
Via: SIP/2.0/UDP 198.51.100.7:40000;branch=z9hG4bK2
Max-Forwards: 70
From: <sip:alice@example.com>;tag=a1
To: <sip:b@example.com>
Call-ID: {n}
CSeq: 7 INVITE
Content-Length: 0

"
        ));
        begun(&mut host, call);
    }
    let done = Guard::default().look(&catalog, LIMITS);
    assert_eq!((done[0].scope.clone(), &done[0].to), (None, &Ok(1)));
    assert_eq!(begun(&mut host, invite()), 201);
}

#[test]
fn a_restart_comes_up_with_scopes_canary_shadow_and_pins() {
    let dir = std::env::temp_dir().join(format!("viaduct-live-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    let before = {
        let catalog = PolicyCatalog::open(&dir).unwrap();
        catalog.deploy(&answering(201)).unwrap();
        catalog.deploy_in(&answering(202), &scope("domain:a.example")).unwrap();
        catalog.canary(&answering(203), 250).unwrap();
        catalog.shadow(&answering(204)).unwrap();
        catalog.pin(&scope("domain:a.example"), true).unwrap();
        catalog.list()
    };
    let code = |dir: &PathBuf| std::fs::read_dir(dir.join("code")).unwrap().count();
    assert_eq!(code(&dir), 4, "machine code of each is kept");
    let catalog = PolicyCatalog::open(&dir).unwrap();
    assert_eq!(catalog.list(), before);
    let mut host = catalog.worker(WorkerOptions::default()).unwrap();
    assert_eq!(begun(&mut host, message("sip:x@a.example", "sip:y@b.example", "c")), 202);
    std::fs::remove_dir_all(&dir).unwrap();
}
