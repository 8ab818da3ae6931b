//! Two URIs, split at the first NUL: equivalent ones are so both ways and share their AoR.
#![no_main]

use libfuzzer_sys::fuzz_target;
use viaduct_message::uri::{equivalent, unescape, write_aor};
use viaduct_message::{NameAddr, Uri};

fuzz_target!(|bytes: &[u8]| {
    let at = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    let (a, b) = (&bytes[..at], bytes.get(at + 1..).unwrap_or_default());
    let same = equivalent(a, b);
    assert_eq!(same, equivalent(b, a));
    assert!(equivalent(a, a));
    let _ = NameAddr::parse(bytes);
    unescape(bytes, &mut Vec::new());
    if let (Ok(a), Ok(b)) = (Uri::parse(a), Uri::parse(b)) {
        let (left, right) = (aor(&a), aor(&b));
        assert!(left.iter().all(u8::is_ascii_graphic));
        assert!(!same || left == right);
    }
});

fn aor(uri: &Uri<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    write_aor(uri, false, &mut out);
    out
}
