//! Traps in a row cost memory to nobody, and another policy no more than the processor they take. A
//! million of them, as it should be shown, takes minutes in a debug build:
//! `VIADUCT_TRAPS=1000000 cargo test --release -p viaduct-policy --test traps -- --nocapture`.
// What fails here is a fault of the test, and helpers may say so.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::fs::read_to_string;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use common::{Guest, RELAY, ask, invite, manifest, register};
use viaduct_engine::{Policy, Verdict};
use viaduct_policy::{PolicyCatalog, PolicyHost, Sandbox, WorkerOptions};

/// How many traps are asked for, and whether that was said by hand, on a machine for it.
fn wanted() -> (u32, bool) {
    let text = std::env::var("VIADUCT_TRAPS");
    (text.as_deref().map_or(3_000, |text| text.parse().unwrap()), text.is_ok())
}

/// Kilobytes of this process that are in memory.
fn resident_kb() -> u64 {
    let status = read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Processor time of this thread, seconds.
fn thread_cpu_s() -> f64 {
    let statistics = read_to_string("/proc/thread-self/schedstat").unwrap();
    statistics.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e9
}

/// A worker of a catalog of its own: policies share the sandbox and nothing else.
fn worker(sandbox: &Arc<Sandbox>, on_request: &str) -> PolicyHost {
    let catalog = PolicyCatalog::in_memory_with(Arc::clone(sandbox));
    catalog.deploy(&Guest { on_request, ..Guest::default() }.build(&manifest(""))).unwrap();
    catalog.worker(WorkerOptions::default()).unwrap()
}

/// How fast a policy decides.
struct Pace {
    runs: u64,
    clock_s: f64,
    cpu_s: f64,
}

impl Pace {
    /// Runs the policy until it is enough, after so many runs at least.
    fn of(host: &mut PolicyHost, least: u64, enough: impl Fn() -> bool) -> Pace {
        let (clock, cpu_s) = (Instant::now(), thread_cpu_s());
        let mut runs = 0;
        while runs < least || !enough() {
            assert_eq!(ask(host, register()).1, Ok(Verdict::Relay));
            runs += 1;
        }
        Pace { runs, clock_s: clock.elapsed().as_secs_f64(), cpu_s: thread_cpu_s() - cpu_s }
    }

    fn per_clock(&self) -> f64 {
        self.runs as f64 / self.clock_s
    }

    fn per_cpu(&self) -> f64 {
        self.runs as f64 / self.cpu_s
    }
}

#[test]
fn traps_in_a_row_leave_no_memory_behind_and_a_policy_beside_them_is_served() {
    let (traps, by_hand) = wanted();
    let sandbox = Sandbox::new().unwrap();
    let body = format!("(if (i32.eqz (local.get $method)) (then unreachable)) {RELAY}");
    let mut trapping = worker(&sandbox, &body);
    let mut healthy = worker(&sandbox, RELAY);
    // What is allocated once is allocated now.
    for _ in 0..500 {
        assert!(ask(&mut trapping, invite()).1.is_err());
    }
    let least = u64::from(traps / 10).max(1_000);
    let alone = Pace::of(&mut healthy, least, || true);
    let before_kb = resident_kb();
    let over = AtomicBool::new(false);
    let (beside, took) = std::thread::scope(|scope| {
        let paced = scope.spawn(|| Pace::of(&mut healthy, least, || over.load(Ordering::Relaxed)));
        let begun = Instant::now();
        for n in 0..traps {
            assert!(ask(&mut trapping, invite()).1.is_err());
            if n % 1000 == 0 {
                assert_eq!(ask(&mut trapping, register()).1, Ok(Verdict::Relay));
            }
        }
        let took = begun.elapsed();
        over.store(true, Ordering::Relaxed);
        (paced.join().unwrap(), took)
    });
    let after_kb = resident_kb();
    println!(
        "{traps} traps in {took:?}, {:.1} us each; {before_kb} KiB before, {after_kb} KiB after; \
         runs of a policy beside them: {:.0} a second alone and {:.0} beside, {:.0} and {:.0} a \
         second of processor time",
        took.as_secs_f64() * 1e6 / f64::from(traps),
        alone.per_clock(),
        beside.per_clock(),
        alone.per_cpu(),
        beside.per_cpu(),
    );
    assert!(after_kb < before_kb + 4096, "{before_kb} KiB before, {after_kb} KiB after");
    assert_eq!(trapping.current().counts().traps, u64::from(traps) + 500);
    // Time is asserted only where somebody has asked for it and sees to the machine.
    assert!(!by_hand || beside.per_cpu() > 0.8 * alone.per_cpu(), "the policy beside has suffered");
}
