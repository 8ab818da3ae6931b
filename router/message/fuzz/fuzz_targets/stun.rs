//! Any bytes as a STUN request: an answer is whole, at most 84 bytes long, and never
//! answered itself.
#![no_main]

use libfuzzer_sys::fuzz_target;
use viaduct_message::stun::answer;

fuzz_target!(|bytes: &[u8]| {
    let mut out = Vec::new();
    if answer(bytes, ([192, 0, 2, 1], 5060).into(), &mut out) {
        assert!(out.len() >= 20 && out.len() <= 84 && out.len() % 4 == 0);
        let mut again = Vec::new();
        assert!(!answer(&out, ([192, 0, 2, 1], 5060).into(), &mut again) && again.is_empty());
    } else {
        assert!(out.is_empty());
    }
});
