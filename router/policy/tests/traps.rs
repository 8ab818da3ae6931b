//! Traps in a row cost memory to nobody. A million of them, as it should be shown, takes minutes in a
//! debug build: `VIADUCT_TRAPS=1000000 cargo test --release -p viaduct-policy --test traps -- --nocapture`.
// What fails here is a fault of the test, and helpers may say so.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use common::{Guest, RELAY, ask, host, invite, manifest, register};
use viaduct_engine::Verdict;

/// Kilobytes of this process that are in memory.
fn resident_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn traps_in_a_row_leave_no_memory_behind_and_the_next_run_is_served() {
    let traps: u32 = std::env::var("VIADUCT_TRAPS").map_or(3_000, |text| text.parse().unwrap());
    let on_request = format!("(if (i32.eqz (local.get $method)) (then unreachable)) {RELAY}");
    let guest = Guest { on_request: &on_request, ..Guest::default() };
    let mut host = host(&guest.build(&manifest("")));
    // What is allocated once is allocated now.
    for _ in 0..500 {
        assert!(ask(&mut host, invite()).1.is_err());
    }
    let before_kb = resident_kb();
    let begun = std::time::Instant::now();
    for n in 0..traps {
        assert!(ask(&mut host, invite()).1.is_err());
        if n % 1000 == 0 {
            assert_eq!(ask(&mut host, register()).1, Ok(Verdict::Relay));
        }
    }
    let (after_kb, took) = (resident_kb(), begun.elapsed());
    println!(
        "{traps} traps in {took:?}, {:.1} us each; {before_kb} KiB before, {after_kb} KiB after",
        took.as_secs_f64() * 1e6 / f64::from(traps)
    );
    assert!(after_kb < before_kb + 4096, "{before_kb} KiB before, {after_kb} KiB after");
    assert_eq!(viaduct_engine::Policy::current(&mut host).counts().traps, u64::from(traps) + 500);
}
