//! The scenario of RFC 3327 with real processes:
//!
//! ```text
//! UA1 -- P1 (outbound proxy, Path with received) -- P2 (plain Path) -- REG -- UA2
//! ```
//! UA1 registers through both proxies with a Contact at which nobody can reach it. UA2 calls; the
//! INVITE must come back by way of P2 and P1 to the address the REGISTER came from, and the dialog
//! (ACK, re-INVITE, BYE, from either side) must work.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use viaduct_tests::support::net::{Transport, own_address};
use viaduct_tests::support::place::router_address;
use viaduct_tests::support::policy;
use viaduct_tests::support::router::{self, Router, Setup};
use viaduct_tests::support::sip_text::Received;
use viaduct_tests::support::sipp::{self, Report, Sipp};

const DOMAIN: &str = "home.example";
/// UA1's Contact, from a network for documentation (RFC 5737): a packet sent there is lost.
const PRIVATE: &str = "192.0.2.33:5999";

struct Chain {
    p1: Router,
    p2: Router,
    reg: Router,
    _folder: TempDir,
}

/// The routers, or the reason why there are none.
fn start(transport: Transport) -> Result<std::result::Result<Chain, &'static str>> {
    if router::binary().is_none() {
        return Ok(Err(router::NO_BINARY));
    }
    if sipp::installed().is_none() {
        return Ok(Err("sipp is not installed"));
    }
    let folder = TempDir::with_prefix("viaduct-path-")?;
    let (p1, p2, reg) = (router_address(), router_address(), router_address());
    let proxy = policy::shipped("outbound-proxy")?;
    // Both proxies are the shipped policy; `received` makes the difference between edge and middle.
    let toward = |hop: SocketAddr, name: &str, received: &str| {
        let next_hop = format!("sip:{hop};transport={}", transport.in_uri());
        policy::copy_with(&proxy, &folder.path().join(name), |manifest| {
            policy::set(manifest, "next_hop", &next_hop);
            policy::set(manifest, "path_mode", "ua-supported");
            policy::set(manifest, "received", received);
        })
    };
    let edge = toward(p2, "p1.wasm", "true")?;
    let middle = toward(reg, "p2.wasm", "false")?;
    let router = |listen, domain, component, neighbours: &[SocketAddr]| {
        let mut setup = Setup::new(listen, domain, component);
        setup.trusted = neighbours.iter().map(|one| one.ip().to_string()).collect();
        setup.location = "memory";
        setup.workers = 1;
        Router::start(&setup)
    };
    Ok(Ok(Chain {
        p1: router(p1, "p1.example", edge, &[p2])?,
        p2: router(p2, "p2.example", middle, &[p1, reg])?,
        reg: router(reg, DOMAIN, policy::shipped("registrar")?, &[p2])?,
        _folder: folder,
    }))
}

/// UA1 registers and is called by UA2; `(ua1, ua2)` are scenarios that fit together.
fn register_and_call(ua1: &str, ua2: &str, transport: Transport) -> Result<()> {
    let chain = match start(transport)? {
        Ok(chain) => chain,
        Err(reason) => {
            viaduct_tests::support::skip::skipped(reason);
            return Ok(());
        }
    };
    let (at_ua1, at_ua2) = (SocketAddr::from((own_address(), 5064)), (own_address(), 5062).into());
    let phone = Sipp::new(ua1, transport, at_ua1)
        .to(chain.p1.listen())
        .key("user", "bob")
        .key("domain", DOMAIN)
        .key("private", &format!("{PRIVATE};transport={}", transport.in_uri()))
        .call_ids("flow-%u")
        .trace_messages()
        .start()?;
    let asker = SocketAddr::from((own_address(), 5066));
    sipp::wait_until_registered(transport, asker, chain.reg.listen(), "bob", DOMAIN)?;
    stored_path_is_in_order(&chain)?;
    let calling = Sipp::new(ua2, transport, at_ua2)
        .to(chain.reg.listen())
        .service("bob")
        .key("caller", "alice")
        .key("domain", DOMAIN)
        .call_ids("flow-%u")
        .trace_messages()
        .run()?;
    let called = phone.finish()?;
    let logs = || {
        let Chain { p1, p2, reg, .. } = &chain;
        format!("P1:\n{}\nP2:\n{}\nREG:\n{}", p1.log(), p2.log(), reg.log())
    };
    calling.all_good("UA2", 1).with_context(logs)?;
    called.all_good("UA1", 1).with_context(logs)?;
    ua1_has_seen_the_way(&called, &chain)
}

/// R-P1, R-P3: the topmost value is the one nearest the registrar.
fn stored_path_is_in_order(chain: &Chain) -> Result<()> {
    let shown = chain.reg.cli(&["--json", "location", "show", &format!("bob@{DOMAIN}")])?;
    let position = |of: &Router| {
        let address = of.listen().ip().to_string();
        shown.find(&address).with_context(|| format!("{address} is not in the binding:\n{shown}"))
    };
    ensure!(position(&chain.p2)? < position(&chain.p1)?, "Path is out of order:\n{shown}");
    Ok(())
}

/// What UA1 got: Path in the 200 (R-P16), and the INVITE by way of P2 and P1.
fn ua1_has_seen_the_way(report: &Report, chain: &Chain) -> Result<()> {
    let messages = received(report);
    let ip = |of: &Router| of.listen().ip().to_string();
    let accepted = messages
        .iter()
        .find(|message| message.status() == Some(200) && message.cseq_method() == Some("REGISTER"))
        .context("UA1's trace has no 200 to REGISTER")?;
    let path = accepted.list("Path");
    let [first, second] = path.as_slice() else {
        anyhow::bail!("the 200 has {} Path values:\n{}", path.len(), accepted.text);
    };
    ensure!(first.contains(&ip(&chain.p2)), "the topmost Path is not P2's: {first}");
    ensure!(second.contains(&ip(&chain.p1)), "the last Path is not P1's: {second}");
    ensure!(second.contains("received="), "P1 has not written where UA1 is: {second}");
    let invite = messages
        .iter()
        .find(|message| message.method() == Some("INVITE"))
        .context("UA1's trace has no INVITE")?;
    let uri = invite.request_uri().unwrap_or_default();
    ensure!(uri.contains(PRIVATE), "the Request-URI is not the Contact: {uri}");
    ensure!(invite.headers("Route").is_empty(), "a Route reached UA1:\n{}", invite.text);
    let vias = invite.list("Via");
    let way = [&chain.p1, &chain.p2, &chain.reg].map(ip);
    for (via, hop) in vias.iter().zip(&way) {
        ensure!(via.contains(hop), "the way should be {way:?}, then UA2; Via is {vias:?}");
    }
    ensure!(vias.len() == 4, "the way should be {way:?}, then UA2; Via is {vias:?}");
    Ok(())
}

/// The messages UA1 received, from SIPp's trace: between lines of dashes, each behind a line that
/// ends in "received [...] bytes :".
fn received(report: &Report) -> Vec<Received> {
    report
        .messages
        .split("\n-----------------------------------------------")
        .filter(|part| part.contains(" message received ["))
        .filter_map(|part| part.split_once("bytes :"))
        .map(|(_, text)| Received {
            text: text.trim_start().to_owned(),
            from: ([0, 0, 0, 0], 0).into(),
        })
        .collect()
}

#[test]
fn r_p1_a_call_follows_the_path_over_udp() -> Result<()> {
    register_and_call("register-then-answer.uas", "caller-acts.uac", Transport::Udp)
}

#[test]
fn r_p1_a_call_follows_the_path_over_tcp() -> Result<()> {
    register_and_call("register-then-answer.uas", "caller-acts.uac", Transport::Tcp)
}

#[test]
fn r_p1_the_phone_behind_the_path_may_act_over_udp() -> Result<()> {
    register_and_call("register-then-act.uas", "callee-acts.uac", Transport::Udp)
}

#[test]
fn r_p1_the_phone_behind_the_path_may_act_over_tcp() -> Result<()> {
    register_and_call("register-then-act.uas", "callee-acts.uac", Transport::Tcp)
}
