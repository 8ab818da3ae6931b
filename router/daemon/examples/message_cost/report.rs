//! The table of what was measured, and what in it misses the goal.

use super::Work;
use super::bench::Cost;
use super::io::Io;

/// What a policy may cost above the same decisions in Rust, of any message.
const GOAL_NS: f64 = 1000.0;
/// And how much of a REGISTER, and of a call's message, received and sent; without that it is told as well.
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
    io: Io,
    /// Lines with a goal: an instance that is kept, beside what is native.
    judged: usize,
    misses: Vec<String>,
    /// Those that miss it where what the kernel does is left out.
    misses_without_io: Vec<String>,
}

impl Report {
    pub(crate) fn begin(io: Io) -> Report {
        println!(
            "{:<16}{:<10}{:<7}{:>7}{:>8}{:>14}{:>7}{:>11}{:>7}{:>9}{:>7}",
            "policy",
            "work",
            "as",
            "ns",
            "native",
            "above native",
            "share",
            "in policy",
            "share",
            "with I/O",
            "share"
        );
        Report { io, judged: 0, misses: Vec::new(), misses_without_io: Vec::new() }
    }

    pub(crate) fn line(&mut self, measured: Measurement<'_>) {
        let Measurement { policy, work, shown, cost, native } = measured;
        let with_io_ns = cost.all_ns + self.io.receive_ns + cost.sent * self.io.send_ns;
        let percent = |ns: f64| 100.0 * ns / cost.all_ns;
        let (mut beside, mut of_all) = (String::new(), String::new());
        if let Some(native) = native {
            let above_ns = cost.all_ns - native.all_ns;
            let share = 100.0 * above_ns / with_io_ns;
            beside = format!("{:>8.0}{above_ns:>14.0}{:>6.0}%", native.all_ns, percent(above_ns));
            of_all = format!("{share:>6.0}%");
            if shown == "kept" {
                self.judged += 1;
                let missed = |share| misses(policy, work, above_ns, share);
                self.misses.extend(missed(share));
                self.misses_without_io.extend(missed(percent(above_ns)));
            }
        }
        println!(
            "{policy:<16}{:<10}{shown:<7}{:>7.0}{beside:<29}{:>11.0}{:>6.0}%{with_io_ns:>9.0}{of_all}",
            work.name(),
            cost.all_ns,
            cost.policy_ns,
            percent(cost.policy_ns),
        );
    }

    pub(crate) fn end(self) {
        println!(
            "\nnative: the same decisions in Rust, which take turns with the policy. above native: what a\n\
             message costs more by the policy, and its share of the message's cost. in policy: runs of the\n\
             policy with what they ask of the host (a save, a look-up), and their share. with I/O: the same\n\
             and what it takes to receive a message ({:.0} ns) and to send what becomes of it ({:.0} ns each),\n\
             over loopback by the router's sockets, and the share of it that is above native. call: INVITE,\n\
             200, ACK, BYE, 200, a message each.",
            self.io.receive_ns, self.io.send_ns
        );
        println!(
            "goal: above native less than {GOAL_NS:.0} ns, of a REGISTER and of a call's message less than\n\
             {GOAL_PERCENT:.0} %, instance kept. With I/O {} of {}; without {}",
            listed(&self.misses),
            self.judged,
            listed(&self.misses_without_io)
        );
    }
}

/// How it misses the goal, if it does.
fn misses(policy: &str, work: Work, above_ns: f64, percent: f64) -> Option<String> {
    let too_large = work != Work::Options && percent >= GOAL_PERCENT;
    let work = work.name();
    (above_ns >= GOAL_NS || too_large)
        .then(|| format!("{policy} {work} ({above_ns:.0} ns, {percent:.0} %)"))
}

fn listed(misses: &[String]) -> String {
    match misses {
        [] => "missed by none".to_owned(),
        misses => format!("missed by {}: {}", misses.len(), misses.join(", ")),
    }
}
