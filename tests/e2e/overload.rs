//! A flood of calls beyond the configured bound: who is in a call or registered is served, who is
//! new and no part of the flood too, and afterwards everybody is.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use serde_json::Value;
use viaduct_tests::or_skip;
use viaduct_tests::support::net::{Transport, own_address};
use viaduct_tests::support::place::{are_routers_apart, router_address};
use viaduct_tests::support::policy;
use viaduct_tests::support::router::{self, Router, Setup};
use viaduct_tests::support::sip_client::SipClient;
use viaduct_tests::support::sip_text::{Received, Request, response};
use viaduct_transport::Sieve;

const DOMAIN: &str = "flood.example";
/// Server transactions of the whole router.
const BOUND: u64 = 400;
const PATIENCE: Duration = Duration::from_secs(60);
/// Sources of the flood, and calls each has outstanding at a time.
const SOURCES: usize = 3;
const BURST: usize = 50;

/// A router with little room; calls that nobody answers end after 64 times T1.
fn start() -> Result<Router> {
    let listen = router_address();
    let mut setup = Setup::new(listen, DOMAIN, policy::shipped("registrar")?);
    setup.location = "memory";
    setup.sections = "[limits]\ntransactions = 400\n[timers]\nt1_ms = 200\n";
    Router::start(&setup)
}

fn client(router: &Router) -> Result<SipClient> {
    SipClient::new(Transport::Udp, (own_address(), 0).into(), router.listen())
}

fn register(phone: &mut SipClient, user: &str) -> Result<Received> {
    phone.transact(&Request::register(user, DOMAIN, &phone.contact(user), 600))
}

fn call(callee: &str) -> Request {
    let uri = format!("sip:{callee}@{DOMAIN}");
    Request::new("INVITE", &uri, "sip:caller@elsewhere.example", &uri)
}

/// Sends new calls as fast as it can, and reads no answer, until it is over.
fn drown(server: SocketAddr, over: &AtomicBool) -> Result<()> {
    let socket = UdpSocket::bind((own_address(), 0))?;
    let from = socket.local_addr()?;
    let mut number = 0_u64;
    while !over.load(Ordering::SeqCst) {
        number += 1;
        let text = format!(
            "INVITE sip:silent@{DOMAIN} SIP/2.0\r\nVia: SIP/2.0/UDP {from};branch=z9hG4bK{number}\r\n\
             Max-Forwards: 70\r\nFrom: <sip:a@elsewhere.example>;tag=1\r\nTo: <sip:silent@{DOMAIN}>\r\n\
             Call-ID: {number}-{from}\r\nCSeq: 1 INVITE\r\nContact: <sip:a@{from}>\r\n\
             Content-Length: 0\r\n\r\n"
        );
        // A full buffer on the way is what a flood is for.
        socket.send_to(text.as_bytes(), server).ok();
    }
    Ok(())
}

/// New calls without end, from several sources.
struct Flood {
    over: Arc<AtomicBool>,
    /// 503s it got.
    refused: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Result<()>>>,
}

impl Flood {
    fn start(server: SocketAddr) -> Self {
        let (over, refused) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let threads = (0..SOURCES).map(|_| {
            let (over, refused, at) = (Arc::clone(&over), Arc::clone(&refused), own_address());
            thread::spawn(move || flood(at, server, &over, &refused))
        });
        let threads = threads.collect();
        Self { over, refused, threads }
    }

    /// Waits until some more have been refused: there is no room now.
    fn press_on(&self) -> Result<()> {
        let before = self.refused.load(Ordering::SeqCst);
        let deadline = Instant::now() + PATIENCE;
        while self.refused.load(Ordering::SeqCst) < before + 20 {
            ensure!(Instant::now() < deadline, "nobody is refused");
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    fn stop(self) -> Result<u64> {
        self.over.store(true, Ordering::SeqCst);
        for one in self.threads {
            one.join().map_err(|_| anyhow!("a source panicked"))??;
        }
        Ok(self.refused.load(Ordering::SeqCst))
    }
}

fn flood(at: IpAddr, server: SocketAddr, over: &AtomicBool, refused: &AtomicU64) -> Result<()> {
    let mut client = SipClient::new(Transport::Udp, (at, 0).into(), server)?;
    while !over.load(Ordering::SeqCst) {
        for _ in 0..BURST {
            client.send(&call("silent"))?;
        }
        // As many answers as come at once; the next burst does not wait for the others.
        let answered = |message: &Received| message.status().is_some();
        while let Ok(answer) = client.expect("an answer", Duration::from_millis(20), answered) {
            if answer.status() == Some(503) {
                let after = answer.header("Retry-After").and_then(|text| text.parse::<u64>().ok());
                ensure!(after.is_some_and(|after| after > 0), "{}", answer.text);
                refused.fetch_add(1, Ordering::SeqCst);
            }
        }
    }
    Ok(())
}

fn transactions(router: &Router) -> Result<u64> {
    let status: Value = serde_json::from_str(&router.cli(&["status", "--json"])?)?;
    status.get("transactions").and_then(Value::as_u64).context("no transactions in the status")
}

/// A call of two phones: what the caller sends within it.
fn dialog(caller: &mut SipClient, callee: &mut SipClient) -> Result<Request> {
    caller.send(&call("callee"))?;
    let invite = callee.expect("the call", PATIENCE, |m| m.method() == Some("INVITE"))?;
    let contact = format!("Contact: <{}>", callee.contact("callee"));
    callee.send_raw(response(&invite, "200 OK", "callee", &[contact]).as_bytes())?;
    let ok = caller.expect("the answer", PATIENCE, |m| m.status() == Some(200))?;
    let route = ok.headers("Record-Route").join(", ");
    ensure!(!route.is_empty(), "the router stays out of the call:\n{}", ok.text);
    let header = |name: &str| ok.header(name).map(str::to_owned).context("a header");
    let within = Request::new("INFO", &callee.contact("callee"), "sip:x", "sip:x")
        .with("From", &header("From")?)
        .with("To", &header("To")?)
        .with("Call-ID", &header("Call-ID")?)
        .with("Route", &route);
    Ok(within)
}

#[test]
fn a_flood_of_calls_takes_nothing_from_calls_and_phones_there_are_and_leaves_nothing() -> Result<()>
{
    or_skip!(router::binary(), "{}", router::NO_BINARY);
    let router = start()?;
    let (mut caller, mut callee) = (client(&router)?, client(&router)?);
    let mut silent = client(&router)?;
    ensure!(register(&mut callee, "callee")?.status() == Some(200));
    ensure!(register(&mut silent, "silent")?.status() == Some(200));
    let within = dialog(&mut caller, &mut callee)?;
    let flood = Flood::start(router.listen());
    flood.press_on()?;
    for number in 2..12 {
        ensure!(register(&mut callee, "callee")?.status() == Some(200), "a refresh");
        flood.press_on()?;
        caller.send(&within.clone().with("CSeq", &format!("{number} INFO")))?;
        let info = callee.expect("INFO", PATIENCE, |m| m.method() == Some("INFO"))?;
        callee.send_raw(response(&info, "200 OK", "callee", &[]).as_bytes())?;
        let is_answer = |m: &Received| m.cseq_method() == Some("INFO") && m.status() != Some(100);
        let answer = caller.expect("its answer", PATIENCE, is_answer)?;
        ensure!(answer.status() == Some(200), "within the call:\n{}", answer.text);
        // Server and client transactions.
        let now = transactions(&router)?;
        ensure!(now <= 2 * BOUND, "{now} transactions, {BOUND} allowed");
        flood.press_on()?;
    }
    // Who is new and has nothing yet finds room, too: none of the others takes more than its share.
    let modest = client(&router)?.transact(&call("nobody"))?;
    ensure!(modest.status() != Some(503), "{}", modest.text);
    let refused = flood.stop()?;
    router.wait_for_metric("shed", refused)?;
    let deadline = Instant::now() + PATIENCE;
    while transactions(&router)? > 0 {
        ensure!(Instant::now() < deadline, "{} transactions stay", transactions(&router)?);
        thread::sleep(Duration::from_millis(50));
    }
    let again = client(&router)?.transact(&call("nobody"))?;
    ensure!(again.status() != Some(503), "{}", again.text);
    println!("{refused} calls were refused with Retry-After");
    router.check_alive()
}

#[test]
fn a_worker_without_time_has_the_kernel_drop_new_calls_and_takes_all_again_afterwards() -> Result<()>
{
    or_skip!(router::binary(), "{}", router::NO_BINARY);
    or_skip!((!are_routers_apart()).then_some(()), "over AF_XDP the engine alone draws");
    or_skip!(Sieve::load().ok(), "the kernel lets us load no socket filter");
    let mut setup = Setup::new(router_address(), DOMAIN, policy::shipped("registrar")?);
    setup.location = "memory";
    setup.sections = "[limits]\nbacklog_ms = 1\n[timers]\nt1_ms = 200\n";
    let router = Router::start(&setup)?;
    let over = AtomicBool::new(false);
    let sieved = thread::scope(|scope| {
        let floods: Vec<_> =
            (0..2).map(|_| scope.spawn(|| drown(router.listen(), &over))).collect();
        let sieved = router.wait_for_metric("udp_sieved", 1_000);
        over.store(true, Ordering::SeqCst);
        floods
            .into_iter()
            .try_for_each(|flood| flood.join().map_err(|_| anyhow!("panicked"))?)?;
        sieved
    })?;
    println!("the kernel has dropped {sieved} new calls");
    // A phone tries again until there is time; then nobody is dropped any more.
    let (mut phone, deadline) = (client(&router)?, Instant::now() + PATIENCE);
    let mut answered_in_a_row = 0;
    while answered_in_a_row < 20 {
        ensure!(Instant::now() < deadline, "new calls are dropped still");
        phone.send(&call("nobody"))?;
        let is_final = |message: &Received| message.status().is_some_and(|status| status >= 200);
        let answer = phone.expect("an answer", Duration::from_millis(500), is_final);
        let is_served = answer.is_ok_and(|answer| answer.status() != Some(503));
        answered_in_a_row = if is_served { answered_in_a_row + 1 } else { 0 };
    }
    router.check_alive()
}
