//! What a well-behaved policy sees and stages.
// What fails here is a fault of the test, and helpers may say so.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use common::{ANSWERED, Guest, RELAY, UNIX_MS, ask, host, invite, manifest, register, reply, run};
use viaduct_engine::run::HeaderEdit;
use viaduct_engine::{Phase, Policy, Run, Verdict};
use viaduct_policy::PolicyHost;

const LOG: &str = r#"(import "viaduct:policy/log@1.0.0" "write" (func $log (param i32 i32 i32)))"#;

/// A guest that runs `body` on a request and then relays; it may use `$log` and imports of its own.
fn guest(imports: &str, body: &str, rest: &str, manifest_rest: &str) -> PolicyHost {
    let imports = format!("{LOG} {imports}");
    let on_request = format!("{body} {RELAY}");
    let locals = "(local $n i32) (local $at i32)";
    let guest =
        Guest { imports: &imports, locals, on_request: &on_request, rest, ..Guest::default() };
    host(&guest.build(&manifest(manifest_rest)))
}

/// Log lines of a run that ends with `relay`.
fn logs(host: &mut PolicyHost, run: Box<Run>) -> Vec<String> {
    let (run, verdict) = ask(host, run);
    let version = host.current();
    assert_eq!(verdict, Ok(Verdict::Relay), "{:?}", version.last_failure());
    run.effects.logs.into_iter().map(|(_, text)| text).collect()
}

/// Logs the text whose address and length a host function has left at 16.
const LOG_TEXT: &str =
    "(call $log (i32.const 2) (i32.load (i32.const 16)) (i32.load (i32.const 20)))";
/// Logs the text of an `option<string>` at 16, or `none`.
const LOG_OPTION: &str = "(if (i32.load8_u (i32.const 16))
    (then (call $log (i32.const 2) (i32.load (i32.const 20)) (i32.load (i32.const 24))))
    (else (call $log (i32.const 2) (i32.const 3900) (i32.const 4))))";
const NONE: &str = r#"(data (i32.const 3900) "none")"#;

#[test]
fn every_phase_has_its_verdicts() {
    let not_found = reply(404, 200, 9);
    let all = "phases = [\"on-request\", \"on-branch\", \"on-reply\", \"on-failure\"]";
    let rest = r#"(data (i32.const 200) "Not found") (data (i32.const 220) "\03\00\00\00")"#;
    let guest = Guest {
        on_request: &not_found,
        on_branch: "(i32.const 1)",
        on_reply: "(i32.eq (local.get $status) (i32.const 180))",
        // retry for 486, else forward
        on_failure: "(i32.store8 (i32.const 0) (i32.eq (local.get $status) (i32.const 486)))
            (i32.const 0)",
        rest,
        ..Guest::default()
    };
    let mut host = host(&guest.build(&manifest(all)));
    let version = host.current();
    let mut ask = |phase, run| host.decide(&version, phase, run).1.unwrap();
    let refused = Verdict::Reply { status: 404, reason: "Not found".into() };
    assert_eq!(ask(Phase::Request, invite()), refused);
    assert_eq!(ask(Phase::Branch, invite()), Verdict::Drop);
    assert_eq!(ask(Phase::Reply, response(180)), Verdict::Drop);
    assert_eq!(ask(Phase::Reply, response(200)), Verdict::Continue);
    assert_eq!(ask(Phase::Failure, response(486)), Verdict::Relay);
    assert_eq!(ask(Phase::Failure, response(404)), Verdict::Continue);
}

fn response(status: u16) -> Box<Run> {
    run(&format!(
        "SIP/2.0 {status} Some Words
Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK2
From: <sip:alice@example.com>;tag=a1
To: <sip:bob@example.com>;tag=b1
Call-ID: i1@alice
CSeq: 7 INVITE
Content-Length: 0

"
    ))
}

#[test]
fn only_the_phases_of_the_manifest_are_asked_for() {
    let mut host = host(&Guest::default().build(&manifest("phases = [\"on-request\"]")));
    let version = host.current();
    assert!(Policy::wants(&host, &version, Phase::Request));
    for phase in [Phase::Branch, Phase::Reply, Phase::Failure] {
        assert!(!Policy::wants(&host, &version, phase));
    }
}

#[test]
fn the_facts_travel_with_the_call() {
    let body = format!(
        "(if (i32.ne (local.get $method) (i32.const 4)) (then unreachable))
         (if (i32.ne (local.get $transport) (i32.const 0)) (then unreachable))
         (if (i32.ne (local.get $port) (i32.const 40000)) (then unreachable))
         (if (i64.ne (local.get $now) (i64.const {UNIX_MS})) (then unreachable))
         (if (local.get $traits) (then unreachable))"
    );
    let mut host = guest("", &body, "", "[grants]\nlog = true");
    assert!(logs(&mut host, register()).is_empty());
    assert!(ask(&mut host, invite()).1.is_err());
}

#[test]
fn every_field_of_the_message_can_be_read() {
    let imports = r#"(import "viaduct:policy/message@1.0.0" "get" (func $get (param i32 i32)))"#;
    let body = format!(
        "(loop $l (call $get (local.get $n) (i32.const 16)) {LOG_TEXT}
           (local.set $n (i32.add (local.get $n) (i32.const 1)))
           (br_if $l (i32.lt_u (local.get $n) (i32.const 20))))"
    );
    let mut host = guest(imports, &body, "", "[grants]\nlog = true\nmessage = true");
    let wanted = [
        "INVITE",
        "sip:bob@example.com",
        "bob",
        "example.com",
        "sip:alice@example.com",
        "alice",
        "example.com",
        "a1",
        "sip:bob@example.com",
        "bob",
        "example.com",
        "",
        "i1@alice",
        "7 INVITE",
        "",
        "198.51.100.7",
        "192.0.2.1",
        "",
        "",
    ];
    // Field 19 does not exist in the contract: that run ends, the first 19 do not.
    assert!(ask(&mut host, invite()).1.is_err());
    let body = body.replace("(i32.const 20))))", "(i32.const 19))))");
    let mut host = guest(imports, &body, "", "[grants]\nlog = true\nmessage = true");
    assert_eq!(logs(&mut host, invite()), wanted);
    let of_response = logs(&mut host, response(180));
    assert_eq!(of_response[17..], ["180", "Some Words"]);
    assert_eq!(of_response[0], "INVITE");
}

#[test]
fn headers_are_found_in_any_case() {
    let imports = r#"
      (import "viaduct:policy/message@1.0.0" "header" (func $header (param i32 i32 i32)))
      (import "viaduct:policy/message@1.0.0" "headers" (func $headers (param i32 i32 i32)))"#;
    let rest = format!(r#"{NONE} (data (i32.const 200) "X-NOTE" "i" "X-None")"#);
    let body = format!(
        "(call $header (i32.const 200) (i32.const 6) (i32.const 16)) {LOG_OPTION}
         (call $header (i32.const 206) (i32.const 1) (i32.const 16)) {LOG_OPTION}
         (call $header (i32.const 207) (i32.const 6) (i32.const 16)) {LOG_OPTION}
         (call $headers (i32.const 200) (i32.const 6) (i32.const 16))
         (local.set $at (i32.load (i32.const 16)))
         (local.set $n (i32.load (i32.const 20)))
         (loop $l
           (call $log (i32.const 2) (i32.load (local.get $at))
             (i32.load offset=4 (local.get $at)))
           (local.set $at (i32.add (local.get $at) (i32.const 8)))
           (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))"
    );
    let mut host = guest(imports, &body, &rest, "[grants]\nlog = true\nmessage = true");
    assert_eq!(logs(&mut host, register()), ["one", "r1@alice", "none", "one", "two"]);
}

#[test]
fn edits_are_staged_and_the_routers_own_headers_are_refused() {
    let imports = r#"
      (import "viaduct:policy/message@1.0.0" "add-header" (func $add (param i32 i32 i32 i32 i32)))
      (import "viaduct:policy/routing@1.0.0" "record-route" (func $rr))
      (import "viaduct:policy/routing@1.0.0" "add-target"
        (func $target (param i32 i32 i32 i32)))
      (import "viaduct:policy/nat@1.0.0" "force-rport" (func $rport))
      (import "viaduct:policy/metrics@1.0.0" "add" (func $count (param i32 i32 i64)))"#;
    let rest = r#"(data (i32.const 200) "X-AViasip:a@192.0.2.9")"#;
    let body = "(call $rr) (call $rport)
        (call $count (i32.const 200) (i32.const 3) (i64.const 5))
        (call $target (i32.const 206) (i32.const 15) (i32.const 500) (i32.const 16))
        (if (i32.load8_u (i32.const 16)) (then unreachable))
        (call $add (i32.const 200) (i32.const 3) (i32.const 206) (i32.const 5) (i32.const 16))
        (if (i32.load8_u (i32.const 16)) (then unreachable))
        (call $add (i32.const 203) (i32.const 3) (i32.const 206) (i32.const 5) (i32.const 16))
        (if (i32.ne (i32.load16_u (i32.const 16)) (i32.const 0x0101)) (then unreachable))";
    let grants = "[grants]\nlog = true\nmessage = true\nrouting = true\nnat = true\nmetrics = true";
    let mut host = guest(imports, body, rest, grants);
    let (run, verdict) = ask(&mut host, invite());
    assert_eq!(verdict, Ok(Verdict::Relay));
    let effects = &run.effects;
    assert!(effects.record_route && effects.force_rport);
    // What was refused is told beside what the policy counts itself.
    let counters = [("X-A".to_owned(), 5), ("refused_forbidden".to_owned(), 1)];
    assert_eq!(effects.counters, counters);
    let line = "policy `guest`: message.add-header refused: forbidden".to_owned();
    assert_eq!(effects.logs, [(2, line)]);
    assert_eq!(effects.targets.len(), 1);
    assert_eq!(
        (&*effects.targets[0].uri, effects.targets[0].q_milli),
        (&b"sip:a@192.0.2.9"[..], 500)
    );
    let add = HeaderEdit::Add { name: (*b"X-A").into(), value: (*b"sip:a").into() };
    assert_eq!(effects.edits, [add]);
}

const SAVE: &str = r#"(import "viaduct:policy/usrloc@1.0.0" "save"
    (func $save (param i32 i32 i32 i32 i32 i32 i32 i32)))"#;
const SAVE_GRANTS: &str = "[grants]\nlog = true\nusrloc = { location = \"write\" }";

fn saving(flags: &str, verdict: &str) -> PolicyHost {
    let rest = format!(r#"(data (i32.const 200) "location{flags}")"#);
    let body = format!(
        "(call $save (i32.const 200) (i32.const 8) (i32.const 208) (i32.const {})
           (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 16))
         {verdict}",
        flags.len()
    );
    let imports = format!("{LOG} {SAVE}");
    let guest = Guest { imports: &imports, on_request: &body, rest: &rest, ..Guest::default() };
    host(&guest.build(&manifest(SAVE_GRANTS)))
}

#[test]
fn save_stages_the_commit_and_the_answer() {
    let code_1 = "(if (i32.load16_u (i32.const 16)) (then unreachable))
        (if (i32.load8_u (i32.const 20)) (then unreachable))";
    let mut host = saving("p1v", &format!("{code_1} {ANSWERED}"));
    for _ in 0..3 {
        let (run, verdict) = ask(&mut host, register());
        assert_eq!(verdict, Ok(Verdict::Answered), "{:?}", host.current().last_failure());
        assert_eq!(run.effects.answer.map(|answer| answer.status), Some(200));
        assert_eq!(run.effects.changes.len(), 1);
        assert_eq!(&*run.effects.changes[0].key.aor, b"alice@example.com");
    }
}

#[test]
fn flags_that_mean_nothing_are_an_error_of_the_contract() {
    // Err(bad-flags(text)): the text is at 24.
    let log = "(if (i32.ne (i32.load8_u (i32.const 16)) (i32.const 1)) (then unreachable))
        (if (i32.ne (i32.load8_u (i32.const 20)) (i32.const 1)) (then unreachable))
        (call $log (i32.const 2) (i32.load (i32.const 24)) (i32.load (i32.const 28)))";
    let mut host = saving("no-such-flag", &format!("{log} {RELAY}"));
    let said = logs(&mut host, register());
    assert_eq!(said, ["unknown flag `n`"]);
}

#[test]
fn lookup_and_bindings_read_the_granted_table() {
    let imports = r#"
      (import "viaduct:policy/usrloc@1.0.0" "lookup"
        (func $lookup (param i32 i32 i32 i32 i32 i32 i32 i32)))
      (import "viaduct:policy/usrloc@1.0.0" "bindings"
        (func $bindings (param i32 i32)))"#;
    // Table, AoR and a filter that fits all are too many for registers: they lie in memory.
    let rest = r#"(data (i32.const 200) "locationbob@example.com")
      (data (i32.const 600) "\c8\00\00\00\08\00\00\00\d0\00\00\00\0f\00\00\00")"#;
    let body = "(call $lookup (i32.const 200) (i32.const 8) (i32.const 0) (i32.const 0)
           (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 16))
         (if (i32.load8_u (i32.const 16)) (then unreachable))
         (if (i32.ne (i32.load (i32.const 20)) (i32.const 1)) (then unreachable))
         (call $bindings (i32.const 600) (i32.const 16))
         (if (i32.ne (i32.load (i32.const 20)) (i32.const 1)) (then unreachable))
         (local.set $at (i32.load (i32.const 16)))
         (call $log (i32.const 2) (i32.load (local.get $at)) (i32.load offset=4 (local.get $at)))
         (call $log (i32.const 2) (i32.load offset=8 (local.get $at))
           (i32.load offset=12 (local.get $at)))
         (if (i32.ne (i32.load offset=24 (local.get $at)) (i32.const 91)) (then unreachable))
         (if (i32.ne (i32.load16_u offset=28 (local.get $at)) (i32.const 1000))
           (then unreachable))";
    let grants = "[grants]\nlog = true\nusrloc = { location = \"read\" }";
    let mut host = guest(imports, body, rest, grants);
    let (run, verdict) = ask(&mut host, invite());
    assert_eq!(verdict, Ok(Verdict::Relay), "{:?}", host.current().last_failure());
    let target = &run.effects.targets[0];
    assert_eq!(&*target.uri, b"sip:bob@192.0.2.4");
    assert_eq!(&*target.route, b"<sip:p1.example.com;lr>");
    let lines: Vec<_> = run.effects.logs.iter().map(|(_, text)| text.as_str()).collect();
    assert_eq!(lines, ["sip:bob@192.0.2.4", "<sip:p1.example.com;lr>"]);
}

#[test]
fn settings_and_variables() {
    let imports = r#"
      (import "viaduct:policy/settings@1.0.0" "get" (func $setting (param i32 i32 i32)))
      (import "viaduct:policy/vars@1.0.0" "get" (func $var (param i32 i32 i32)))
      (import "viaduct:policy/vars@1.0.0" "set"
        (func $set (param i32 i32 i32 i32 i32 i32)))"#;
    let rest = format!(r#"{NONE} (data (i32.const 200) "moden")"#);
    let body = format!(
        "(call $setting (i32.const 200) (i32.const 4) (i32.const 16)) {LOG_OPTION}
         (call $setting (i32.const 200) (i32.const 3) (i32.const 16)) {LOG_OPTION}
         (call $var (i32.const 204) (i32.const 1) (i32.const 16)) {LOG_OPTION}
         (call $set (i32.const 204) (i32.const 1) (i32.const 1) (i32.const 200) (i32.const 4)
           (i32.const 16))
         (call $var (i32.const 204) (i32.const 1) (i32.const 16)) {LOG_OPTION}"
    );
    let grants =
        "[grants]\nlog = true\nsettings = true\nvars = true\n[settings]\nmode = \"strict\"";
    let mut host = guest(imports, &body, &rest, grants);
    assert_eq!(logs(&mut host, invite()), ["strict", "none", "none", "mode"]);
    assert_eq!(logs(&mut host, invite()), ["strict", "none", "none", "mode"], "runs share nothing");
}

#[test]
fn an_instance_is_reused_until_it_has_served_its_time() {
    let bytes = Guest::default().build(&manifest(""));
    let catalog = viaduct_policy::PolicyCatalog::in_memory().unwrap();
    catalog.deploy(&bytes).unwrap();
    let options = viaduct_policy::WorkerOptions { worker: 3, max_runs: 10 };
    let mut host = catalog.worker(options).unwrap();
    for _ in 0..30 {
        assert_eq!(ask(&mut host, invite()).1, Ok(Verdict::Relay));
    }
    let counts = host.current().counts();
    assert_eq!((counts.runs, counts.instances), (30, 3));
}

#[test]
fn an_instance_whose_memory_has_grown_is_thrown_away() {
    // 16 pages are allowed; 5 more each time: 6, 11, 16.
    let limits = "[limits]\nmemory_bytes = 1_048_576\n[grants]\nlog = true";
    let mut host = guest("", "(drop (memory.grow (i32.const 5)))", "", limits);
    for _ in 0..6 {
        assert_eq!(ask(&mut host, invite()).1, Ok(Verdict::Relay));
    }
    assert_eq!(host.current().counts().instances, 2);
}

#[test]
fn isolation_by_message_gives_each_run_a_fresh_instance() {
    let counting = "(global $runs (mut i32) (i32.const 0))";
    let body = "(global.set $runs (i32.add (global.get $runs) (i32.const 1)))
        (if (i32.ne (global.get $runs) (i32.const 1)) (then unreachable))";
    let grants = "isolation = \"message\"\n[grants]\nlog = true";
    let mut host = guest("", body, counting, grants);
    for _ in 0..5 {
        assert_eq!(ask(&mut host, invite()).1, Ok(Verdict::Relay));
    }
    assert_eq!(host.current().counts().instances, 5);
}
