//! The allocator, mimalloc: how it is asked for memory, how much it has before anybody calls, and how
//! long it keeps what has been freed.
//!
//! The only unsafe code of this crate: calls of the allocator's interface.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout};
use std::ffi::{c_long, c_void};
use std::fs;

use anyhow::{Context, ensure};
use libmimalloc_sys::{
    mi_free, mi_malloc, mi_malloc_aligned, mi_option_set, mi_option_set_default, mi_option_t,
    mi_realloc, mi_realloc_aligned, mi_zalloc, mi_zalloc_aligned,
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

/// Blocks that are touched at the start. So large that each has its pages to itself, which are free for
/// all sizes afterwards.
const TOUCHED_BYTES: usize = 8 << 20;
/// The smallest page of the systems we run on.
const PAGE_BYTES: usize = 4 << 10;

/// Takes `mib` MiB, touches every page and keeps it at hand, so that whoever calls does not wait for the
/// kernel to find and clear one; 0 is nothing. From then on nothing that is freed is given back. What
/// does not fit is taken as it is used, as without.
///
/// # Errors
/// The system has not so much to give. A limit of a control group is not looked at: beyond it the kernel
/// ends the process.
pub fn reserve(mib: usize) -> anyhow::Result<()> {
    if mib == 0 {
        return Ok(());
    }
    // Touched beyond what there is, the kernel would end processes instead of saying no.
    let free_mib = available_mib()?;
    ensure!(mib < free_mib, "{mib} MiB are wanted, of {free_mib} MiB that the system has to give");
    // SAFETY: it stores a number in a table of the allocator: never give back.
    unsafe { mi_option_set(PURGE_DELAY, -1) }
    let wanted = mib.div_ceil(TOUCHED_BYTES >> 20);
    let mut blocks: Vec<*mut u8> = Vec::with_capacity(wanted);
    for _ in 0..wanted {
        // SAFETY: bytes are written within the block, if there is one.
        unsafe {
            let block = mi_malloc(TOUCHED_BYTES).cast::<u8>();
            if block.is_null() {
                break;
            }
            blocks.push(block);
            (0..TOUCHED_BYTES).step_by(PAGE_BYTES).for_each(|at| block.add(at).write_volatile(0));
        }
    }
    let all = blocks.len() == wanted;
    for block in blocks {
        // SAFETY: the block is from there, and is given back once.
        unsafe { mi_free(block.cast()) }
    }
    ensure!(all, "the system gives less than {mib} MiB");
    Ok(())
}

/// What the system could give without swapping, by its own estimate.
fn available_mib() -> anyhow::Result<usize> {
    let table = fs::read_to_string("/proc/meminfo").context("/proc/meminfo")?;
    let line = table.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<usize>().ok());
    Ok(kib.context("/proc/meminfo does not say what is available")? / 1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use libmimalloc_sys::mi_option_get;

    fn resident_kib() -> usize {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
    }

    fn delay_ms() -> c_long {
        // SAFETY: it reads a number of a table of the allocator.
        unsafe { mi_option_get(PURGE_DELAY) }
    }

    /// One test for both, as they set the same number for the whole process.
    #[test]
    fn freed_pages_are_kept_for_a_minute_and_reserved_ones_for_good() {
        // The default, which no other option has: this is the one that is meant.
        assert_eq!(delay_ms(), 1_000);
        keep_freed();
        assert_eq!(delay_ms(), KEPT_MS);
        reserved_memory_is_there();
        assert_eq!(delay_ms(), -1);
    }

    /// Before it is used, and blocks of any thread are made of it.
    fn reserved_memory_is_there() {
        const MIB: usize = 128;
        let before = resident_kib();
        reserve(MIB).unwrap();
        let reserved = resident_kib();
        assert!(reserved >= before + MIB * 1024, "{before} KiB, then {reserved} KiB");
        let layout = Layout::from_size_align(2_000, 8).unwrap();
        let used = std::thread::spawn(move || {
            // SAFETY: the layout is not empty; bytes are written within the blocks, which are given back
            // once.
            unsafe {
                let blocks: Vec<*mut u8> = (0..30_000).map(|_| Allocator.alloc(layout)).collect();
                for block in &blocks {
                    block.write_bytes(1, layout.size());
                }
                let used = resident_kib();
                for block in blocks {
                    Allocator.dealloc(block, layout);
                }
                used
            }
        });
        let used = used.join().unwrap();
        // 57 MiB of blocks would show; what other tests do meanwhile does not.
        assert!(used < reserved + 30 * 1024, "{reserved} KiB, then {used} KiB");
    }

    #[test]
    fn more_than_the_system_has_is_refused_before_it_is_touched() {
        let error = reserve(1 << 20).unwrap_err().to_string();
        assert!(error.starts_with("1048576 MiB are wanted, of "), "{error}");
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
