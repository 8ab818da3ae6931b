//! The facts that travel to a policy with the call: what it would be told if it asked.

// A test stops at what it did not expect.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod world;

use std::sync::{Arc, Mutex};

use viaduct_engine::run::Traits;
use viaduct_engine::{Phase, Run, Verdict};
use world::{ALICE, BOB, World, request, settings};

/// What one run was told, and what it is told where it asks.
#[derive(Clone, Copy, Debug)]
struct Told {
    phase: Phase,
    traits: Traits,
    behind_nat: bool,
}

/// Forwards everything to [`BOB`].
fn asking() -> (World, Arc<Mutex<Vec<Told>>>) {
    let told = Arc::new(Mutex::new(Vec::new()));
    let notes = Arc::clone(&told);
    let phases = [Phase::Request, Phase::Branch, Phase::Reply];
    let world = World::with(settings(), &phases, move |phase, run: &mut Run| {
        let names = "diff-ip-src-via,diff-ip-src-contact";
        let behind_nat = run.nat_test(names).unwrap();
        notes.lock().unwrap().push(Told { phase, traits: run.traits(), behind_nat });
        if phase != Phase::Request {
            return Ok(Verdict::Continue);
        }
        run.set_destination("sip:192.0.2.12:5064").unwrap();
        Ok(Verdict::Relay)
    });
    (world, told)
}

fn register(contact: &str) -> String {
    request("REGISTER", "sip:example.com", ALICE, "reg", contact)
}

#[test]
fn a_register_from_behind_nat_says_so_and_another_says_that_it_is_not() {
    let (here, elsewhere) = (ALICE, "10.0.0.1:5060");
    for (sent_by, contact, behind) in
        [(here, here, false), (here, elsewhere, true), (elsewhere, here, true)]
    {
        let (mut world, told) = asking();
        let message = register(&format!("Contact: <sip:alice@{contact}>\r\n")).replacen(
            &format!("UDP {ALICE}"),
            &format!("UDP {sent_by}"),
            1,
        );
        world.udp(ALICE, &message);
        let told = told.lock().unwrap();
        assert_eq!(told[0].behind_nat, behind, "{sent_by} {contact}");
        assert_eq!(told[0].traits.behind_nat, Some(behind));
    }
}

#[test]
fn where_no_contact_was_read_nothing_is_said_of_nat() {
    let (mut world, told) = asking();
    world.udp(ALICE, &register(""));
    world.udp(ALICE, &request("OPTIONS", "sip:bob@example.com", ALICE, "opt", ""));
    let told = told.lock().unwrap();
    assert_eq!(told.iter().filter(|told| told.phase == Phase::Request).count(), 2);
    assert!(told.iter().all(|told| told.traits.behind_nat.is_none()), "{told:?}");
}

/// Runs are used again, this one after the branch's: the facts of a request are not those of a response.
#[test]
fn a_reply_route_is_told_nothing_of_a_request() {
    let (mut world, told) = asking();
    let sent = world.udp(ALICE, &register(&format!("Contact: <sip:alice@{ALICE}>\r\n")));
    let sent = sent.iter().find(|s| s.method() == "REGISTER").unwrap();
    world.udp(BOB, &sent.answer(200, "OK", ""));
    let told = told.lock().unwrap();
    let phases: Vec<_> = told.iter().map(|told| told.phase).collect();
    assert_eq!(phases, [Phase::Request, Phase::Branch, Phase::Reply]);
    assert_ne!(told[1].traits, Traits::default());
    assert_eq!(told[2].traits, Traits::default());
}
