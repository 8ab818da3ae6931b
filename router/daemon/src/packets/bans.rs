//! Who is kept out, and how one gets there: by order, or by offences in a row.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use super::Order;

/// Bans kept at a time; the kernel's table holds as many.
pub(super) const MOST_BANS: usize = 65_536;
/// Sources whose offences are counted at a time.
const MOST_SOURCES: usize = 65_536;
/// Offences count together within this.
const WINDOW: Duration = Duration::from_secs(60);

/// A worker's end.
#[derive(Clone)]
pub(crate) struct Offences {
    orders: Sender<Order>,
    /// Those that nobody counted.
    dropped: Arc<AtomicU64>,
}

impl Offences {
    pub(super) fn new(orders: Sender<Order>) -> Offences {
        Offences { orders, dropped: Arc::default() }
    }

    /// Never blocks: a thread that cannot follow is no reason to hold messages up. It looks at its
    /// orders within a second.
    pub(crate) fn report(&self, source: IpAddr) {
        if self.orders.try_send(Order::Offence { source }).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Offences that found no room.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

/// Offences of each source in the current window, and bans.
pub(super) struct Bans {
    after: u32,
    counts: HashMap<IpAddr, u32>,
    window: Instant,
    until: HashMap<IpAddr, Instant>,
}

impl Bans {
    /// `after` offences ban; 0: none does.
    pub(super) fn new(after: u32, now: Instant) -> Bans {
        Bans { after, counts: HashMap::new(), window: now, until: HashMap::new() }
    }

    /// Counts an offence; true: the source is to be banned now.
    pub(super) fn offence(&mut self, source: IpAddr, now: Instant) -> bool {
        if self.after == 0 {
            return false;
        }
        if now.duration_since(self.window) >= WINDOW {
            self.window = now;
            self.counts.clear();
        }
        if self.counts.len() >= MOST_SOURCES && !self.counts.contains_key(&source) {
            return false;
        }
        let count = self.counts.entry(source).or_insert(0);
        *count = count.saturating_add(1);
        if *count < self.after {
            return false;
        }
        self.counts.remove(&source);
        true
    }

    /// Bans a source; false: there are too many.
    pub(super) fn add(&mut self, source: IpAddr, until: Instant, now: Instant) -> bool {
        if self.until.len() >= MOST_BANS && !self.until.contains_key(&source) {
            self.until.retain(|_, until| *until > now);
            if self.until.len() >= MOST_BANS {
                return false;
            }
        }
        self.until.insert(source, until);
        true
    }

    /// Lifts a ban; says whether there was one.
    pub(super) fn remove(&mut self, source: IpAddr, now: Instant) -> bool {
        self.until.remove(&source).is_some_and(|until| until > now)
    }

    /// Bans kept, and sources whose offences are counted.
    pub(super) fn len(&self) -> (usize, usize) {
        (self.until.len(), self.counts.len())
    }

    /// Bans that are in force.
    pub(super) fn iter(&self, now: Instant) -> impl Iterator<Item = (IpAddr, Duration)> {
        self.until
            .iter()
            .map(move |(source, until)| (*source, until.saturating_duration_since(now)))
            .filter(|(_, left)| !left.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[test]
    fn offences_within_a_minute_ban_and_slow_ones_do_not() {
        let start = Instant::now();
        let mut bans = Bans::new(3, start);
        assert!(!bans.offence(ip(1), start) && !bans.offence(ip(1), start));
        assert!(!bans.offence(ip(2), start), "each source for itself");
        assert!(bans.offence(ip(1), start));
        assert!(!bans.offence(ip(2), start));
        assert!(!bans.offence(ip(2), start + WINDOW), "a new minute begins at nought");
        assert!(!Bans::new(0, start).offence(ip(1), start), "nobody asked for it");
    }

    #[test]
    fn bans_end() {
        let start = Instant::now();
        let mut bans = Bans::new(0, start);
        let end = start + Duration::from_secs(10);
        assert!(bans.add(ip(1), end, start) && bans.add(ip(2), end, start));
        assert_eq!(bans.iter(start).count(), 2);
        assert!(bans.remove(ip(1), start) && !bans.remove(ip(1), start));
        assert_eq!(bans.iter(end).count(), 0);
        assert!(!bans.remove(ip(2), end), "over already");
    }

    #[test]
    fn the_table_is_bounded_and_old_bans_make_room() {
        let start = Instant::now();
        let mut bans = Bans::new(1, start);
        let end = start + Duration::from_secs(10);
        for n in 0..MOST_BANS as u32 {
            assert!(bans.add(IpAddr::from(n.to_be_bytes()), end, start));
        }
        assert!(!bans.add("2001:db8::1".parse().unwrap(), end, start));
        assert!(bans.add("2001:db8::1".parse().unwrap(), end + WINDOW, end));
    }
}
