//! Any messages, one behind the other with two NULs between: whatever the engine makes of them, what
//! it sends can be read, and nothing stays.
#![no_main]

use libfuzzer_sys::fuzz_target;
use viaduct_engine::{Input, Transport};
use viaduct_message::{Head, Limits};

#[path = "../../tests/world/mod.rs"]
mod world;

use world::game::Dice;
use world::{ALICE, BOB, World};

fuzz_target!(|bytes: &[u8]| {
    let mut world = world::game::world(Dice::Seed(bytes.len() as u64 + 1));
    let mut rest = bytes;
    for (n, from) in [ALICE, BOB].into_iter().cycle().take(16).enumerate() {
        if rest.is_empty() {
            break;
        }
        let end = rest.windows(2).position(|two| two == b"\0\0");
        let message = &rest[..end.unwrap_or(rest.len())];
        rest = end.map_or(&[][..], |end| &rest[end + 2..]);
        let transport = if n % 4 < 2 { Transport::Udp } else { Transport::Tcp };
        let flow = World::flow(from, transport);
        for sent in world.input(Input::Message { flow, bytes: message }) {
            let mut head = Head::new();
            let read = head.scan(sent.text.as_bytes(), &Limits::default());
            assert_eq!(read, Ok(()), "{}", sent.text);
        }
    }
    world.advance(800_000);
    assert_eq!(world.engine.transactions(), 0, "something never ends");
});
