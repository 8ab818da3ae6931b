//! `viaduct destinations`: how the destinations of a router stand, and what an operator says of them.

// A JSON value without what is asked for is null, and the comparison says so.
#![allow(clippy::indexing_slicing)]

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use viaduct_tests::or_skip;
use viaduct_tests::support::net::{Transport, own_address};
use viaduct_tests::support::place::router_address;
use viaduct_tests::support::policy;
use viaduct_tests::support::router::{self, Router, Setup};
use viaduct_tests::support::sip_client::SipClient;
use viaduct_tests::support::sip_text::{Received, response};

const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for a list in which the row of `uri` holds all of `words`.
fn wait_for_row(router: &Router, uri: &str, words: &[&str]) -> Result<()> {
    let begun = Instant::now();
    loop {
        let list = router.cli(&["destinations", "list"])?;
        let row = list.lines().find(|line| line.contains(uri)).context("no such row")?;
        if words.iter().all(|word| row.contains(word)) {
            return Ok(());
        }
        ensure!(begun.elapsed() < PATIENCE, "{uri} is never {words:?}:\n{list}");
        thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn destinations_are_listed_set_and_taken_up_anew() -> Result<()> {
    or_skip!(router::binary(), "{}", router::NO_BINARY);
    let [living, dead] = [5070, 5071].map(|port| SocketAddr::from((own_address(), port)));
    let [living_uri, dead_uri] = [living, dead].map(|address| format!("sip:{address}"));
    let mut setup = Setup::new(router_address(), "gw.example", policy::shipped("registrar")?);
    setup.location = "memory";
    setup.sections = format!(
        "[probe]\ninterval_s = 1\ntimeout_ms = 500\ndown_after = 1\n\
         [[destination]]\nset = \"gw\"\nuri = \"{living_uri}\"\nweight = 7\nattributes = \"trunk=a\"\n\
         [[destination]]\nset = \"gw\"\nuri = \"{dead_uri}\"\n"
    )
    .leak();
    let router = Router::start(&setup)?;
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| answer_probes(living, router.listen(), &over));
        let done = look_and_set(&router, &living_uri, &dead_uri);
        over.store(true, Ordering::SeqCst);
        done
    })
}

fn look_and_set(router: &Router, living: &str, dead: &str) -> Result<()> {
    wait_for_row(router, living, &["gw", "  up  ", "200 in ", " ms", "trunk=a", "  7  "])?;
    wait_for_row(router, dead, &["  down  "])?;
    let said = router.cli(&["destinations", "set", "gw", living, "disabled"])?;
    ensure!(said == format!("{living} of gw is disabled\n"), "{said}");
    wait_for_row(router, living, &["  disabled  "])?;
    let reloaded = router.cli(&["destinations", "reload"])?;
    ensure!(reloaded.starts_with("reloaded"), "{reloaded}");
    let json = router.cli(&["--json", "dispatcher", "list", "gw"])?;
    let entries: serde_json::Value = serde_json::from_str(&json)?;
    let states = [&entries[0]["state"], &entries[1]["state"]];
    ensure!(states == ["disabled", "down"], "a reload forgets what was said: {json}");
    router.cli(&["destinations", "set", "gw", living, "up"])?;
    wait_for_row(router, living, &["  up  "])?;
    let refusals: [(&[&str], &str); 4] = [
        (&["set", "gw", "sip:192.0.2.1", "up"], "there is no \"sip:192.0.2.1\" in set gw"),
        (&["set", "other", living, "up"], "there is no set \"other\"; sets: gw"),
        (&["set", "gw", living, "off"], "allowed: up, down, disabled"),
        (&["list", "other"], "there is no set \"other\""),
    ];
    for (words, says) in refusals {
        let refused = router.cli(&[&["destinations"], words].concat());
        let words = format!("{:#}", refused.err().context("it was not refused")?);
        ensure!(words.contains(says), "{words}");
    }
    let told = |line: &str| line.contains("destination set by an operator");
    router.wait_for_line("the order in the log", PATIENCE, told)?;
    Ok(())
}

/// 200 to every OPTIONS.
fn answer_probes(local: SocketAddr, server: SocketAddr, over: &AtomicBool) -> Result<()> {
    let mut gateway = SipClient::new(Transport::Udp, local, server)?;
    let is_probe = |message: &Received| message.method() == Some("OPTIONS");
    while !over.load(Ordering::SeqCst) {
        if let Ok(probe) = gateway.expect("a probe", Duration::from_millis(200), is_probe) {
            gateway.send_raw(response(&probe, "200 OK", "gw", &[]).as_bytes())?;
        }
    }
    Ok(())
}
