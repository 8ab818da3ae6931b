//! Does a series of samples rise? Slopes with a test of their significance.
//!
//! Samples of a router are no independent draws: what one second holds, the next holds too. So the
//! series is cut into blocks, of which the medians count, and Student's t is asked of those.

/// Blocks a series is cut into.
const BLOCKS: usize = 12;
/// Student's t with ten degrees of freedom that one in a thousand flat series exceeds.
const CRITICAL_T: f64 = 4.144;
/// Of the samples, the first quarter is warming up.
const WARM_UP: usize = 4;

/// What a line through the blocks' medians says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Trend {
    /// Median of all samples after the warm-up.
    pub(crate) level: f64,
    /// Units an hour.
    pub(crate) slope_per_h: f64,
    /// Units from the first block to the last.
    pub(crate) growth: f64,
    /// The slope in units of its own standard error.
    pub(crate) t: f64,
}

impl Trend {
    /// A line through samples `(seconds, value)` in the order of time; `None` where they are too
    /// few: four for each block after the warm-up.
    pub(crate) fn of(samples: &[(f64, f64)]) -> Option<Trend> {
        let warm = samples.get(samples.len() / WARM_UP..)?;
        let each = warm.len() / BLOCKS;
        if each < 4 {
            return None;
        }
        let blocks: Vec<(f64, f64)> = warm
            .chunks_exact(each)
            .take(BLOCKS)
            .map(|block| {
                let (times, values): (Vec<f64>, Vec<f64>) = block.iter().copied().unzip();
                (median(times), median(values))
            })
            .collect();
        let mean = |of: fn(&(f64, f64)) -> f64| blocks.iter().map(of).sum::<f64>() / BLOCKS as f64;
        let (at, level) = (mean(|block| block.0), mean(|block| block.1));
        let spread: f64 = blocks.iter().map(|(x, _)| (x - at).powi(2)).sum();
        let common: f64 = blocks.iter().map(|(x, y)| (x - at) * (y - level)).sum();
        let slope = common / spread;
        let rest: f64 = blocks.iter().map(|(x, y)| (y - level - slope * (x - at)).powi(2)).sum();
        let error = (rest / (BLOCKS - 2) as f64 / spread).sqrt();
        let t = if slope == 0.0 { 0.0 } else { slope / error };
        let length = blocks.last()?.0 - blocks.first()?.0;
        let level = median(warm.iter().map(|(_, value)| *value).collect());
        Some(Trend { level, slope_per_h: slope * 3_600.0, growth: slope * length, t })
    }

    /// It rises beyond chance, and by more than a share of its level and a number of units.
    pub(crate) fn rises(&self, share: f64, units: f64) -> bool {
        self.t > CRITICAL_T && self.growth > (self.level * share).max(units)
    }
}

/// The middle value; 0 of nothing.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Noise that is the same each time, between -1 and 1.
    fn noise(at: usize) -> f64 {
        let mixed = (at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        mixed as f64 / f64::from(1 << 23) - 1.0
    }

    fn series(count: usize, value: impl Fn(usize) -> f64) -> Vec<(f64, f64)> {
        (0..count).map(|at| (at as f64, value(at))).collect()
    }

    #[test]
    fn a_leak_in_noise_is_found_and_measured() {
        let leak = series(600, |at| 100.0 + 0.02 * at as f64 + 2.0 * noise(at));
        let trend = Trend::of(&leak).unwrap();
        assert!((trend.slope_per_h - 72.0).abs() < 15.0, "{trend:?}");
        assert!(trend.rises(0.03, 1.0), "{trend:?}");
        assert!(!trend.rises(0.5, 1.0), "{trend:?}");
    }

    #[test]
    fn flat_noise_falling_values_and_warming_up_are_no_leak() {
        for value in [
            |at: usize| 100.0 + 5.0 * noise(at),
            |at: usize| 100.0 - at as f64 / 10.0,
            |at: usize| (at as f64).min(140.0),
            |_: usize| 7.0,
        ] {
            let trend = Trend::of(&series(600, value)).unwrap();
            assert!(!trend.rises(0.03, 1.0), "{trend:?}");
        }
    }

    #[test]
    fn one_step_up_for_good_is_a_rise_where_it_matters() {
        let step = series(600, |at| if at < 400 { 10.0 } else { 20.0 });
        assert!(Trend::of(&step).unwrap().rises(0.1, 2.0));
    }

    #[test]
    fn too_few_samples_say_nothing() {
        assert_eq!(Trend::of(&series(62, |at| at as f64)), None);
        assert!(Trend::of(&series(64, |at| at as f64)).is_some());
        assert_eq!(Trend::of(&[]), None);
    }
}
