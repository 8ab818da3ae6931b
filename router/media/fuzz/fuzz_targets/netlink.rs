//! Any datagram in the place of the kernel module's: events are made of what says so, and of nothing
//! behind its end; what the first half says, the whole says too.
#![no_main]

use libfuzzer_sys::fuzz_target;
use viaduct_media::kernel::heard;

fuzz_target!(|bytes: &[u8]| {
    let all = heard(bytes);
    // Headers and the attribute that makes it an event.
    assert!(all.len() * 28 <= bytes.len());
    // As the kernel pads messages, so that a datagram can be cut behind one.
    let Some(len) = bytes.get(..4).and_then(|len| len.try_into().ok()) else { return };
    let len = usize::try_from(u32::from_ne_bytes(len)).unwrap_or(usize::MAX);
    let Some((first, rest)) = bytes.split_at_checked(len.next_multiple_of(4)) else { return };
    let mut apart = heard(first);
    // A message that ends the reading ends it in both.
    if first.len() < 16 || apart.is_empty() {
        return;
    }
    apart.extend(heard(rest));
    assert_eq!(apart.len(), all.len());
});
