//! Any bytes through all that `policy deploy` does with them: refused with words, and the version before
//! stays live; or deployed, and then whatever it does with a message ends as a verdict or a failure.
#![no_main]

use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use viaduct_engine::{Phase, Policy};
use viaduct_policy::{PolicyCatalog, WorkerOptions, package};

#[path = "../../tests/common/runs.rs"]
mod runs;

/// One for all inputs: an engine is dear. It keeps 16 versions.
static CATALOG: LazyLock<Arc<PolicyCatalog>> = LazyLock::new(|| {
    let catalog = PolicyCatalog::in_memory().expect("a catalog");
    catalog.deploy(SAFE).expect("a policy that loads");
    catalog
});
const SAFE: &[u8] = include_bytes!("../seeds/components/lean");

fuzz_target!(|bytes: &[u8]| {
    let _ = package::imports(bytes);
    let live = || CATALOG.live().map(|live| live.hash().to_owned());
    let before = live();
    match CATALOG.deploy(bytes) {
        Err(refusal) => {
            let words = refusal.to_string();
            assert!(!words.is_empty() && words.len() < 64 * 1024, "{} bytes", words.len());
            assert_eq!(live(), before);
        }
        Ok(deployed) => {
            assert_eq!(live(), Some(deployed.hash));
            let mut host = CATALOG.worker(WorkerOptions::default()).expect("a worker");
            let version = host.current();
            for phase in [Phase::Request, Phase::Branch, Phase::Reply, Phase::Failure] {
                let (run, verdict) = host.decide(&version, phase, runs::invite());
                assert!(verdict.is_ok() || run.effects.edits.is_empty());
            }
            CATALOG.deploy(SAFE).expect("it has been live before");
        }
    }
    assert!(CATALOG.list().len() <= 16);
});
