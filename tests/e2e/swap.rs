//! A swap loses nothing: 1,000 calls are up while the policy is replaced, again and again, and none
//! of them fails.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use tempfile::TempDir;
use toml::Table;
use viaduct_tests::or_skip;
use viaduct_tests::support::net::{Transport, own_address};
use viaduct_tests::support::place::router_address;
use viaduct_tests::support::policy;
use viaduct_tests::support::router::{self, Router, Setup};
use viaduct_tests::support::sip_client::SipClient;
use viaduct_tests::support::sip_text::Request;
use viaduct_tests::support::sipp::{self, Sipp};

const DOMAIN: &str = "swap.example";
const CALLS: u32 = 1_000;
/// Calls begun per second; the calls last long enough to be all up together.
const RATE: u32 = 250;

#[test]
fn a_swap_during_1000_calls_fails_none() -> Result<()> {
    or_skip!(router::binary(), "{}", router::NO_BINARY);
    or_skip!(sipp::installed(), "sipp is not installed");
    let shipped = policy::shipped("registrar")?;
    let folder = TempDir::with_prefix("viaduct-swap-")?;
    let versions = ["9.0.1", "9.0.2"];
    let components = versions.map(|version| {
        let file = folder.path().join(format!("registrar-{version}.wasm"));
        policy::copy_with(&shipped, &file, |manifest: &mut Table| {
            manifest.insert("version".to_owned(), version.into());
        })
    });
    let [first, second] = components;
    let components = [first?, second?];
    let server = router_address();
    let mut setup = Setup::new(server, DOMAIN, shipped);
    setup.location = "memory";
    let router = Router::start(&setup)?;

    let callee = SocketAddr::from((own_address(), 5064));
    register(callee, server)?;
    let answering =
        Sipp::new("long-call.uas", Transport::Udp, callee).key("user", "bob").calls(CALLS, RATE, 0);
    let answering = answering.start()?;
    let calling = Sipp::new("long-call.uac", Transport::Udp, (own_address(), 5062).into())
        .to(server)
        .service("bob")
        .key("caller", "alice")
        .key("domain", DOMAIN)
        .calls(CALLS, RATE, CALLS)
        .start()?;
    calling.wait_until_up(u64::from(CALLS), Duration::from_secs(60))?;
    let mut swaps = 0;
    while !calling.has_ended() {
        let turn = swaps % 2;
        let file = components.get(turn).map(|path| path.display().to_string()).unwrap_or_default();
        router.cli(&["policy", "deploy", &file])?;
        let listed = router.cli(&["policy", "list"])?;
        let version = versions.get(turn).copied().unwrap_or_default();
        ensure!(listed.contains(version), "{version} is not among the versions:\n{listed}");
        swaps += 1;
    }
    let (called, answered) = (calling.finish()?, answering.finish()?);
    called.all_good("caller", u64::from(CALLS))?;
    answered.all_good("callee", u64::from(CALLS))?;
    ensure!(swaps >= 2, "only {swaps} swaps fell into the calls");
    println!("{swaps} swaps, {} messages sent again", called.retransmissions);
    Ok(())
}

/// Binds the callee's address. The client's own port is another one: SIPp gets the callee's.
fn register(callee: SocketAddr, server: SocketAddr) -> Result<()> {
    let mut client = SipClient::new(Transport::Udp, (callee.ip(), 0).into(), server)?;
    let contact = format!("sip:bob@{callee}");
    let answer = client.transact(&Request::register("bob", DOMAIN, &contact, 600))?;
    ensure!(answer.status() == Some(200), "REGISTER:\n{}", answer.text);
    Ok(())
}
