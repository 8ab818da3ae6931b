//! Two routers on one PostgreSQL: calls find a phone at either, and `kill -9` of a router or of the
//! database neither loses what was acknowledged nor leaves what was removed.

use std::net::{IpAddr, SocketAddr};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use viaduct_tests::or_skip;
use viaduct_tests::support::net::{Transport, own_address};
use viaduct_tests::support::place::router_address;
use viaduct_tests::support::policy;
use viaduct_tests::support::postgres::{NO_POSTGRES, Postgres};
use viaduct_tests::support::router::{self, Router, Setup};
use viaduct_tests::support::sip_client::SipClient;
use viaduct_tests::support::sip_text::{Received, Request, response};
use viaduct_tests::support::storm::{Storm, check};

const DOMAIN: &str = "cluster.example";
/// Clients that register side by side.
const CLIENTS: usize = 4;
/// Acknowledgements before something is killed, and after it is back.
const ENOUGH: usize = 3_000;
/// How long another router's change may take to be seen on a busy machine.
const SOON: Duration = Duration::from_secs(30);

/// A router on a database, which the others trust.
fn setup(server: &Postgres, node: &str) -> Result<Setup> {
    let listen = router_address();
    let mut setup = Setup::new(listen, DOMAIN, policy::shipped("registrar")?)
        .in_database(&server.connection(), node);
    // Each other: on loopback, or on a switch.
    let networks = ["127.0.0.0/8", "198.18.77.0/24", "2001:db8::/64"];
    setup.trusted = networks.map(str::to_owned).to_vec();
    Ok(setup)
}

/// A client of many, which take turns at one address.
fn client(server: SocketAddr) -> Result<SipClient> {
    static AT: LazyLock<IpAddr> = LazyLock::new(own_address);
    SipClient::new(Transport::Udp, (*AT, 0).into(), server)
}

/// Contacts of a user, as a router tells them.
fn contacts(server: SocketAddr, user: &str) -> Result<Vec<String>> {
    let answer = client(server)?.transact(&Request::fetch(user, DOMAIN))?;
    ensure!(answer.status() == Some(200), "asking for {user}:\n{}", answer.text);
    let listed = answer.list("Contact");
    Ok(listed.iter().filter_map(|c| c.split(['<', '>']).nth(1)).map(str::to_owned).collect())
}

fn eventually(what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + SOON;
    while !is_so()? {
        ensure!(Instant::now() < deadline, "never: {what}");
    }
    Ok(())
}

/// Changes travel in order: once this one has arrived, all before it have.
fn settle(from: SocketAddr, to: SocketAddr) -> Result<()> {
    let contact = format!("sip:mark@{from}");
    let user = format!("mark{}", from.ip().to_string().replace(['.', ':'], "x"));
    let register = || client(from)?.transact(&Request::register(&user, DOMAIN, &contact, 3_600));
    // A router may still be waiting before it tries the database again.
    eventually("a REGISTER is taken", || Ok(register()?.status() == Some(200)))?;
    eventually("a change travels", || Ok(contacts(to, &user)?.contains(&contact)))
}

#[test]
fn a_call_at_the_wrong_router_reaches_the_phone_by_way_of_its_own() -> Result<()> {
    or_skip!(router::binary(), "{}", router::NO_BINARY);
    let server = or_skip!(Postgres::start(&[])?, "{NO_POSTGRES}");
    let a = Router::start(&setup(&server, "a")?)?;
    let b = Router::start(&setup(&server, "b")?)?;
    for transport in [Transport::Udp, Transport::Tcp] {
        let user = format!("phone{}", transport.in_uri());
        let mut phone = SipClient::new(transport, (own_address(), 5062).into(), a.listen())?;
        // Behind NAT: nobody reaches this Contact, only the flow to `a` leads to the phone.
        let contact = format!("sip:{user}@192.0.2.33:5999;transport={}", transport.in_uri());
        let registered = phone.transact(&Request::register(&user, DOMAIN, &contact, 3_600))?;
        ensure!(registered.status() == Some(200), "{}", registered.text);
        eventually("b knows the phone", || Ok(contacts(b.listen(), &user)? == [contact.clone()]))?;
        let uri = format!("sip:{user}@{DOMAIN}");
        let mut caller = client(b.listen())?;
        caller.send(&Request::new("MESSAGE", &uri, &format!("sip:caller@{DOMAIN}"), &uri))?;
        let is_it = |message: &Received| message.method() == Some("MESSAGE");
        let arrived = phone.expect("the MESSAGE", SOON, is_it)?;
        let vias = arrived.list("Via");
        let passed = |via: &String, router: &Router| via.contains(&router.listen().to_string());
        ensure!(vias.len() == 3, "{vias:?}");
        ensure!(passed(&vias[0], &a) && passed(&vias[1], &b), "{vias:?}");
        ensure!(arrived.request_uri() == Some(contact.as_str()), "{}", arrived.text);
        phone.send_raw(response(&arrived, "200 OK", "t", &[]).as_bytes())?;
        caller.expect("the answer", SOON, |message| message.status() == Some(200))?;
    }
    Ok(())
}

#[test]
fn nothing_acknowledged_is_lost_by_kill_9_of_a_router() -> Result<()> {
    or_skip!(router::binary(), "{}", router::NO_BINARY);
    let server = or_skip!(Postgres::start(&[])?, "{NO_POSTGRES}");
    let mut a = Router::start(&setup(&server, "a")?)?;
    let b = Router::start(&setup(&server, "b")?)?;
    let storm = Storm::start(&[a.listen(), b.listen()], DOMAIN, CLIENTS);
    storm.wait_for(ENOUGH)?;
    a.kill_hard()?;
    storm.wait_for(ENOUGH / 4)?;
    a.start_again()?;
    storm.wait_for(ENOUGH / 4)?;
    let expected = storm.stop()?;
    settle(a.listen(), b.listen())?;
    settle(b.listen(), a.listen())?;
    check(a.listen(), DOMAIN, &expected)?;
    check(b.listen(), DOMAIN, &expected)
}

#[test]
fn nothing_acknowledged_is_lost_by_kill_9_of_the_database() -> Result<()> {
    or_skip!(router::binary(), "{}", router::NO_BINARY);
    let mut server = or_skip!(Postgres::start(&[])?, "{NO_POSTGRES}");
    let a = Router::start(&setup(&server, "a")?)?;
    let b = Router::start(&setup(&server, "b")?)?;
    let storm = Storm::start(&[a.listen(), b.listen()], DOMAIN, CLIENTS);
    storm.wait_for(ENOUGH)?;
    server.kill_hard()?;
    // Look-ups go on from memory, a REGISTER is sent away for a while.
    let (user, contact) = ("late", "sip:late@192.0.2.9");
    let register = || client(a.listen())?.transact(&Request::register(user, DOMAIN, contact, 60));
    let refused = register()?;
    ensure!(refused.status() == Some(503), "{}", refused.text);
    ensure!(refused.header("Retry-After").is_some(), "{}", refused.text);
    ensure!(contacts(b.listen(), user)?.is_empty());
    server.start_again()?;
    storm.wait_for(ENOUGH / 2)?;
    let expected = storm.stop()?;
    eventually("a REGISTER is taken again", || Ok(register()?.status() == Some(200)))?;
    settle(a.listen(), b.listen())?;
    settle(b.listen(), a.listen())?;
    check(a.listen(), DOMAIN, &expected)?;
    check(b.listen(), DOMAIN, &expected)?;
    let doubles = server.sql("SELECT aor FROM location GROUP BY aor HAVING count(*) > 1")?;
    for aor in doubles.lines() {
        let user = aor.split('@').next().unwrap_or_default();
        let unanswered = expected.get(user).map_or(0, |one| one.asked.len());
        if unanswered < 2 {
            bail!("{aor} has two contacts");
        }
    }
    Ok(())
}

const PINGS: &str =
    "[keepalive]\ninterval_s = 1\nmethod = \"options\"\nnated_only = false\nmax_lost = 5";

/// Registers a phone by way of an edge proxy, which is the socket of `edge`.
fn register_by(edge: &mut SipClient, user: &str, path: bool) -> Result<()> {
    // Behind NAT: nobody reaches this Contact.
    let contact = format!("sip:{user}@192.0.2.33:5999");
    let mut register = Request::register(user, DOMAIN, &contact, 3_600);
    if path {
        register =
            register.with("Path", &format!("<sip:{};lr>", edge.local())).with("Supported", "path");
    }
    let answer = edge.transact(&register)?;
    ensure!(answer.status() == Some(200), "{}", answer.text);
    Ok(())
}

/// The next ping an edge gets, answered: who sent it.
fn pinged_by(edge: &mut SipClient) -> Result<String> {
    let is_ping = |message: &Received| message.method() == Some("OPTIONS");
    let ping = edge.expect("a ping", SOON, is_ping)?;
    edge.send_raw(response(&ping, "200 OK", "edge", &[]).as_bytes())?;
    let via = ping.header("Via").unwrap_or_default();
    let sender = via.split([' ', ';']).nth(1).unwrap_or_default();
    Ok(sender.to_owned())
}

#[test]
fn contacts_of_a_dead_router_are_pinged_by_another_along_their_path_until_it_is_back() -> Result<()>
{
    or_skip!(router::binary(), "{}", router::NO_BINARY);
    let server = or_skip!(Postgres::start(&[])?, "{NO_POSTGRES}");
    let pinging = |node: &str| -> Result<Setup> {
        let mut setup = setup(&server, node)?;
        setup.store.push_str("node_dead_s = 3\n");
        setup.sections = PINGS;
        Ok(setup)
    };
    let mut a = Router::start(&pinging("a")?)?;
    let b = Router::start(&pinging("b")?)?;
    let mut edge = SipClient::new(Transport::Udp, (own_address(), 5070).into(), a.listen())?;
    let mut nated = SipClient::new(Transport::Udp, (own_address(), 5071).into(), a.listen())?;
    register_by(&mut edge, "by-path", true)?;
    register_by(&mut nated, "by-flow", false)?;
    eventually("b knows both", || {
        Ok(!contacts(b.listen(), "by-path")?.is_empty()
            && !contacts(b.listen(), "by-flow")?.is_empty())
    })?;
    let (of_a, of_b) = (a.listen().to_string(), b.listen().to_string());
    for _ in 0..3 {
        ensure!(pinged_by(&mut edge)? == of_a, "while a lives");
        ensure!(pinged_by(&mut nated)? == of_a, "while a lives");
    }
    a.kill_hard()?;
    eventually("b stands in", || Ok(pinged_by(&mut edge)? == of_b))?;
    for _ in 0..3 {
        ensure!(pinged_by(&mut edge)? == of_b, "while a is dead");
    }
    a.start_again()?;
    eventually("a pings again", || Ok(pinged_by(&mut edge)? == of_a))?;
    // Until b knows that, both do.
    let mut in_a_row = 0;
    eventually("only a pings", || {
        in_a_row = if pinged_by(&mut edge)? == of_a { in_a_row + 1 } else { 0 };
        // The hole in the other one's NAT is a's: nobody else tries.
        ensure!(pinged_by(&mut nated)? == of_a, "by b, which the NAT does not let in");
        Ok(in_a_row == 4)
    })?;
    for user in ["by-path", "by-flow"] {
        ensure!(!contacts(b.listen(), user)?.is_empty(), "{user} is gone:\n{}", b.log());
    }
    Ok(())
}
