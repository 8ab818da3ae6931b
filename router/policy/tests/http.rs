//! A guest that sends HTTP requests: what it learns, whom it may ask, and that it runs again.
// What fails here is a fault of the test, and helpers may say so.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::sync::Arc;

use common::{Guest, RELAY, UNIX_MS, ask, host, invite, manifest, register, settings};
use viaduct_engine::http::{HttpFault, HttpMethod, HttpRequest, HttpResponse, HttpResult};
use viaduct_engine::{Fact, FailureKind, Phase, Policy as _, Query, Run, Verdict};
use viaduct_policy::record::{Case, Filter, RecordLimits, Replay, Session};
use viaduct_policy::{PolicyCatalog, PolicyHost, WorkerOptions};

const IMPORTS: &str = r#"
  (import "viaduct:policy/log@1.0.0" "write" (func $log (param i32 i32 i32)))
  (import "viaduct:policy/http@1.0.0" "send"
    (func $send (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)))"#;

/// A POST with one header and a body; logs the body of the response, or the number of the error.
fn body(url: &str) -> String {
    format!(
        "(call $send (i32.const 2) (i32.const 400) (i32.const {}) (i32.const 240) (i32.const 1)
          (i32.const 260) (i32.const 5) (i32.const 1) (i32.const 300) (i32.const 16))
        (if (i32.load8_u (i32.const 16))
          (then
            (i32.store8 (i32.const 210) (i32.add (i32.const 48) (i32.load8_u (i32.const 20))))
            (call $log (i32.const 2) (i32.const 210) (i32.const 1)))
          (else (call $log (i32.const 2) (i32.load (i32.const 32)) (i32.load (i32.const 36)))))
        {RELAY}",
        url.len()
    )
}

/// A header is two texts: `x-key` at 220, its value at 230.
fn data(url: &str) -> String {
    format!(
        r#"(data (i32.const 220) "x-key") (data (i32.const 230) "secret")
        (data (i32.const 240) "\dc\00\00\00\05\00\00\00\e6\00\00\00\06\00\00\00")
        (data (i32.const 260) "hello") (data (i32.const 400) "{}")"#,
        url.replace('\\', "\\5c")
    )
}

fn component(url: &str, grants: &str) -> Vec<u8> {
    let (on_request, rest) = (body(url), data(url));
    let guest =
        Guest { imports: IMPORTS, on_request: &on_request, rest: &rest, ..Guest::default() };
    guest.build(&manifest(&format!("[grants]\nlog = true\nhttp = [{grants}]")))
}

fn policy(url: &str, grants: &str) -> PolicyHost {
    host(&component(url, grants))
}

const URL: &str = "https://api.example.com/v1?q=1";
const GRANT: &str = "\"https://api.example.com\"";

fn logs(run: &Run) -> Vec<&str> {
    run.effects.logs.iter().map(|(_, text)| text.as_str()).collect()
}

fn asked(run: &Run) -> Arc<HttpRequest> {
    match run.asked() {
        Some(Query::Http(request)) => Arc::clone(request),
        other => panic!("asked {other:?}"),
    }
}

fn response(body: &str) -> HttpResult {
    let headers = [("content-type".into(), "text/plain".into())];
    let body = body.as_bytes().into();
    Ok(Arc::new(HttpResponse { status: 200, headers: headers.into(), body }))
}

/// What the guest logs where its request gets this.
fn told(result: HttpResult) -> Vec<String> {
    let mut policy = policy(URL, GRANT);
    let (run, verdict) = ask(&mut policy, invite());
    assert_eq!(verdict, Ok(Verdict::Ask { fallback: 500 }));
    let request = asked(&run);
    assert_eq!((request.method, &*request.url()), (HttpMethod::Post, URL));
    assert_eq!((&*request.body, request.timeout_ms), (&b"hello"[..], Some(300)));
    assert_eq!(request.headers[..], [("x-key".into(), "secret".into())]);
    let mut again = invite();
    again.know(Fact::Http(request, result));
    let (run, verdict) = ask(&mut policy, again);
    assert_eq!(verdict, Ok(Verdict::Relay));
    logs(&run).into_iter().map(str::to_owned).collect()
}

#[test]
fn the_run_ends_and_is_made_again_with_the_response() {
    assert_eq!(told(response("it is fine")), ["it is fine"]);
    for (fault, number) in
        [(HttpFault::TooLarge, "3"), (HttpFault::Timeout, "6"), (HttpFault::Busy, "8")]
    {
        assert_eq!(told(Err(fault)), [number], "{fault}");
    }
}

#[test]
fn who_is_not_granted_is_not_asked() {
    for url in [
        "http://api.example.com/v1",
        "https://api.example.com:8443/",
        "https://api.example.com.evil.example/",
        "https://evil.example/?https://api.example.com",
        "https://evil.example\\@api.example.com/",
    ] {
        let (run, verdict) = ask(&mut policy(url, GRANT), invite());
        let refused = "policy `guest`: http.send refused: not-granted";
        assert_eq!((verdict, logs(&run)), (Ok(Verdict::Relay), vec![refused, "2"]), "{url}");
    }
    for url in ["ftp://api.example.com/", "api.example.com", "https://a:b@api.example.com/", ""] {
        let (run, _) = ask(&mut policy(url, GRANT), invite());
        assert_eq!(logs(&run), ["0"], "{url}: invalid-syntax");
    }
    let mut both =
        policy("https://API.example.com:443/", "\"http://a.example\", \"https://api.example.com\"");
    assert!(matches!(ask(&mut both, invite()).1, Ok(Verdict::Ask { .. })));
}

#[test]
fn without_a_grant_it_is_refused_when_it_is_loaded() {
    let on_request = body(URL);
    let guest = Guest { imports: IMPORTS, on_request: &on_request, ..Guest::default() };
    let component = guest.build(&manifest("[grants]\nlog = true"));
    let error = PolicyCatalog::in_memory().unwrap().deploy(&component).unwrap_err().to_string();
    assert!(error.contains("does not grant `http`"), "{error}");
}

#[test]
fn a_phase_that_cannot_wait_is_refused_and_not_failed() {
    let on_branch = format!("{} (drop) (i32.const 0)", body(URL));
    let rest = data(URL);
    let guest = Guest { imports: IMPORTS, on_branch: &on_branch, rest: &rest, ..Guest::default() };
    let phases = "phases = [\"on-request\", \"on-branch\"]\n";
    let grants = format!("{phases}[grants]\nlog = true\nhttp = [{GRANT}]");
    let mut host = host(&guest.build(&manifest(&grants)));
    let version = host.current();
    let mut run = invite();
    run.set_phase(Phase::Branch);
    let (run, verdict) = host.decide(&version, Phase::Branch, run);
    assert_eq!(verdict, Ok(Verdict::Continue));
    assert_eq!(logs(&run), ["5"], "wrong-phase");
}

#[test]
fn a_response_is_recorded_and_replayed_without_asking() {
    let component = component(URL, GRANT);
    let catalog = PolicyCatalog::in_memory().unwrap();
    catalog.deploy(&component).unwrap();
    let mut host = catalog.worker(WorkerOptions::default()).unwrap();
    let limits = RecordLimits { cases: 9, waiting_bytes: 1 << 20, until_ms: UNIX_MS + 1000 };
    let filter = Filter { share: 1000, ..Filter::default() };
    let session = Arc::new(Session::new(filter, limits));
    catalog.record(Some(Arc::clone(&session)));
    for (run, result) in [(invite(), response("yes")), (register(), Err(HttpFault::Timeout))] {
        let (mut run, _) = ask(&mut host, run);
        let request = asked(&run);
        run.discard();
        run.know(Fact::Http(request, result));
        assert_eq!(ask(&mut host, run).1, Ok(Verdict::Relay));
    }
    let (lines, _) = session.take(UNIX_MS);
    let mut cases: Vec<Case> = lines.iter().map(|line| Case::parse(line).unwrap()).collect();
    assert_eq!(cases.len(), 2, "runs that ended to ask are not kept: {lines:#?}");
    assert!(!lines[0].contains("secret") && !lines[0].contains("hello"), "{}", lines[0]);
    assert_eq!(cases[0].http[0].url, URL);
    let settings = settings();
    let again = PolicyCatalog::in_memory().unwrap();
    again.deploy(&component).unwrap();
    let mut replay = Replay::new(again.worker(WorkerOptions::default()).unwrap(), &settings);
    for case in &cases {
        let again = replay.run(case).unwrap();
        assert!(again.same && !again.missing, "{again:?}");
    }
    cases[0].http[0].digest = Some("0000000000000000".to_owned());
    assert!(replay.run(&cases[0]).unwrap().missing, "another request");
    cases[0].http[0].digest = None;
    assert!(!replay.run(&cases[0]).unwrap().missing, "any request with that URL");
    cases[0].http[0].status = None;
    let error = replay.run(&cases[0]).unwrap_err().to_string();
    assert_eq!(error, "`` is no fault of HTTP");
}

#[test]
fn a_response_larger_than_the_guests_memory_ends_the_run() {
    // One page of 64 KiB, of which the heap begins at 4 KiB.
    let mut policy = policy(URL, GRANT);
    let (run, _) = ask(&mut policy, invite());
    let request = asked(&run);
    let mut again = invite();
    again.know(Fact::Http(request, response(&"a".repeat(65_536))));
    let (_, verdict) = ask(&mut policy, again);
    let failure = verdict.unwrap_err();
    assert!(matches!(failure.kind, FailureKind::Trap | FailureKind::Garbage), "{failure:?}");
}
