//! A running router that gets its packets by AF_XDP, in one network namespace, and phones in another:
//! registrations go through, and who is banned is not heard.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use viaduct_tests::or_skip;
use viaduct_tests::support::net::{Transport, own_address};
use viaduct_tests::support::policy;
use viaduct_tests::support::router::{self, Router, Setup};
use viaduct_tests::support::sip_client::{PATIENCE, SipClient};
use viaduct_tests::support::sip_text::Request;
use viaduct_tests::support::wire::Wire;

const DOMAIN: &str = "wire.example";

fn setup(listen: SocketAddr, workers: u32) -> Result<Setup> {
    let mut setup = Setup::new(listen, DOMAIN, policy::shipped("registrar")?);
    (setup.location, setup.workers) = ("memory", workers);
    setup.listen_keys = "xdp = \"required\"";
    Ok(setup)
}

fn start(wire: &Wire, setup: &Setup) -> Result<Router> {
    wire.in_router(|| Router::start(setup))?
}

fn register(phone: &mut SipClient, user: &str) -> Result<()> {
    let answer = phone.transact(&Request::register(user, DOMAIN, &phone.contact(user), 600))?;
    ensure!(answer.status() == Some(200), "{}", answer.text);
    Ok(())
}

#[test]
fn a_banned_phone_is_not_heard_until_the_ban_is_lifted() -> Result<()> {
    or_skip!(router::binary(), "{}", router::NO_BINARY);
    or_skip!(
        std::env::var_os("VIADUCT_XDP"),
        "this router is built without AF_XDP; `make xdp-test` builds one with it"
    );
    let Some(wire) = Wire::lay(1)? else { return Ok(()) };
    let mut setup = setup(wire.router_v4(), 1)?;
    setup.sections = "[xdp]\nban_after = 5\n";
    let router = start(&wire, &setup)?;
    let (bad, good) = (own_address(), own_address());
    let mut banned = SipClient::new(Transport::Udp, (bad, 0).into(), router.listen())?;
    let mut other = SipClient::new(Transport::Udp, (good, 0).into(), router.listen())?;
    register(&mut banned, "alice")?;
    router.cli(&["ban", "add", &bad.to_string(), "60"])?;
    ensure!(router.cli(&["ban", "list"])?.contains(&bad.to_string()));
    banned.send(&Request::register("alice", DOMAIN, &banned.contact("alice"), 60))?;
    register(&mut other, "bob")?;
    let heard = banned.expect("an answer", Duration::from_millis(300), |m| m.status().is_some());
    ensure!(heard.is_err(), "a banned phone was answered");
    router.cli(&["ban", "remove", &bad.to_string()])?;
    register(&mut banned, "alice")?;
    // By itself: so many malformed messages within a minute.
    for _ in 0..5 {
        banned.send_raw(b"INVITE sip:x SIP/2.0\r\nCall-ID: 1\r\nVia: nonsense\r\n\r\n")?;
    }
    let deadline = Instant::now() + PATIENCE;
    while !router.cli(&["ban", "list"])?.contains(&bad.to_string()) {
        ensure!(Instant::now() < deadline, "not banned:\n{}", router.log());
        std::thread::sleep(Duration::from_millis(50));
    }
    register(&mut other, "bob")
}
