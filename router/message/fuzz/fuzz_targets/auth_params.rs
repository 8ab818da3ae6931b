//! Credentials and challenges: what is read is read alike by look-up and by listing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use viaduct_message::header::{AuthParams, unescape_quoted};

fuzz_target!(|bytes: &[u8]| {
    let Some(read) = AuthParams::parse(bytes) else { return };
    let all: Vec<_> = read.iter().collect();
    assert!((1..=32).contains(&all.len()));
    for (name, value) in all {
        assert!(!name.is_empty());
        let name = std::str::from_utf8(name).expect("a token is ASCII");
        assert_eq!(read.get(name), Some(value));
        assert!(unescape_quoted(value).len() <= value.len());
    }
});
