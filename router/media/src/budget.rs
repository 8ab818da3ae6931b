//! Token buckets: the time at which one would be full again (GCRA), so nothing has to tick (R-M3).

use crate::session::Budget;

/// A bucket, full at first.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bucket {
    full_at_ns: u64,
}

impl Bucket {
    /// Takes `units` at `now_ns`. False: there were not as many, and nothing was taken.
    pub fn take(&mut self, budget: Budget, now_ns: u64, units: u32) -> bool {
        if budget.per_s == 0 {
            return true;
        }
        let time_of = |units: u32| {
            let ns = u128::from(units) * 1_000_000_000 / u128::from(budget.per_s);
            u64::try_from(ns).unwrap_or(u64::MAX)
        };
        let next = self.full_at_ns.max(now_ns).saturating_add(time_of(units));
        if next - now_ns > time_of(budget.burst) {
            return false;
        }
        self.full_at_ns = next;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn r_m3_a_burst_passes_and_then_the_rate_holds() {
        let budget = Budget { per_s: 50, burst: 10 };
        let mut bucket = Bucket::default();
        let burst = (0..100).filter(|_| bucket.take(budget, 7 * SECOND, 1)).count();
        assert_eq!(burst, 10);
        let later = (7_000..17_000).filter(|ms| bucket.take(budget, ms * 1_000_000, 1)).count();
        assert!((499..=500).contains(&later), "{later}");
    }

    #[test]
    fn r_m3_without_a_rate_nothing_is_refused() {
        let mut bucket = Bucket::default();
        assert!((0..1_000).all(|_| bucket.take(Budget::NONE, 0, u32::MAX)));
    }
}
