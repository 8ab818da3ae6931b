//! A histogram of latencies with fixed bounds.

use std::sync::atomic::{AtomicU64, Ordering};

/// Upper bounds in microseconds; what is longer goes into the last bucket.
pub(super) const BOUNDS_US: [u64; 12] = [
    500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000,
    5_000_000,
];

/// Written by one thread, read by any.
#[derive(Default)]
pub(super) struct Histogram {
    buckets: [AtomicU64; BOUNDS_US.len() + 1],
    sum_us: AtomicU64,
}

/// A copy at one moment; buckets are not cumulative.
#[derive(Clone, Default)]
pub(super) struct Reading {
    pub(super) buckets: [u64; BOUNDS_US.len() + 1],
    pub(super) sum_us: u64,
}

impl Histogram {
    pub(super) fn observe(&self, us: u64) {
        let index = BOUNDS_US.iter().position(|bound| us <= *bound).unwrap_or(BOUNDS_US.len());
        if let Some(bucket) = self.buckets.get(index) {
            super::worker::bump(bucket, 1);
        }
        super::worker::bump(&self.sum_us, us);
    }

    pub(super) fn add_to(&self, reading: &mut Reading) {
        for (total, bucket) in reading.buckets.iter_mut().zip(&self.buckets) {
            *total = total.wrapping_add(bucket.load(Ordering::Relaxed));
        }
        reading.sum_us = reading.sum_us.wrapping_add(self.sum_us.load(Ordering::Relaxed));
    }
}
