//! The allocator, mimalloc: how it is asked for memory, and how long it keeps what has been freed.
//!
//! The only unsafe code of this crate: calls of the allocator's interface.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout};
use std::ffi::{c_long, c_void};

use libmimalloc_sys::{
    mi_free, mi_malloc, mi_malloc_aligned, mi_option_set_default, mi_option_t, mi_realloc,
    mi_realloc_aligned, mi_zalloc, mi_zalloc_aligned,
};

/// What every block of that size or more is aligned to, as the C standard wants of `malloc`.
const NATURAL: usize = 16;

/// mimalloc. A REGISTER makes and frees a handful of small blocks; that takes half the time it takes the
/// C library's.
///
/// Its own binding names the alignment with each block. That takes a slow path in which all sizes
/// but powers of two are rounded up to leave room for it, so a block of 48 bytes costs 64. Hardly a
/// type needs more than blocks have anyway.
#[derive(Clone, Copy, Debug, Default)]
pub struct Allocator;

/// Is a block of this layout aligned without being asked for it?
const fn is_natural(align: usize, size: usize) -> bool {
    align <= NATURAL && align <= size
}

// SAFETY: blocks are as large as asked for, by the allocator's interface, and aligned: either that
// is asked for, or the size and alignment are such that blocks always are (`is_natural`; the test
// below asks for all of those). One function frees and grows blocks of either kind.
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let (size, align) = (layout.size(), layout.align());
        // SAFETY: the alignment is a power of two, as a layout's is.
        let block = unsafe {
            if is_natural(align, size) { mi_malloc(size) } else { mi_malloc_aligned(size, align) }
        };
        block.cast()
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let (size, align) = (layout.size(), layout.align());
        // SAFETY: the alignment is a power of two, as a layout's is.
        let block = unsafe {
            if is_natural(align, size) { mi_zalloc(size) } else { mi_zalloc_aligned(size, align) }
        };
        block.cast()
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, _layout: Layout) {
        // SAFETY: the caller has it from here, and has not given it back.
        unsafe { mi_free(block.cast::<c_void>()) }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let align = layout.align();
        // SAFETY: the caller has the block from here; the alignment is a layout's.
        let block = unsafe {
            if is_natural(align, size) {
                mi_realloc(block.cast(), size)
            } else {
                mi_realloc_aligned(block.cast(), size, align)
            }
        };
        block.cast()
    }
}

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

    /// Takes blocks of each size and alignment, grows them, and gives them back.
    #[test]
    fn blocks_are_aligned_as_large_as_asked_for_and_keep_their_bytes() {
        let sizes = (1..600).chain([1000, 1024, 4000, 4096, 5000, 70_000, 1_000_000]);
        for (size, align) in sizes.flat_map(|size| (0..8).map(move |bits| (size, 1usize << bits))) {
            let layout = Layout::from_size_align(size, align).unwrap();
            let grown = Layout::from_size_align(size + size / 2 + 1, align).unwrap();
            // SAFETY: no layout is empty; bytes are read and written within the blocks, which are
            // given back once.
            unsafe {
                let several: [*mut u8; 3] = std::array::from_fn(|_| Allocator.alloc(layout));
                for (mark, block) in several.into_iter().enumerate() {
                    assert!(!block.is_null() && block.addr().is_multiple_of(align), "{layout:?}");
                    block.write_bytes(mark as u8 + 1, size);
                }
                for (mark, block) in several.into_iter().enumerate() {
                    let block = Allocator.realloc(block, layout, grown.size());
                    assert!(!block.is_null() && block.addr().is_multiple_of(align), "{grown:?}");
                    let kept = std::slice::from_raw_parts(block, size);
                    assert!(kept.iter().all(|byte| usize::from(*byte) == mark + 1), "{layout:?}");
                    block.write_bytes(0xff, grown.size());
                    Allocator.dealloc(block, grown);
                }
                let zeroed = Allocator.alloc_zeroed(layout);
                assert!(!zeroed.is_null() && zeroed.addr().is_multiple_of(align), "{layout:?}");
                assert!(std::slice::from_raw_parts(zeroed, size).iter().all(|byte| *byte == 0));
                Allocator.dealloc(zeroed, layout);
            }
        }
    }
}
