//! Transactions: requests, answers, retransmissions, CANCEL, ACK, lost packets and time, in an order
//! the input decides. Nobody gets two final answers, every INVITE gets one, everything ends.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/world/mod.rs"]
mod world;

use world::game::{Dice, Seen, finish, step};

/// Moves of one game.
const MOVES: u32 = 200;

fuzz_target!(|bytes: &[u8]| {
    let mut dice = Dice::Bytes(bytes.to_vec().into_iter());
    // What the policy does is no part of the input: it would shift the meaning of all that follows.
    let mut world = world::game::world(Dice::Seed(bytes.len() as u64 + 1));
    let mut seen = Seen::default();
    for n in 0..MOVES {
        if dice.is_used_up() {
            break;
        }
        step(&mut world, &mut seen, &mut dice, n);
    }
    finish(&mut world, &mut seen, "this input");
});
