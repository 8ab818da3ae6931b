//! How a policy compares texts: `memcmp`, which every `==` and `<` of strings and slices calls. The one
//! Rust brings for wasm32 takes a byte at a time, and as fuel is counted at each turn that is some 40
//! machine instructions a byte. This one takes eight.
#![cfg_attr(target_arch = "wasm32", allow(unsafe_code))]

use core::cmp::Ordering;

/// Takes the place of the standard library's, in the policy and all it is linked with.
///
/// # Safety
/// `a` and `b` point to `length` bytes each, as C's memcmp asks.
#[cfg(target_arch = "wasm32")]
#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, length: usize) -> i32 {
    // SAFETY: the caller promises so many readable bytes at both; nothing writes to them meanwhile, as a
    // policy has one thread.
    let (a, b) = unsafe {
        (
            core::slice::from_raw_parts(a, length),
            core::slice::from_raw_parts(b, length),
        )
    };
    order(a, b) as i32
}

/// Which of two texts of the same length comes first. It may not compare slices: that would be itself.
#[inline]
fn order(a: &[u8], b: &[u8]) -> Ordering {
    if let (Some(a_last), Some(b_last)) = (a.last_chunk::<8>(), b.last_chunk::<8>()) {
        for (a, b) in a.as_chunks::<8>().0.iter().zip(b.as_chunks::<8>().0) {
            if u64::from_ne_bytes(*a) != u64::from_ne_bytes(*b) {
                return u64::from_be_bytes(*a).cmp(&u64::from_be_bytes(*b));
            }
        }
        // What of these has been compared is the same in both.
        return u64::from_be_bytes(*a_last).cmp(&u64::from_be_bytes(*b_last));
    }
    if let (Some(a_last), Some(b_last)) = (a.last_chunk::<4>(), b.last_chunk::<4>())
        && let (Some(a), Some(b)) = (a.first_chunk::<4>(), b.first_chunk::<4>())
    {
        let (a, b) = (u32::from_be_bytes(*a), u32::from_be_bytes(*b));
        let last = || u32::from_be_bytes(*a_last).cmp(&u32::from_be_bytes(*b_last));
        return a.cmp(&b).then_with(last);
    }
    for (a, b) in a.iter().zip(b) {
        if a != b {
            return a.cmp(b);
        }
    }
    Ordering::Equal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_ordered_as_slices_are_at_every_length_and_place_of_difference() {
        let text: Vec<u8> = (0..40u8).map(|n| n.wrapping_mul(37)).collect();
        for length in 0..=text.len() {
            let a = &text[..length];
            assert_eq!(order(a, a), Ordering::Equal);
            for at in 0..length {
                for by in [1, 0x7f, 0x80, 0xff] {
                    let mut b = a.to_vec();
                    b[at] = b[at].wrapping_add(by);
                    // What comes behind the first difference does not count.
                    b[at + 1..].reverse();
                    assert_eq!(order(a, &b), a.cmp(&b), "{a:?} {b:?}");
                    assert_eq!(order(&b, a), b[..].cmp(a), "{a:?} {b:?}");
                }
            }
        }
    }
}
