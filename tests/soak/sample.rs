//! What is looked at each second.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use viaduct_tests::support::router::Router;

use super::plot::{self, Panel};
use super::trend::{Trend, median};

/// Versions of policies that are kept, the newest and one that is being made included.
const MOST_VERSIONS: usize = 18;

/// Latencies of one kind of request since the last sample, milliseconds.
#[derive(Default)]
pub(crate) struct Latencies(Mutex<Vec<f64>>);

impl Latencies {
    /// One more.
    pub(crate) fn add(&self, took: Duration) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(took.as_secs_f64() * 1e3);
    }

    /// The median since it was last asked; `None` where there were none.
    fn take(&self) -> Option<f64> {
        let all = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        (!all.is_empty()).then(|| median(all))
    }
}

/// The two that are measured.
#[derive(Default)]
pub(crate) struct Probes {
    /// OPTIONS: engine and policy.
    pub(crate) options: Latencies,
    /// REGISTER: the store as well.
    pub(crate) register: Latencies,
}

/// A quantity, and when its rise is a leak.
struct Quantity {
    title: &'static str,
    value: fn(&Sample) -> Option<f64>,
    /// A rise counts from this share of the level on, and from so many units on; `None`: never.
    leak: Option<(f64, f64)>,
}

const QUANTITIES: [Quantity; 7] = [
    Quantity {
        title: "resident memory, MiB",
        value: |s| Some(s.memory_mib),
        leak: Some((0.03, 2.0)),
    },
    Quantity { title: "descriptors", value: |s| Some(s.descriptors), leak: Some((0.05, 2.0)) },
    Quantity { title: "OPTIONS, ms (median)", value: |s| s.options_ms, leak: Some((0.3, 1.0)) },
    Quantity { title: "REGISTER, ms (median)", value: |s| s.register_ms, leak: Some((0.3, 5.0)) },
    Quantity {
        title: "server transactions",
        value: |s| Some(s.transactions),
        leak: Some((0.3, 100.0)),
    },
    Quantity { title: "bindings", value: |s| Some(s.bindings), leak: None },
    Quantity { title: "messages in, a second", value: |s| s.messages_per_s, leak: None },
];

/// One look.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sample {
    at_s: f64,
    memory_mib: f64,
    descriptors: f64,
    options_ms: Option<f64>,
    register_ms: Option<f64>,
    transactions: f64,
    bindings: f64,
    received: f64,
    messages_per_s: Option<f64>,
}

/// All looks, in order.
#[derive(Default)]
pub(crate) struct Record(Vec<Sample>);

impl Record {
    /// Looks at the router.
    pub(crate) fn look(&mut self, at: Duration, router: &Router, probes: &Probes) -> Result<()> {
        let metrics = router.metrics()?;
        let at_s = at.as_secs_f64();
        let received = value(&metrics, "viaduct_udp_received_total")?;
        let before = self.0.last().map(|last| (last.at_s, last.received));
        self.0.push(Sample {
            at_s,
            memory_mib: router.resident_bytes()? as f64 / f64::from(1 << 20),
            descriptors: descriptors(router)?.len() as f64,
            options_ms: probes.options.take(),
            register_ms: probes.register.take(),
            transactions: value(&metrics, "viaduct_transactions")?,
            bindings: value(&metrics, "viaduct_bindings")?,
            received,
            messages_per_s: before.map(|(then, count)| (received - count) / (at_s - then)),
        });
        Ok(())
    }

    fn series(&self, quantity: &Quantity) -> Vec<(f64, f64)> {
        self.0.iter().filter_map(|one| Some((one.at_s, (quantity.value)(one)?))).collect()
    }

    /// Writes `soak.csv` and `soak.svg`.
    pub(crate) fn write(&self, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        let titles: Vec<&str> = QUANTITIES.iter().map(|quantity| quantity.title).collect();
        let mut text = format!("seconds;{}\n", titles.join(";"));
        for sample in &self.0 {
            write!(text, "{:.1}", sample.at_s)?;
            for quantity in &QUANTITIES {
                let value = (quantity.value)(sample).map(|value| format!("{value:.3}"));
                write!(text, ";{}", value.unwrap_or_default())?;
            }
            text.push('\n');
        }
        fs::write(folder.join("soak.csv"), text)?;
        let panels: Vec<Panel> =
            QUANTITIES.iter().map(|quantity| (quantity.title, self.series(quantity))).collect();
        plot::write(&folder.join("soak.svg"), &panels)
    }

    /// Prints the slopes; where the run was long enough, `judge`, a rise is an error.
    pub(crate) fn slopes(&self, judge: bool) -> Result<()> {
        let mut rising = Vec::new();
        println!("{:<24} {:>10} {:>14} {:>10} {:>7}", "", "level", "slope an hour", "growth", "t");
        for quantity in &QUANTITIES {
            let Some(Trend { level, slope_per_h, growth, t }) = Trend::of(&self.series(quantity))
            else {
                println!("{:<24} too few samples for a slope", quantity.title);
                continue;
            };
            let title = quantity.title;
            println!("{title:<24} {level:>10.2} {slope_per_h:>+14.2} {growth:>+10.2} {t:>+7.1}");
            let trend = Trend { level, slope_per_h, growth, t };
            if quantity.leak.is_some_and(|(share, units)| trend.rises(share, units)) {
                rising.push(title);
            }
        }
        ensure!(!judge || rising.is_empty(), "these rise: {}", rising.join("; "));
        Ok(())
    }
}

/// Descriptors but for those of policies: each version that is kept has one, and so many are kept.
pub(crate) fn descriptors(router: &Router) -> Result<Vec<String>> {
    let mut found = router.descriptors()?;
    let all = found.len();
    found.retain(|what| !what.contains("wasm-memory-image"));
    let versions = all - found.len();
    // The policies' engine opens it once, as the first instance ends.
    found.retain(|what| !what.ends_with("/pagemap"));
    ensure!(versions <= MOST_VERSIONS, "{versions} versions of policies are kept");
    Ok(found)
}

/// The value of a metric without labels.
pub(crate) fn value(metrics: &str, name: &str) -> Result<f64> {
    let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let line = line.with_context(|| format!("no {name} in:\n{metrics}"))?;
    line.trim().parse().with_context(|| format!("{name} {line}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(memory_mib: impl Fn(usize) -> f64) -> Record {
        let look = |at: usize| Sample {
            at_s: at as f64,
            memory_mib: memory_mib(at),
            descriptors: 20.0,
            options_ms: (!at.is_multiple_of(3)).then_some(1.0),
            ..Sample::default()
        };
        Record((0..200).map(look).collect())
    }

    #[test]
    fn a_leak_is_an_error_where_it_is_judged() {
        let leaking = record(|at| 50.0 + at as f64 / 10.0);
        leaking.slopes(false).unwrap();
        assert!(leaking.slopes(true).unwrap_err().to_string().contains("resident memory"));
        record(|at| 50.0 + (at % 7) as f64).slopes(true).unwrap();
    }

    #[test]
    fn the_report_has_a_line_a_second() {
        let folder = tempfile::TempDir::with_prefix("viaduct-report-").unwrap();
        record(|_| 5.0).write(folder.path()).unwrap();
        let table = fs::read_to_string(folder.path().join("soak.csv")).unwrap();
        assert_eq!(table.lines().count(), 201);
        assert!(folder.path().join("soak.svg").is_file());
    }

    #[test]
    fn metrics_are_found_by_their_whole_name() {
        let text = "viaduct_transactions_x 4\nviaduct_transactions 3\n";
        assert_eq!(value(text, "viaduct_transactions").unwrap(), 3.0);
        assert!(value(text, "viaduct_trans").is_err());
    }
}
