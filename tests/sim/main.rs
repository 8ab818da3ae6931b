//! `make sim`: the real engine, policies and location service on a virtual network and clock. One
//! seed decides everything: who is there, what they do, what goes wrong, every lost datagram. The
//! same seed does the same again.
//!
//! What is real: engine, shipped policies in their sandbox, location service with its commit
//! thread, control side of the media relay. What is simulated: sockets, clocks, disks, NATs, phones,
//! what carries media. What must hold is in [`promises`] and [`relayed`]. Start reading at [`world`]; [`plan`] is what a seed makes.

mod call;
mod dice;
mod ladder;
mod minimise;
mod network;
mod phone;
mod plan;
mod policy;
mod promises;
mod relay;
mod relayed;
mod router;
mod sdp;
mod store;
mod streams;
mod talk;
mod text;
mod world;

use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use anyhow::{Result, bail};
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};

use crate::plan::Plan;
use crate::policy::Shelf;
use crate::world::{Failure, Tally, run};

/// Many routers, phones and faults on a virtual network, from seeds.
#[derive(Debug, Parser)]
struct Arguments {
    /// How many seeds.
    #[arg(long, default_value_t = 1_000)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// This one alone; its ladder is printed.
    #[arg(long)]
    seed: Option<u64>,
    /// Stop at the first failure, as it is.
    #[arg(long)]
    quick: bool,
    /// Where the ladder of a failing seed goes.
    #[arg(long, default_value = "target/sim")]
    out: PathBuf,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if let Some(seed) = arguments.seed {
        return replay(seed);
    }
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} seeds, {eta} left")?;
    let progress = ProgressBar::new(arguments.seeds).with_style(style);
    let outcome = many(arguments.from, arguments.seeds, &|| progress.inc(1))?;
    progress.finish_and_clear();
    let (tally, failed) = outcome;
    println!("{}", summary(arguments.seeds, &tally));
    match failed {
        None => Ok(()),
        Some((seed, failure)) if arguments.quick => bail!(
            "\nseed {seed} at {:.3} s: {}",
            failure.at_us as f64 / 1e6,
            failure.what.lines().next().unwrap_or_default()
        ),
        Some(failed) => report(failed, &arguments.out),
    }
}

/// What all simulations together have done.
fn summary(seeds: u64, tally: &Tally) -> String {
    format!(
        "{seeds} seeds: {} messages, {} crashes, {} failed policy runs; {} phones back on the air, \
         {} of the last calls answered; phones heard each other in {} calls",
        tally.messages,
        tally.crashes,
        tally.policy_failures,
        tally.registered,
        tally.answered_calls,
        tally.heard_calls
    )
}

/// One seed, for a person to look at.
fn replay(seed: u64) -> Result<()> {
    let shelf = Shelf::load()?;
    let plan = Plan::of(seed);
    println!("{plan:#?}");
    match run(&plan, &shelf)? {
        Ok(tally) => {
            println!("{}", summary(1, &tally));
            Ok(())
        }
        Err(failure) => {
            println!("{}", failure.ladder);
            bail!("seed {seed} at {:.3} s: {}", failure.at_us as f64 / 1e6, failure.what)
        }
    }
}

/// Makes the failure smaller, writes its ladder, and says how to see it again.
fn report((seed, failure): (u64, Failure), out: &std::path::Path) -> Result<()> {
    let at_s = failure.at_us as f64 / 1e6;
    eprintln!("seed {seed} failed at {at_s:.3} s: {}\nmaking it smaller ...", failure.what);
    let (plan, failure) = minimise::minimise(&Plan::of(seed), failure, &Shelf::load()?)?;
    fs::create_dir_all(out)?;
    let file = out.join(format!("seed-{seed}.txt"));
    let text = format!("{}\n\n{plan:#?}\n\n{}\n{}\n", failure.what, failure.ladder, failure.what);
    fs::write(&file, text)?;
    bail!(
        "seed {seed}, {} acts left: {}\nthe ladder is in {}; again, whole: make sim SEED={seed}",
        plan.acts.len(),
        failure.what,
        file.display()
    )
}

/// What all seeds did together, and the lowest that failed of those that were run.
type Outcome = (Tally, Option<(u64, Failure)>);

/// Runs seeds on all cores, until one fails.
fn many(from: u64, seeds: u64, done: &(dyn Fn() + Sync)) -> Result<Outcome> {
    let (next, stop) = (AtomicU64::new(from), AtomicBool::new(false));
    let total = Mutex::new((Tally::default(), None::<(u64, Failure)>));
    let work = || -> Result<()> {
        let shelf = Shelf::load()?;
        while !stop.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= from.saturating_add(seeds) {
                break;
            }
            let outcome = run(&Plan::of(seed), &shelf)?;
            let mut total = total.lock().unwrap_or_else(PoisonError::into_inner);
            match outcome {
                Ok(tally) => total.0.add(tally),
                Err(failure) => {
                    stop.store(true, Ordering::Relaxed);
                    if total.1.as_ref().is_none_or(|(known, _)| seed < *known) {
                        total.1 = Some((seed, failure));
                    }
                }
            }
            done();
        }
        Ok(())
    };
    thread::scope(|scope| {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        for thread in threads {
            match thread.join() {
                Ok(outcome) => outcome?,
                Err(_) => bail!("a simulation panicked; the message above says where"),
            }
        }
        Ok(())
    })?;
    Ok(total.into_inner().unwrap_or_else(PoisonError::into_inner))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As many as the time of a test run allows; `make sim SEEDS=...` runs more.
    const SEEDS: u64 = 2_000;

    #[test]
    fn every_promise_holds_under_2000_seeds_of_faults() {
        let (tally, failed) = many(0, SEEDS, &|| ()).unwrap();
        if let Some(failed) = failed {
            report(failed, &std::env::temp_dir()).unwrap();
        }
        // It has done what it is for.
        assert!(tally.crashes > 100 && tally.policy_failures > 100, "{tally:?}");
        assert!(tally.registered > SEEDS && tally.answered_calls > SEEDS / 2, "{tally:?}");
        assert!(tally.heard_calls > SEEDS, "{tally:?}");
    }

    #[test]
    fn a_seed_does_the_same_again() {
        let shelf = Shelf::load().unwrap();
        for seed in [3, 4, 5] {
            let [first, second] = [0, 1].map(|_| match run(&Plan::of(seed), &shelf).unwrap() {
                Ok(tally) => format!("{tally:?}"),
                Err(failure) => failure.ladder,
            });
            assert_eq!(first, second, "seed {seed}");
        }
    }
}
