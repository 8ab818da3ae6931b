//! The SIPp scenarios are right in themselves: against each other without a proxy, and through a
//! record-routing Kamailio. A failure elsewhere is then the router's, not the scenario's.

use std::net::SocketAddr;

use anyhow::Result;
use viaduct_tests::or_skip;
use viaduct_tests::support::kamailio::{self, DOMAIN, Keeps};
use viaduct_tests::support::net::{Transport, own_address};
use viaduct_tests::support::sipp::{self, Sipp};

/// Calls in each test.
const CALLS: u32 = 5;

fn at(port: u16) -> SocketAddr {
    (own_address(), port).into()
}

/// Caller and callee of a pair, with `server` between them or none.
fn call(pair: &str, transport: Transport, server: Option<SocketAddr>) -> Result<()> {
    let (caller, callee) = (at(5062), at(5064));
    if let Some(server) = server {
        // The contact is where the callee will listen, which over TCP is another socket.
        let transport_param = format!("{callee};transport={}", transport.in_uri());
        Sipp::new("register", transport, callee)
            .to(server)
            .service("bob")
            .key("domain", DOMAIN)
            .key("contact", &transport_param)
            .run()?
            .all_good("registration", 1)?;
    }
    let answering = Sipp::new(&format!("{pair}.uas"), transport, callee)
        .key("user", "bob")
        .calls(CALLS, 10, 10)
        .trace_messages()
        .start()?;
    let calling = Sipp::new(&format!("{pair}.uac"), transport, caller)
        .to(server.unwrap_or(callee))
        .service("bob")
        .key("caller", "alice")
        .key("domain", DOMAIN)
        .calls(CALLS, 10, 10)
        .trace_messages()
        .run()?;
    let answered = answering.finish()?;
    calling.all_good("caller", u64::from(CALLS))?;
    answered.all_good("callee", u64::from(CALLS))?;
    if server.is_some() {
        // Otherwise the test would also pass if nobody had record-routed.
        anyhow::ensure!(answered.messages.contains("\nRecord-Route:"), "no Record-Route seen");
        anyhow::ensure!(answered.messages.contains("\nBYE sip:"), "no BYE seen");
    }
    Ok(())
}

fn between_themselves(pair: &str) -> Result<()> {
    or_skip!(sipp::installed(), "sipp is not installed");
    call(pair, Transport::Udp, None)?;
    call(pair, Transport::Tcp, None)
}

fn through_kamailio(pair: &str, transport: Transport) -> Result<()> {
    or_skip!(sipp::installed(), "sipp is not installed");
    or_skip!(kamailio::installed(), "kamailio is not installed");
    let server = at(5060);
    let _kamailio = kamailio::start(server, &[], Keeps::InMemory)?;
    call(pair, transport, Some(server))
}

#[test]
fn caller_acts_without_a_proxy() -> Result<()> {
    between_themselves("caller-acts")
}

#[test]
fn callee_acts_without_a_proxy() -> Result<()> {
    between_themselves("callee-acts")
}

#[test]
fn caller_acts_through_kamailio_udp() -> Result<()> {
    through_kamailio("caller-acts", Transport::Udp)
}

#[test]
fn caller_acts_through_kamailio_tcp() -> Result<()> {
    through_kamailio("caller-acts", Transport::Tcp)
}

#[test]
fn callee_acts_through_kamailio_udp() -> Result<()> {
    through_kamailio("callee-acts", Transport::Udp)
}

#[test]
fn callee_acts_through_kamailio_tcp() -> Result<()> {
    through_kamailio("callee-acts", Transport::Tcp)
}

/// One process registers and is called over the flow it registered with.
fn called_over_its_own_flow(pair: (&str, &str), transport: Transport) -> Result<()> {
    or_skip!(sipp::installed(), "sipp is not installed");
    or_skip!(kamailio::installed(), "kamailio is not installed");
    let server = at(5060);
    let _kamailio = kamailio::start(server, &[], Keeps::InMemory)?;
    let local = at(5064);
    let phone = Sipp::new(pair.0, transport, local)
        .to(server)
        .key("private", &format!("{local};transport={}", transport.in_uri()))
        .key("user", "bob")
        .key("domain", DOMAIN)
        .call_ids("flow-%u")
        .trace_messages()
        .start()?;
    sipp::wait_until_registered(transport, at(5066), server, "bob", DOMAIN)?;
    let calling = Sipp::new(pair.1, transport, at(5062))
        .to(server)
        .service("bob")
        .key("caller", "alice")
        .key("domain", DOMAIN)
        .call_ids("flow-%u")
        .trace_messages()
        .run()?;
    let answered = phone.finish()?;
    calling.all_good("caller", 1)?;
    answered.all_good("callee", 1)
}

#[test]
fn a_phone_is_called_over_the_flow_it_registered_with() -> Result<()> {
    let pair = ("register-then-answer.uas", "caller-acts.uac");
    called_over_its_own_flow(pair, Transport::Udp)?;
    called_over_its_own_flow(pair, Transport::Tcp)
}

#[test]
fn a_phone_that_registered_may_act_in_the_call() -> Result<()> {
    let pair = ("register-then-act.uas", "callee-acts.uac");
    called_over_its_own_flow(pair, Transport::Udp)?;
    called_over_its_own_flow(pair, Transport::Tcp)
}
