//! All timers of one engine in one queue.
//!
//! SIP arms millions of timers of about ten durations (RFC 3261 table 4), and nearly all of them
//! are stale when they fall due: the transaction has gone on. So arming must be cheap, falling due
//! must be in order, and stopping is not offered at all:
//!
//! * Timers of one duration fall due in the order they were armed, since time does not go back.
//!   Each duration has a lane, a first-in-first-out list, and arming is an append. Durations that
//!   find no lane go to a heap.
//! * **A timer is never stopped.** The owner gives a generation when arming and compares it when
//!   the timer falls due: another generation, or a state in which the letter means nothing, is a
//!   stale timer and is ignored.
//! * An entry is 24 bytes. At 20,000 transactions a second with three 32 s timers each, two million
//!   entries wait (46 MB), most of them stale. [`Timers::prune`] drops stale ones a few at a time.
//!
//! Start reading at [`Timers`].

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

/// Lanes: more durations than this share the heap. RFC 3261 with one set of values needs twelve.
const LANES: usize = 24;
/// Entries of a chunk. A lane grows by whole chunks (6 KiB), so that arming never copies a list of
/// millions of entries, and memory goes back as soon as a chunk has emptied.
const CHUNK: usize = 256;
/// A heap smaller than this is not worth pruning.
const HEAP_PRUNE_MIN: usize = 1024;

/// What a timer is for: its letter in RFC 3261 table 4, or the router's own kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Letter {
    /// INVITE request retransmission, unreliable transports only (RFC 3261 17.1.1.2).
    A = 0,
    /// INVITE client transaction timeout (17.1.1.2).
    B,
    /// Proxy INVITE timeout, restarted by provisional responses (16.6 step 11, 16.7 step 2).
    C,
    /// Wait for retransmissions of a 3xx-6xx to INVITE (17.1.1.2).
    D,
    /// Non-INVITE request retransmission, unreliable transports only (17.1.2.2).
    E,
    /// Non-INVITE client transaction timeout (17.1.2.2).
    F,
    /// INVITE 3xx-6xx response retransmission, unreliable transports only (17.2.1).
    G,
    /// Wait for the ACK to a 3xx-6xx (17.2.1).
    H,
    /// Wait for retransmissions of that ACK (17.2.1).
    I,
    /// Wait for retransmissions of a non-INVITE request (17.2.2).
    J,
    /// Wait for retransmissions of a final response to a non-INVITE (17.1.2.2).
    K,
    /// Accepted INVITE server transaction: wait for INVITE retransmissions (RFC 6026 7.1).
    L,
    /// Accepted INVITE client transaction: wait for further 2xx (RFC 6026 7.2).
    M,
    /// INVITE server transaction: the moment to send 100 if nothing was sent (RFC 3261 17.2.1).
    Trying,
    /// Non-INVITE server transaction: the moment to send 100 if nothing was sent (RFC 4320 4.1).
    LateTrying,
    /// Watches a question to the shell (resolve, commit, ...), so that none is waited for forever.
    Watch,
}

impl Letter {
    /// All letters, in the order of their numbers.
    pub const ALL: [Letter; 16] = {
        use Letter::*;
        [A, B, C, D, E, F, G, H, I, J, K, L, M, Trying, LateTrying, Watch]
    };

    /// The letter of a number, as in `letter as u8`.
    pub fn from_number(number: u8) -> Option<Letter> {
        Letter::ALL.get(usize::from(number)).copied()
    }

    /// For logs and tables: `A`, ..., `Watch`.
    pub fn name(self) -> &'static str {
        const NAMES: [&str; 16] = [
            "A",
            "B",
            "C",
            "D",
            "E",
            "F",
            "G",
            "H",
            "I",
            "J",
            "K",
            "L",
            "M",
            "Trying",
            "LateTrying",
            "Watch",
        ];
        NAMES.get(self as usize).copied().unwrap_or("?")
    }
}

/// A timer that has fallen due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due<H> {
    /// What it is for.
    pub letter: Letter,
    /// As given when it was armed.
    pub handle: H,
    /// As given when it was armed. If the owner of `handle` has another one now, ignore the timer.
    pub generation: u32,
    /// When it fell due, in microseconds of the monotonic clock.
    pub deadline_us: u64,
}

/// An armed timer: 24 bytes with a 32-bit handle.
#[derive(Clone, Copy, Debug)]
struct Entry<H> {
    deadline_us: u64,
    /// Serial number of the arming in the upper 56 bits, the letter's number in the lower 8.
    order: u64,
    generation: u32,
    handle: H,
}

impl<H> Entry<H> {
    /// Entries fall due in this order; the serial number makes it total.
    fn key(&self) -> (u64, u64) {
        (self.deadline_us, self.order)
    }

    fn letter(&self) -> Letter {
        Letter::from_number(self.order as u8).unwrap_or(Letter::Watch)
    }
}

impl<H> PartialEq for Entry<H> {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}
impl<H> Eq for Entry<H> {}
impl<H> PartialOrd for Entry<H> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<H> Ord for Entry<H> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

/// The timers of one duration, first armed first.
#[derive(Debug)]
struct Lane<H> {
    after_us: u64,
    /// Key of the first entry; `IDLE` where there is none. Kept here so that looking for the
    /// earliest lane touches no chunk.
    first: (u64, u64),
    /// Only the last chunk may be empty.
    chunks: VecDeque<VecDeque<Entry<H>>>,
}

/// Key of a lane without timers: later than any.
const IDLE: (u64, u64) = (u64::MAX, u64::MAX);

impl<H: Copy> Lane<H> {
    fn new(after_us: u64) -> Self {
        Lane { after_us, first: IDLE, chunks: VecDeque::new() }
    }

    fn is_idle(&self) -> bool {
        self.first == IDLE
    }

    fn push(&mut self, entry: Entry<H>) {
        if self.is_idle() {
            self.first = entry.key();
        }
        match self.chunks.back_mut() {
            Some(chunk) if chunk.len() < chunk.capacity() => chunk.push_back(entry),
            _ => {
                let mut chunk = VecDeque::with_capacity(CHUNK);
                chunk.push_back(entry);
                self.chunks.push_back(chunk);
            }
        }
    }

    /// Takes the first entry; the second value says that its chunk has gone.
    fn pop(&mut self) -> Option<(Entry<H>, bool)> {
        let chunk = self.chunks.front_mut()?;
        let entry = chunk.pop_front()?;
        // The last chunk stays, empty: a duration in use will want it again.
        let gone = chunk.is_empty() && self.chunks.len() > 1;
        if gone {
            self.chunks.pop_front();
        }
        self.set_first();
        Some((entry, gone))
    }

    fn set_first(&mut self) {
        self.first = self.chunks.front().and_then(VecDeque::front).map_or(IDLE, Entry::key);
    }

    /// Drops the stale entries of one chunk; returns how many entries it looked at and how many
    /// it dropped, and whether the chunk has gone.
    fn prune_chunk<F>(&mut self, at: usize, is_live: &mut F) -> (usize, usize, bool)
    where
        F: FnMut(Letter, H, u32) -> bool,
    {
        let last = at.saturating_add(1) >= self.chunks.len();
        let Some(chunk) = self.chunks.get_mut(at) else {
            return (0, 0, false);
        };
        let before = chunk.len();
        chunk.retain(|e| is_live(e.letter(), e.handle, e.generation));
        let kept = chunk.len();
        let mut gone = false;
        if !last {
            gone = kept == 0 || self.merge_into_previous(at);
            if gone {
                self.chunks.remove(at);
            } else if let Some(chunk) = self.chunks.get_mut(at) {
                chunk.shrink_to_fit();
            }
        }
        self.set_first();
        (before, before.saturating_sub(kept), gone)
    }

    /// Moves the entries of chunk `at` to the end of the one before it, if they fit there. Without
    /// this a long list would end as many chunks of one entry each.
    fn merge_into_previous(&mut self, at: usize) -> bool {
        let Some(before) = at.checked_sub(1) else {
            return false;
        };
        let room = self.chunks.get(before).map_or(0, |c| CHUNK.saturating_sub(c.len()));
        let Some(mut moved) =
            self.chunks.get_mut(at).filter(|c| c.len() <= room).map(std::mem::take)
        else {
            return false;
        };
        if let Some(previous) = self.chunks.get_mut(before) {
            previous.append(&mut moved);
        }
        true
    }
}

/// Where pruning goes on: a chunk of a lane, or (past the last lane) the heap.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    lane: usize,
    chunk: usize,
}

/// The timers of one engine. `H` names their owner, usually a 32-bit slot.
#[derive(Debug)]
pub struct Timers<H> {
    lanes: Vec<Lane<H>>,
    heap: BinaryHeap<Reverse<Entry<H>>>,
    /// Length of the heap when it was last pruned.
    heap_pruned: usize,
    place: Place,
    /// Serial number of the next arming. 56 bits: 20,000 years at 100,000 a second.
    serial: u64,
    /// The latest time seen.
    now_us: u64,
    len: usize,
}

impl<H: Copy> Default for Timers<H> {
    fn default() -> Self {
        Timers::new()
    }
}

impl<H: Copy> Timers<H> {
    /// No timers.
    pub fn new() -> Self {
        Timers {
            lanes: Vec::with_capacity(LANES),
            heap: BinaryHeap::new(),
            heap_pruned: 0,
            place: Place::default(),
            serial: 0,
            now_us: 0,
            len: 0,
        }
    }

    /// Timers waiting, stale ones included.
    pub fn len(&self) -> usize {
        self.len
    }

    /// No timer is waiting.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Arms a timer that falls due `after_us` from now. It cannot be stopped (see the module's
    /// first lines). A `now_us` before the latest one seen counts as the latest.
    pub fn arm(&mut self, now_us: u64, after_us: u64, letter: Letter, handle: H, generation: u32) {
        self.now_us = self.now_us.max(now_us);
        let entry = Entry {
            deadline_us: self.now_us.saturating_add(after_us),
            order: (self.serial << 8) | u64::from(letter as u8),
            generation,
            handle,
        };
        self.serial = self.serial.wrapping_add(1);
        self.len = self.len.saturating_add(1);
        match self.lane_for(after_us) {
            Some(lane) => lane.push(entry),
            None => self.heap.push(Reverse(entry)),
        }
    }

    /// The next timer due at `now_us`: by deadline, timers of one deadline in the order they were
    /// armed. Call until `None`; bound the turns where a burst must not starve other work.
    pub fn pop_due(&mut self, now_us: u64) -> Option<Due<H>> {
        self.now_us = self.now_us.max(now_us);
        let (index, key) = self.earliest_lane();
        let from_heap = self.heap.peek().is_some_and(|Reverse(entry)| entry.key() < key);
        let entry = if from_heap {
            if self.heap.peek()?.0.deadline_us > self.now_us {
                return None;
            }
            self.heap.pop()?.0
        } else {
            if key == IDLE || key.0 > self.now_us {
                return None;
            }
            let (entry, gone) = self.lanes.get_mut(index)?.pop()?;
            if gone && self.place.lane == index {
                self.place.chunk = self.place.chunk.saturating_sub(1);
            }
            entry
        };
        self.len = self.len.saturating_sub(1);
        Some(Due {
            letter: entry.letter(),
            handle: entry.handle,
            generation: entry.generation,
            deadline_us: entry.deadline_us,
        })
    }

    /// When the next timer falls due, stale or not; `None` where none is waiting.
    pub fn next_deadline_us(&self) -> Option<u64> {
        let (_, lane) = self.earliest_lane();
        let heap = self.heap.peek().map_or(IDLE, |Reverse(entry)| entry.key());
        let first = lane.min(heap);
        (first != IDLE).then_some(first.0)
    }

    /// Looks at about `entries` timers, going on where the last call stopped, and drops those for
    /// which `is_live(letter, handle, generation)` is false. Returns how many it dropped.
    ///
    /// Call it while [`Timers::len`] is several times the number of live transactions; `entries`
    /// of twice the armings since the last call keeps the stale share below half. It overshoots by
    /// less than one chunk (256), and by the heap, which is pruned whole but only after it has
    /// doubled.
    pub fn prune<F>(&mut self, entries: usize, mut is_live: F) -> usize
    where
        F: FnMut(Letter, H, u32) -> bool,
    {
        let mut looked = 0usize;
        let mut dropped = 0usize;
        // One round at most: after it everything has been looked at.
        let mut turns = self.lanes.iter().map(|l| l.chunks.len().max(1)).sum::<usize>() + 1;
        while looked < entries && turns > 0 {
            turns -= 1;
            let place = self.place;
            let Some(lane) = self.lanes.get_mut(place.lane) else {
                let (seen, gone) = self.prune_heap(&mut is_live);
                looked = looked.saturating_add(seen);
                dropped = dropped.saturating_add(gone);
                self.place = Place::default();
                continue;
            };
            let (seen, stale, gone) = lane.prune_chunk(place.chunk, &mut is_live);
            looked = looked.saturating_add(seen);
            dropped = dropped.saturating_add(stale);
            let next = if gone { place.chunk } else { place.chunk.saturating_add(1) };
            self.place = if next < lane.chunks.len() {
                Place { lane: place.lane, chunk: next }
            } else {
                Place { lane: place.lane.saturating_add(1), chunk: 0 }
            };
        }
        self.len = self.len.saturating_sub(dropped);
        dropped
    }

    fn prune_heap<F>(&mut self, is_live: &mut F) -> (usize, usize)
    where
        F: FnMut(Letter, H, u32) -> bool,
    {
        let before = self.heap.len();
        if before < self.heap_pruned.saturating_mul(2).max(HEAP_PRUNE_MIN) {
            self.heap_pruned = self.heap_pruned.min(before);
            return (0, 0);
        }
        self.heap.retain(|Reverse(e)| is_live(e.letter(), e.handle, e.generation));
        self.heap.shrink_to(self.heap.len().saturating_mul(2));
        self.heap_pruned = self.heap.len();
        (before, before.saturating_sub(self.heap_pruned))
    }

    /// The lane of a duration: its own, a new one, or one that is idle; `None` where all are busy
    /// with other durations.
    fn lane_for(&mut self, after_us: u64) -> Option<&mut Lane<H>> {
        let own = self.lanes.iter().position(|lane| lane.after_us == after_us);
        let index = match own {
            Some(index) => index,
            None if self.lanes.len() < LANES => {
                self.lanes.push(Lane::new(after_us));
                self.lanes.len().saturating_sub(1)
            }
            None => {
                let index = self.lanes.iter().position(Lane::is_idle)?;
                self.lanes.get_mut(index)?.after_us = after_us;
                index
            }
        };
        self.lanes.get_mut(index)
    }

    /// Index and key of the lane whose first timer is the earliest of all; `IDLE` where none has
    /// any. Two dozen comparisons of neighbouring words: cheaper than a tree.
    fn earliest_lane(&self) -> (usize, (u64, u64)) {
        let mut best = (0, IDLE);
        for (index, lane) in self.lanes.iter().enumerate() {
            if lane.first < best.1 {
                best = (index, lane.first);
            }
        }
        best
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn drain(timers: &mut Timers<u32>, now_us: u64) -> Vec<Due<u32>> {
        std::iter::from_fn(|| timers.pop_due(now_us)).collect()
    }

    #[test]
    fn an_entry_is_24_bytes() {
        assert_eq!(size_of::<Entry<u32>>(), 24);
    }

    #[test]
    fn letters_and_numbers_agree() {
        for (number, letter) in Letter::ALL.into_iter().enumerate() {
            assert_eq!(letter as usize, number);
            assert_eq!(Letter::from_number(number as u8), Some(letter));
            assert_eq!(letter.name(), format!("{letter:?}"));
        }
        assert_eq!(Letter::from_number(16), None);
    }

    #[test]
    fn nothing_falls_due_early_and_all_at_the_deadline() {
        let mut timers = Timers::new();
        timers.arm(1_000, 500, Letter::A, 7u32, 3);
        assert_eq!(timers.next_deadline_us(), Some(1_500));
        assert_eq!(timers.pop_due(1_499), None);
        let due = Due { letter: Letter::A, handle: 7, generation: 3, deadline_us: 1_500 };
        assert_eq!(timers.pop_due(1_500), Some(due));
        assert_eq!(timers.pop_due(u64::MAX), None);
        assert_eq!(timers.next_deadline_us(), None);
        assert!(timers.is_empty());
    }

    #[test]
    fn timers_of_one_deadline_come_in_the_order_armed_across_lanes_and_heap() {
        let mut timers = Timers::new();
        for filler in 0..LANES as u64 - 2 {
            timers.arm(0, 1_000_000 + filler, Letter::Watch, u32::MAX, 0);
        }
        // Two lanes are left; the third and fourth duration must take the heap.
        for (handle, now) in [(0, 0), (1, 10), (2, 20), (3, 30)] {
            timers.arm(now, 100 - now, Letter::E, handle, 0);
        }
        timers.arm(30, 70, Letter::E, 4, 0);
        assert_eq!(timers.heap.len(), 3);
        let handles: Vec<u32> = drain(&mut timers, 100).iter().map(|d| d.handle).collect();
        assert_eq!(handles, [0, 1, 2, 3, 4]);
    }

    #[test]
    fn an_idle_lane_is_given_to_a_new_duration() {
        let mut timers = Timers::new();
        for after in 0..LANES as u64 {
            timers.arm(0, after, Letter::E, 0u32, 0);
        }
        assert_eq!(drain(&mut timers, 100).len(), LANES);
        for after in 1_000..1_000 + LANES as u64 {
            timers.arm(100, after, Letter::E, 0, 0);
        }
        assert!(timers.heap.is_empty());
    }

    #[test]
    fn a_clock_that_goes_back_is_taken_as_standing_still() {
        let mut timers = Timers::new();
        timers.arm(1_000, 10, Letter::E, 1u32, 0);
        timers.arm(900, 10, Letter::E, 2, 0);
        let due = drain(&mut timers, 1_010);
        assert_eq!(due.iter().map(|d| d.deadline_us).collect::<Vec<_>>(), [1_010, 1_010]);
        assert_eq!(due.iter().map(|d| d.handle).collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn a_deadline_past_the_end_of_time_never_falls_due_before_it() {
        let mut timers = Timers::new();
        timers.arm(5, u64::MAX, Letter::Watch, 1u32, 0);
        assert_eq!(timers.pop_due(u64::MAX - 1), None);
        assert_eq!(timers.next_deadline_us(), Some(u64::MAX));
        assert_eq!(timers.pop_due(u64::MAX).map(|d| d.handle), Some(1));
    }

    #[test]
    fn pruning_drops_stale_timers_gives_memory_back_and_keeps_the_order() {
        let mut timers = Timers::new();
        let count = 100_000u32;
        for handle in 0..count {
            timers.arm(u64::from(handle), 32_000_000, Letter::B, handle, 1);
        }
        let live = |_: Letter, handle: u32, _: u32| handle.is_multiple_of(1_000);
        let mut dropped = 0;
        for _ in 0..count / 1_000 + 1 {
            dropped += timers.prune(1_000, live);
        }
        assert_eq!(dropped as u32, count - count / 1_000);
        assert_eq!(timers.len() as u32, count / 1_000);
        let room: usize = timers.lanes[0].chunks.iter().map(VecDeque::capacity).sum();
        assert!(room <= 4 * CHUNK, "{room} entries of room for {}", timers.len());
        let handles: Vec<u32> = drain(&mut timers, u64::MAX).iter().map(|d| d.handle).collect();
        assert_eq!(handles, (0..count).step_by(1_000).collect::<Vec<_>>());
    }

    #[test]
    fn pruning_looks_at_no_more_than_asked_plus_a_chunk() {
        let mut timers = Timers::new();
        for handle in 0..10_000u32 {
            timers.arm(0, 1, Letter::B, handle, 0);
        }
        let mut looked = 0;
        timers.prune(1_000, |_, _, _| {
            looked += 1;
            true
        });
        assert!((1_000..1_000 + CHUNK).contains(&looked), "looked at {looked}");
        assert_eq!(timers.len(), 10_000);
    }

    #[test]
    fn pruning_reaches_the_heap_once_it_has_doubled() {
        let mut timers = Timers::new();
        for after in 0..5_000u64 {
            timers.arm(0, after, Letter::C, after as u32, 0);
        }
        assert_eq!(timers.heap.len(), 5_000 - LANES);
        let dropped = timers.prune(usize::MAX, |_, handle, _| handle % 2 == 0);
        assert_eq!(dropped, 2_500);
        assert_eq!(timers.len(), 2_500);
        let mut looked = 0;
        timers.prune(usize::MAX, |_, _, _| {
            looked += 1;
            true
        });
        assert_eq!(looked, LANES / 2, "the heap has not doubled since");
    }

    #[derive(Clone, Debug)]
    enum Act {
        Arm { after_us: u64 },
        Advance { by_us: u64 },
        Prune { entries: usize },
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            6 => prop_oneof![Just(500u64), Just(1_000), Just(2_000), 0u64..60]
                .prop_map(|after_us| Act::Arm { after_us }),
            2 => (0u64..700).prop_map(|by_us| Act::Advance { by_us }),
            1 => (0usize..600).prop_map(|entries| Act::Prune { entries }),
        ]
    }

    /// Handles divisible by three are stale from the start: they may be dropped, or fall due.
    fn is_live(handle: u32) -> bool {
        !handle.is_multiple_of(3)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn behaves_like_a_heap_of_all_timers(acts in prop::collection::vec(act(), 1..1_500)) {
            let mut timers = Timers::new();
            let mut model: BinaryHeap<Reverse<(u64, u32)>> = BinaryHeap::new();
            let mut now_us = 0u64;
            let mut serial = 0u32;
            for act in acts {
                match act {
                    Act::Arm { after_us } => {
                        timers.arm(now_us, after_us, Letter::A, serial, serial ^ 1);
                        model.push(Reverse((now_us + after_us, serial)));
                        serial += 1;
                    }
                    Act::Advance { by_us } => {
                        now_us += by_us;
                        let mut expected = Vec::new();
                        while model.peek().is_some_and(|Reverse((at, _))| *at <= now_us) {
                            expected.extend(model.pop().map(|Reverse(timer)| timer));
                        }
                        let mut got = drain(&mut timers, now_us);
                        prop_assert!(got.iter().all(|d| d.generation == d.handle ^ 1));
                        prop_assert!(got.iter().all(|d| d.letter == Letter::A));
                        prop_assert!(got.is_sorted_by_key(|d| (d.deadline_us, d.handle)));
                        expected.retain(|(_, handle)| is_live(*handle));
                        got.retain(|d| is_live(d.handle));
                        let got: Vec<_> = got.iter().map(|d| (d.deadline_us, d.handle)).collect();
                        prop_assert_eq!(got, expected);
                    }
                    Act::Prune { entries } => {
                        timers.prune(entries, |_, handle, _| is_live(handle));
                    }
                }
                let live = model.iter().filter(|Reverse((_, h))| is_live(*h)).count();
                prop_assert!(timers.len() >= live && timers.len() <= model.len());
                let first_live =
                    model.iter().filter(|Reverse((_, h))| is_live(*h)).map(|Reverse(t)| t.0).min();
                if let Some(first) = first_live {
                    prop_assert!(timers.next_deadline_us().is_some_and(|next| next <= first));
                }
            }
        }
    }
}
