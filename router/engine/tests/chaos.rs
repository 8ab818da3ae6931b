//! Random traffic against the engine: whatever comes in whatever order, nothing panics, every
//! request gets at most one final answer (but further 2xx to an INVITE), and when the traffic stops
//! everything ends. A failing case prints its seed.

// A test stops at what it did not expect.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod world;

use viaduct_engine::Input;
use world::game::{Dice, Seen, finish, step, world};
use world::{ALICE, World, request};

#[test]
fn whatever_comes_everything_ends_and_nobody_gets_two_final_answers() {
    for seed in 1..=200u64 {
        let mut dice = Dice::Seed(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut world = world(Dice::Seed(seed.wrapping_add(0x1234_5678)));
        let mut seen = Seen::default();
        for n in 0..120 {
            step(&mut world, &mut seen, &mut dice, n);
        }
        finish(&mut world, &mut seen, &format!("seed {seed}"));
    }
}

#[test]
fn mutilated_messages_cause_no_panic_and_no_state_that_stays() {
    for seed in 1..=300u64 {
        let mut dice = Dice::Seed(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut world = world(Dice::Seed(seed));
        for n in 0..40 {
            let method = ["INVITE", "REGISTER", "ACK", "CANCEL", "BYE", "OPTIONS"][dice.roll(6)];
            let extra = "Route: <sip:192.0.2.1;lr>, <sip:x@192.0.2.9;lr>\r\nContact: <sip:a@b>\r\n";
            let text = request(method, "sip:bob@example.com", ALICE, &format!("m{n}"), extra);
            let mut bytes = text.into_bytes();
            for _ in 0..dice.roll(6) {
                let at = dice.roll(bytes.len());
                match dice.roll(3) {
                    0 => bytes[at] = dice.roll(256) as u8,
                    1 => {
                        bytes.remove(at);
                    }
                    _ => bytes.insert(at, b",;<>\"\r\n:@ %\0"[dice.roll(12)]),
                }
            }
            let flow = World::flow(ALICE, viaduct_engine::Transport::Udp);
            world.input(Input::Message { flow, bytes: &bytes });
        }
        world.advance(800_000);
        assert_eq!(world.engine.transactions(), 0, "seed {seed}");
    }
}
