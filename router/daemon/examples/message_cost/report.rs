//! The table of what was measured, and what in it misses the goal.

use super::Work;
use super::bench::Cost;

/// What a policy may cost above the same decisions in Rust, of any message.
const GOAL_NS: f64 = 1000.0;
/// And how much of a REGISTER, and of a call's message, that may be.
const GOAL_PERCENT: f64 = 20.0;

/// One line.
pub(crate) struct Measurement<'a> {
    pub(crate) policy: &'a str,
    pub(crate) work: Work,
    /// `kept` or `fresh`.
    pub(crate) shown: &'a str,
    pub(crate) cost: Cost,
    pub(crate) native: Option<Cost>,
}

/// What was measured so far.
pub(crate) struct Report {
    /// Lines with a goal: an instance that is kept, beside what is native.
    judged: usize,
    misses: Vec<String>,
}

impl Report {
    pub(crate) fn begin() -> Report {
        println!(
            "{:<16}{:<10}{:<7}{:>9}{:>9}{:>14}{:>7}{:>12}{:>7}",
            "policy", "work", "as", "ns", "native", "above native", "share", "in policy", "share"
        );
        Report { judged: 0, misses: Vec::new() }
    }

    pub(crate) fn line(&mut self, measured: Measurement<'_>) {
        let Measurement { policy, work, shown, cost, native } = measured;
        let percent = |ns: f64| 100.0 * ns / cost.all_ns;
        let beside = native.map_or_else(String::new, |native| {
            let above = cost.all_ns - native.all_ns;
            format!("{:>9.0}{above:>14.0}{:>6.0}%", native.all_ns, percent(above))
        });
        println!(
            "{policy:<16}{:<10}{shown:<7}{:>9.0}{beside:<30}{:>12.0}{:>6.0}%",
            work.name(),
            cost.all_ns,
            cost.policy_ns,
            percent(cost.policy_ns),
        );
        if let Some(native) = native.filter(|_| shown == "kept") {
            self.judge(policy, work, cost.all_ns - native.all_ns, cost);
        }
    }

    fn judge(&mut self, policy: &str, work: Work, above_ns: f64, cost: Cost) {
        self.judged += 1;
        let percent = 100.0 * above_ns / cost.all_ns;
        let too_large = work != Work::Options && percent >= GOAL_PERCENT;
        if above_ns >= GOAL_NS || too_large {
            let work = work.name();
            self.misses.push(format!("{policy} {work} ({above_ns:.0} ns, {percent:.0} %)"));
        }
    }

    pub(crate) fn end(self) {
        println!(
            "\nnative: the same decisions in Rust, which take turns with the policy. above native: what a\n\
             message costs more by the policy, and its share of the message's cost. in policy: runs of the\n\
             policy with what they ask of the host (a save, a look-up), and their share. call: INVITE, 200,\n\
             ACK, BYE, 200, a message each."
        );
        let missed = match self.misses.as_slice() {
            [] => "missed by none".to_owned(),
            misses => format!("missed by {}: {}", misses.len(), misses.join(", ")),
        };
        println!(
            "goal: above native less than {GOAL_NS:.0} ns, of a REGISTER and of a call's message less than\n\
             {GOAL_PERCENT:.0} %, instance kept; {missed} of {}",
            self.judged
        );
    }
}
