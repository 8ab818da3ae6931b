//! What one message costs in scan, engine, policy and serialisation, kernel I/O aside, and how much of it
//! is the policy's: the shipped policies, each beside the same decisions written natively. And how much of
//! the whole, with what it costs to receive a message and to send what becomes of it.
//!
//! `cargo run --release -p viaduct --example message_cost` measures every policy that is built;
//! `... -- policies/registrar/registrar.wasm [PART [ROUNDS]]` one of them, where PART is part of the
//! names of the works to measure (`REGISTER`, `REGISTER kept`). `make bench` runs it.
//!
//! For each work it prints nanoseconds a message, the mean of the tenth of many rounds that cost least.
//! `kept` keeps the instance from run to run, as the router does; `fresh` makes one for each run, as
//! `isolation = "message"` does.
// A measuring program stops at what it did not expect.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

// The guest SDK's own: it is the same text in both, so what differs is the sandbox alone. It is
// formatted as the SDK is.
#[rustfmt::skip]
#[path = "../../../../guest-sdk/src/alias.rs"]
mod alias;
mod bench;
mod io;
mod messages;
mod native;
mod report;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use bench::{Bench, Cost, Measured, settings};
use io::Io;
use native::Native;
use report::{Measurement, Report};
use viaduct::memory::Allocator;
// What alias.rs knows as its crate's.
use viaduct_engine::Transport;
use viaduct_policy::{PolicyCatalog, PolicyHost, WorkerOptions};

// As in the router.
#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

const ROUNDS: usize = 400;
/// Turns of a round.
const TURNS: u32 = 100;
/// The shipped policies in Rust but for number-lookup. Its calls wait for an HTTP service, and asking
/// that ends the run and its instance: an instance is made for each, which `fresh` shows of others, and
/// what the service takes would drown the rest.
const POLICIES: [&str; 5] =
    ["registrar", "default-script", "hunt-group", "outbound-proxy", "mid-registrar"];
/// Runs of an instance that is kept, and of one that is not.
const KEPT: u32 = 100_000;
const FRESH: u32 = 1;

/// What is done.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Work {
    Options,
    Register,
    Call,
}

impl Work {
    const ALL: [Work; 3] = [Work::Options, Work::Register, Work::Call];

    fn name(self) -> &'static str {
        match self {
            Work::Options => "OPTIONS",
            Work::Register => "REGISTER",
            Work::Call => "call",
        }
    }
}

struct Choice {
    part: String,
    rounds: usize,
    turns: u32,
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let files = match arguments.next() {
        Some(file) => vec![PathBuf::from(file)],
        None => POLICIES.map(|name| format!("policies/{name}/{name}.wasm").into()).to_vec(),
    };
    let choice = Choice {
        part: arguments.next().unwrap_or_default(),
        rounds: arguments.next().map_or(ROUNDS, |count| count.parse().expect("rounds")),
        turns: TURNS,
    };
    let mut report = Report::begin(Io::measure());
    for file in files {
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        match std::fs::read(&file) {
            Ok(component) => measure(&name, &component, &choice, &mut report),
            Err(_) => println!("{name:<16}not measured: {} is not built", file.display()),
        }
    }
    report.end();
}

/// Every work that is chosen, with an instance that is kept and with a fresh one a run.
fn measure(name: &str, component: &[u8], choice: &Choice, report: &mut Report) {
    for (shown, max_runs) in [("kept", KEPT), ("fresh", FRESH)] {
        let is_wanted = |work: &Work| format!("{} {shown}", work.name()).contains(&choice.part);
        for work in Work::ALL.into_iter().filter(is_wanted) {
            let mut policy = Bench::new(settings(), host(component, max_runs));
            let mut native = Native::of(name).map(|native| Bench::new(settings(), native));
            let mut benches: Vec<&mut dyn Measured> = vec![&mut policy];
            benches.extend(native.as_mut().map(|native| native as &mut dyn Measured));
            let costs = costs(benches, work, choice);
            let (cost, native) = (costs[0], costs.get(1).copied());
            report.line(Measurement { policy: name, work, shown, cost, native });
        }
    }
}

fn host(component: &[u8], max_runs: u32) -> PolicyHost {
    let catalog = PolicyCatalog::in_memory().expect("a catalog");
    catalog.deploy(component).expect("a policy that loads");
    catalog.worker(WorkerOptions { max_runs, ..WorkerOptions::default() }).expect("a worker")
}

/// Rounds take turns, after one that counts for nothing, and those count in which all together cost
/// least: who shares the machine disturbs all alike, and is left out for all alike. The mean of each.
fn costs(mut benches: Vec<&mut dyn Measured>, work: Work, choice: &Choice) -> Vec<Cost> {
    let mut round = || -> Vec<Cost> {
        benches.iter_mut().map(|bench| bench.measure(work, choice.turns)).collect()
    };
    round();
    let mut rounds: Vec<_> = (0..choice.rounds).map(|_| round()).collect();
    let sum = |costs: &[Cost]| costs.iter().map(|cost| cost.all_ns).sum::<f64>();
    rounds.sort_by(|a, b| sum(a).total_cmp(&sum(b)));
    rounds.truncate(choice.rounds.div_ceil(10));
    let mean = |at: usize, ns: fn(&Cost) -> f64| {
        rounds.iter().map(|costs| ns(&costs[at])).sum::<f64>() / rounds.len() as f64
    };
    let cost = |at| Cost {
        all_ns: mean(at, |c| c.all_ns),
        policy_ns: mean(at, |c| c.policy_ns),
        sent: mean(at, |c| c.sent),
    };
    (0..rounds[0].len()).map(cost).collect()
}
