//! How a router gets its packets: what `viaduct status` and the log say.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::router::Router;

/// How long a change may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for the `nth` opening (from 1) of an interface, then compares the way packets come now.
///
/// # Errors
/// With the router's log, when it does not happen or the status says something else.
pub fn opened(router: &Router, nth: usize, way: &str) -> Result<()> {
    happened(router, nth, "viaduct::packets: open ", way)
}

/// The same for the `nth` time that an interface was closed.
///
/// # Errors
/// As [`opened`].
pub fn closed(router: &Router, nth: usize, way: &str) -> Result<()> {
    happened(router, nth, "viaduct::packets: closed; ", way)
}

fn happened(router: &Router, nth: usize, what: &str, way: &str) -> Result<()> {
    let count = std::cell::Cell::new(0);
    router.wait_for_line(&format!("{what:?} number {nth}"), PATIENCE, |line| {
        count.set(count.get() + usize::from(line.contains(what)));
        line.contains(what) && count.get() == nth
    })?;
    let line = line_of_status(router)?;
    ensure!(line.contains(way), "not {way:?} but {line:?}\n{}", router.log());
    Ok(())
}

/// The line of `viaduct status` about packets.
///
/// # Errors
/// When there is none.
pub fn line_of_status(router: &Router) -> Result<String> {
    let status = router.cli(&["status"])?;
    let line = status.lines().find(|line| line.trim_start().starts_with("packets"));
    Ok(line.context("no line about packets")?.trim().to_owned())
}

/// Waits until the kernel's counter of a verdict has reached `count`: it is read once a second.
///
/// # Errors
/// When it does not.
pub fn wait_for_verdicts(router: &Router, verdict: &str, count: u64) -> Result<()> {
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let seen = router.metric_of("xdp_packets", verdict)?;
        if seen >= count {
            return Ok(());
        }
        ensure!(std::time::Instant::now() < deadline, "{seen} of {count} {verdict}");
        // Nobody is told when a counter of the kernel changes.
        std::thread::sleep(Duration::from_millis(100));
    }
}
