//! Bump allocation with a mark: the arithmetic, without the memory. `allocator.rs` lays it over the
//! guest's linear memory.
//!
//! Blocks are handed out one after the other. A run's memory comes back all at once, when its last
//! block is freed; in between only the newest block can grow, shrink or return. What is still alive
//! when the next run begins (something a `static` holds) is kept for good: its place is never
//! handed out again. So nothing is ever reused while something points to it, whatever a policy
//! does, and a policy that hoards costs memory, which has a limit, never correctness.

/// Addresses of one arena. `start <= top <= end`.
pub(crate) struct Arena {
    /// First address of this run; below lies what former runs have left alive.
    start: usize,
    /// Next free address.
    top: usize,
    /// End of the memory there is.
    end: usize,
    /// Blocks of this run that are not freed yet.
    alive: usize,
}

impl Arena {
    /// An arena without memory: the first block asks `grow` for it.
    pub(crate) const fn empty() -> Arena {
        Arena {
            start: 0,
            top: 0,
            end: 0,
            alive: 0,
        }
    }

    /// Has it been given memory?
    pub(crate) fn is_empty(&self) -> bool {
        self.end == 0
    }

    /// Lays the arena over `start..end`.
    pub(crate) fn lay_over(&mut self, start: usize, end: usize) {
        *self = Arena {
            start,
            top: start,
            end: end.max(start),
            alive: 0,
        };
    }

    /// A run begins: what is alive now is kept for good.
    pub(crate) fn begin_run(&mut self) {
        if self.alive > 0 {
            self.start = self.top;
            self.alive = 0;
        }
    }

    /// Address of a new block; `align` is a power of two. `grow(bytes)` adds at least that much
    /// memory behind the end and gives the new end.
    pub(crate) fn take(
        &mut self,
        size: usize,
        align: usize,
        grow: impl FnOnce(usize) -> Option<usize>,
    ) -> Option<usize> {
        let address = self.top.checked_next_multiple_of(align)?;
        self.reach(address.checked_add(size)?, grow)?;
        self.alive = self.alive.checked_add(1)?;
        Some(address)
    }

    /// Gives a block back.
    pub(crate) fn give_back(&mut self, address: usize, size: usize) {
        if address < self.start {
            return; // of a former run, kept for good
        }
        self.alive = self.alive.saturating_sub(1);
        if self.alive == 0 {
            self.top = self.start;
        } else if address.checked_add(size) == Some(self.top) {
            self.top = address;
        }
    }

    /// Makes a block `new` bytes long where it stands; `None`: it must move.
    pub(crate) fn resize(
        &mut self,
        address: usize,
        old: usize,
        new: usize,
        grow: impl FnOnce(usize) -> Option<usize>,
    ) -> Option<()> {
        let newest = address >= self.start && address.checked_add(old) == Some(self.top);
        if !newest {
            return if new <= old { Some(()) } else { None };
        }
        self.reach(address.checked_add(new)?, grow)
    }

    fn reach(&mut self, top: usize, grow: impl FnOnce(usize) -> Option<usize>) -> Option<()> {
        if top > self.end {
            self.end = grow(top - self.end).filter(|end| *end >= top)?;
        }
        self.top = top;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMORY_END: usize = 1 << 16;

    fn arena() -> Arena {
        let mut arena = Arena::empty();
        assert!(arena.is_empty());
        arena.lay_over(100, 200);
        arena
    }

    fn grow_from(end: usize) -> impl FnOnce(usize) -> Option<usize> {
        move |bytes| Some(end + bytes).filter(|end| *end <= MEMORY_END)
    }

    fn none(_: usize) -> Option<usize> {
        None
    }

    #[test]
    fn a_run_that_frees_all_leaves_the_arena_as_it_was() {
        let mut arena = arena();
        for _ in 0..10_000 {
            arena.begin_run();
            let first = arena.take(10, 1, none).unwrap();
            let second = arena.take(20, 8, none).unwrap();
            assert_eq!((first, second), (100, 112));
            arena.give_back(first, 10);
            arena.give_back(second, 20);
        }
    }

    #[test]
    fn what_outlives_a_run_is_never_handed_out_again() {
        let mut arena = arena();
        let kept = arena.take(10, 1, none).unwrap();
        for _ in 0..3 {
            arena.begin_run();
            let block = arena.take(8, 1, none).unwrap();
            assert!(block >= kept + 10);
            arena.give_back(block, 8);
        }
        // Freed late, it neither frees the run's own block nor makes the count wrong.
        let block = arena.take(8, 1, none).unwrap();
        arena.give_back(kept, 10);
        assert_eq!(arena.take(8, 1, none), Some(block + 8));
    }

    #[test]
    fn the_newest_block_grows_in_place_others_move() {
        let mut arena = arena();
        let first = arena.take(10, 1, none).unwrap();
        assert_eq!(arena.resize(first, 10, 30, none), Some(()));
        let second = arena.take(10, 1, none).unwrap();
        assert_eq!(second, first + 30);
        assert_eq!(arena.resize(first, 30, 31, none), None);
        assert_eq!(arena.resize(first, 30, 5, none), Some(()));
    }

    #[test]
    fn memory_is_grown_by_what_is_missing_and_no_more_than_there_is() {
        let mut arena = arena();
        assert_eq!(arena.take(150, 1, |bytes| Some(200 + bytes)), Some(100));
        assert_eq!(arena.take(MEMORY_END, 1, grow_from(250)), None);
        assert_eq!(arena.take(usize::MAX, 1, none), None);
        assert_eq!(arena.take(1, 1, grow_from(250)), Some(250));
    }

    /// Any order of taking, freeing, resizing and runs: blocks alive never overlap.
    #[test]
    fn blocks_alive_never_overlap() {
        let mut arena = arena();
        let mut blocks: Vec<(usize, usize)> = Vec::new();
        let mut seed = 1u64;
        let mut random = |below: usize| {
            seed = seed
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (seed >> 33) as usize % below
        };
        for _ in 0..20_000 {
            let (size, align, choice) = (1 + random(40), 1 << random(5), random(8));
            let end = arena.end;
            match choice {
                0..3 => {
                    let Some(address) = arena.take(size, align, grow_from(end)) else {
                        break;
                    };
                    assert_eq!(address % align, 0);
                    blocks.push((address, size));
                }
                3 => arena.begin_run(),
                4 if !blocks.is_empty() => {
                    let which = random(blocks.len());
                    let (address, old) = blocks[which];
                    if arena.resize(address, old, size, grow_from(end)).is_some() {
                        blocks[which].1 = size;
                    }
                }
                _ if !blocks.is_empty() => {
                    let (address, size) = blocks.swap_remove(random(blocks.len()));
                    arena.give_back(address, size);
                }
                _ => {}
            }
            let mut sorted = blocks.clone();
            sorted.sort_unstable();
            assert!(
                sorted
                    .windows(2)
                    .all(|pair| pair[0].0 + pair[0].1 <= pair[1].0)
            );
        }
    }
}
