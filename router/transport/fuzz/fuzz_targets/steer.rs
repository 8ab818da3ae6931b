//! Frames from anywhere at the steering program, whose source is compiled for user space here. It
//! reads nothing behind a frame, counts one verdict for each, and what it hands to a worker is what
//! the worker's own reader takes and the worker's own rule gives to it.
//!
//! Input: an octet for the number of workers, one for the queue, then the frame.
#![no_main]

use libfuzzer_sys::fuzz_target;
use viaduct_engine::shard;

// The reader of frames that were let through.
#[path = "../../src/xdp/checksum.rs"]
#[allow(dead_code)]
mod checksum;
#[path = "../../src/xdp/packet.rs"]
#[allow(dead_code)]
mod packet;

/// As in `shim/steer.c`.
#[repr(C)]
#[derive(Debug, Default)]
struct Outcome {
    action: u32,
    counted: u32,
    verdict: u32,
    place: u32,
}

const PASS: u32 = 2;
const DROP: u32 = 1;
const REDIRECT: u32 = 4;
const REDIRECTED: u32 = 0;
const NOBODY: u32 = u32::MAX;
/// Places of one queue in the table of sockets.
const WORKERS_MAX: u32 = 64;
/// Bytes of a message that are looked at.
const LOOKED_AT: usize = 2_048;

// SAFETY: `shim/steer.c` declares them so.
unsafe extern "C" {
    fn viaduct_steer(frame: *const u8, length: u32, queue: u32, workers: u32, out: *mut Outcome);
    fn viaduct_choose(message: *const u8, length: u32, workers: u32) -> u32;
}

fn steer(frame: &[u8], queue: u8, workers: u8) -> Outcome {
    let mut outcome = Outcome::default();
    let (queue, workers) = (queue.into(), workers.into());
    // SAFETY: the frame is as long as is said, and copied.
    unsafe { viaduct_steer(frame.as_ptr(), frame.len() as u32, queue, workers, &mut outcome) };
    outcome
}

fn choose(message: &[u8], workers: u8) -> u32 {
    // SAFETY: as above; it is read only.
    unsafe { viaduct_choose(message.as_ptr(), message.len() as u32, workers.into()) }
}

fuzz_target!(|bytes: &[u8]| {
    let [workers, queue, frame @ ..] = bytes else { return };
    let (workers, queue) = (workers % 64 + 1, queue % 64);
    let outcome = steer(frame, queue, workers);
    assert_eq!(outcome.counted, 1, "{outcome:?}");
    assert!([PASS, DROP, REDIRECT].contains(&outcome.action), "{outcome:?}");
    assert_eq!(outcome.action == REDIRECT, outcome.verdict == REDIRECTED, "{outcome:?}");
    assert_eq!(outcome.action == REDIRECT, outcome.place != NOBODY, "{outcome:?}");
    if outcome.action == REDIRECT {
        assert_eq!(outcome.place / WORKERS_MAX, queue.into());
        match packet::parse(frame) {
            Ok(parsed) => {
                assert_eq!(parsed.target.port(), 5060);
                is_the_owner(&frame[parsed.payload], workers, outcome.place % WORKERS_MAX);
            }
            Err(unfit) => assert_eq!(unfit, packet::Unfit::Checksum, "let through: {frame:02x?}"),
        }
    }
    // The other program has the message alone, wherever it came by.
    match choose(frame, workers) {
        NOBODY => {}
        worker => is_the_owner(frame, workers, worker),
    }
});

/// Whom the program names is whom the engine names, where both look at the whole message.
fn is_the_owner(message: &[u8], workers: u8, named: u32) {
    assert!(named < workers.into(), "worker {named} of {workers}");
    if message.len() <= LOOKED_AT {
        let owner = shard::owner(message, workers).map(u32::from);
        assert_eq!(Some(named), owner, "{}", message.escape_ascii());
    }
}
