//! Medians, the table, and the progress bar.

use std::fmt::Write as _;
use std::io::{IsTerminal, stderr};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::drive::Run;
use crate::subject::Kind;
use crate::work::Work;

/// All measurements.
#[derive(Default)]
pub(crate) struct Table {
    runs: Vec<(Kind, Work, Run)>,
}

impl Table {
    /// Adds one measurement.
    pub(crate) fn add(&mut self, kind: Kind, work: Work, run: Run) {
        self.runs.push((kind, work, run));
    }

    fn of(&self, kind: Kind, work: Work) -> Vec<&Run> {
        self.runs
            .iter()
            .filter(|(k, w, _)| (*k, *w) == (kind, work))
            .map(|(_, _, run)| run)
            .collect()
    }

    /// Median cost in microseconds of server CPU for each answer.
    fn cost_us(&self, kind: Kind, work: Work) -> Option<f64> {
        median(self.of(kind, work).into_iter().map(Run::cost_us).collect())
    }

    /// The table as text.
    pub(crate) fn render(&self) -> String {
        let mut text = format!(
            "\n{:<10} {:<11} {:>9} {:>7} {:>9} {:>17} {:>11} {:>7} {:>6} {:>7} {:>5}\n",
            "work",
            "server",
            "us/answer",
            "core",
            "per CPU-s",
            "us lowest-highest",
            "x kamailio",
            "target",
            "busy",
            "retrans",
            "lost"
        );
        for work in Work::ALL {
            for kind in Kind::ALL {
                if let Some(line) = self.line(kind, work) {
                    text.push_str(&line);
                }
            }
        }
        text.push_str(
            "\nus/answer: median CPU time of all the server's threads for one answered request (call:\n\
             for one whole call), and with --veth of the kernel's threads for its interface. core:\n\
             time its core was busy with anything, soft interrupts included, by ticks of 10 ms.\n\
             busy: share of its core the server used; well below 100 % the generator was the\n\
             bottleneck and wake-ups are counted with the work.\n",
        );
        text
    }

    fn line(&self, kind: Kind, work: Work) -> Option<String> {
        let cost = self.cost_us(kind, work)?;
        let runs = self.of(kind, work);
        let lowest = runs.iter().map(|run| run.cost_us()).fold(f64::INFINITY, f64::min);
        let highest = runs.iter().map(|run| run.cost_us()).fold(0.0, f64::max);
        let ratio = match (kind, self.cost_us(Kind::Kamailio, work)) {
            (Kind::Viaduct | Kind::ViaductXdp, Some(kamailio)) => format!("{:.2}", kamailio / cost),
            (Kind::Kamailio, Some(_)) => "1".to_owned(),
            _ => "-".to_owned(),
        };
        let target = match (kind, work.target()) {
            (Kind::Viaduct, Some(target)) => format!("{target:.1}"),
            (Kind::ViaductXdp, Some(_)) => format!("{:.1}", work.xdp_target()),
            _ => "-".to_owned(),
        };
        let busy = median(runs.iter().map(|run| run.busy_percent()).collect())?;
        let core = median(runs.iter().map(|run| run.core_us()).collect())?;
        let retransmitted: usize = runs.iter().map(|run| run.retransmitted).sum();
        let lost: usize = runs.iter().map(|run| run.lost).sum();
        let mut line = String::new();
        let spread = format!("{lowest:.2} - {highest:.2}");
        let _ = writeln!(
            line,
            "{:<10} {:<11} {:>9.2} {:>7.2} {:>9.0} {:>17} {:>11} {:>7} {:>5.0}% {:>7} {:>5}",
            work.name(),
            kind.name(),
            cost,
            core,
            1e6 / cost,
            spread,
            ratio,
            target,
            busy,
            retransmitted,
            lost
        );
        Some(line)
    }
}

/// How far apart the two cores were, before and after.
pub(crate) fn distance(before: Duration, after: Duration) -> String {
    format!(
        "cores: a cache line takes {} ns there and back before the measurements, {} ns after them; ratios\n\
         are comparable at one distance only.\n",
        before.as_nanos(),
        after.as_nanos()
    )
}

/// The middle value; of an even number of them the lower of the two in the middle.
pub(crate) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len().checked_sub(1)? / 2).copied()
}

/// A bar on a terminal, a line for each step elsewhere; both on standard error.
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
}

impl Progress {
    /// For so many measurements.
    pub(crate) fn new(total: usize) -> Self {
        if !stderr().is_terminal() {
            return Self { bar: None };
        }
        let bar = ProgressBar::new(total as u64);
        if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg} [{elapsed}]") {
            bar.set_style(style);
        }
        Self { bar: Some(bar) }
    }

    /// A measurement begins.
    pub(crate) fn step(&self, what: &str) {
        match &self.bar {
            Some(bar) => {
                bar.set_message(what.to_owned());
                bar.inc(1);
            }
            None => eprintln!("bench: {what}"),
        }
    }

    /// All is measured.
    pub(crate) fn done(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(cpu_us: u64) -> Run {
        let cpu = Duration::from_micros(cpu_us);
        Run {
            answers: 100,
            cpu,
            core: cpu,
            wall: Duration::from_secs(1),
            retransmitted: 0,
            lost: 0,
        }
    }

    #[test]
    fn the_median_is_the_middle_one() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![]), None);
    }

    #[test]
    fn ratios_are_kamailios_cost_over_ours() {
        let mut table = Table::default();
        table.add(Kind::Kamailio, Work::Options, run(900));
        table.add(Kind::Viaduct, Work::Options, run(450));
        let text = table.render();
        assert!(text.contains("4.50"), "{text}");
        assert!(text.contains("2.00"), "{text}");
        assert!(text.contains("1.7"), "{text}");
    }
}
