//! Edits give what a slow model gives. Input: four bytes an edit (kind, offset, end, byte).
#![no_main]

use libfuzzer_sys::fuzz_target;
use viaduct_message::{Edits, Span};

const ORIGINAL: &[u8] = b"abcdefghijklmnopqrstuvwxyz";

fuzz_target!(|bytes: &[u8]| {
    let mut edits = Edits::new();
    let mut inserted = vec![Vec::new(); 32];
    let mut removed = [false; 32];
    for edit in bytes.chunks_exact(4).take(64) {
        let (at, end, text) = (edit[1] % 32, edit[2] % 32, &edit[3..]);
        let span = Span { start: at.into(), end: end.into() };
        match edit[0] % 3 {
            0 => edits.insert(at.into(), text),
            1 => edits.remove(span),
            _ => edits.replace(span, text),
        }
        if edit[0] % 3 != 0 {
            (at..end).for_each(|i| removed[usize::from(i)] = true);
        }
        if edit[0] % 3 != 1 {
            inserted[usize::from(at)].extend_from_slice(text);
        }
    }
    let mut model = Vec::new();
    for (i, inserted) in inserted.iter().enumerate() {
        model.extend_from_slice(inserted);
        model.extend(ORIGINAL.get(i).filter(|_| !removed[i]));
    }
    let mut out = Vec::new();
    edits.write(ORIGINAL, &mut out);
    assert_eq!(out, model);
});
