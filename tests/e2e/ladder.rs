//! AF_XDP's ladder, with a running router: what it stands on without privileges, and what happens
//! when program, link or interface go and come back while calls are up.

#[path = "../../router/transport/tests/support/detach.rs"]
mod detach;

use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use viaduct_tests::or_skip;
use viaduct_tests::support::net::{Transport, own_address};
use viaduct_tests::support::packets::{closed, line_of_status, opened};
use viaduct_tests::support::policy;
use viaduct_tests::support::router::{self, Router, Setup};
use viaduct_tests::support::sip_client::SipClient;
use viaduct_tests::support::sip_text::Request;
use viaduct_tests::support::sipp::{self, Sipp};
use viaduct_tests::support::skip::find_program;
use viaduct_tests::support::wire::{ROUTER, Wire};

const DOMAIN: &str = "ladder.example";
/// Calls that are up when the faults begin; others follow all the time.
const CALLS: u32 = 60;
const NO_END: u32 = 1_000_000;
const PATIENCE: Duration = Duration::from_secs(60);

fn setup(listen: SocketAddr, wish: &'static str) -> Result<Setup> {
    let mut setup = Setup::new(listen, DOMAIN, policy::shipped("registrar")?);
    setup.location = "memory";
    setup.listen_keys = wish;
    Ok(setup)
}

const AUTO: &str = "xdp = \"auto\"";
const REQUIRED: &str = "xdp = \"required\"";

fn start(wire: &Wire, setup: &Setup) -> Result<Router> {
    wire.in_router(|| Router::start(setup))?
}

/// Registers an address, from another port of it.
fn register(router: &Router, user: &str, phone: SocketAddr) -> Result<()> {
    let mut client = SipClient::new(Transport::Udp, (phone.ip(), 0).into(), router.listen())?;
    let contact = format!("sip:{user}@{phone}");
    let answer = client.transact(&Request::register(user, DOMAIN, &contact, 600))?;
    ensure!(answer.status() == Some(200), "{}", answer.text);
    Ok(())
}

fn register_alice(router: &Router) -> Result<()> {
    register(router, "alice", (own_address(), 5060).into())
}

/// The kernel's numbers of the program on the router's interface, and of that.
fn attached(wire: &Wire) -> Result<(u32, u32)> {
    let output = wire
        .in_router(|| Command::new("ip").args(["-d", "link", "show", "dev", ROUTER]).output())??;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let id = text.split("prog/xdp id ").nth(1).and_then(|rest| rest.split_whitespace().next());
    let index = text.split(':').next().unwrap_or_default();
    Ok((id.with_context(|| format!("no program:\n{text}"))?.parse()?, index.trim().parse()?))
}

#[test]
fn no_call_is_lost_when_program_link_and_interface_go_and_come_back() -> Result<()> {
    or_skip!(router::binary(), "{}", router::NO_BINARY);
    or_skip!(sipp::installed(), "sipp is not installed");
    let Some(wire) = Wire::laid(1)? else { return Ok(()) };
    let router = start(&wire, &setup(wire.router_v4(), AUTO)?)?;
    opened(&router, 1, "xdp copy on router0, 1 queue")?;
    let callee: SocketAddr = (own_address(), 5064).into();
    register(&router, "bob", callee)?;
    let callee = Sipp::new("long-call.uas", Transport::Udp, callee).key("user", "bob");
    let callee = callee.calls(NO_END, 20, NO_END).start()?;
    let caller = Sipp::new("long-call.uac", Transport::Udp, (own_address(), 5062).into())
        .to(router.listen())
        .calls(NO_END, 20, 2 * CALLS)
        .service("bob")
        .key("caller", "alice")
        .key("domain", DOMAIN)
        .start()?;
    caller.wait_until_up(CALLS.into(), PATIENCE)?;

    let (program, interface) = attached(&wire)?;
    detach::detach(program, interface);
    opened(&router, 2, "xdp copy on router0")?;
    wire.router_ip(&format!("link set {ROUTER} down"))?;
    closed(&router, 2, "kernel sockets on router0 (the link is down)")?;
    wire.router_ip(&format!("link set {ROUTER} up"))?;
    opened(&router, 3, "xdp copy on router0")?;
    // The cable at the other end.
    wire.peers_ip(&format!("link set {} down", wire.port()))?;
    closed(&router, 3, "kernel sockets on router0 (the link is down)")?;
    wire.peers_ip(&format!("link set {} up", wire.port()))?;
    opened(&router, 4, "xdp copy on router0")?;
    wire.unplug()?;
    closed(&router, 4, "kernel sockets on router0 (the interface is gone)")?;
    wire.plug_in()?;
    opened(&router, 5, "xdp copy on router0")?;
    // Too long for a frame of 2 KiB: opened again with larger ones.
    wire.router_ip(&format!("link set {ROUTER} mtu 3000"))?;
    opened(&router, 6, "xdp copy on router0")?;
    let before = router.metric("xdp_received")?;

    caller.wind_up()?;
    let called = caller.finish()?;
    callee.wind_up()?;
    let answered = callee.finish()?;
    called.none_failed("caller", CALLS.into()).with_context(|| router.log())?;
    answered.none_failed("callee", CALLS.into())?;
    // Fails where nothing came by AF_XDP after the last fault.
    router.wait_for_metric("xdp_received", before + 1)?;
    println!("{} calls, {} messages sent again", called.successful, called.retransmissions);
    router.check_alive()
}

/// Registers until an answer goes out by AF_XDP: the first go by the kernel, until it has learned the
/// phone's hardware address and the router has heard of it.
fn answers_go_by_af_xdp(router: &Router) -> Result<()> {
    let phone = (own_address(), 5060).into();
    let before = router.metric("xdp_sent")?;
    let deadline = Instant::now() + PATIENCE;
    while router.metric("xdp_sent")? == before {
        ensure!(Instant::now() < deadline, "nothing goes out by AF_XDP\n{}", router.log());
        register(router, "alice", phone)?;
    }
    Ok(())
}

#[test]
fn an_address_that_goes_and_comes_back_is_served_again() -> Result<()> {
    or_skip!(router::binary(), "{}", router::NO_BINARY);
    let Some(wire) = Wire::laid(1)? else { return Ok(()) };
    let listen = wire.router_v4();
    let router = start(&wire, &setup(listen, AUTO)?)?;
    opened(&router, 1, "xdp copy on router0")?;
    wire.router_ip(&format!("addr del {}/24 dev {ROUTER}", listen.ip()))?;
    closed(&router, 1, "kernel sockets on router0 (the interface has lost its addresses)")?;
    wire.router_ip(&format!("addr add {}/24 dev {ROUTER}", listen.ip()))?;
    opened(&router, 2, "xdp copy on router0")?;
    answers_go_by_af_xdp(&router)?;
    router.check_alive()
}

#[test]
fn a_vlan_that_goes_down_or_away_and_comes_back_is_served_again() -> Result<()> {
    or_skip!(router::binary(), "{}", router::NO_BINARY);
    let Some(wire) = Wire::laid_in_vlan(1)? else { return Ok(()) };
    let router = start(&wire, &setup(wire.router_v4(), AUTO)?)?;
    opened(&router, 1, "xdp copy on router0")?;
    answers_go_by_af_xdp(&router)?;
    wire.router_ip(&format!("link set {ROUTER}.100 down"))?;
    closed(&router, 1, "kernel sockets on router0 (VLAN 100 is down)")?;
    wire.router_ip(&format!("link set {ROUTER}.100 up"))?;
    opened(&router, 2, "xdp copy on router0")?;
    answers_go_by_af_xdp(&router)?;
    wire.delete_vlan()?;
    closed(&router, 2, "kernel sockets on router0 (the interface has lost its addresses)")?;
    // Under a new number, by which routes name it.
    wire.set_up()?;
    opened(&router, 3, "xdp copy on router0")?;
    answers_go_by_af_xdp(&router)?;
    router.check_alive()
}

#[test]
fn where_a_card_takes_the_tag_of_a_vlan_off_the_stack_serves_it_until_it_does_not() -> Result<()> {
    or_skip!(router::binary(), "{}", router::NO_BINARY);
    let Some(wire) = Wire::laid_in_vlan(1)? else { return Ok(()) };
    wire.take_tags_off(true)?;
    let cure = "the card takes the tag of VLAN 100 off: ethtool -K router0 rxvlan off";
    refused(&wire, &setup(wire.router_v4(), REQUIRED)?, cure)?;
    let router = start(&wire, &setup(wire.router_v4(), AUTO)?)?;
    let line = line_of_status(&router)?;
    ensure!(line.contains(&format!("kernel sockets on router0 ({cure})")), "{line}");
    register_alice(&router)?;
    wire.take_tags_off(false)?;
    opened(&router, 1, "xdp copy on router0")?;
    answers_go_by_af_xdp(&router)?;
    wire.take_tags_off(true)?;
    closed(&router, 1, &format!("kernel sockets on router0 ({cure})"))?;
    register_alice(&router)?;
    router.check_alive()
}

#[test]
fn a_second_router_on_an_interface_waits_for_its_turn() -> Result<()> {
    or_skip!(router::binary(), "{}", router::NO_BINARY);
    let Some(wire) = Wire::laid(1)? else { return Ok(()) };
    let first = start(&wire, &setup(wire.router_v4(), AUTO)?)?;
    opened(&first, 1, "xdp copy")?;
    let listen = SocketAddr::new(wire.router_v4().ip(), 5070);
    refused(&wire, &setup(listen, REQUIRED)?, "attach")?;
    let second = start(&wire, &setup(listen, AUTO)?)?;
    let line = line_of_status(&second)?;
    ensure!(line.contains("kernel sockets on router0 (attach: "), "{line}");
    register_alice(&second)?;
    drop(first);
    opened(&second, 1, "xdp copy on router0")?;
    register_alice(&second)?;
    // A worker shows its counters at the end of a turn: maybe a moment after the answer.
    second.wait_for_metric("xdp_received", 1)?;
    second.check_alive()
}

/// It does not start, and says why.
fn refused(wire: &Wire, setup: &Setup, why: &str) -> Result<()> {
    let refused = start(wire, setup).err().context("it started")?;
    let text = format!("{refused:#}");
    let said = format!("listener {} requires AF_XDP: ", setup.listen);
    ensure!(text.contains(&said) && text.contains(why), "{text}");
    Ok(())
}

/// Under these limits kernel sockets serve, and what requires AF_XDP does not start.
fn limited(limits: &'static [&'static str], why: &str) -> Result<()> {
    or_skip!(router::binary(), "{}", router::NO_BINARY);
    or_skip!(find_program("setpriv"), "setpriv (util-linux) is not installed");
    let Some(wire) = Wire::laid(1)? else { return Ok(()) };
    let mut setup = setup(wire.router_v4(), AUTO)?;
    setup.launcher = limits.iter().map(|&word| word.to_owned()).collect();
    let router = start(&wire, &setup)?;
    let line = line_of_status(&router)?;
    ensure!(line.contains("kernel sockets on router0 (") && line.contains(why), "{line}");
    register_alice(&router)?;
    ensure!(router.metric("xdp_received")? == 0, "by AF_XDP");
    router.check_alive()?;
    drop(router);
    setup.listen_keys = REQUIRED;
    refused(&wire, &setup, why)
}

#[test]
fn without_capabilities_kernel_sockets_serve() -> Result<()> {
    limited(&["setpriv", "--bounding-set=-all", "--inh-caps=-all"], "Operation not permitted")
}

#[test]
fn without_locked_memory_kernel_sockets_serve() -> Result<()> {
    let limits = &["prlimit", "--memlock=65536:65536", "setpriv", "--bounding-set=-ipc_lock"];
    limited(limits, "the limit of locked memory")
}

#[test]
fn only_the_thread_that_opens_interfaces_keeps_capabilities() -> Result<()> {
    /// CAP_NET_ADMIN, CAP_NET_RAW, CAP_IPC_LOCK, CAP_PERFMON, CAP_BPF.
    const FOR_PACKETS: u64 = 1 << 12 | 1 << 13 | 1 << 14 | 1 << 38 | 1 << 39;
    or_skip!(router::binary(), "{}", router::NO_BINARY);
    let Some(wire) = Wire::laid(1)? else { return Ok(()) };
    let router = start(&wire, &setup(wire.router_v4(), REQUIRED)?)?;
    register_alice(&router)?;
    let (mut keepers, mut others) = (Vec::new(), 0);
    for task in std::fs::read_dir(format!("/proc/{}/task", router.pid()))? {
        let read = |file| std::fs::read_to_string(task.as_ref().unwrap().path().join(file));
        let (name, status) = (read("comm")?, read("status")?);
        let held = |set: &str| -> Result<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(set));
            Ok(u64::from_str_radix(line.context("no capabilities")?.trim(), 16)?)
        };
        match (held("CapEff:")? | held("CapPrm:")? | held("CapAmb:")?) & FOR_PACKETS {
            0 => others += 1,
            _ => keepers.push(name.trim().to_owned()),
        }
    }
    ensure!(keepers == ["packets"], "kept by {keepers:?}");
    ensure!(others >= 3, "only {others} other threads");
    // And it opens again what has gone.
    wire.unplug()?;
    closed(&router, 1, "the interface is gone")?;
    wire.plug_in()?;
    opened(&router, 2, "xdp copy on router0")?;
    register_alice(&router)
}
