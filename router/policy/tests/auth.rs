//! A guest that asks who sends a request: what it learns, and what stops it.
// What fails here is a fault of the test, and helpers may say so.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::sync::Arc;

use common::{Guest, UNIX_MS, ask, host, manifest, run_with, settings};
use viaduct_engine::auth::digest::{Claim, response};
use viaduct_engine::auth::nonce::Nonce;
use viaduct_engine::auth::{Account, Algorithm, Auth, Credentials, Known, Replay, Secrets};
use viaduct_engine::{Policy as _, Query, Run, Settings, Verdict};
use viaduct_policy::PolicyHost;

const IMPORTS: &str = r#"
  (import "viaduct:policy/log@1.0.0" "write" (func $log (param i32 i32 i32)))
  (import "viaduct:policy/vars@1.0.0" "set"
    (func $set (param i32 i32 i32 i32 i32 i32)))
  (import "viaduct:policy/auth@1.0.0" "check" (func $check (param i32 i32 i32 i32 i32)))
  (import "viaduct:policy/auth@1.0.0" "challenge"
    (func $challenge (param i32 i32 i32 i32 i32 i32)))"#;

/// Sets a variable, checks as a registrar, logs the user; without one, challenges.
const CHECK: &str = r#"
  (call $set
    (i32.const 220) (i32.const 3) (i32.const 1) (i32.const 220) (i32.const 3) (i32.const 16))
  (call $check (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 16))
  (if (i32.load8_u (i32.const 16))
    (then
      (i32.store8 (i32.const 210) (i32.add (i32.const 48) (i32.load8_u (i32.const 20))))
      (call $log (i32.const 2) (i32.const 210) (i32.const 1))
      (call $challenge (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
        (i32.eq (i32.load8_u (i32.const 20)) (i32.const 2)) (i32.const 40)))
    (else (call $log (i32.const 2) (i32.load (i32.const 20)) (i32.load (i32.const 24)))))"#;

/// `relay` where the check has found a user, `answered` where it has not.
const VERDICT: &str = "(block (result i32)
  (i32.store8 (i32.const 0) (i32.shl (i32.load8_u (i32.const 16)) (i32.const 1)))
  (i32.const 0))";

fn policy(manifest_rest: &str) -> PolicyHost {
    let on_request = format!("{CHECK} {VERDICT}");
    let rest = r#"(data (i32.const 220) "was")"#;
    let guest = Guest { imports: IMPORTS, on_request: &on_request, rest, ..Guest::default() };
    let grants = "[grants]\nlog = true\nvars = true\nauth = true";
    host(&guest.build(&manifest(&format!("{manifest_rest}{grants}"))))
}

/// Alice is in memory or not.
struct Memory(bool);

impl Credentials for Memory {
    fn get(&self, account: &Account, _: u64) -> Known {
        assert_eq!((&*account.user, &*account.realm), ("alice", "example.com"));
        match self.0 {
            true => Known::User(Arc::new(secrets())),
            false => Known::NotInMemory,
        }
    }
}

fn secrets() -> Secrets {
    Secrets::of_password("alice", "example.com", "secret")
}

fn with_auth(known: bool) -> Arc<Settings> {
    let auth = Auth {
        realm: None,
        algorithms: Algorithm::ALL.to_vec(),
        auth_int: false,
        info: false,
        nonce_life_ms: 1000,
        replay: Arc::new(Replay::new(10, UNIX_MS - 10, 1)),
        credentials: Arc::new(Memory(known)),
    };
    Arc::new(Settings { auth: Some(auth), ..(*settings()).clone() })
}

fn register(settings: &Arc<Settings>, password: &str) -> Box<Run> {
    let nonce = Nonce { issued_ms: UNIX_MS - 5, number: 7 };
    let nonce = nonce.write("example.com", &settings.path_keys).unwrap();
    let nonce = std::str::from_utf8(&nonce).unwrap();
    let claim = Claim {
        method: b"REGISTER",
        uri: b"sip:example.com",
        nonce: nonce.as_bytes(),
        counted: None,
        body: b"",
    };
    let secrets = Secrets::of_password("alice", "example.com", password);
    let hash = response(&secrets.get(Algorithm::Md5).unwrap(), &claim).to_hex();
    let hash = std::str::from_utf8(hash.as_ref()).unwrap();
    let message = format!(
        "REGISTER sip:example.com SIP/2.0
Via: SIP/2.0/UDP 198.51.100.7:40000;branch=z9hG4bK1;rport
From: <sip:alice@example.com>;tag=1
To: <sip:alice@example.com>
Call-ID: r1@alice
CSeq: 1 REGISTER
Authorization: Digest username=\"alice\", realm=\"example.com\", nonce=\"{nonce}\", \
uri=\"sip:example.com\", response=\"{hash}\"

"
    );
    run_with(Arc::clone(settings), &message)
}

fn logs(run: &Run) -> Vec<&str> {
    run.effects.logs.iter().map(|(_, text)| text.as_str()).collect()
}

#[test]
fn a_guest_learns_the_user_and_nothing_but_one_word_without_one() {
    let mut host = policy("");
    let settings = with_auth(true);
    let (run, verdict) = ask(&mut host, register(&settings, "secret"));
    assert_eq!(logs(&run), ["alice"], "{verdict:?}");
    let (run, verdict) = ask(&mut host, register(&settings, "wrong"));
    assert_eq!(verdict, Ok(Verdict::Answered));
    assert_eq!(logs(&run), ["3"], "invalid");
    assert_eq!(run.effects.answer.as_ref().unwrap().status, 401);
    // Off: there is nothing to challenge with, so nothing is answered.
    let (_, verdict) = ask(&mut host, register(&common::settings(), "secret"));
    assert!(verdict.is_err());
}

#[test]
fn what_is_not_in_memory_stops_the_guest_and_leaves_nothing_behind() {
    for (fallback, status) in [("500", 500), ("503", 503), ("previous version", 503)] {
        let mut host = policy(&format!("fallback = \"{fallback}\"\n"));
        let (mut run, verdict) = ask(&mut host, register(&with_auth(false), "secret"));
        assert_eq!(verdict, Ok(Verdict::Ask { fallback: status }));
        let account = Account { realm: "example.com".into(), user: "alice".into() };
        assert_eq!(run.asked(), Some(&Query::Credentials(account)));
        assert_eq!(run.var("was"), None);
        assert!(run.effects.logs.is_empty());
        run.discard();
        let counts = host.current().counts();
        assert_eq!((counts.runs, counts.failures()), (1, 0), "a question is no failure");
        // The guest that was stopped is not entered again.
        let (run, _) = ask(&mut host, register(&with_auth(true), "secret"));
        assert_eq!(logs(&run), ["alice"]);
        assert_eq!(host.current().counts().instances, 2);
    }
}
