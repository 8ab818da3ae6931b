//! How many messages come to a worker that does not own them, with two workers and AF_XDP.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use viaduct_tests::support::net::own_address;
use viaduct_tests::support::router::{self, Router};
use viaduct_tests::support::wire::Wire as Cable;

use crate::call::Calls;
use crate::drive::{Driver, Pace};
use crate::single::Single;
use crate::wire::Wire;
use crate::work::{AORS, Work};

/// Calls, and requests of each other kind.
const COUNT: usize = 5_000;

/// Registrations, OPTIONS and calls through a router of its own; a line for people.
pub(crate) fn measure(cable: &Cable, binary: &Path) -> Result<String> {
    let policy = viaduct_tests::support::policy::shipped("registrar")?;
    let mut setup = router::Setup::new(cable.router_v4(), "bench.example", policy);
    (setup.location, setup.listen_keys) = ("memory", "xdp = \"required\"");
    let router = cable.in_router(|| Router::start_program(binary, &setup))??;
    let at = || (own_address(), 5060).into();
    let (caller, callee) = (at(), at());
    let wire = Wire::new(caller, callee, router.listen())?;
    Driver::new(&mut Single::callees(callee), &wire, Pace::BUSY).answer(AORS)?;
    for work in [Work::Options, Work::Register] {
        let mut load = Single::new(work, caller);
        let mut driver = Driver::new(&mut load, &wire, Pace::BUSY);
        driver.answer(COUNT)?;
        driver.drain()?;
    }
    let mut load = Calls::new(caller, callee);
    let mut driver = Driver::new(&mut load, &wire, Pace::BUSY);
    driver.answer(COUNT)?;
    driver.drain()?;
    let count = |name: &str| router.metric(name).with_context(|| router.log());
    let (all, by_xdp, handed) =
        (count("udp_received")?, count("xdp_received")?, count("handed_over")?);
    ensure!(all > 0, "nothing was received");
    let percent = 100.0 * handed as f64 / all as f64;
    Ok(format!(
        "\nwith two workers {handed} of {all} messages ({percent:.3} %) came to the wrong one; \
         {by_xdp} came by AF_XDP\n"
    ))
}
