//! The proxy core as a whole (RFC 3261 16), driven through the engine's two doors.

// A test stops at what it did not expect.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod world;

use viaduct_engine::{Hop, Input, Phase, Run, Transport, Verdict};
use world::{ALICE, BOB, CAROL, Sent, US, World, in_dialog, request, settings};

fn relay_to(targets: &'static [(&'static str, u16)]) -> World {
    World::new(move |_, run: &mut Run| {
        let first = !run.traits().in_dialog;
        for (uri, q) in targets.iter().filter(|_| first) {
            run.add_target(uri, *q).unwrap();
        }
        run.record_route();
        Ok(Verdict::Relay)
    })
}

const BOB_URI: &str = "sip:bob@192.0.2.12:5064";
const CAROL_URI: &str = "sip:carol@192.0.2.13:5066";

fn invite(world: &mut World, branch: &str) -> Vec<Sent> {
    world.udp(ALICE, &request("INVITE", "sip:bob@example.com", ALICE, branch, ""))
}

fn find<'a>(sent: &'a [Sent], to: &str, what: &str) -> &'a Sent {
    sent.iter()
        .find(|s| s.to == to.parse().unwrap() && s.first_line().contains(what))
        .unwrap_or_else(|| panic!("no {what} to {to} in {sent:#?}"))
}

#[test]
fn rfc_3261_16_6_an_invite_is_forwarded_with_via_record_route_and_fewer_hops() {
    let mut world = relay_to(&[(BOB_URI, 1000)]);
    let sent = invite(&mut world, "one");
    assert_eq!(find(&sent, ALICE, "100 Trying").header("To"), "<sip:bob@example.com>");
    let out = find(&sent, BOB, "INVITE");
    assert_eq!(out.first_line(), "INVITE sip:bob@192.0.2.12:5064 SIP/2.0");
    assert_eq!(out.header("Max-Forwards"), "69");
    assert_eq!(out.header("Record-Route"), "<sip:192.0.2.1:5060;lr>");
    let vias = out.headers("Via");
    assert!(vias[0].starts_with("SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK"), "{vias:?}");
    assert!(vias[1].contains("received=192.0.2.11") && vias[1].contains("rport=5062"), "{vias:?}");
}

#[test]
fn a_whole_call_passes_and_nothing_of_it_stays() {
    let mut world = relay_to(&[(BOB_URI, 1000)]);
    let sent = invite(&mut world, "call");
    let out = find(&sent, BOB, "INVITE").clone();
    let ringing = world.udp(BOB, &out.answer(180, "Ringing", ""));
    assert_eq!(find(&ringing, ALICE, "180").headers("Via").len(), 1);
    let ok = world.udp(BOB, &out.answer(200, "OK", "Contact: <sip:bob@192.0.2.12:5064>\r\n"));
    assert_eq!(find(&ok, ALICE, "200").header("Record-Route"), "<sip:192.0.2.1:5060;lr>");
    let again = world.udp(BOB, &out.answer(200, "OK", ""));
    assert_eq!(again.len(), 1, "RFC 6026: every 2xx goes up");
    let route = "Route: <sip:192.0.2.1:5060;lr>\r\n";
    let ack = world.udp(ALICE, &in_dialog("ACK", BOB_URI, ALICE, "ack", route));
    let ack = find(&ack, BOB, "ACK");
    assert!(ack.headers("Route").is_empty());
    let bye = world.udp(ALICE, &in_dialog("BYE", BOB_URI, ALICE, "bye", route));
    let bye = find(&bye, BOB, "BYE").clone();
    let done = world.udp(BOB, &bye.answer(200, "OK", ""));
    assert_eq!(done.len(), 1);
    world.advance(200_000);
    assert_eq!(world.engine.transactions(), 0);
}

#[test]
fn rfc_3261_17_a_retransmitted_invite_gets_the_last_answer_and_is_not_forwarded_again() {
    let mut world = relay_to(&[(BOB_URI, 1000)]);
    invite(&mut world, "re");
    let again = invite(&mut world, "re");
    assert_eq!(again.len(), 1);
    assert_eq!(again[0].status(), 100);
}

#[test]
fn rfc_3261_16_7_the_first_2xx_of_a_fork_cancels_the_other_branch() {
    let mut world = relay_to(&[(BOB_URI, 1000), (CAROL_URI, 1000)]);
    let sent = invite(&mut world, "fork");
    let to_bob = find(&sent, BOB, "INVITE").clone();
    let to_carol = find(&sent, CAROL, "INVITE").clone();
    world.udp(CAROL, &to_carol.answer(180, "Ringing", ""));
    let sent = world.udp(BOB, &to_bob.answer(200, "OK", ""));
    find(&sent, ALICE, "200 OK");
    let cancel = find(&sent, CAROL, "CANCEL").clone();
    assert_eq!(cancel.header("Via"), to_carol.header("Via"), "same branch as the INVITE (9.1)");
    assert!(world.udp(CAROL, &cancel.answer(200, "OK", "")).is_empty());
    let ended = world.udp(CAROL, &to_carol.answer(487, "Request Terminated", ""));
    assert_eq!(ended.len(), 1, "only the ACK to the 487: {ended:?}");
    find(&ended, CAROL, "ACK");
}

#[test]
fn rfc_3261_9_1_no_cancel_before_a_provisional() {
    let mut world = relay_to(&[(BOB_URI, 1000)]);
    let sent = invite(&mut world, "quiet");
    let out = find(&sent, BOB, "INVITE").clone();
    let cancel = request("CANCEL", "sip:bob@example.com", ALICE, "quiet", "");
    let sent = world.udp(ALICE, &cancel);
    assert_eq!(sent.len(), 1, "{sent:#?}");
    find(&sent, ALICE, "200 OK");
    let sent = world.udp(BOB, &out.answer(100, "Trying", ""));
    find(&sent, BOB, "CANCEL");
    let sent = world.udp(BOB, &out.answer(487, "Request Terminated", ""));
    find(&sent, BOB, "ACK");
    find(&sent, ALICE, "487");
}

#[test]
fn rfc_3261_9_1_a_cancel_is_not_repeated_once_its_invite_is_answered() {
    let mut world = relay_to(&[(BOB_URI, 1000)]);
    let sent = invite(&mut world, "settled");
    let out = find(&sent, BOB, "INVITE").clone();
    world.udp(BOB, &out.answer(180, "Ringing", ""));
    let sent = world.udp(ALICE, &request("CANCEL", "sip:bob@example.com", ALICE, "settled", ""));
    let cancel = find(&sent, BOB, "CANCEL").clone();
    find(&world.advance(600), BOB, "CANCEL");
    world.udp(BOB, &out.answer(487, "Request Terminated", ""));
    assert!(world.advance(30_000).iter().all(|sent| sent.method() != "CANCEL"));
    assert!(world.udp(BOB, &cancel.answer(200, "OK", "")).is_empty());
}

#[test]
fn rfc_3261_9_2_a_cancel_sent_again_finds_its_answer_when_the_invite_has_ended() {
    let mut world = relay_to(&[(BOB_URI, 1000)]);
    let sent = invite(&mut world, "late");
    let out = find(&sent, BOB, "INVITE").clone();
    world.udp(BOB, &out.answer(603, "Decline", ""));
    let cancel = request("CANCEL", "sip:bob@example.com", ALICE, "late", "");
    find(&world.udp(ALICE, &cancel), ALICE, "200 OK");
    world.udp(ALICE, &request("ACK", "sip:bob@example.com", ALICE, "late", ""));
    world.advance(6_000); // timer I: the INVITE's transaction is no more
    let again = world.udp(ALICE, &cancel);
    assert_eq!(again.len(), 1, "not passed on to Bob: {again:#?}");
    find(&again, ALICE, "200 OK");
    world.advance(32_000);
    assert_eq!(world.engine.transactions(), 0);
}

#[test]
fn rfc_3261_9_1_a_branch_that_ignores_its_cancel_ends_all_the_same() {
    let mut world = relay_to(&[(BOB_URI, 1000)]);
    let sent = invite(&mut world, "deaf");
    let out = find(&sent, BOB, "INVITE").clone();
    world.udp(BOB, &out.answer(180, "Ringing", ""));
    world.udp(ALICE, &request("CANCEL", "sip:bob@example.com", ALICE, "deaf", ""));
    let sent = world.advance(33_000);
    find(&sent, ALICE, "487");
}

#[test]
fn rfc_3261_16_6_lower_q_is_tried_after_all_of_higher_q_have_failed() {
    let mut world = relay_to(&[(CAROL_URI, 300), (BOB_URI, 700)]);
    let sent = invite(&mut world, "serial");
    assert_eq!(sent.iter().filter(|s| s.method() == "INVITE").count(), 1);
    let out = find(&sent, BOB, "INVITE").clone();
    let sent = world.udp(BOB, &out.answer(486, "Busy Here", ""));
    find(&sent, BOB, "ACK");
    let out = find(&sent, CAROL, "INVITE").clone();
    let sent = world.udp(CAROL, &out.answer(404, "Not Found", ""));
    find(&sent, ALICE, "404");
}

#[test]
fn rfc_3261_16_7_the_best_response_goes_back_with_all_challenges() {
    let mut world = relay_to(&[(BOB_URI, 1000), (CAROL_URI, 1000)]);
    let sent = invite(&mut world, "auth");
    let bob = find(&sent, BOB, "INVITE").clone();
    let carol = find(&sent, CAROL, "INVITE").clone();
    let challenge = |realm| format!("Proxy-Authenticate: Digest realm=\"{realm}\"\r\n");
    world.udp(BOB, &bob.answer(407, "Proxy Authentication Required", &challenge("b")));
    let sent = world.udp(CAROL, &carol.answer(407, "Proxy Auth", &challenge("c")));
    let back = find(&sent, ALICE, "407");
    assert_eq!(back.headers("Proxy-Authenticate").len(), 2, "{}", back.text);
}

#[test]
fn rfc_3261_16_7_a_lone_503_becomes_500_and_6xx_wins() {
    let mut world = relay_to(&[(BOB_URI, 1000)]);
    let sent = invite(&mut world, "busy");
    let out = find(&sent, BOB, "INVITE").clone();
    let sent = world.udp(BOB, &out.answer(503, "Service Unavailable", ""));
    find(&sent, ALICE, "500");

    let mut world = relay_to(&[(BOB_URI, 1000), (CAROL_URI, 1000)]);
    let sent = invite(&mut world, "six");
    let bob = find(&sent, BOB, "INVITE").clone();
    let carol = find(&sent, CAROL, "INVITE").clone();
    world.udp(BOB, &bob.answer(180, "Ringing", ""));
    let sent = world.udp(CAROL, &carol.answer(603, "Decline", ""));
    find(&sent, BOB, "CANCEL");
    let sent = world.udp(BOB, &bob.answer(487, "Request Terminated", ""));
    find(&sent, ALICE, "603");
}

#[test]
fn timer_b_gives_408_to_an_invite_and_rfc_4320_silence_to_others() {
    let mut world = relay_to(&[(BOB_URI, 1000)]);
    invite(&mut world, "dead");
    let sent = world.advance(33_000);
    assert_eq!(sent.iter().filter(|s| s.method() == "INVITE").count(), 6, "7 with the first");
    find(&sent, ALICE, "408");

    world.udp(ALICE, &request("MESSAGE", "sip:bob@example.com", ALICE, "msg", ""));
    let sent = world.advance(40_000);
    assert_eq!(sent.iter().filter(|s| s.method() == "MESSAGE").count(), 10, "11 with the first");
    let about_it = sent.iter().filter(|s| s.header("Call-ID") == "call-msg");
    let answers: Vec<u16> =
        about_it.filter(|s| s.method() == "SIP/2.0").map(Sent::status).collect();
    assert_eq!(answers, [100], "RFC 4320 4.1: a 100 when E reaches T2; 4.2: no 408");
}

#[test]
fn rfc_3261_16_8_timer_c_cancels_a_branch_that_only_rings() {
    let mut world = relay_to(&[(BOB_URI, 1000)]);
    let sent = invite(&mut world, "ring");
    let out = find(&sent, BOB, "INVITE").clone();
    world.udp(BOB, &out.answer(180, "Ringing", ""));
    assert!(world.advance(170_000).iter().all(|s| s.method() != "CANCEL"));
    world.udp(BOB, &out.answer(180, "Ringing", ""));
    assert!(world.advance(170_000).iter().all(|s| s.method() != "CANCEL"), "restarted by the 180");
    find(&world.advance(20_000), BOB, "CANCEL");
}

#[test]
fn rfc_3261_16_3_refusals_carry_the_right_code() {
    let mut world = relay_to(&[(BOB_URI, 1000)]);
    let base = |extra: &str| request("OPTIONS", "sip:bob@example.com", ALICE, "v", extra);
    let no_hops = base("").replace("Max-Forwards: 70", "Max-Forwards: 0");
    assert_eq!(world.udp(ALICE, &no_hops)[0].status(), 483);
    let required = world.udp(ALICE, &base("Proxy-Require: magic, more\r\n"));
    assert_eq!(required[0].status(), 420);
    assert_eq!(required[0].header("Unsupported"), "magic, more");
    let scheme = base("").replace("OPTIONS sip:bob@example.com", "OPTIONS nobody:knows");
    assert_eq!(world.udp(ALICE, &scheme)[0].status(), 416);
    let syntax = base("").replace("CSeq: 1 OPTIONS", "CSeq: x OPTIONS");
    assert_eq!(world.udp(ALICE, &syntax)[0].status(), 400);
    assert!(world.udp(ALICE, &syntax.replace("OPTIONS", "ACK")).is_empty(), "no answer to ACK");
}

#[test]
fn rfc_5393_a_loop_is_482_and_a_spiral_passes() {
    let mut world = World::new(|_, run: &mut Run| {
        run.set_destination("sip:192.0.2.12:5064").unwrap();
        Ok(Verdict::Relay)
    });
    let sent = world.udp(ALICE, &request("OPTIONS", "sip:x@elsewhere.net", ALICE, "l", ""));
    let out = find(&sent, BOB, "OPTIONS").clone();
    let looped = world.udp(BOB, &out.text);
    assert_eq!(find(&looped, "192.0.2.12:5060", "482").status(), 482, "to sent-by, without rport");
    let spiral = out.text.replace("OPTIONS sip:x@", "OPTIONS sip:y@");
    find(&world.udp(BOB, &spiral), BOB, "OPTIONS sip:y@");
}

#[test]
fn rfc_3261_16_4_our_route_goes_and_a_strict_next_hop_is_served() {
    let mut world = World::new(|_, _: &mut Run| Ok(Verdict::Relay));
    let route = "Route: <sip:192.0.2.1:5060;lr>, <sip:192.0.2.12:5064;lr>\r\n";
    let sent = world.udp(ALICE, &in_dialog("BYE", "sip:b@192.0.2.99", ALICE, "lr", route));
    let out = find(&sent, BOB, "BYE sip:b@192.0.2.99");
    assert_eq!(out.header("Route"), "<sip:192.0.2.12:5064;lr>");

    let route = "Route: <sip:192.0.2.1:5060;lr>, <sip:192.0.2.12:5064>\r\n";
    let sent = world.udp(ALICE, &in_dialog("BYE", "sip:b@192.0.2.99", ALICE, "sr", route));
    let out = find(&sent, BOB, "BYE sip:192.0.2.12:5064");
    assert_eq!(out.header("Route"), "<sip:b@192.0.2.99>");

    // A strict previous hop has put our URI into the Request-URI.
    let route = "Route: <sip:192.0.2.12:5064;lr>, <sip:b@192.0.2.13:5066>\r\n";
    let strict = in_dialog("BYE", "sip:192.0.2.1:5060;lr", ALICE, "sp", route);
    let out = world.udp(ALICE, &strict);
    let out = find(&out, BOB, "BYE sip:b@192.0.2.13:5066");
    assert_eq!(out.header("Route"), "<sip:192.0.2.12:5064;lr>");
}

#[test]
fn a_record_route_pair_is_written_where_the_sides_differ_and_popped_together() {
    let mut world = relay_to(&[("sip:bob@192.0.2.12:5064;transport=tcp", 1000)]);
    let sent = invite(&mut world, "pair");
    let out = find(&sent, BOB, "INVITE");
    assert_eq!(out.transport, Transport::Tcp);
    assert_eq!(
        out.headers("Record-Route"),
        ["<sip:192.0.2.1:5060;transport=tcp;lr;r2=on>", "<sip:192.0.2.1:5060;lr;r2=on>"]
    );
    let route = "Route: <sip:192.0.2.1:5060;transport=tcp;lr;r2=on>\r\n\
                 Route: <sip:192.0.2.1:5060;lr;r2=on>\r\n";
    let bye = in_dialog("BYE", "sip:a@192.0.2.11:5062", BOB, "back", route);
    let sent = world.receive(World::flow(BOB, Transport::Tcp), &bye);
    let out = find(&sent, ALICE, "BYE");
    assert_eq!(out.transport, Transport::Udp);
    assert!(out.headers("Route").is_empty());
}

#[test]
fn rfc_3263_4_3_the_next_hop_of_a_name_is_tried_after_a_503() {
    let mut world = World::new(|_, run: &mut Run| {
        run.set_destination("sip:far.example.net").unwrap();
        Ok(Verdict::Relay)
    });
    let hop = |addr: &str| Hop { transport: Transport::Udp, addr: addr.parse().unwrap() };
    world.names.insert("far.example.net".into(), vec![hop(BOB), hop(CAROL)]);
    let sent = world.udp(ALICE, &request("INVITE", "sip:x@far.net", ALICE, "dns", ""));
    let out = find(&sent, BOB, "INVITE").clone();
    let sent = world.udp(BOB, &out.answer(503, "Service Unavailable", ""));
    let out = find(&sent, CAROL, "INVITE").clone();
    assert!(sent.iter().all(|s| s.to != ALICE.parse().unwrap()));
    find(&world.udp(CAROL, &out.answer(200, "OK", "")), ALICE, "200");
}

#[test]
fn a_name_that_does_not_resolve_and_a_stream_that_does_not_open_end_as_500() {
    let mut world = World::new(|_, run: &mut Run| {
        run.set_destination("sip:nowhere.example.net").unwrap();
        Ok(Verdict::Relay)
    });
    let sent = world.udp(ALICE, &request("INVITE", "sip:x@far.net", ALICE, "nx", ""));
    find(&sent, ALICE, "500");

    let mut world = relay_to(&[("sip:bob@192.0.2.12:5064;transport=tcp", 1000)]);
    let sent = invite(&mut world, "refused");
    let token = find(&sent, BOB, "INVITE").token;
    let sent = world.input(Input::SendFailed { token });
    find(&sent, ALICE, "500");
}

#[test]
fn the_failure_route_can_try_elsewhere_and_the_branch_route_can_edit() {
    let phases = [Phase::Request, Phase::Branch, Phase::Failure, Phase::Reply];
    let mut world = World::with(settings(), &phases, |phase, run: &mut Run| match phase {
        Phase::Request => {
            run.set_var("seen", Some("yes")).unwrap();
            run.add_target(BOB_URI, 1000).unwrap();
            Ok(Verdict::Relay)
        }
        Phase::Branch => {
            let seen = run.var("seen").unwrap_or("no").to_owned();
            run.add_header("X-Seen", &seen).unwrap();
            Ok(Verdict::Continue)
        }
        Phase::Failure if run.status() == 486 => {
            run.add_target(CAROL_URI, 1000).unwrap();
            Ok(Verdict::Relay)
        }
        Phase::Failure => Ok(Verdict::Continue),
        Phase::Reply => {
            run.add_header("X-Reply", "1").unwrap();
            Ok(Verdict::Continue)
        }
    });
    let sent = invite(&mut world, "fail");
    let out = find(&sent, BOB, "INVITE").clone();
    assert_eq!(out.header("X-Seen"), "yes");
    let sent = world.udp(BOB, &out.answer(486, "Busy Here", ""));
    let out = find(&sent, CAROL, "INVITE").clone();
    let sent = world.udp(CAROL, &out.answer(200, "OK", ""));
    assert_eq!(find(&sent, ALICE, "200").header("X-Reply"), "1");
}

#[test]
fn forged_and_foreign_responses_are_dropped() {
    let mut world = relay_to(&[(BOB_URI, 1000)]);
    let sent = invite(&mut world, "forged");
    let out = find(&sent, BOB, "INVITE").clone();
    let ok = out.answer(200, "OK", "");
    let branch = out.header("Via").split("branch=").nth(1).unwrap().to_owned();
    let mut other = branch.clone();
    other.replace_range(20..21, if &branch[20..21] == "0" { "1" } else { "0" });
    assert!(world.udp(BOB, &ok.replace(&branch, &other)).is_empty());
    assert_eq!(world.engine.counters().stray_responses, 1);
    find(&world.udp(BOB, &ok), ALICE, "200");
}

#[test]
fn rfc_3261_8_2_2_3_what_is_meant_for_the_router_may_require_only_what_it_knows() {
    let mut world = World::new(|_, _| Ok(Verdict::Reply { status: 200, reason: "".into() }));
    let mut ask = |method: &str, uri: &str, tags: &str| {
        let require = format!("Require: {tags}\r\n");
        let branch = format!("{method}{}{}", uri.len(), tags.len());
        world.udp(ALICE, &request(method, uri, ALICE, &branch, &require)).remove(0)
    };
    let refused = ask("OPTIONS", "sip:example.com", "path, teleport,more");
    assert_eq!((refused.status(), refused.header("Unsupported")), (420, "teleport, more"));
    assert_eq!(ask("OPTIONS", "sip:example.com", "path").status(), 200);
    // Between the user agents it is their business.
    assert_eq!(ask("OPTIONS", "sip:bob@example.com", "teleport").status(), 200);
}

#[test]
fn rfc_3261_17_1_3_a_response_to_another_method_is_dropped() {
    let mut world = relay_to(&[(BOB_URI, 1000)]);
    for method in ["MESSAGE", "NEWMETHOD"] {
        let sent = world.udp(ALICE, &request(method, "sip:bob@example.com", ALICE, method, ""));
        let out = find(&sent, BOB, method).clone();
        let ok = out.answer(200, "OK", "");
        for other in ["SUBSCRIBE", "OTHERS", "INVITE", "NEW", "MESSAGES"] {
            let stray = ok.replace(&format!(" {method}\r\n"), &format!(" {other}\r\n"));
            assert_ne!(stray, ok);
            assert!(world.udp(BOB, &stray).is_empty(), "{other} for {method}");
        }
        find(&world.udp(BOB, &ok), ALICE, "200");
    }
}

#[test]
fn rfc_3581_answers_go_to_the_source_port_only_where_asked() {
    let mut world =
        World::new(|_, _: &mut Run| Ok(Verdict::Reply { status: 200, reason: "".into() }));
    let asked = request("OPTIONS", "sip:example.com", "10.0.0.9:7000", "r1", "");
    let sent = world.udp(ALICE, &asked);
    assert_eq!(sent[0].to, ALICE.parse().unwrap());
    let sent = world.udp(ALICE, &asked.replace(";rport", ""));
    assert_eq!(sent[0].to, "192.0.2.11:7000".parse().unwrap());
    assert!(sent[0].header("Via").contains("received=192.0.2.11"));
}

#[test]
fn r_n1_only_over_its_bound_is_an_invite_answered_without_state() {
    let mut limited = settings();
    limited.bounds.transactions = 1;
    let mut world = World::with(limited, &[Phase::Request], |_, run: &mut Run| {
        run.add_target(BOB_URI, 1000).unwrap();
        Ok(Verdict::Relay)
    });
    invite(&mut world, "first");
    let sent = invite(&mut world, "second");
    assert_eq!(sent[0].status(), 503);
    assert!(!sent[0].header("Retry-After").is_empty());
    assert_eq!(world.engine.counters().shed, 1);
}

#[test]
fn an_ack_or_cancel_out_of_a_dialog_is_no_open_relay() {
    let mut world = relay_to(&[]);
    let route = format!("Route: <sip:{US};lr>, <sip:203.0.113.5;lr>\r\n");
    assert!(world.udp(ALICE, &request("ACK", "sip:x@203.0.113.5", ALICE, "o", &route)).is_empty());
    let cancel = request("CANCEL", "sip:x@203.0.113.5", ALICE, "p", &route);
    assert!(world.udp(ALICE, &cancel).is_empty());
    let ours = request("CANCEL", "sip:bob@example.com", ALICE, "q", "");
    assert_eq!(world.udp(ALICE, &ours)[0].status(), 481);
}

/// What the INVITEs say of Max-Breadth, by target.
fn breadths(sent: &[Sent]) -> Vec<(String, String)> {
    let invites = sent.iter().filter(|s| s.method() == "INVITE");
    invites.map(|s| (s.to.to_string(), s.headers("Max-Breadth").concat())).collect()
}

#[test]
fn rfc_5393_5_3_branches_share_the_breadth_of_their_request() {
    const BOTH: &[(&str, u16)] = &[(BOB_URI, 1000), (CAROL_URI, 1000)];
    let call = |targets, given: &str| {
        let mut world = relay_to(targets);
        let sent = world.udp(ALICE, &request("INVITE", "sip:bob@example.com", ALICE, "b", given));
        (world, sent)
    };
    let said = |given: &str| breadths(&call(BOTH, given).1);
    let pair = |bob: &str, carol: &str| {
        vec![(BOB.to_owned(), bob.to_owned()), (CAROL.to_owned(), carol.to_owned())]
    };
    assert_eq!(said(""), pair("30", "30"), "the default is 60");
    assert_eq!(said("Max-Breadth: 7\r\n"), pair("4", "3"));
    assert_eq!(said("max-breadth: 4000\r\n"), pair("30", "30"), "no more than ours");
    assert_eq!(breadths(&call(&BOTH[..1], "").1), [(BOB.to_owned(), String::new())]);
    let one = breadths(&call(&BOTH[..1], "Max-Breadth: 5\r\n").1);
    assert_eq!(one, [(BOB.to_owned(), "5".to_owned())]);
    // Not enough for both at a time: one after the other.
    let (mut world, sent) = call(BOTH, "Max-Breadth: 1\r\n");
    assert_eq!(breadths(&sent), [(BOB.to_owned(), "1".to_owned())]);
    let sent = world.udp(BOB, &find(&sent, BOB, "INVITE").answer(486, "Busy Here", ""));
    assert_eq!(breadths(&sent), [(CAROL.to_owned(), "1".to_owned())]);
    let (_, sent) = call(BOTH, "Max-Breadth: 0\r\n");
    assert_eq!((sent.len(), sent[0].first_line()), (1, "SIP/2.0 440 Max-Breadth Exceeded"));
}

/// A router that sends no datagram longer than this, and a request that is longer.
fn long_call(target: &'static str, extra: &str) -> (World, Vec<Sent>) {
    let mut settings = settings();
    settings.bounds.datagram_bytes = 1300;
    let mut world = World::with(settings, &[Phase::Request], move |_, run: &mut Run| {
        run.add_target(target, 1000).unwrap();
        run.record_route();
        Ok(Verdict::Relay)
    });
    let extra = format!("{extra}X-Long: {}\r\n", "x".repeat(1300));
    let sent = world.udp(ALICE, &request("INVITE", "sip:bob@example.com", ALICE, "long", &extra));
    (world, sent)
}

#[test]
fn rfc_3261_18_1_1_a_long_request_goes_by_tcp_and_by_udp_where_that_fails() {
    let (mut world, sent) = long_call(BOB_URI, "");
    let by_tcp = find(&sent, BOB, "INVITE").clone();
    assert_eq!((by_tcp.transport, by_tcp.may_open), (Transport::Tcp, true));
    assert!(by_tcp.header("Via").starts_with("SIP/2.0/TCP "), "{}", by_tcp.text);
    assert_eq!(by_tcp.headers("Record-Route").len(), 2, "it leaves by another side");
    let sent = world.input(Input::SendFailed { token: by_tcp.token });
    let by_udp = find(&sent, BOB, "INVITE").clone();
    assert_eq!(by_udp.transport, Transport::Udp);
    assert!(by_udp.header("Via").starts_with("SIP/2.0/UDP "), "{}", by_udp.text);
    assert_ne!(by_udp.header("Via"), by_tcp.header("Via"), "a branch of its own");
    let sent = world.udp(BOB, &by_udp.answer(200, "OK", ""));
    find(&sent, ALICE, "200 OK");
    // A server that answers 503 by TCP is not asked again by UDP.
    let (mut world, sent) = long_call(BOB_URI, "");
    let busy = find(&sent, BOB, "INVITE").answer(503, "Service Unavailable", "");
    let sent = world.receive(World::flow(BOB, Transport::Tcp), &busy);
    assert!(sent.iter().all(|s| s.method() != "INVITE"), "{sent:?}");
    find(&sent, ALICE, "500");
}

#[test]
fn rfc_3261_18_1_1_who_names_udp_gets_udp() {
    let (_, sent) = long_call("sip:bob@192.0.2.12:5064;transport=udp", "");
    assert_eq!(find(&sent, BOB, "INVITE").transport, Transport::Udp);
    let mut world = relay_to(&[(BOB_URI, 1000)]);
    let long = format!("X-Long: {}\r\n", "x".repeat(1300));
    let sent = world.udp(ALICE, &request("INVITE", "sip:bob@example.com", ALICE, "l", &long));
    assert_eq!(find(&sent, BOB, "INVITE").transport, Transport::Udp, "not unless configured");
}

/// As much of a datagram as an ICMP error shows, and never the whole of it.
fn shown(sent: &Sent) -> Vec<u8> {
    let end = sent.text.find("\r\nMax-Forwards").unwrap() + 9;
    sent.text.as_bytes()[..end].to_vec()
}

#[test]
fn rfc_3261_18_4_a_request_that_comes_back_ends_its_branch() {
    let mut world = relay_to(&[(BOB_URI, 1000), (CAROL_URI, 500)]);
    let sent = invite(&mut world, "icmp");
    let bytes = shown(find(&sent, BOB, "INVITE"));
    let mut undelivered = |to: &str, bytes: &[u8]| {
        world.input(Input::Undelivered { flow: World::flow(to, Transport::Udp), bytes })
    };
    assert!(undelivered(CAROL, &bytes).is_empty(), "it was not sent there");
    let at = bytes.windows(7).position(|w| w == b"branch=").unwrap() + 20;
    let mut guessed = bytes.clone();
    guessed[at] = if guessed[at] == b'0' { b'1' } else { b'0' };
    assert!(undelivered(BOB, &guessed).is_empty(), "who has not seen the branch is not believed");
    assert!(undelivered(BOB, b"INVITE sip:").is_empty(), "too little to tell");
    let sent = undelivered(BOB, &bytes);
    find(&sent, CAROL, "INVITE");
    assert!(undelivered(BOB, &bytes).is_empty(), "it has ended");
}

#[test]
fn rfc_3261_17_1_4_an_ack_that_comes_back_takes_no_answer_away() {
    let mut world = relay_to(&[(BOB_URI, 1000), (CAROL_URI, 1000)]);
    let sent = invite(&mut world, "ack-lost");
    let (bob, carol) = (find(&sent, BOB, "INVITE").clone(), find(&sent, CAROL, "INVITE").clone());
    let sent = world.udp(BOB, &bob.answer(486, "Busy Here", ""));
    let ack = shown(find(&sent, BOB, "ACK"));
    let flow = World::flow(BOB, Transport::Udp);
    assert!(world.input(Input::Undelivered { flow, bytes: &ack }).is_empty());
    let sent = world.udp(CAROL, &carol.answer(500, "Server Error", ""));
    find(&sent, ALICE, "486 Busy Here");
}
