//! Frames do not depend on how the stream was chopped: the first byte gives the size of a piece.
#![no_main]

use libfuzzer_sys::fuzz_target;
use viaduct_message::framing::{Frame, StreamFramer};
use viaduct_message::{Fault, Limits};

const LIMITS: Limits = Limits { message_bytes: 4096, headers: 64 };

fuzz_target!(|bytes: &[u8]| {
    let Some((size, stream)) = bytes.split_first() else { return };
    let size = usize::from(*size).max(1);
    assert_eq!(lengths(stream, size), lengths(stream, stream.len().max(1)));
});

/// Lengths of the frames of a stream that comes in pieces of `size`, and how it ended.
fn lengths(stream: &[u8], size: usize) -> (Vec<u32>, Result<(), Fault>) {
    let mut framer = StreamFramer::new();
    let (mut begin, mut found) = (0, Vec::new());
    for end in (0..=stream.len()).step_by(size).chain([stream.len()]) {
        loop {
            match framer.next(&stream[begin..end], &LIMITS) {
                Ok(Frame::Message(span) | Frame::Ping(span) | Frame::Blank(span)) => {
                    assert!(span.start == 0 && span.end > 0);
                    begin += span.end as usize;
                    found.push(span.end);
                }
                Ok(Frame::Partial) => break,
                Err(fault) => return (found, Err(fault)),
            }
        }
    }
    (found, Ok(()))
}
