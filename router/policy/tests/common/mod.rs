//! Guests written by hand, and runs to feed them.
// Each test file uses its part, and what fails here is a fault of the test.
#![allow(dead_code, unreachable_pub, unused_imports, clippy::expect_used)]

pub mod guest;
pub mod runs;

use viaduct_engine::{Phase, Policy, PolicyFailure, Run, Verdict};
use viaduct_policy::{PolicyCatalog, PolicyHost, WorkerOptions};

pub use guest::*;
pub use runs::*;

/// A catalog in memory with one policy live, and one worker's host.
pub fn host(component: &[u8]) -> PolicyHost {
    let catalog = PolicyCatalog::in_memory().expect("a catalog");
    catalog.deploy(component).expect("a policy that loads");
    catalog.worker(WorkerOptions::default()).expect("a worker")
}

/// Asks the live version.
pub fn ask(host: &mut PolicyHost, run: Box<Run>) -> (Box<Run>, Result<Verdict, PolicyFailure>) {
    let version = host.current();
    host.decide(&version, Phase::Request, run)
}
