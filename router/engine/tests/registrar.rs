//! REGISTER through the engine: staging, commit, refusal, Path on the way out and back.

// A test stops at what it did not expect.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod world;

use std::sync::{Arc, Mutex};

use viaduct_engine::registrar::{LookupFlags, SaveFlags};
use viaduct_engine::run::{AddPathMode, EditFault};
use viaduct_engine::{
    CommitFault, FailureKind, Input, Phase, PolicyFailure, Run, Transport, Verdict,
};
use viaduct_message::Method;
use world::{ALICE, BOB, World, request, settings};

/// Registrar and home proxy in a closure.
fn home(flags: &'static str) -> World {
    World::new(move |_, run: &mut Run| {
        if run.method() == Method::Register {
            let flags = SaveFlags::parse(flags).unwrap();
            let _ = run.save("location", &flags, None);
            return Ok(Verdict::Answered);
        }
        match run.lookup("location", &LookupFlags::default(), None) {
            Ok(_) => Ok(Verdict::Relay),
            Err(_) => Ok(Verdict::Reply { status: 480, reason: "".into() }),
        }
    })
}

fn register(cseq: u32, extra: &str) -> String {
    request("REGISTER", "sip:example.com", ALICE, &format!("reg{cseq}"), extra)
        .replace("To: <sip:bob@example.com>", "To: <sip:alice@example.com>")
        .replace(&format!("Call-ID: call-reg{cseq}"), "Call-ID: same")
        .replace("CSeq: 1 ", &format!("CSeq: {cseq} "))
}

#[test]
fn an_older_register_does_not_slip_in_while_the_removal_is_being_stored() {
    let mut world = home("p1");
    world.held_commits = Some(Vec::new());
    let removal = register(2, &format!("{CONTACT}Expires: 0\r\n"));
    assert!(world.udp(ALICE, &removal).is_empty(), "not before the commit");
    let sent = world.udp(ALICE, &register(1, CONTACT));
    assert_eq!((sent[0].status(), sent.len()), (400, 1), "{}", sent[0].text);
    let held = world.held_commits.take().unwrap();
    assert_eq!(held.len(), 1, "the older one has nothing to store");
    for (token, changes) in held {
        world.apply(changes);
        assert_eq!(world.input(Input::Committed { token, result: Ok(()) })[0].status(), 200);
    }
    assert!(world.contacts("alice@example.com").is_empty());
}

const CONTACT: &str = "Contact: <sip:alice@192.0.2.11:5062>\r\n";

#[test]
fn rfc_3261_10_3_a_register_is_answered_after_its_commit_with_all_bindings() {
    let mut world = home("p1");
    world.held_commits = Some(Vec::new());
    assert!(world.udp(ALICE, &register(1, CONTACT)).is_empty(), "not before the commit");
    assert!(world.udp(ALICE, &register(1, CONTACT)).is_empty(), "a retransmission waits too");
    let (token, changes) = world.held_commits.take().unwrap().remove(0);
    world.apply(changes);
    let sent = world.input(Input::Committed { token, result: Ok(()) });
    assert_eq!(sent[0].status(), 200);
    assert!(sent[0].header("Contact").contains("sip:alice@192.0.2.11:5062"), "{}", sent[0].text);
    assert!(sent[0].header("Contact").contains("expires=3600"));
    assert_eq!(world.contacts("alice@example.com"), ["sip:alice@192.0.2.11:5062"]);
    assert_eq!(world.engine.transactions(), 0, "nothing is kept for an answered REGISTER");
    let again = world.udp(ALICE, &register(1, CONTACT));
    assert_eq!(again[0].status(), 200, "a retransmission after it is decided alike");
}

#[test]
fn rfc_3261_10_3_an_old_register_held_up_on_its_way_does_not_undo_a_removal() {
    let mut world = home("p1");
    world.udp(ALICE, &register(8, CONTACT));
    let refresh = register(9, CONTACT);
    world.udp(ALICE, &refresh);
    let removal = register(10, "Contact: *\r\nExpires: 0\r\n");
    assert_eq!(world.udp(ALICE, &removal)[0].status(), 200);
    let sent = world.udp(ALICE, &refresh);
    assert_eq!((sent[0].status(), world.contacts("alice@example.com").len()), (400, 0));
    assert_eq!(world.udp(ALICE, &removal)[0].status(), 200, "sent again, it is no older one");
    assert_eq!(world.udp(ALICE, &register(11, CONTACT))[0].status(), 200, "the phone is back");
    world.advance(40_000); // no copy of the old one is on its way any more
    world.udp(ALICE, &register(12, "Contact: *\r\nExpires: 0\r\n"));
    world.advance(40_000);
    assert_eq!(world.udp(ALICE, &register(1, CONTACT))[0].status(), 200, "a phone that restarts");
}

#[test]
fn a_store_that_fails_gives_503_with_retry_after_and_no_binding() {
    let mut world = home("p1");
    world.commit_fault = Some(CommitFault::Store);
    let sent = world.udp(ALICE, &register(1, CONTACT));
    assert_eq!(sent[0].status(), 503);
    assert!(!sent[0].header("Retry-After").is_empty());
    assert!(world.contacts("alice@example.com").is_empty());
}

#[test]
fn r_g1_a_register_that_lost_a_race_is_decided_again() {
    let mut world = home("p1");
    world.held_commits = Some(Vec::new());
    world.udp(ALICE, &register(1, CONTACT));
    let (token, _) = world.held_commits.as_mut().unwrap().remove(0);
    let sent = world.input(Input::Committed { token, result: Err(CommitFault::Conflict) });
    assert!(sent.is_empty());
    let (token, changes) = world.held_commits.take().unwrap().remove(0);
    world.apply(changes);
    let sent = world.input(Input::Committed { token, result: Ok(()) });
    assert_eq!(sent[0].status(), 200);
}

#[test]
fn a_removal_of_what_memory_does_not_know_is_answered_by_the_store() {
    let mut world = home("p1");
    world.held_commits = Some(Vec::new());
    for (cseq, gone) in [(1, "*"), (2, "<sip:alice@192.0.2.11:5062>")] {
        let removal = register(cseq, &format!("Contact: {gone}\r\nExpires: 0\r\n"));
        assert!(world.udp(ALICE, &removal).is_empty(), "not before the commit");
        let (token, changes) = world.held_commits.as_mut().unwrap().remove(0);
        assert!(changes[0].set.is_empty());
        let sent = world.input(Input::Committed { token, result: Ok(()) });
        assert_eq!(sent[0].status(), 200);
    }
}

#[test]
fn r_p11_strict_refuses_before_storing() {
    let mut world = home("p2");
    let path = format!("{CONTACT}Path: <sip:p1.example.net;lr>\r\n");
    let sent = world.udp(ALICE, &register(1, &path));
    assert_eq!(sent[0].status(), 420);
    assert_eq!(sent[0].header("Unsupported"), "path");
    assert!(sent[0].headers("Path").is_empty());
    assert!(world.contacts("alice@example.com").is_empty());
    let supported = format!("{path}Supported: gruu\r\nSupported: path\r\n");
    let sent = world.udp(ALICE, &register(2, &supported));
    assert_eq!(sent[0].status(), 200);
    assert_eq!(sent[0].header("Path"), "<sip:p1.example.net;lr>");
}

#[test]
fn rfc_3327_5_4_a_lookup_routes_by_the_stored_path() {
    let mut world = home("p1");
    let path = format!("{CONTACT}Path: <sip:192.0.2.12:5064;lr>, <sip:p1.example.net;lr>\r\n");
    world.udp(ALICE, &register(1, &path));
    let invite = request("INVITE", "sip:alice@example.com", BOB, "in", "");
    let sent = world.udp(BOB, &invite);
    let out = sent.iter().find(|s| s.method() == "INVITE").unwrap();
    assert_eq!(out.to, BOB.parse().unwrap(), "the topmost value is the next hop");
    assert_eq!(out.first_line(), "INVITE sip:alice@192.0.2.11:5062 SIP/2.0");
    assert_eq!(out.header("Route"), "<sip:192.0.2.12:5064;lr>, <sip:p1.example.net;lr>");
}

#[test]
fn rfc_3261_10_3_unknown_extensions_are_420_and_foreign_domains_404() {
    let mut world = home("p1");
    let sent = world.udp(ALICE, &register(1, &format!("{CONTACT}Require: magic\r\n")));
    assert_eq!((sent[0].status(), sent[0].header("Unsupported")), (420, "magic"));
    let foreign = register(2, CONTACT).replace("To: <sip:alice@example.com>", "To: <sip:a@b.net>");
    assert_eq!(world.udp(ALICE, &foreign)[0].status(), 404);
}

#[test]
fn a_policy_that_fails_leaves_nothing_behind_but_its_fallback() {
    let mut world = World::new(|_, run: &mut Run| {
        run.save("location", &SaveFlags::default(), None).unwrap();
        Err(PolicyFailure { kind: FailureKind::Trap, status: 503 })
    });
    let sent = world.udp(ALICE, &register(1, CONTACT));
    assert_eq!(sent[0].status(), 503);
    assert!(world.contacts("alice@example.com").is_empty());
    assert_eq!(world.engine.counters().policy_failures.iter().sum::<u64>(), 1);
}

/// A proxy that saves what its registrar, at BOB, has granted.
fn middle() -> World {
    World::with(settings(), &[Phase::Request, Phase::Reply], |phase, run: &mut Run| {
        if phase == Phase::Reply {
            let _ = run.save("location", &SaveFlags::parse("p1").unwrap(), None);
            return Ok(Verdict::Continue);
        }
        run.set_destination("sip:192.0.2.12:5064").unwrap();
        Ok(Verdict::Relay)
    })
}

#[test]
fn save_in_a_reply_route_stores_what_upstream_granted_before_the_200_goes_on() {
    let mut world = middle();
    let sent = world.udp(ALICE, &register(1, CONTACT));
    let out = sent.iter().find(|s| s.method() == "REGISTER").unwrap();
    assert!(world.contacts("alice@example.com").is_empty(), "not before upstream has said so");
    let granted = "Contact: <sip:alice@192.0.2.11:5062>;expires=90\r\nX-Up: yes\r\n";
    world.held_commits = Some(Vec::new());
    let ok = out.answer(200, "OK", granted);
    assert!(world.udp(BOB, &ok).is_empty(), "not before the commit");
    assert!(world.udp(ALICE, &register(1, CONTACT)).is_empty(), "a retransmission waits too");
    let (token, changes) = world.held_commits.take().unwrap().remove(0);
    world.apply(changes);
    let sent = world.input(Input::Committed { token, result: Ok(()) });
    assert_eq!((sent.len(), sent[0].status(), sent[0].header("X-Up")), (1, 200, "yes"));
    assert_eq!(world.contacts("alice@example.com"), ["sip:alice@192.0.2.11:5062"]);
    world.now.unix_ms += 90_000;
    assert!(world.contacts("alice@example.com").is_empty(), "the granted time counts");
}

#[test]
fn save_in_a_reply_route_answers_503_where_the_store_fails_and_tries_again_on_a_race() {
    let mut world = middle();
    let granted = "Contact: <sip:alice@192.0.2.11:5062>;expires=90\r\n";
    let sent = world.udp(ALICE, &register(1, CONTACT));
    let ok = sent.iter().find(|s| s.method() == "REGISTER").unwrap().answer(200, "OK", granted);
    world.held_commits = Some(Vec::new());
    world.udp(BOB, &ok);
    let (token, _) = world.held_commits.as_mut().unwrap().remove(0);
    assert!(world.input(Input::Committed { token, result: Err(CommitFault::Conflict) }).is_empty());
    let (token, _) = world.held_commits.take().unwrap().remove(0);
    let sent = world.input(Input::Committed { token, result: Err(CommitFault::Store) });
    assert_eq!((sent[0].status(), sent[0].header("Retry-After")), (503, "1"));
    assert!(world.contacts("alice@example.com").is_empty());
}

#[test]
fn save_in_a_reply_route_stores_nothing_where_upstream_refuses() {
    let mut world = middle();
    let sent = world.udp(ALICE, &register(1, CONTACT));
    let refused = sent.iter().find(|s| s.method() == "REGISTER").unwrap().answer(403, "No", "");
    assert_eq!(world.udp(BOB, &refused)[0].status(), 403);
    assert!(world.contacts("alice@example.com").is_empty());
}

#[test]
fn a_refused_register_says_why_unless_told_not_to() {
    let mut world = home("p2");
    let path = format!("{CONTACT}Path: <sip:p1.example.net;lr>\r\n");
    let sent = world.udp(ALICE, &register(1, &path));
    assert_eq!(sent[0].header("P-Registrar-Error"), "Bad Extension");
}

#[test]
fn lookup_branch_replaces_aors_among_the_targets_by_their_contacts() {
    let mut world = World::new(|_, run: &mut Run| {
        if run.method() == Method::Register {
            let _ = run.save("location", &SaveFlags::default(), None);
            return Ok(Verdict::Answered);
        }
        for uri in ["sip:alice@example.com", "sip:nobody@example.com", "sip:far@192.0.2.13:5066"] {
            run.add_target(uri, 1000).unwrap();
        }
        let flags = LookupFlags::parse("branch").unwrap();
        assert_eq!(run.lookup("location", &flags, None), Ok(2));
        Ok(Verdict::Relay)
    });
    world.udp(ALICE, &register(1, CONTACT));
    let sent = world.udp(BOB, &request("INVITE", "sip:group@example.com", BOB, "in", ""));
    let lines: Vec<&str> = sent.iter().map(|s| s.first_line()).collect();
    let expected =
        ["INVITE sip:alice@192.0.2.11:5062 SIP/2.0", "INVITE sip:far@192.0.2.13:5066 SIP/2.0"];
    assert!(expected.iter().all(|line| lines.contains(line)), "{lines:?}");
    assert_eq!(sent.iter().filter(|s| s.method() == "INVITE").count(), 2);
}

/// An edge proxy in a closure.
fn edge(mode: AddPathMode) -> World {
    World::with(settings(), &[Phase::Request], move |_, run: &mut Run| {
        if run.method() == Method::Register {
            return match run.add_path(mode, Some("edge"), true) {
                Ok(()) => {
                    run.set_destination("sip:192.0.2.12:5064").unwrap();
                    Ok(Verdict::Relay)
                }
                Err(_) if run.effects.answer.is_some() => Ok(Verdict::Answered),
                Err(_) => Ok(Verdict::Reply { status: 503, reason: "Internal Path Error".into() }),
            };
        }
        run.record_route();
        Ok(Verdict::Relay)
    })
}

#[test]
fn r_p10_what_add_path_received_writes_leads_back_to_the_phone_and_nothing_else_does() {
    let mut world = edge(AddPathMode::Always);
    let sent = world.udp(ALICE, &register(1, CONTACT));
    let out = sent.iter().find(|s| s.method() == "REGISTER").unwrap();
    let path = out.header("Path").to_owned();
    assert!(path.starts_with("<sip:edge@192.0.2.1;lr;received=sip:192.0.2.11:5062"), "{path}");
    let invite = |branch: &str, route: &str| {
        request("INVITE", "sip:alice@10.1.1.1", BOB, branch, &format!("Route: {route}\r\n"))
    };
    let sent = world.udp(BOB, &invite("ok", &path));
    let out = sent.iter().find(|s| s.method() == "INVITE").unwrap();
    assert_eq!(out.to, ALICE.parse().unwrap());
    assert_eq!(out.first_line(), "INVITE sip:alice@10.1.1.1 SIP/2.0");
    assert!(out.headers("Route").is_empty());
    let forged = path.replace("192.0.2.11", "203.0.113.7");
    let sent = world.udp(BOB, &invite("forged", &forged));
    assert_eq!(sent[0].status(), 403);
    let unsigned = "<sip:edge@192.0.2.1:5060;lr;received=sip:203.0.113.7:5060>";
    let sent = world.udp(BOB, &invite("unsigned", unsigned));
    assert!(sent.iter().all(|s| s.to.ip().to_string() != "203.0.113.7"), "{sent:?}");
    let trusted = World::flow("198.51.100.9:5060", Transport::Udp);
    let sent = world.receive(trusted, &invite("trusted", unsigned));
    assert!(sent.iter().any(|s| s.to.ip().to_string() == "203.0.113.7"));
}

#[test]
fn r_p5_path_in_the_response_passes_as_it_is() {
    let mut world = edge(AddPathMode::Always);
    let sent = world.udp(ALICE, &register(1, CONTACT));
    let out = sent.iter().find(|s| s.method() == "REGISTER").unwrap();
    let more = "Path: <sip:other.example;lr>;x=\"a, b\"\r\n";
    let sent = world.udp(BOB, &out.answer(200, "OK", more));
    assert_eq!(sent[0].headers("Path"), [out.header("Path"), "<sip:other.example;lr>;x=\"a, b\""]);
}

#[test]
fn r_p4_require_refuses_a_ua_without_support_with_421() {
    let mut world = edge(AddPathMode::Require);
    let sent = world.udp(ALICE, &register(1, CONTACT));
    assert_eq!((sent[0].status(), sent[0].header("Require")), (421, "path"));
    let sent = world.udp(ALICE, &register(2, &format!("{CONTACT}Supported: path\r\n")));
    let out = sent.iter().find(|s| s.method() == "REGISTER").unwrap();
    assert_eq!(out.header("Require"), "path");
}

#[test]
fn r_p8_path_is_for_register_and_a_refusal_leaves_the_message_alone() {
    let mut world = World::new(|_, run: &mut Run| {
        assert!(run.add_path(AddPathMode::Always, None, true).is_err());
        run.set_destination("sip:192.0.2.12:5064").unwrap();
        Ok(Verdict::Relay)
    });
    let sent = world.udp(ALICE, &request("MESSAGE", "sip:x@far.net", ALICE, "m", ""));
    assert!(sent[0].headers("Path").is_empty());
}

#[test]
fn what_a_policy_stores_with_a_binding_is_given_back_to_the_branch_that_goes_there() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&seen);
    let phases = [Phase::Request, Phase::Branch];
    let mut world = World::with(settings(), &phases, move |phase, run: &mut Run| {
        if phase == Phase::Branch {
            let attributes = String::from_utf8(run.attributes().to_vec()).unwrap();
            let line = run.message().request_uri().to_vec();
            told.lock().unwrap().push((String::from_utf8(line).unwrap(), attributes));
            return Ok(Verdict::Continue);
        }
        if run.method() == Method::Register {
            assert_eq!(run.set_attributes(&"x".repeat(256)), Err(EditFault::TooLarge));
            assert_eq!(run.set_attributes("two\r\nlines"), Err(EditFault::Syntax));
            let site = run.message().value_by_label(b"X-Site").map(<[u8]>::to_vec);
            if let Some(site) = site {
                run.set_attributes(&format!("site={}", String::from_utf8(site).unwrap())).unwrap();
            }
            let _ = run.save("location", &SaveFlags::default(), None);
            return Ok(Verdict::Answered);
        }
        run.lookup("location", &LookupFlags::default(), None).unwrap();
        Ok(Verdict::Relay)
    });
    let sent = world.udp(ALICE, &register(1, &format!("{CONTACT}X-Site: 7\r\n")));
    assert!(!sent[0].text.contains("site=7"), "no business of the phone's");
    world.udp(ALICE, &register(2, "Contact: <sip:alice@192.0.2.13:5066>\r\n"));
    world.udp(BOB, &request("INVITE", "sip:alice@example.com", BOB, "in", ""));
    let mut seen = seen.lock().unwrap().clone();
    seen.sort();
    let expected = [
        ("sip:alice@192.0.2.11:5062".to_owned(), "site=7".to_owned()),
        ("sip:alice@192.0.2.13:5066".to_owned(), String::new()),
    ];
    assert_eq!(seen, expected);
}
