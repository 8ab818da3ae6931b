//! Which nonces were used with which nonce-count, so that nobody can send a request again that he
//! has overheard (RFC 7616 3.4, 5.12).
//!
//! Counts may come out of order, as datagrams do: of each nonce the highest and the 63 below it are
//! remembered. A nonce is kept while it is accepted; where the table is full, the one taken up
//! first is forgotten, and all nonces as old as it that are not in the table are then *stale*: the
//! phone gets a new one and asks again. So the bound costs a round trip, never the protection.
//! Nonces from before a start are treated alike.

use std::collections::VecDeque;

use hashbrown::HashMap;
use parking_lot::Mutex;

use super::nonce::Nonce;

/// Tables with a lock each.
const SHARDS: usize = 16;
/// Counts remembered below the highest, and it.
const WINDOW: u32 = 64;
/// Requests remembered of each nonce, to know their retransmissions.
const RECENT: usize = 2;
/// How long a request may be retransmitted: 64*T1 (RFC 3261 17.1.2.2).
const RETRANSMITTED_MS: u64 = 32_000;

/// What a use of a nonce came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// The count is new.
    First,
    /// The same request with the same count has just come: its retransmission.
    Retransmission,
    /// Used before, or too far below the highest.
    Again,
    /// Whether it was used is not known any more.
    Forgotten,
}

/// One use of a nonce.
#[derive(Clone, Copy, Debug)]
pub struct Attempt {
    /// Which.
    pub nonce: Nonce,
    /// Its count.
    pub count: u32,
    /// A keyed hash of all of the request and where it came from; the same for a retransmission
    /// alone.
    pub request: u64,
    /// May it be a retransmission? Those of an INVITE never come this far.
    pub may_repeat: bool,
}

/// The table, shared by all workers.
pub struct Replay {
    shards: [Mutex<Shard>; SHARDS],
    most_per_shard: usize,
}

struct Shard {
    known: HashMap<Nonce, Counts, ahash::RandomState>,
    /// In the order they were taken up.
    order: VecDeque<Nonce>,
    /// Nonces issued until then are stale unless they are known.
    floor_ms: u64,
}

#[derive(Clone, Copy, Default)]
struct Counts {
    highest: u32,
    /// Bit n: `highest - n` was used.
    used: u64,
    /// Latest first.
    recent: [Recent; RECENT],
}

#[derive(Clone, Copy, Default)]
struct Recent {
    count: u32,
    request: u64,
    at_ms: u64,
}

impl Replay {
    /// An empty table for about `most` nonces. Nonces issued before `start_ms` are stale. `seed`
    /// spreads the hashes.
    pub fn new(most: usize, start_ms: u64, seed: u64) -> Replay {
        let shard = || {
            Mutex::new(Shard {
                known: HashMap::with_hasher(ahash::RandomState::with_seeds(seed, 4, 5, 6)),
                order: VecDeque::new(),
                floor_ms: start_ms,
            })
        };
        Replay {
            shards: std::array::from_fn(|_| shard()),
            most_per_shard: most.div_ceil(SHARDS).max(1),
        }
    }

    /// Uses a nonce that was found to be ours and young enough; `life_ms` is how long it is.
    pub fn take(&self, attempt: &Attempt, now_ms: u64, life_ms: u64) -> Use {
        let number = attempt.nonce.number as usize % SHARDS;
        let Some(shard) = self.shards.get(number) else { return Use::Forgotten };
        let mut shard = shard.lock();
        if let Some(counts) = shard.known.get_mut(&attempt.nonce) {
            return counts.take(attempt, now_ms);
        }
        if attempt.nonce.issued_ms <= shard.floor_ms {
            return Use::Forgotten;
        }
        shard.make_room(self.most_per_shard, now_ms.saturating_sub(life_ms));
        let mut counts = Counts { highest: attempt.count, used: 1, ..Counts::default() };
        counts.remember(attempt, now_ms);
        shard.known.insert(attempt.nonce, counts);
        shard.order.push_back(attempt.nonce);
        Use::First
    }

    /// Nonces in the table.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().known.len()).fold(0, usize::saturating_add)
    }

    /// Not one.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Shard {
    /// Forgets what is too old to be accepted, and the first where there is still no room.
    fn make_room(&mut self, most: usize, dead_ms: u64) {
        while let Some(first) = self.order.front() {
            let full = self.order.len() >= most;
            if !full && first.issued_ms >= dead_ms {
                return;
            }
            self.floor_ms = self.floor_ms.max(first.issued_ms);
            self.known.remove(first);
            self.order.pop_front();
        }
    }
}

impl Counts {
    fn take(&mut self, attempt: &Attempt, now_ms: u64) -> Use {
        let count = attempt.count;
        if count > self.highest {
            let up = count.saturating_sub(self.highest);
            self.used = self.used.checked_shl(up).unwrap_or(0) | 1;
            self.highest = count;
        } else {
            let below = self.highest.saturating_sub(count);
            let bit = 1u64.checked_shl(below).filter(|_| below < WINDOW);
            match bit {
                Some(bit) if self.used & bit == 0 => self.used |= bit,
                _ if self.is_recent(attempt, now_ms) => return Use::Retransmission,
                _ => return Use::Again,
            }
        }
        self.remember(attempt, now_ms);
        Use::First
    }

    fn is_recent(&self, attempt: &Attempt, now_ms: u64) -> bool {
        attempt.may_repeat
            && self.recent.iter().any(|recent| {
                recent.count == attempt.count
                    && recent.request == attempt.request
                    && now_ms.saturating_sub(recent.at_ms) <= RETRANSMITTED_MS
            })
    }

    fn remember(&mut self, attempt: &Attempt, now_ms: u64) {
        self.recent.rotate_right(1);
        if let Some(first) = self.recent.first_mut() {
            *first = Recent { count: attempt.count, request: attempt.request, at_ms: now_ms };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    const START_MS: u64 = 1_000_000;
    const LIFE_MS: u64 = 300_000;

    fn nonce(age: u64) -> Nonce {
        Nonce { issued_ms: START_MS + age, number: 0 }
    }

    fn attempt(nonce: Nonce, count: u32, request: u64) -> Attempt {
        Attempt { nonce, count, request, may_repeat: true }
    }

    #[test]
    fn rfc_7616_3_4_a_count_is_taken_once_and_in_any_near_order() {
        let replay = Replay::new(100, START_MS, 1);
        let take = |count| {
            let attempt = attempt(nonce(1), count, u64::from(count));
            replay.take(&Attempt { may_repeat: false, ..attempt }, START_MS + 2, LIFE_MS)
        };
        for count in [1, 3, 2, 70, 8, 7, u32::MAX] {
            assert_eq!(take(count), Use::First, "{count}");
        }
        for count in [1, 2, 3, 6, 7, 8, 70, u32::MAX, u32::MAX - 64, 0] {
            assert_eq!(take(count), Use::Again, "{count}");
        }
        assert_eq!(take(u32::MAX - 63), Use::First);
    }

    #[test]
    fn rfc_3261_17_1_2_2_a_retransmission_is_no_replay_while_it_can_be_one() {
        let replay = Replay::new(100, START_MS, 1);
        let first = attempt(nonce(1), 1, 77);
        let later = START_MS + 10;
        assert_eq!(replay.take(&first, later, LIFE_MS), Use::First);
        assert_eq!(replay.take(&first, later + 32_000, LIFE_MS), Use::Retransmission);
        assert_eq!(replay.take(&first, later + 32_001, LIFE_MS), Use::Again);
        let other = attempt(nonce(1), 1, 78);
        assert_eq!(replay.take(&other, later, LIFE_MS), Use::Again, "another request, same count");
        let invite = Attempt { may_repeat: false, ..first };
        assert_eq!(replay.take(&invite, later, LIFE_MS), Use::Again);
    }

    #[test]
    fn a_full_table_forgets_nonces_and_never_takes_one_twice() {
        let replay = Replay::new(2 * SHARDS, START_MS, 1);
        let take = |age, now| replay.take(&attempt(nonce(age), 1, age), now, LIFE_MS);
        let now = START_MS + 10;
        assert_eq!(take(5, now), Use::First);
        assert_eq!(take(1, now), Use::First);
        assert_eq!(take(6, now), Use::First, "pushes out the first");
        assert_eq!(take(5, now), Use::Forgotten);
        assert_eq!(take(4, now), Use::Forgotten, "as old as what was forgotten");
        assert_eq!(take(1, now), Use::Retransmission, "older, but still known");
        assert_eq!(take(7, now), Use::First);
        assert_eq!(replay.len(), 2);
    }

    #[test]
    fn nonces_from_before_the_start_are_stale() {
        let replay = Replay::new(10, START_MS, 1);
        assert_eq!(replay.take(&attempt(nonce(0), 1, 1), START_MS + 1, LIFE_MS), Use::Forgotten);
        assert!(replay.is_empty());
    }

    #[test]
    fn nonces_that_are_too_old_leave_the_table() {
        let replay = Replay::new(1000, START_MS, 1);
        for age in 1..=10 {
            replay.take(&attempt(nonce(age), 1, age), START_MS + age, LIFE_MS);
        }
        assert_eq!(replay.len(), 10);
        let later = START_MS + 20 + LIFE_MS;
        assert_eq!(replay.take(&attempt(nonce(later), 1, 1), later, LIFE_MS), Use::First);
        assert_eq!(replay.len(), 1);
    }

    proptest! {
        /// Whatever order counts and nonces come in, and however small the table: no pair of nonce
        /// and count is taken twice.
        #[test]
        fn no_count_is_ever_taken_twice(
            uses in proptest::collection::vec((1u64..12, 0u32..140), 0..300),
            most in 1usize..100,
        ) {
            let replay = Replay::new(most, START_MS, 3);
            let mut taken = HashSet::new();
            for (age, count) in uses {
                let attempt = Attempt { may_repeat: false, ..attempt(nonce(age), count, 0) };
                if replay.take(&attempt, START_MS + 20, LIFE_MS) == Use::First {
                    prop_assert!(taken.insert((age, count)));
                }
            }
        }
    }
}
