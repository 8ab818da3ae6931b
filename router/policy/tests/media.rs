//! A guest that asks how media stand, where the relay is on other machines: it is stopped, and runs
//! again with what they have told.
// What fails here is a fault of the test, and helpers may say so.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::sync::Arc;

use common::{Guest, RELAY, ask, host, manifest, run_with, settings};
use viaduct_engine::media::{
    CallView, Handled, Media, MediaFault, MediaFlags, MediaMessage, Order, Tags,
};
use viaduct_engine::{Fact, Now, Query, Run, Settings, Shared, Verdict};

/// Nodes that have every call.
struct Elsewhere;

impl Media for Elsewhere {
    fn handle(&self, _: Now, _: &Order, _: &MediaMessage<'_>) -> Result<Handled, MediaFault> {
        Ok(Handled::Done(None))
    }
    fn refused(&self, _: Now, _: Tags<'_>, _: Option<u32>) {}
    fn query(&self, _: Now, _: Tags<'_>) -> Option<CallView> {
        None
    }
    fn is_elsewhere(&self, _: Tags<'_>) -> bool {
        true
    }
    fn check(&self, _: &MediaFlags) -> Result<(), String> {
        Ok(())
    }
}

/// Logs the age of the call, one digit; `-` where there is none.
fn component() -> Vec<u8> {
    let on_request = format!(
        "(call $query (i32.const 16))
        (i32.store8 (i32.const 210) (i32.const 45))
        (if (i32.load8_u (i32.const 16)) (then
          (i32.store8 (i32.const 210) (i32.add (i32.const 48) (i32.load8_u (i32.const 24))))))
        (call $log (i32.const 2) (i32.const 210) (i32.const 1))
        {RELAY}"
    );
    let imports = r#"
      (import "viaduct:policy/log@1.0.0" "write" (func $log (param i32 i32 i32)))
      (import "viaduct:policy/media@1.0.0" "query" (func $query (param i32)))"#;
    let guest = Guest { imports, on_request: &on_request, ..Guest::default() };
    guest.build(&manifest("[grants]\nlog = true\nmedia = true"))
}

fn bye() -> Box<Run> {
    let shared = Shared { media: Some(Arc::new(Elsewhere)), ..Shared::default() };
    let settings = Settings { shared, ..(*settings()).clone() };
    run_with(
        Arc::new(settings),
        "BYE sip:bob@example.com SIP/2.0
Via: SIP/2.0/UDP 198.51.100.7:40000;branch=z9hG4bK9
Max-Forwards: 70
From: <sip:alice@example.com>;tag=a1
To: <sip:bob@example.com>;tag=b1
Call-ID: i1@alice
CSeq: 8 BYE
Content-Length: 0

",
    )
}

#[test]
fn the_run_ends_and_is_made_again_with_how_media_stand() {
    let mut policy = host(&component());
    let (run, verdict) = ask(&mut policy, bye());
    assert_eq!(verdict, Ok(Verdict::Ask { fallback: 500 }));
    assert!(run.effects.logs.is_empty());
    let Some(Query::MediaCall(dialog)) = run.asked() else { panic!("asked {:?}", run.asked()) };
    let dialog = Arc::clone(dialog);
    assert_eq!(dialog.tags(), Tags { call_id: b"i1@alice", from: b"a1", to: b"b1" });
    let call = CallView { age_s: 7, answered: true, streams: Vec::new() };
    for (told, logged) in [(Some(call), "7"), (None, "-")] {
        let mut again = bye();
        again.know(Fact::MediaCall(Arc::clone(&dialog), told));
        let (run, verdict) = ask(&mut policy, again);
        assert_eq!(verdict, Ok(Verdict::Relay));
        assert_eq!(run.effects.logs, [(2, logged.to_owned())]);
    }
}
