//! Any bytes as a session description: what is read and not changed comes out as it went in; what
//! is moved is where it was moved to, and nothing else is.
#![no_main]

use libfuzzer_sys::fuzz_target;
use viaduct_media::sdp::{At, Ice, Rewrite, Sdp};

fuzz_target!(|bytes: &[u8]| {
    let Ok(sdp) = Sdp::read(bytes) else { return };
    let same = sdp.rewrite(&Rewrite { ice: Ice::Keep, ..Rewrite::default() }).unwrap();
    assert_eq!(same, bytes);

    let at = At { rtp: ([192, 0, 2, 1], 30_000).into(), rtcp: ([192, 0, 2, 1], 30_001).into() };
    let all = vec![Some(at); sdp.media.len()];
    let Ok(moved) = sdp.rewrite(&Rewrite { at: &all, ..Rewrite::default() }) else { return };
    let again = Sdp::read(&moved).unwrap();
    assert_eq!(again.media.len(), sdp.media.len());
    for (before, after) in sdp.media.iter().zip(&again.media) {
        assert_eq!(before.direction, after.direction);
        if before.is_relayable() {
            assert!(after.peer().is_none_or(|peer| peer == at.rtp));
        } else {
            assert_eq!(before.peer(), after.peer());
        }
    }
});
