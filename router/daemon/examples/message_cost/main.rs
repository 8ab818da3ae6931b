//! What one message costs in scan, engine, policy and serialisation, kernel I/O aside, and how much of it
//! is the policy's: the shipped policies beside the registrar's decisions written natively.
//!
//! `cargo run --release -p viaduct --example message_cost` measures every policy that is built;
//! `... -- policies/registrar/registrar.wasm [PART [ROUNDS]]` one of them, where PART is part of the
//! names of the works to measure (`REGISTER`, `REGISTER kept`). `make bench` runs it.
//!
//! For each work it prints nanoseconds a message, the low decile of many rounds: in all, and in runs
//! of the policy with all they ask of the host. `kept` keeps the instance from run to run, as the
//! router does; `fresh` makes one for each run, as `isolation = "message"` does.
// A measuring program stops at what it did not expect.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod bench;
mod messages;
mod native;

use std::path::PathBuf;

use bench::{Bench, Cost, Measured};
use native::Native;
use viaduct::memory::Allocator;
use viaduct_policy::{PolicyCatalog, WorkerOptions};

// As in the router.
#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

const ROUNDS: usize = 200;
/// Turns of a round.
const TURNS: u32 = 200;
const POLICIES: [&str; 5] =
    ["registrar", "default-script", "hunt-group", "outbound-proxy", "mid-registrar"];

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
    println!(
        "{:<16}{:<10}{:<8}{:>10}{:>12}{:>9}{:>16}",
        "policy", "work", "as", "ns in all", "in policy", "share", "above native"
    );
    for file in files {
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let Ok(component) = std::fs::read(&file) else {
            println!("{name:<16}not measured: {} is not built", file.display());
            continue;
        };
        measure(&name, &component, &choice);
    }
    println!(
        "\nshare: of a message's cost, in runs of the policy, with what they ask of the host (a save, a\n\
         look-up). above native: what a message costs more than with the same decisions in Rust, which\n\
         take turns with it. call: INVITE, 200, ACK, BYE, 200, a message each."
    );
}

/// Every work that is chosen, with an instance that is kept and with a fresh one a run.
fn measure(name: &str, component: &[u8], choice: &Choice) {
    for (shown, max_runs) in [("kept", 100_000), ("fresh", 1)] {
        let catalog = PolicyCatalog::in_memory().expect("a catalog");
        catalog.deploy(component).expect("a policy that loads");
        let options = WorkerOptions { max_runs, ..WorkerOptions::default() };
        let is_wanted = |work: &Work| format!("{} {shown}", work.name()).contains(&choice.part);
        for work in Work::ALL.into_iter().filter(is_wanted) {
            let mut policy = Bench::new(catalog.worker(options).expect("a worker"));
            let mut native = Bench::new(Native::new());
            // What is decided natively is what the registrar decides.
            if name == "registrar" {
                let [cost, beside] = costs([&mut policy, &mut native], work, choice);
                if shown == "kept" {
                    line("native", work, "", beside, None);
                }
                line(name, work, shown, cost, Some(beside));
            } else {
                let [cost] = costs([&mut policy], work, choice);
                line(name, work, shown, cost, None);
            }
        }
    }
}

/// Low deciles of rounds that take turns, after one that counts for nothing: who shares the machine
/// disturbs both alike.
fn costs<const N: usize>(
    mut benches: [&mut dyn Measured; N],
    work: Work,
    choice: &Choice,
) -> [Cost; N] {
    let mut rounds = [(); N].map(|()| Vec::with_capacity(choice.rounds));
    for round in 0..=choice.rounds {
        for (bench, costs) in benches.iter_mut().zip(&mut rounds) {
            let cost = bench.measure(work, choice.turns);
            if round > 0 {
                costs.push(cost);
            }
        }
    }
    rounds.map(|mut costs| {
        costs.sort_by(|a, b| a.all_ns.total_cmp(&b.all_ns));
        costs[choice.rounds / 10]
    })
}

fn line(name: &str, work: Work, shown: &str, cost: Cost, native: Option<Cost>) {
    let above = native.map(|native| {
        let above = cost.all_ns - native.all_ns;
        format!("{above:.0} ({:.0} %)", 100.0 * above / cost.all_ns)
    });
    println!(
        "{name:<16}{:<10}{shown:<8}{:>10.0}{:>12.0}{:>8.0}%{:>16}",
        work.name(),
        cost.all_ns,
        cost.policy_ns,
        100.0 * cost.policy_ns / cost.all_ns,
        above.unwrap_or_default()
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `make bench` ends with must not find out there that a policy decides otherwise by now.
    #[test]
    fn every_work_goes_through_every_shipped_policy() {
        let choice = Choice { part: "kept".into(), rounds: 1, turns: 60 };
        for name in POLICIES {
            let file = format!("{}/../../policies/{name}/{name}.wasm", env!("CARGO_MANIFEST_DIR"));
            match std::fs::read(&file) {
                Ok(component) => measure(name, &component, &choice),
                Err(error) => println!("skipped: {file}: {error}"),
            }
        }
    }
}
