//! What the router has to do meanwhile: calls by SIPp, connections that come and go, and two probes
//! that measure. Registrations are a [`viaduct_tests::support::storm::Storm`].

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use viaduct_tests::support::net::{Transport, own_address};
use viaduct_tests::support::sip_client::SipClient;
use viaduct_tests::support::sip_text::Request;
use viaduct_tests::support::sipp::Sipp;

use super::sample::Probes;

/// Calls begun each second, each up for ten seconds.
const CALLS_PER_S: u32 = 10;
/// How long a call of the scenarios takes.
const CALL: Duration = Duration::from_secs(11);
/// SIPp begins calls for so long at most, then another one does: it has a bound on its own life.
const ROUND: Duration = Duration::from_secs(60);
const BETWEEN_VISITS: Duration = Duration::from_millis(100);
const BETWEEN_PROBES: Duration = Duration::from_millis(40);

/// Calls until the time is over; how many there were, each of which went as it should.
pub(crate) fn calls(server: SocketAddr, domain: &str, until: Instant) -> Result<u64> {
    let mut all = 0;
    let (callee, caller) = (SocketAddr::from((own_address(), 5064)), own_address());
    let mut client = SipClient::new(Transport::Udp, (callee.ip(), 0).into(), server)?;
    loop {
        let left = until.saturating_duration_since(Instant::now()).saturating_sub(CALL);
        if left.as_secs() == 0 {
            return Ok(all);
        }
        let contact = format!("sip:bob@{callee}");
        let answer = client.transact(&Request::register("bob", domain, &contact, 3_600))?;
        if answer.status() == Some(503) {
            // The store is away just now.
            thread::sleep(BETWEEN_VISITS);
            continue;
        }
        ensure!(answer.status() == Some(200), "REGISTER of the callee:\n{}", answer.text);
        let count = u32::try_from(left.min(ROUND).as_secs())? * CALLS_PER_S;
        let answering = Sipp::new("long-call.uas", Transport::Udp, callee)
            .key("user", "bob")
            .calls(count, CALLS_PER_S, 0)
            .start()?;
        let called = Sipp::new("long-call.uac", Transport::Udp, (caller, 5062).into())
            .to(server)
            .service("bob")
            .key("caller", "alice")
            .key("domain", domain)
            .calls(count, CALLS_PER_S, count)
            .run()?;
        called.all_good("caller", count.into())?;
        answering.finish()?.all_good("callee", count.into())?;
        all += u64::from(count);
    }
}

/// Connections that come, ask something and go, until it is over; how many.
pub(crate) fn visits(server: SocketAddr, domain: &str, over: &AtomicBool) -> Result<u64> {
    let (mut count, at) = (0, own_address());
    while !over.load(Ordering::SeqCst) {
        let mut visitor = SipClient::new(Transport::Tcp, (at, 0).into(), server)?;
        options(&mut visitor, domain)?;
        count += 1;
        thread::sleep(BETWEEN_VISITS);
    }
    Ok(count)
}

/// Measures how long OPTIONS and REGISTER take, until it is over.
pub(crate) fn probe(
    server: SocketAddr,
    domain: &str,
    over: &AtomicBool,
    probes: &Probes,
) -> Result<()> {
    let at: IpAddr = own_address();
    let mut phone = SipClient::new(Transport::Udp, (at, 0).into(), server)?;
    let contact = phone.contact("probe");
    while !over.load(Ordering::SeqCst) {
        let began = Instant::now();
        options(&mut phone, domain)?;
        probes.options.add(began.elapsed());
        let began = Instant::now();
        let answer = phone.transact(&Request::register("probe", domain, &contact, 600))?;
        match answer.status() {
            Some(200) => probes.register.add(began.elapsed()),
            // The store is away; that is no latency.
            Some(503) => {}
            _ => anyhow::bail!("REGISTER:\n{}", answer.text),
        }
        thread::sleep(BETWEEN_PROBES);
    }
    Ok(())
}

fn options(client: &mut SipClient, domain: &str) -> Result<()> {
    let uri = format!("sip:{domain}");
    let answer = client.transact(&Request::new("OPTIONS", &uri, "sip:asker@x.example", &uri))?;
    ensure!(answer.status() == Some(200), "OPTIONS:\n{}", answer.text);
    Ok(())
}
