//! `kill -9` of the router in the middle of a REGISTER storm: what was acknowledged is there after
//! the restart, and what was acknowledged as removed is not.

use anyhow::Result;
use viaduct_tests::or_skip;
use viaduct_tests::support::place::router_address;
use viaduct_tests::support::policy;
use viaduct_tests::support::router::{self, Router, Setup};
use viaduct_tests::support::storm::{Storm, check};

const DOMAIN: &str = "storm.example";
/// Clients that register side by side.
const CLIENTS: usize = 4;
/// Acknowledgements before the router is killed.
const KILL_AFTER: usize = 4_000;

#[test]
fn every_acknowledged_binding_survives_kill_9() -> Result<()> {
    or_skip!(router::binary(), "{}", router::NO_BINARY);
    let listen = router_address();
    let mut router = Router::start(&Setup::new(listen, DOMAIN, policy::shipped("registrar")?))?;
    let storm = Storm::start(&[listen], DOMAIN, CLIENTS);
    storm.wait_for(KILL_AFTER)?;
    router.kill_hard()?;
    let expected = storm.stop()?;
    router.start_again()?;
    check(listen, DOMAIN, &expected)?;
    router.stop()
}
