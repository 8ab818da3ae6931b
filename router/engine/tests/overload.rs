//! What is let in when there is more than there is room for.

// A test stops at what it did not expect.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod world;

use viaduct_engine::registrar::SaveFlags;
use viaduct_engine::{Phase, Run, Verdict};
use viaduct_message::Method;
use world::{ALICE, CAROL, Sent, World, in_dialog, request, settings};

const BOB_URI: &str = "sip:bob@192.0.2.12:5064";

/// An engine with room for so many transactions, whose calls ring for ever.
fn ringing(transactions: usize, answers_per_s: u32) -> World {
    let mut limited = settings();
    limited.bounds.transactions = transactions;
    limited.bounds.shed_answers_per_s = answers_per_s;
    World::with(limited, &[Phase::Request], |_, run: &mut Run| {
        if run.method() == Method::Register {
            let _ = run.save("location", &SaveFlags::parse("").unwrap(), None);
            return Ok(Verdict::Answered);
        }
        run.add_target(BOB_URI, 1000).unwrap();
        Ok(Verdict::Relay)
    })
}

fn is_refused(sent: &[Sent]) -> bool {
    let refused = sent[0].first_line().starts_with("SIP/2.0 503");
    assert!(!refused || !sent[0].header("Retry-After").is_empty(), "{}", sent[0].text);
    refused
}

fn invite(world: &mut World, from: &str, number: usize) -> Vec<Sent> {
    let branch = format!("i{number}");
    world.udp(from, &request("INVITE", "sip:bob@example.com", from, &branch, ""))
}

fn register(world: &mut World, number: usize) -> Vec<Sent> {
    let contact = "Contact: <sip:bob@192.0.2.13:5066>\r\n";
    let text = request("REGISTER", "sip:example.com", CAROL, &format!("r{number}"), contact);
    world.udp(CAROL, &text.replace("CSeq: 1 ", &format!("CSeq: {number} ")))
}

/// So many milliseconds, a turn each, after which messages wait or do not.
fn turns(world: &mut World, ms: u64, behind: bool) {
    for _ in 0..ms {
        world.now.mono_us += 1000;
        world.engine.note_backlog(behind, world.now.mono_us);
    }
}

/// Sources none of which has much.
fn source(number: usize) -> String {
    format!("203.0.113.{}:5060", number % 100 + 1)
}

#[test]
fn under_a_flood_requests_within_dialogs_and_refreshes_find_room_that_new_ones_do_not() {
    let mut world = ringing(80, 5000);
    let refused = (0..200).filter(|n| is_refused(&invite(&mut world, &source(*n), *n))).count();
    assert_eq!(refused, 200 - 60);
    assert!(is_refused(&register(&mut world, 1)), "that phone is new, too");
    for number in 0..20 {
        let from = source(number);
        let bye = in_dialog("BYE", BOB_URI, &from, &format!("b{number}"), "");
        assert!(!is_refused(&world.udp(&from, &bye)));
    }
    assert!(world.engine.transactions() <= 2 * 80);
    // The calls are given up, and everything is as before.
    world.advance(300_000);
    assert_eq!(world.engine.transactions(), 0);
    assert_eq!(register(&mut world, 2)[0].status(), 200);
    assert!(!is_refused(&invite(&mut world, ALICE, 1000)));
    for number in 1001..1060 {
        invite(&mut world, &source(number), number);
    }
    assert!(is_refused(&invite(&mut world, &source(0), 1060)));
    assert_eq!(register(&mut world, 3)[0].status(), 200, "a refresh");
    assert_eq!(world.engine.counters().ignored, 0);
}

#[test]
fn one_source_takes_no_more_than_its_share_of_what_is_scarce() {
    let mut world = ringing(800, 1_000_000);
    let greedy = (0..1000).filter(|n| !is_refused(&invite(&mut world, ALICE, *n))).count();
    assert_eq!(greedy, 400, "half the table is free for anybody");
    let modest = (1000..1100).filter(|n| !is_refused(&invite(&mut world, CAROL, *n))).count();
    assert_eq!(modest, 100);
    assert!(is_refused(&invite(&mut world, ALICE, 2000)));
    // A trusted peer speaks for many.
    let trusted =
        (3000..3050).filter(|n| !is_refused(&invite(&mut world, "198.51.100.7:5060", *n)));
    assert_eq!(trusted.count(), 50);
}

#[test]
fn where_even_503s_are_too_many_there_is_no_answer() {
    let mut world = ringing(1, 0);
    invite(&mut world, ALICE, 1);
    assert!(invite(&mut world, ALICE, 2).is_empty());
    let counters = world.engine.counters();
    assert_eq!((counters.shed, counters.ignored), (0, 1));
}

#[test]
fn a_worker_that_cannot_keep_up_lets_in_less_and_all_again_when_it_can() {
    let mut world = ringing(1_000_000, 1_000_000);
    let mut number = 0;
    let mut let_in = |world: &mut World| {
        number += 1000;
        (number..number + 1000).filter(|n| !is_refused(&invite(world, &source(*n), *n))).count()
    };
    turns(&mut world, 200, true);
    assert_eq!(let_in(&mut world), 1000, "a burst");
    turns(&mut world, 3000, true);
    let few = let_in(&mut world);
    assert!((1..60).contains(&few), "{few}");
    assert!(!is_refused(&world.udp(ALICE, &in_dialog("BYE", BOB_URI, ALICE, "b", ""))));
    turns(&mut world, 5000, false);
    assert_eq!(let_in(&mut world), 1000);
}

#[test]
fn a_new_request_that_gets_no_answer_for_want_of_time_is_not_read_and_one_of_a_dialog_is() {
    let mut world = ringing(1_000_000, 0);
    turns(&mut world, 3000, true);
    // Not to be read at all: no Via, and a broken CSeq.
    let broken =
        "INVITE sip:bob@example.com SIP/2.0\r\nTo: <sip:bob@example.com>\r\nCSeq: x\r\n\r\n";
    for _ in 0..1000 {
        world.udp(ALICE, broken);
    }
    let counters = world.engine.counters();
    assert!(counters.ignored > 900, "{}", counters.ignored);
    assert_eq!(counters.ignored + counters.malformed, 1000);
    let bye = world.udp(ALICE, &in_dialog("BYE", BOB_URI, ALICE, "b", ""));
    assert!(bye[0].first_line().starts_with("BYE "), "{}", bye[0].text);
}
