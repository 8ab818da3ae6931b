//! What keeps phones reachable, with a running router and sockets as phones: pings and their
//! answers, contacts that answer nothing, bindings that end with their connection, STUN.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use viaduct_tests::or_skip;
use viaduct_tests::support::net::{Transport, own_address};
use viaduct_tests::support::place::router_address;
use viaduct_tests::support::policy;
use viaduct_tests::support::router::{self, Router, Setup};
use viaduct_tests::support::sip_client::{PATIENCE, SipClient};
use viaduct_tests::support::sip_text::{Received, Request, response};

const DOMAIN: &str = "ping.example";
const PINGS: &str =
    "[keepalive]\ninterval_s = 1\nmethod = \"options\"\nnated_only = false\nmax_lost = 2";

fn start(sections: &'static str, location_keys: &'static str) -> Result<Router> {
    let mut setup = Setup::new(router_address(), DOMAIN, policy::shipped("registrar")?);
    (setup.location, setup.sections, setup.location_keys) = ("memory", sections, location_keys);
    Router::start(&setup)
}

fn phone(router: &Router, transport: Transport, user: &str) -> Result<SipClient> {
    let mut phone = SipClient::new(transport, (own_address(), 0).into(), router.listen())?;
    let register = Request::register(user, DOMAIN, &phone.contact(user), 600);
    let answer = phone.transact(&register)?;
    ensure!(answer.status() == Some(200), "{}", answer.text);
    Ok(phone)
}

/// Asks the router until its answer is wanted; it may need a moment to notice.
fn wait_for(router: &Router, user: &str, wanted: impl Fn(&str) -> bool) -> Result<String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let shown = router
            .cli(&["--json", "location", "show", &format!("{user}@{DOMAIN}")])
            .unwrap_or_default();
        if wanted(&shown) {
            return Ok(shown);
        }
        ensure!(Instant::now() < deadline, "still:\n{shown}\n{}", router.log());
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn is_ping(message: &Received) -> bool {
    message.method() == Some("OPTIONS")
}

#[test]
fn a_phone_is_pinged_again_and_again_and_its_latency_is_kept() -> Result<()> {
    or_skip!(router::binary(), "{}", router::NO_BINARY);
    let router = start(PINGS, "")?;
    let mut phone = phone(&router, Transport::Udp, "alice")?;
    for _ in 0..4 {
        let ping = phone.expect("a ping", PATIENCE, is_ping)?;
        ensure!(ping.header("From").is_some_and(|from| from.contains("sip:keepalive@")));
        // Whatever a phone says, it is alive.
        phone.send_raw(response(&ping, "501 Not Implemented", "phone", &[]).as_bytes())?;
    }
    wait_for(&router, "alice", |shown| shown.contains("latency_us"))?;
    router.check_alive()
}

#[test]
fn a_phone_that_answers_nothing_is_removed_and_one_on_tcp_is_pinged_over_its_connection()
-> Result<()> {
    or_skip!(router::binary(), "{}", router::NO_BINARY);
    let router = start(PINGS, "")?;
    let _silent = phone(&router, Transport::Udp, "silent")?;
    let mut talking = phone(&router, Transport::Tcp, "talking")?;
    for _ in 0..5 {
        let ping = talking.expect("a ping", PATIENCE, is_ping)?;
        talking.send_raw(response(&ping, "200 OK", "phone", &[]).as_bytes())?;
    }
    wait_for(&router, "silent", |shown| !shown.contains("sip:silent@"))?;
    wait_for(&router, "talking", |shown| shown.contains("sip:talking@"))?;
    router.check_alive()
}

#[test]
fn a_binding_ends_with_its_connection_where_told_so() -> Result<()> {
    or_skip!(router::binary(), "{}", router::NO_BINARY);
    let router = start("", "drop_lost_tcp = true")?;
    let leaving = phone(&router, Transport::Tcp, "leaving")?;
    let _staying = phone(&router, Transport::Tcp, "staying")?;
    wait_for(&router, "leaving", |shown| shown.contains("sip:leaving@"))?;
    drop(leaving);
    wait_for(&router, "leaving", |shown| !shown.contains("sip:leaving@"))?;
    wait_for(&router, "staying", |shown| shown.contains("sip:staying@"))?;
    router.check_alive()
}

#[test]
fn four_bytes_keep_a_nat_open_and_stun_tells_a_phone_its_address() -> Result<()> {
    or_skip!(router::binary(), "{}", router::NO_BINARY);
    let router = start("[keepalive]\ninterval_s = 1\nnated_only = false", "")?;
    let mut phone = phone(&router, Transport::Udp, "alice")?;
    phone.expect("four zero bytes", PATIENCE, |message| message.text == "\0\0\0\0")?;
    let socket = UdpSocket::bind((own_address(), 0))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let binding = [&b"\0\x01\0\0\x21\x12\xa4\x42"[..], b"transaction1"].concat();
    socket.send_to(&binding, router.listen())?;
    let mut answer = [0u8; 64];
    let length = socket.recv(&mut answer)?;
    let answer = answer.get(..length).context("an answer")?;
    let port = answer.get(26..28).context("a port")?;
    let port = u16::from_be_bytes([port[0] ^ 0x21, port[1] ^ 0x12]);
    ensure!(port == socket.local_addr()?.port(), "{answer:?}");
    router.check_alive()
}

#[test]
fn a_call_to_a_phone_whose_port_is_closed_ends_at_once() -> Result<()> {
    or_skip!(router::binary(), "{}", router::NO_BINARY);
    let router = start("", "")?;
    drop(phone(&router, Transport::Udp, "gone")?);
    let mut caller = SipClient::new(Transport::Udp, (own_address(), 0).into(), router.listen())?;
    let uri = format!("sip:gone@{DOMAIN}");
    let call = Request::new("MESSAGE", &uri, &format!("sip:caller@{DOMAIN}"), &uri);
    // Without the word of ICMP nobody would answer: a timeout of a MESSAGE has no response.
    let answer = caller.transact(&call)?;
    ensure!(answer.status() == Some(500), "{}", answer.text);
    router.check_alive()
}
