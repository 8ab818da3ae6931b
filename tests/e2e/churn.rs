//! Versions change every second while registrations, messages, calls and OPTIONS come as fast as they are
//! answered: none is lost or answered wrongly, memory stays flat, and each transaction is decided by one
//! version, as can be seen from outside.

use std::collections::BTreeMap;
use std::env;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;
use toml::Table;
use viaduct_tests::support::net::{Transport, own_address};
use viaduct_tests::support::place::router_address;
use viaduct_tests::support::router::{self, Router, Setup};
use viaduct_tests::support::sip_client::SipClient;
use viaduct_tests::support::sip_text::{self, Received, Request};
use viaduct_tests::support::{policy, skip};

const DOMAIN: &str = "churn.example";
/// Clients, each with one request under way.
const CLIENTS: usize = 16;
const CALLEES: usize = 4;
/// Versions a router keeps to go back to: until it has them all, its memory grows with each.
const KEPT: usize = 16;
/// How far its memory may grow from then on.
const GROWTH_BYTES: u64 = 16 << 20;

#[test]
fn swaps_under_full_load_lose_nothing_and_mix_nothing_up() -> Result<()> {
    if router::binary().is_none() {
        skip::skipped(router::NO_BINARY);
        return Ok(());
    }
    let folder = TempDir::with_prefix("viaduct-churn-")?;
    let Some(base) = policy::build_own("versioned", folder.path())? else {
        skip::skipped("no compiler for policies (VIADUCT_WASM_RUSTC); run `make test`");
        return Ok(());
    };
    let swaps = env::var("VIADUCT_SWAPS").ok().and_then(|text| text.parse().ok()).unwrap_or(5);
    let mut setup = Setup::new(router_address(), DOMAIN, &base);
    setup.location = "memory";
    let router = Router::start(&setup)?;
    // The phones that are called stay until the last request is answered.
    let (over, gone) = (AtomicBool::new(false), AtomicBool::new(false));
    let (failed, failures) = channel();
    let seen = thread::scope(|scope| -> Result<_> {
        let server = router.listen();
        let callees = (0..CALLEES).map(|number| {
            let mut phone = client(server)?;
            register(&mut phone, &format!("callee{number}"))?;
            Ok(phone)
        });
        let callees: Vec<SipClient> = callees.collect::<Result<_>>()?;
        let (over, gone) = (&over, &gone);
        for phone in callees {
            scope.spawn(move || answer_all(phone, gone));
        }
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let (phone, failed) = (client(server)?, failed.clone());
                Ok(scope.spawn(move || load(number, phone, over, &failed)))
            })
            .collect::<Result<_>>()?;
        let swapped = swap_often(&router, &folder, &base, swaps, &failures);
        over.store(true, Ordering::SeqCst);
        let ended: Vec<_> = clients.into_iter().map(thread::ScopedJoinHandle::join).collect();
        gone.store(true, Ordering::SeqCst);
        swapped?;
        let mut seen = Seen::default();
        for client in ended {
            seen.add(client.map_err(|_| anyhow::anyhow!("a client panicked"))?);
        }
        Ok(seen)
    })?;
    if let Ok(failure) = failures.try_recv() {
        bail!("at the end: {failure}");
    }
    ensure!(seen.versions.len() > swaps / 2, "{swaps} swaps, but {:?}", seen.versions.keys());
    println!("{swaps} swaps, {} transactions, {} of them through", seen.all, seen.through);
    Ok(())
}

/// Deploys another version each second. What a client could not do ends it.
fn swap_often(
    router: &Router,
    folder: &TempDir,
    base: &std::path::Path,
    swaps: usize,
    failures: &Receiver<String>,
) -> Result<()> {
    let mut before = None;
    for swap in 1..=swaps {
        let file = folder.path().join(format!("versioned-{swap}.wasm"));
        let component = policy::copy_with(base, &file, |manifest: &mut Table| {
            manifest.insert("version".to_owned(), format!("1.0.{swap}").into());
            policy::set(manifest, "shown", &swap.to_string());
        })?;
        match failures.recv_timeout(Duration::from_secs(1)) {
            Ok(failure) => bail!("in swap {swap}: {failure}"),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
        }
        router.cli(&["policy", "deploy", &component.display().to_string()])?;
        if swap == KEPT + swaps / 4 {
            before = Some(router.resident_bytes()?);
        }
    }
    let Some(before) = before.filter(|_| swaps >= 2 * KEPT) else {
        println!("{swaps} swaps are too few to see whether memory stays flat");
        return Ok(());
    };
    let after = router.resident_bytes()?;
    println!("resident: {} MiB, then {} MiB", before >> 20, after >> 20);
    ensure!(after < before + GROWTH_BYTES, "memory has grown from {before} to {after} bytes");
    Ok(())
}

/// What a client has seen.
#[derive(Default)]
struct Seen {
    all: usize,
    /// Transactions that reached a callee, which all phases decided.
    through: usize,
    versions: BTreeMap<String, usize>,
}

impl Seen {
    fn add(&mut self, other: Seen) {
        self.all += other.all;
        self.through += other.through;
        for (version, count) in other.versions {
            *self.versions.entry(version).or_default() += count;
        }
    }

    fn count(&mut self, version: &str) {
        self.all += 1;
        *self.versions.entry(version.to_owned()).or_default() += 1;
    }
}

fn client(server: SocketAddr) -> Result<SipClient> {
    SipClient::new(Transport::Udp, (own_address(), 0).into(), server)
}

fn register(phone: &mut SipClient, user: &str) -> Result<Received> {
    let contact = phone.contact(user);
    let answer = phone.transact(&Request::register(user, DOMAIN, &contact, 3600))?;
    ensure!(answer.status() == Some(200), "REGISTER of {user}:\n{}", answer.text);
    Ok(answer)
}

/// One request after the other, of all kinds, until it is over.
fn load(number: usize, mut phone: SipClient, over: &AtomicBool, failed: &Sender<String>) -> Seen {
    let mut seen = Seen::default();
    let mut work = || -> Result<()> {
        let user = format!("phone{number}");
        let callee = format!("sip:callee{}@{DOMAIN}", number % CALLEES);
        while !over.load(Ordering::SeqCst) {
            seen.count(answered(&register(&mut phone, &user)?)?);
            let options = Request::new("OPTIONS", &format!("sip:{DOMAIN}"), &callee, &callee);
            let answer = phone.transact(&options)?;
            ensure!(answer.status() == Some(200), "OPTIONS:\n{}", answer.text);
            seen.count(answered(&answer)?);
            for (method, status) in [("MESSAGE", 200), ("INVITE", 486)] {
                let contact = phone.contact(&user);
                let request =
                    Request::new(method, &callee, &format!("sip:{user}@{DOMAIN}"), &callee)
                        .with("Contact", &format!("<{contact}>"));
                let answer = phone.transact(&request)?;
                ensure!(answer.status() == Some(status), "{method}:\n{}", answer.text);
                if method == "INVITE" {
                    phone.send_raw(ack(&callee, &answer)?.as_bytes())?;
                }
                seen.count(of_one_version(&answer)?);
                seen.through += 1;
            }
        }
        Ok(())
    };
    if let Err(error) = work() {
        let _ = failed.send(format!("client {number}: {error:#}"));
    }
    seen
}

/// RFC 3261 17.1.1.3: on the same branch, with the To of the answer.
fn ack(uri: &str, answer: &Received) -> Result<String> {
    let header = |name: &str| answer.header(name).context("an answer without what ACK needs");
    let sequence = header("CSeq")?.replace("INVITE", "ACK");
    Ok(format!(
        "ACK {uri} SIP/2.0\r\nVia: {}\r\nMax-Forwards: 70\r\nFrom: {}\r\nTo: {}\r\n\
         Call-ID: {}\r\nCSeq: {sequence}\r\nContent-Length: 0\r\n\r\n",
        header("Via")?,
        header("From")?,
        header("To")?,
        header("Call-ID")?
    ))
}

/// The version that answered.
fn answered(answer: &Received) -> Result<&str> {
    answer.header("X-Answered").with_context(|| format!("no version in\n{}", answer.text))
}

/// The version that decided in all phases: the callee sends back what it saw of the first two.
fn of_one_version(answer: &Received) -> Result<&str> {
    let versions = ["X-Echo-Request", "X-Echo-Branch", "X-Reply"].map(|name| answer.headers(name));
    match versions.each_ref().map(|values| values.as_slice()) {
        [[first], [second], [third]] if first == second && second == third => Ok(*first),
        _ => bail!("one transaction, several versions {versions:?}:\n{}", answer.text),
    }
}

/// A phone that takes messages, is busy for calls, and tells which versions sent it the request.
fn answer_all(mut phone: SipClient, gone: &AtomicBool) {
    while !gone.load(Ordering::SeqCst) {
        let asked = |message: &Received| message.method().is_some();
        let Ok(request) = phone.expect("a request", Duration::from_millis(200), asked) else {
            continue;
        };
        let status = match request.method() {
            Some("ACK") => continue,
            Some("INVITE") => "486 Busy Here",
            _ => "200 OK",
        };
        let echo = |name: &str| {
            let values = request.headers(&format!("X-{name}"));
            values.iter().map(|v| format!("X-Echo-{name}: {v}")).collect::<Vec<_>>()
        };
        let more: Vec<String> = [echo("Request"), echo("Branch")].concat();
        // A socket that cannot send shows at the caller.
        let _ = phone.send_raw(sip_text::response(&request, status, "callee", &more).as_bytes());
    }
}
