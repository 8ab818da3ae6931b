//! Empty buffers for connections that have something to hold.
//!
//! Most connections of a registrar are silent. They hold no buffer; one that has half a message,
//! or bytes to write, borrows one from here and gives it back when it is empty.

/// Most buffers kept for reuse.
const BUFFERS: usize = 64;
/// A larger buffer is freed, not kept.
const BUFFER_BYTES: usize = 128 * 1024;

#[derive(Default)]
pub(super) struct Pool {
    free: Vec<Vec<u8>>,
}

impl Pool {
    /// Makes sure that `buffer` has capacity, from the pool where possible.
    pub(super) fn lend(&mut self, buffer: &mut Vec<u8>) {
        if buffer.capacity() == 0
            && let Some(spare) = self.free.pop()
        {
            *buffer = spare;
        }
    }

    /// Takes the capacity of an empty buffer back.
    pub(super) fn reclaim(&mut self, buffer: &mut Vec<u8>) {
        if !buffer.is_empty() || buffer.capacity() == 0 {
            return;
        }
        let spare = std::mem::take(buffer);
        if self.free.len() < BUFFERS && spare.capacity() <= BUFFER_BYTES {
            self.free.push(spare);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_goes_round_and_a_full_or_huge_one_does_not_enter() {
        let mut pool = Pool::default();
        let mut buffer = Vec::with_capacity(100);
        let place = buffer.as_ptr();
        pool.reclaim(&mut buffer);
        assert_eq!(buffer.capacity(), 0);
        let mut other = Vec::new();
        pool.lend(&mut other);
        assert_eq!(other.as_ptr(), place);
        other.push(1);
        pool.reclaim(&mut other);
        assert_eq!(other, [1]);
        pool.reclaim(&mut Vec::with_capacity(BUFFER_BYTES + 1));
        assert!(pool.free.is_empty());
    }
}
