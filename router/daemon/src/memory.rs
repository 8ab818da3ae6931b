//! How long the allocator keeps what has been freed.
//!
//! The only unsafe code of this crate: one call of the allocator's interface.
#![allow(unsafe_code)]

use std::ffi::c_long;

use libmimalloc_sys::{mi_option_set_default, mi_option_t};

/// `mi_option_purge_delay`, for which the binding has no name.
const PURGE_DELAY: mi_option_t = 15;
/// Freed pages go back to the system after this long. Calls come and go, and a page given back
/// after a second, the allocator's default, is asked for again in the next one: with zeroing and
/// faults that was a tenth of what a call cost. Longer than most transactions live (Timer J, 32 s).
const KEPT_MS: c_long = 60_000;

/// Keeps freed pages for a minute, unless `MIMALLOC_PURGE_DELAY` in the environment says otherwise.
pub fn keep_freed() {
    // SAFETY: it stores a number in a table of the allocator, under a number that is in the table
    // (the test below fails where another version has another option there).
    unsafe { mi_option_set_default(PURGE_DELAY, KEPT_MS) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use libmimalloc_sys::mi_option_get;

    #[test]
    fn freed_pages_are_kept_for_a_minute() {
        // SAFETY: it reads a number of a table of the allocator.
        let delay_ms = || unsafe { mi_option_get(PURGE_DELAY) };
        // The default, which no other option has: this is the one that is meant.
        assert_eq!(delay_ms(), 1_000);
        keep_freed();
        assert_eq!(delay_ms(), KEPT_MS);
    }
}
