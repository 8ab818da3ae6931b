//! The allocator of a policy: an arena (`arena.rs`) over the guest's linear memory. A run allocates
//! by moving one address, and all its memory comes back when its last block is freed; that of a verdict's
//! text, which the router has still to read, when the next run begins (`entry.rs`). Strings the router
//! hands to the guest come through `cabi_realloc`, which uses this allocator too.
//!
//! Within one run only the newest block comes back early, which suits runs of microseconds. Tests
//! run for long, so they are built with std's allocator instead.
//!
//! The only module of this crate with `unsafe` code of its own.
#![cfg_attr(
    all(target_arch = "wasm32", not(feature = "testing")),
    allow(unsafe_code)
)]

pub(crate) use imp::begin_run;

#[cfg(any(not(target_arch = "wasm32"), feature = "testing"))]
mod imp {
    /// Nothing to do: std's allocator serves.
    pub(crate) fn begin_run() {}
}

#[cfg(all(target_arch = "wasm32", not(feature = "testing")))]
mod imp {
    use core::alloc::{GlobalAlloc, Layout};
    use core::cell::UnsafeCell;
    use core::{arch::wasm32, ptr};

    use crate::arena::Arena;

    #[cfg(target_feature = "atomics")]
    compile_error!("a policy has one thread; its allocator has no lock");

    const PAGE_BYTES: usize = 65_536;

    struct GuestAllocator(UnsafeCell<Arena>);

    // SAFETY: a policy is compiled without threads (checked above), so there is no second one to
    // share it with.
    unsafe impl Sync for GuestAllocator {}

    #[global_allocator]
    static ALLOCATOR: GuestAllocator = GuestAllocator(UnsafeCell::new(Arena::empty()));

    unsafe extern "C" {
        /// Set by the linker: where stack and static data end.
        static __heap_base: u8;
    }

    impl GuestAllocator {
        fn with<R>(&self, work: impl FnOnce(&mut Arena) -> R) -> R {
            // SAFETY: one thread, and neither `work` nor `grow` below allocates or calls `with`, so
            // this is the only reference while it lives.
            let arena = unsafe { &mut *self.0.get() };
            if arena.is_empty() {
                arena.lay_over(&raw const __heap_base as usize, memory_end());
            }
            work(arena)
        }
    }

    fn memory_end() -> usize {
        wasm32::memory_size::<0>().saturating_mul(PAGE_BYTES)
    }

    fn grow(bytes: usize) -> Option<usize> {
        match wasm32::memory_grow::<0>(bytes.div_ceil(PAGE_BYTES)) {
            usize::MAX => None, // over the limit of the manifest
            _ => Some(memory_end()),
        }
    }

    pub(crate) fn begin_run() {
        ALLOCATOR.with(Arena::begin_run);
    }

    // SAFETY: the arena hands out addresses from `__heap_base` up to the end of linear memory,
    // aligned as asked, and none twice while it is alive (see the tests of arena.rs). Nothing else
    // uses that memory: the stack and static data lie below, and no other code grows it.
    unsafe impl GlobalAlloc for GuestAllocator {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            let address = self.with(|arena| arena.take(layout.size(), layout.align(), grow));
            address.map_or(ptr::null_mut(), |address| address as *mut u8)
        }

        unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
            self.with(|arena| arena.give_back(block as usize, layout.size()));
        }

        unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
            let old_size = layout.size();
            let stays = self.with(|arena| arena.resize(block as usize, old_size, new_size, grow));
            if stays.is_some() {
                return block;
            }
            // SAFETY: the caller promises that `new_size`, rounded up to the alignment, fits isize,
            // and that the alignment is one of a layout.
            let new_layout = unsafe { Layout::from_size_align_unchecked(new_size, layout.align()) };
            // SAFETY: `new_size` is not zero by the contract of `realloc`.
            let new_block = unsafe { self.alloc(new_layout) };
            if !new_block.is_null() {
                // SAFETY: two blocks alive, hence apart, both at least the smaller size long.
                unsafe { ptr::copy_nonoverlapping(block, new_block, old_size.min(new_size)) };
                // SAFETY: `block` was allocated with `layout`, says the caller.
                unsafe { self.dealloc(block, layout) };
            }
            new_block
        }
    }
}
