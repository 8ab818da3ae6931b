//! A policy cannot hurt the router: whatever a guest does, its run ends within its limits, with
//! its kind, and the next message is served.
// What fails here is a fault of the test, and helpers may say so.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use common::{ANSWERED, Guest, RELAY, ask, host, invite, manifest, register, reply};
use viaduct_engine::{FailureKind, Policy, PolicyFailure, Verdict};
use viaduct_policy::PolicyHost;

/// Misbehaves on an INVITE (method 0) and relays all else.
fn on_invite(body: &str) -> String {
    format!("(if (i32.eqz (local.get $method)) (then {body})) {RELAY}")
}

fn misbehaving(body: &str, imports: &str, rest: &str, manifest_rest: &str) -> PolicyHost {
    let on_request = on_invite(body);
    let guest = Guest { imports, on_request: &on_request, rest, ..Guest::default() };
    host(&guest.build(&manifest(manifest_rest)))
}

/// The INVITE fails with that kind, without effects, and a REGISTER before and after is served.
fn ends_as(host: &mut PolicyHost, kind: FailureKind) {
    for _ in 0..3 {
        let (_, verdict) = ask(host, register());
        assert_eq!(verdict, Ok(Verdict::Relay));
        let (run, verdict) = ask(host, invite());
        assert_eq!(verdict, Err(PolicyFailure { kind, status: 503 }));
        assert!(!run.effects.record_route && run.effects.logs.is_empty());
        assert!(run.effects.targets.is_empty() && run.effects.answer.is_none());
    }
    let (_, verdict) = ask(host, register());
    assert_eq!(verdict, Ok(Verdict::Relay));
}

const FALLBACK: &str = "fallback = \"503\"\n";

#[test]
fn a_loop_without_end_runs_out_of_fuel() {
    let mut host = misbehaving("(loop $l (br $l))", "", "", FALLBACK);
    ends_as(&mut host, FailureKind::Fuel);
}

#[test]
fn with_fuel_for_long_the_wall_clock_ends_the_loop() {
    let limits = format!("{FALLBACK}[limits]\nfuel = 100_000_000\nwall_ms = 1");
    // Divisions are slow, so that all this fuel lasts longer than the clock allows.
    let slow = "(loop $l (global.set $x (i64.div_u (i64.const -1) (global.get $x)))
        (global.set $x (i64.div_u (i64.const -1) (global.get $x)))
        (global.set $x (i64.div_u (i64.const -1) (global.get $x)))
        (br $l))";
    let rest = "(global $x (mut i64) (i64.const 3))";
    let mut host = misbehaving(slow, "", rest, &limits);
    ends_as(&mut host, FailureKind::Time);
}

#[test]
fn a_trap_leaves_nothing_behind() {
    let imports = r#"(import "viaduct:policy/routing@1.0.0" "record-route" (func $rr))
        (import "viaduct:policy/vars@1.0.0" "set" (func $set (param i32 i32 i32 i32 i32 i32)))"#;
    let body = "(call $rr)
        (call $set (i32.const 200) (i32.const 1) (i32.const 1) (i32.const 201) (i32.const 1)
          (i32.const 32))
        (call $set (i32.const 202) (i32.const 1) (i32.const 1) (i32.const 201) (i32.const 1)
          (i32.const 32))
        (unreachable)";
    let rest = r#"(data (i32.const 200) "abc")"#;
    let grants = format!("{FALLBACK}[grants]\nrouting = true\nvars = true");
    let mut host = misbehaving(body, imports, rest, &grants);
    ends_as(&mut host, FailureKind::Trap);
    let mut run = invite();
    run.set_var("a", Some("kept")).unwrap();
    let (run, verdict) = ask(&mut host, run);
    assert!(verdict.is_err());
    assert_eq!((run.var("a"), run.var("c")), (Some("kept"), None));
}

#[test]
fn memory_ends_at_its_limit() {
    let limits = format!("{FALLBACK}[limits]\nmemory_bytes = 1_048_576");
    let grow = "(loop $l (drop (memory.grow (i32.const 1))) (br $l))";
    let mut host = misbehaving(grow, "", "", &limits);
    ends_as(&mut host, FailureKind::Memory);
}

#[test]
fn endless_recursion_is_a_trap() {
    let rest = "(func $deep (param i32) (result i32)
        (i32.add (call $deep (i32.add (local.get 0) (i32.const 1))) (i32.const 1)))";
    let mut host = misbehaving("(drop (call $deep (i32.const 0)))", "", rest, FALLBACK);
    ends_as(&mut host, FailureKind::Trap);
}

#[test]
fn a_division_by_zero_and_an_access_out_of_bounds_are_traps() {
    for body in [
        "(drop (i32.div_u (i32.const 1) (i32.const 0)))",
        "(drop (i32.load (i32.const -4)))",
        "(call_indirect (type $t) (i32.const 9))",
    ] {
        let rest = "(type $t (func)) (table 1 funcref)";
        let mut host = misbehaving(body, "", rest, FALLBACK);
        ends_as(&mut host, FailureKind::Trap);
    }
}

#[test]
fn a_verdict_that_is_none_is_garbage() {
    let long_reason = reply(404, 4096, 129);
    let cases = [
        ("no such verdict", "(i32.const 300)"),
        ("outside memory", "(i32.const 65532)"),
        ("far outside memory", "(i32.const -16)"),
        ("not aligned", "(i32.const 301)"),
        ("status 199", &reply(199, 0, 0)),
        ("status 700", &reply(700, 0, 0)),
        ("reason with line break", &reply(404, 200, 4)),
        ("reason outside memory", &reply(404, -4, 10)),
        ("reason of all memory", &reply(404, 0, -1)),
        ("reason of 100 MB", &reply(404, 0, 100 << 20)),
        ("reason that is no UTF-8", &reply(404, 204, 2)),
        ("reason too long", &long_reason),
        ("nothing was staged", ANSWERED),
    ];
    let rest = r#"(data (i32.const 200) "a\0d\0ab\ff\fe") (data (i32.const 300) "\09")
        (func $unused)"#;
    for (name, address) in cases {
        let body = format!("(return {address})");
        let mut host = misbehaving(&body, "", rest, FALLBACK);
        let (_, verdict) = ask(&mut host, invite());
        let kind = verdict.expect_err(name).kind;
        assert_eq!(kind, FailureKind::Garbage, "{name}");
        ends_as(&mut host, FailureKind::Garbage);
    }
}

const LOG: &str = r#"(import "viaduct:policy/log@1.0.0" "write" (func $log (param i32 i32 i32)))"#;
const LOG_GRANT: &str = "fallback = \"503\"\n[grants]\nlog = true\n";

#[test]
fn a_text_over_64_kib_ends_the_run() {
    let body = "(call $log (i32.const 2) (i32.const 0) (i32.const 65537))";
    let grow = "(drop (memory.grow (i32.const 8)))";
    let mut host = misbehaving(&format!("{grow} {body}"), LOG, "", LOG_GRANT);
    ends_as(&mut host, FailureKind::Trap);
}

#[test]
fn a_text_longer_than_all_memory_or_no_text_at_all_ends_the_run() {
    for (at, bytes) in [(0, -1), (0, 100 << 20), (-1, 1), (65530, 100)] {
        let body = format!("(call $log (i32.const 2) (i32.const {at}) (i32.const {bytes}))");
        let mut host = misbehaving(&body, LOG, "", LOG_GRANT);
        let (_, verdict) = ask(&mut host, invite());
        assert!(verdict.is_err(), "{at} {bytes}");
        let (_, verdict) = ask(&mut host, register());
        assert_eq!(verdict, Ok(Verdict::Relay));
    }
}

#[test]
fn a_level_that_is_none_ends_the_run() {
    let body = "(call $log (i32.const 77) (i32.const 0) (i32.const 1))";
    let mut host = misbehaving(body, LOG, "", LOG_GRANT);
    ends_as(&mut host, FailureKind::Garbage);
}

#[test]
fn a_flood_of_host_calls_ends_after_a_thousand() {
    let body = "(loop $l (call $log (i32.const 2) (i32.const 0) (i32.const 1)) (br $l))";
    let mut host = misbehaving(body, LOG, "", LOG_GRANT);
    ends_as(&mut host, FailureKind::Trap);
    let version = host.current();
    assert!(version.last_failure().unwrap().contains("more than 1000 host calls"));
    let exactly = "(local.set $n (i32.const 1000))
        (loop $l (call $log (i32.const 2) (i32.const 0) (i32.const 1))
          (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))";
    let on_request = format!("{exactly} {RELAY}");
    let locals = "(local $n i32)";
    let guest = Guest { imports: LOG, locals, on_request: &on_request, ..Guest::default() };
    let mut host = self::host(&guest.build(&manifest(LOG_GRANT)));
    assert_eq!(ask(&mut host, invite()).1, Ok(Verdict::Relay));
}

#[test]
fn a_table_that_is_not_granted_ends_the_run_by_name() {
    let imports = r#"(import "viaduct:policy/usrloc@1.0.0" "remove"
        (func $remove (param i32) (result i32)))
      (import "viaduct:policy/usrloc@1.0.0" "is-registered"
        (func $is (param i32) (result i32)))"#;
    // Table, AoR and a filter that fits all are too many for registers: they lie in memory.
    let rest = r#"(data (i32.const 200) "locationotherbob@example.com")
      (data (i32.const 600) "\c8\00\00\00\08\00\00\00\d5\00\00\00\0f\00\00\00")
      (data (i32.const 700) "\d0\00\00\00\05\00\00\00\d5\00\00\00\0f\00\00\00")"#;
    let grants = "fallback = \"503\"\n[grants]\nusrloc = { location = \"read\" }\n";
    let remove = "(drop (call $remove (i32.const 600)))";
    let mut host = misbehaving(remove, imports, rest, grants);
    ends_as(&mut host, FailureKind::Trap);
    let version = host.current();
    let failure = version.last_failure().unwrap();
    let wanted = "not-granted: policy `guest` may not write `location` of `usrloc`";
    assert!(failure.contains(wanted), "{failure}");

    let other = "(drop (call $is (i32.const 700)))";
    let mut host = misbehaving(other, imports, rest, grants);
    ends_as(&mut host, FailureKind::Trap);
    let granted = "(drop (call $is (i32.const 600)))";
    let mut host = misbehaving(granted, imports, rest, grants);
    assert_eq!(ask(&mut host, invite()).1, Ok(Verdict::Relay));
}

#[test]
fn a_guard_needs_both_its_tables() {
    let imports = r#"(import "viaduct:policy/table@1.0.0" "guard"
        (func $guard (param i32 i32 i32 i32 i32 i32 i32 i32)))"#;
    let texts = r#"(data (i32.const 200) "hitsbanned")"#;
    let guard = "(call $guard (i32.const 200) (i32.const 4) (i32.const 204) (i32.const 6)
        (i32.const 32) (i32.const 1) (i32.const 300) (i32.const 400))";
    let grants = |tables: &str| format!("fallback = \"503\"\n[grants]\ntable = {{ {tables} }}\n");
    for (granted, missing) in [("hits", "banned"), ("banned", "hits")] {
        let grants = grants(&format!("{granted} = \"write\", {missing} = \"read\""));
        let mut host = misbehaving(guard, imports, texts, &grants);
        ends_as(&mut host, FailureKind::Trap);
        let failure = host.current().last_failure().unwrap();
        let wanted = format!("may not write `{missing}` of `table`");
        assert!(failure.contains(&wanted), "{failure}");
    }
    let grants = grants("hits = \"write\", banned = \"write\"");
    let mut host = misbehaving(guard, imports, texts, &grants);
    assert_eq!(ask(&mut host, invite()).1, Ok(Verdict::Relay));
}

#[test]
fn failures_are_counted_by_kind() {
    let mut host = misbehaving("(unreachable)", "", "", FALLBACK);
    ends_as(&mut host, FailureKind::Trap);
    let counts = host.current().counts();
    assert_eq!((counts.runs, counts.traps, counts.failures()), (7, 3, 3));
    // One at the start, one after each trap.
    assert_eq!(counts.instances, 4);
}

#[test]
fn without_a_free_instance_a_run_is_unavailable_and_the_next_may_succeed() {
    let catalog = viaduct_policy::PolicyCatalog::in_memory().unwrap();
    catalog.deploy(&Guest::default().build(&manifest(FALLBACK))).unwrap();
    let mut hosts = Vec::new();
    for worker in 0..viaduct_policy::sandbox::MAX_INSTANCES as usize {
        let options = viaduct_policy::WorkerOptions { worker, ..Default::default() };
        let mut host = catalog.worker(options).unwrap();
        assert_eq!(ask(&mut host, invite()).1, Ok(Verdict::Relay));
        hosts.push(host);
    }
    let mut late = catalog.worker(viaduct_policy::WorkerOptions::default()).unwrap();
    let failure = PolicyFailure { kind: FailureKind::Unavailable, status: 503 };
    assert_eq!(ask(&mut late, invite()).1, Err(failure));
    hosts.pop();
    assert_eq!(ask(&mut late, invite()).1, Ok(Verdict::Relay));
}

#[test]
fn growth_to_four_gigabytes_ends_at_the_limit() {
    let grow = "(drop (memory.grow (i32.const 65534)))";
    let mut host = misbehaving(grow, "", "", FALLBACK);
    ends_as(&mut host, FailureKind::Memory);
}

#[test]
fn a_core_table_that_is_grown_without_end_is_stopped() {
    let rest = "(table $t 1 funcref)";
    let grow = "(loop $l (drop (table.grow $t (ref.null func) (i32.const 4096))) (br $l))";
    let mut host = misbehaving(grow, "", rest, FALLBACK);
    ends_as(&mut host, FailureKind::Memory);
}

#[test]
fn a_module_of_500_megabytes_is_refused_by_its_size() {
    let huge = vec![0u8; 500 << 20];
    let catalog = viaduct_policy::PolicyCatalog::in_memory().unwrap();
    let refusal = catalog.deploy(&huge).err().unwrap().to_string();
    assert!(refusal.contains("524288000 bytes; a policy may have"), "{refusal}");
}

/// A flood of writes to a shared table: the run's own bound holds, and so does the table's.
#[test]
fn a_flood_of_table_writes_ends_at_the_bounds() {
    let imports = r#"(import "viaduct:policy/table@1.0.0" "add"
        (func $add (param i32 i32 i32 i32 i64 i32 i32)))"#;
    let body = format!(
        "(local.set $n (i32.const 900))
        (loop $l
          (i32.store8 (i32.const 201) (i32.and (local.get $n) (i32.const 127)))
          (call $add (i32.const 200) (i32.const 1) (i32.const 201) (i32.const 1)
            (i64.const 1) (i32.const 60) (i32.const 16))
          (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
        {RELAY}"
    );
    let rest = r#"(data (i32.const 200) "t")"#;
    let locals = "(local $n i32)";
    let guest = Guest { imports, locals, on_request: &body, rest, ..Guest::default() };
    let mut host = host(&guest.build(&manifest("[grants]\ntable = { t = \"write\" }")));
    let (run, verdict) = ask(&mut host, invite());
    assert_eq!(verdict, Ok(Verdict::Relay));
    assert_eq!(run.effects.tables.len(), 32);
}
