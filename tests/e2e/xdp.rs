//! Registrations, messages and calls by way of AF_XDP, with a running router in one network namespace
//! and its peers in another; who is kept out; and the same choice of workers for kernel sockets.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use viaduct_tests::or_skip;
use viaduct_tests::support::net::{Transport, own_address, use_addresses};
use viaduct_tests::support::packets::{line_of_status, wait_for_verdicts};
use viaduct_tests::support::policy;
use viaduct_tests::support::router::{self, Router, Setup};
use viaduct_tests::support::sip_client::{PATIENCE, SipClient};
use viaduct_tests::support::sip_text::{Request, response};
use viaduct_tests::support::sipp::{self, Sipp};
use viaduct_tests::support::storm::{self, Storm};
use viaduct_tests::support::wire::Wire;

const DOMAIN: &str = "wire.example";
const CALLS: u32 = 60;

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
fn registrations_go_by_af_xdp_over_ipv4_and_ipv6() -> Result<()> {
    or_skip!(router::binary(), "{}", router::NO_BINARY);
    let Some(wire) = Wire::laid(1)? else { return Ok(()) };
    registrations_go_by_af_xdp(&wire)
}

#[test]
fn registrations_in_a_vlan_go_by_af_xdp_over_ipv4_and_ipv6() -> Result<()> {
    or_skip!(router::binary(), "{}", router::NO_BINARY);
    let Some(wire) = Wire::laid_in_vlan(1)? else { return Ok(()) };
    registrations_go_by_af_xdp(&wire)
}

fn registrations_go_by_af_xdp(wire: &Wire) -> Result<()> {
    let pairs = [(wire.router_v4(), wire.peer_v4(0)), (wire.router_v6(), wire.peer_v6(0))];
    for (listen, local) in pairs {
        let router = start(wire, &setup(listen, 1)?)?;
        let line = line_of_status(&router)?;
        ensure!(line.contains("xdp copy on router0, 1 queue"), "{line}");
        let mut phone = SipClient::new(Transport::Udp, local, listen)?;
        let (deadline, mut count) = (Instant::now() + PATIENCE, 0);
        // The first go out by the kernel, until it has learned the phone's hardware address and
        // the router has heard of it.
        while router.metric("xdp_sent")? < 10 {
            register(&mut phone, "alice")?;
            count += 1;
            ensure!(Instant::now() < deadline, "nothing goes out by AF_XDP\n{}", router.log());
        }
        let received = router.wait_for_metric("xdp_received", count)?;
        ensure!(received == count, "{received} of {count} came in by AF_XDP");
    }
    Ok(())
}

#[test]
fn phones_on_udp_and_tcp_send_each_other_messages() -> Result<()> {
    or_skip!(router::binary(), "{}", router::NO_BINARY);
    let Some(wire) = Wire::laid(1)? else { return Ok(()) };
    let router = start(&wire, &setup(wire.router_v4(), 2)?)?;
    let phone = |transport| SipClient::new(transport, (own_address(), 0).into(), router.listen());
    let mut phones = [("udp", phone(Transport::Udp)?), ("tcp", phone(Transport::Tcp)?)];
    for (name, phone) in &mut phones {
        register(phone, name)?;
    }
    let [(_, udp), (_, tcp)] = &mut phones;
    for _ in 0..5 {
        message(udp, tcp, "tcp")?;
        message(tcp, udp, "udp")?;
    }
    // REGISTER, five MESSAGEs, five answers.
    let received = router.wait_for_metric("xdp_received", 11)?;
    ensure!(received == 11, "{received} came in by AF_XDP");
    router.check_alive()
}

fn message(from: &mut SipClient, to: &mut SipClient, user: &str) -> Result<()> {
    let uri = format!("sip:{user}@{DOMAIN}");
    let request = Request::new("MESSAGE", &uri, &format!("sip:x@{DOMAIN}"), &uri)
        .with_body("text/plain", "hello");
    from.send(&request)?;
    let got = to.expect("a MESSAGE", PATIENCE, |m| m.method() == Some("MESSAGE"))?;
    ensure!(got.text.ends_with("hello"), "{}", got.text);
    to.send_raw(response(&got, "200 OK", "phone", &[]).as_bytes())?;
    from.expect("200", PATIENCE, |m| m.status() == Some(200)).map(drop)
}

/// Registers a callee and has it called; the router's counters say by which way and worker.
fn call(router: &Router, pair: &str) -> Result<()> {
    let callee: SocketAddr = (own_address(), 5064).into();
    // From the same address: another one would be behind NAT, and called where it registered from.
    let mut phone = SipClient::new(Transport::Udp, (callee.ip(), 0).into(), router.listen())?;
    let contact = format!("sip:bob@{callee}");
    let answer = phone.transact(&Request::register("bob", DOMAIN, &contact, 600))?;
    ensure!(answer.status() == Some(200), "{}", answer.text);
    let callee = Sipp::new(&format!("{pair}.uas"), Transport::Udp, callee).key("user", "bob");
    let callee = callee.calls(CALLS, 10, CALLS).start()?;
    let called = Sipp::new(&format!("{pair}.uac"), Transport::Udp, (own_address(), 5062).into())
        .to(router.listen())
        .calls(CALLS, 10, CALLS)
        .service("bob")
        .key("caller", "alice")
        .key("domain", DOMAIN)
        .run()?;
    let answered = callee.finish()?;
    let good = called.all_good("caller", CALLS.into());
    let answered = answered.all_good("callee", CALLS.into());
    good.with_context(|| format!("{answered:?}\n{}", router.log()))?;
    answered?;
    let all = router.metric("udp_received")?;
    ensure!(all > 9 * u64::from(CALLS), "{all} messages came in");
    let handed = router.metric("handed_over")?;
    ensure!(handed * 100 < all, "{handed} of {all} came to the wrong worker");
    router.check_alive()
}

type Lay = fn(u32) -> Result<Option<Wire>>;

fn calls_with_two_workers(lay: Lay, queues: u32, v6: bool, pair: &str) -> Result<()> {
    or_skip!(router::binary(), "{}", router::NO_BINARY);
    or_skip!(sipp::installed(), "sipp is not installed");
    let Some(wire) = lay(queues)? else { return Ok(()) };
    if v6 {
        use_addresses(wire.peer_v6(0).ip());
    }
    let listen = if v6 { wire.router_v6() } else { wire.router_v4() };
    let router = start(&wire, &setup(listen, 2)?)?;
    let plural = if queues == 1 { "queue" } else { "queues" };
    let line = line_of_status(&router)?;
    ensure!(line.contains(&format!("xdp copy on router0, {queues} {plural}, 2 workers")), "{line}");
    call(&router, pair)?;
    // One after the other: what comes late comes by AF_XDP too.
    let [all, xdp] = [router.metric("udp_received")?, router.metric("xdp_received")?];
    ensure!(xdp >= all, "{xdp} of {all} messages came in by AF_XDP");
    Ok(())
}

#[test]
fn calls_find_their_worker_with_two_workers_on_one_queue() -> Result<()> {
    calls_with_two_workers(Wire::laid, 1, false, "caller-acts")
}

#[test]
fn calls_find_their_worker_with_two_workers_on_two_queues() -> Result<()> {
    calls_with_two_workers(Wire::laid, 2, false, "callee-acts")
}

#[test]
fn calls_find_their_worker_over_ipv6_on_one_queue() -> Result<()> {
    calls_with_two_workers(Wire::laid, 1, true, "callee-acts")
}

#[test]
fn calls_find_their_worker_over_ipv6_on_two_queues() -> Result<()> {
    calls_with_two_workers(Wire::laid, 2, true, "caller-acts")
}

#[test]
fn calls_in_a_vlan_find_their_worker_on_one_queue() -> Result<()> {
    calls_with_two_workers(Wire::laid_in_vlan, 1, true, "caller-acts")
}

#[test]
fn calls_in_a_vlan_find_their_worker_on_two_queues() -> Result<()> {
    calls_with_two_workers(Wire::laid_in_vlan, 2, false, "callee-acts")
}

#[test]
fn calls_find_their_worker_among_kernel_sockets() -> Result<()> {
    or_skip!(router::binary(), "{}", router::NO_BINARY);
    or_skip!(sipp::installed(), "sipp is not installed");
    let Some(wire) = Wire::laid(1)? else { return Ok(()) };
    let mut setup = setup(wire.router_v4(), 2)?;
    setup.listen_keys = "xdp = \"off\"";
    let router = start(&wire, &setup)?;
    let line = line_of_status(&router)?;
    ensure!(line.contains("kernel sockets, 2 workers"), "{line}");
    call(&router, "caller-acts")?;
    ensure!(router.metric("xdp_received")? == 0, "AF_XDP was off");
    Ok(())
}

#[test]
fn registrations_go_on_under_a_flood_from_banned_sources() -> Result<()> {
    const FLOOD: u64 = 50_000;
    or_skip!(router::binary(), "{}", router::NO_BINARY);
    let Some(wire) = Wire::laid(1)? else { return Ok(()) };
    let router = start(&wire, &setup(wire.router_v4(), 2)?)?;
    let sources = [wire.peer_v4(50), wire.peer_v4(51)].map(|addr| addr.ip());
    let storm = Storm::start(&[router.listen()], DOMAIN, 2);
    storm.wait_for(200)?;
    let mut sockets = Vec::new();
    for source in sources {
        router.cli(&["ban", "add", &source.to_string(), "600"])?;
        sockets.push(UdpSocket::bind((source, 5060))?);
    }
    let mut sent = 0;
    for n in 0..FLOOD {
        for socket in &sockets {
            let from = socket.local_addr()?;
            let invite = Request::new("INVITE", "sip:bob@wire.example", "sip:m@x", "sip:bob@x")
                .with("Call-ID", &n.to_string())
                .render(Transport::Udp, from);
            let bytes = if n % 2 == 0 { invite.as_bytes() } else { b"garbage without an end" };
            // A full send buffer loses some, as floods do.
            sent += u64::from(socket.send_to(bytes, router.listen()).is_ok());
        }
        if n % 10_000 == 0 {
            storm.wait_for(200)?;
        }
    }
    storm.wait_for(200)?;
    let expected = storm.stop()?;
    storm::check(router.listen(), DOMAIN, &expected)?;
    ensure!(sent > FLOOD, "the flood was a trickle: {sent}");
    // What the kernel's queue between the namespaces took was dropped before it cost the router
    // anything: not one of it is among what the workers saw.
    wait_for_verdicts(&router, "banned", sent / 2)?;
    ensure!(router.metric("malformed")? == 0, "garbage got through");
    ensure!(router.metric_of("requests_received", "INVITE")? == 0, "an INVITE got through");
    router.check_alive()
}

#[test]
fn a_banned_phone_is_not_heard_until_the_ban_is_lifted() -> Result<()> {
    or_skip!(router::binary(), "{}", router::NO_BINARY);
    let Some(wire) = Wire::laid(1)? else { return Ok(()) };
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
