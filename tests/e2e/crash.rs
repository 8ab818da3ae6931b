//! `kill -9` of the router in the middle of a REGISTER storm: what was acknowledged is there after
//! the restart, and what was acknowledged as removed is not.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use viaduct_tests::or_skip;
use viaduct_tests::support::net::{Transport, own_address};
use viaduct_tests::support::policy;
use viaduct_tests::support::router::{self, Router, Setup};
use viaduct_tests::support::sip_client::SipClient;
use viaduct_tests::support::sip_text::{Received, Request};

const DOMAIN: &str = "storm.example";
/// Clients that register side by side.
const CLIENTS: usize = 4;
/// Requests a client has outstanding.
const BURST: usize = 32;
/// Users of each client. They register again and again, with a new contact each time.
const USERS: usize = 400;
/// Acknowledgements before the router is killed.
const KILL_AFTER: usize = 4_000;

/// One acknowledged REGISTER. `contact` is what the user has now; `None`: a removal.
struct Acknowledged {
    user: String,
    contact: Option<String>,
}

/// What a user's binding may be after the crash.
#[derive(Default)]
struct Expected {
    /// The last acknowledged state.
    sure: Option<String>,
    /// The contact of a REGISTER that was sent later and never answered: it may have been stored or
    /// not, and both are right.
    asked: Vec<Option<String>>,
}

#[test]
fn every_acknowledged_binding_survives_kill_9() -> Result<()> {
    or_skip!(router::binary(), "{}", router::NO_BINARY);
    let listen = SocketAddr::from((own_address(), 5060));
    let mut router = Router::start(&Setup::new(listen, DOMAIN, policy::shipped("registrar")?))?;
    let expected = storm_until_killed(&mut router, listen)?;
    router.start_again()?;
    check(listen, &expected)?;
    router.stop()
}

/// Lets the clients register, kills the router in the middle, and returns what they were told.
fn storm_until_killed(
    router: &mut Router,
    listen: SocketAddr,
) -> Result<BTreeMap<String, Expected>> {
    let over = Arc::new(AtomicBool::new(false));
    let acknowledged = Arc::new(AtomicUsize::new(0));
    let (tell, told) = channel::<()>();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let (over, acknowledged, tell) =
                (Arc::clone(&over), Arc::clone(&acknowledged), tell.clone());
            let local = SocketAddr::from((own_address(), 5060));
            thread::spawn(move || storm(number, local, listen, &over, &acknowledged, &tell))
        })
        .collect();
    wait_for_enough(&told)?;
    router.kill_hard()?;
    over.store(true, Ordering::SeqCst);
    let mut expected = BTreeMap::new();
    for client in clients {
        expected.extend(client.join().map_err(|_| anyhow::anyhow!("a client panicked"))??);
    }
    let count = acknowledged.load(Ordering::SeqCst);
    ensure!(count >= KILL_AFTER, "only {count} were acknowledged");
    Ok(expected)
}

fn wait_for_enough(told: &Receiver<()>) -> Result<()> {
    told.recv_timeout(Duration::from_secs(120)).context("the router acknowledges too little")
}

/// One client: bursts of REGISTER until the router is gone.
fn storm(
    number: usize,
    local: SocketAddr,
    server: SocketAddr,
    over: &AtomicBool,
    acknowledged: &AtomicUsize,
    tell: &Sender<()>,
) -> Result<BTreeMap<String, Expected>> {
    let mut client = SipClient::new(Transport::Udp, local, server)?;
    let mut expected: BTreeMap<String, Expected> = BTreeMap::new();
    let mut cseq = 0_usize;
    while !over.load(Ordering::SeqCst) {
        let mut sent = BTreeMap::new();
        for _ in 0..BURST {
            cseq += 1;
            let one = next(number, cseq);
            let state = expected.entry(one.user.clone()).or_default();
            let request = request(&one, state.sure.as_deref(), cseq);
            state.asked.push(one.contact.clone());
            // The socket refuses when the router is gone; that is not this test's business.
            let _ = client.send(&request);
            sent.insert(cseq, one);
        }
        while !sent.is_empty() {
            let known =
                |message: &Received| cseq_of(message).is_some_and(|n| sent.contains_key(&n));
            // Half a second without an answer: the router is gone, or will be asked again.
            let Ok(answer) = client.expect("an answer", Duration::from_millis(500), known) else {
                break;
            };
            let Some(one) = cseq_of(&answer).and_then(|n| sent.remove(&n)) else { continue };
            ensure!(answer.status() == Some(200), "REGISTER was refused:\n{}", answer.text);
            expected.insert(one.user, Expected { sure: one.contact, asked: Vec::new() });
            if acknowledged.fetch_add(1, Ordering::SeqCst) + 1 == KILL_AFTER {
                let _ = tell.send(());
            }
        }
    }
    Ok(expected)
}

/// What a client does as its `cseq`th: users in turn, and every seventh time a removal.
fn next(client: usize, cseq: usize) -> Acknowledged {
    let user = format!("u{client}x{}", cseq % USERS);
    let contact = (!cseq.is_multiple_of(7))
        .then(|| format!("sip:{user}@192.0.2.9:{}", 1_024 + cseq % 60_000));
    Acknowledged { user, contact }
}

/// Registers the new contact and removes the old one in the same request, or removes all: a
/// REGISTER is all or nothing (RFC 3261 10.3), so there is never a user with both.
fn request(one: &Acknowledged, old: Option<&str>, cseq: usize) -> Request {
    let request = match &one.contact {
        None => Request::register(&one.user, DOMAIN, "x", 0).with("Contact", "*"),
        Some(new) => match old {
            Some(old) if old != new => Request::register(&one.user, DOMAIN, new, 3_600)
                .with("Contact", &format!("<{new}>, <{old}>;expires=0")),
            _ => Request::register(&one.user, DOMAIN, new, 3_600),
        },
    };
    request
        .with("Call-ID", &format!("storm-{}", one.user))
        .with("CSeq", &format!("{cseq} REGISTER"))
}

fn cseq_of(message: &Received) -> Option<usize> {
    message.status().filter(|status| *status >= 200)?;
    message.header("CSeq")?.split_whitespace().next()?.parse().ok()
}

/// Asks the restarted router for every user.
fn check(server: SocketAddr, expected: &BTreeMap<String, Expected>) -> Result<()> {
    let mut client = SipClient::new(Transport::Udp, (own_address(), 5060).into(), server)?;
    let (mut found, mut removed) = (0, 0);
    for (user, expected) in expected {
        let answer = client.transact(&Request::fetch(user, DOMAIN))?;
        ensure!(answer.status() == Some(200), "asking for {user}:\n{}", answer.text);
        let contacts = answer.list("Contact");
        let uris: Vec<&str> = contacts.iter().filter_map(|c| c.split(['<', '>']).nth(1)).collect();
        let is = |state: &Option<String>| uris == state.as_deref().into_iter().collect::<Vec<_>>();
        let right = is(&expected.sure)
            || expected.asked.iter().any(is)
            // Two unanswered requests do not know of each other's contact, and may leave both.
            || (expected.asked.len() > 1 && uris.iter().all(|uri| expected.may_be(uri)));
        ensure!(right, "{user} should have {:?}, has {uris:?}", expected.sure);
        if expected.asked.is_empty() {
            *(if expected.sure.is_some() { &mut found } else { &mut removed }) += 1;
        }
    }
    ensure!(found > USERS, "only {found} bindings could be checked exactly");
    ensure!(removed > 0, "no removal could be checked");
    println!("{found} bindings found, {removed} removals kept, of {} users", expected.len());
    Ok(())
}

impl Expected {
    fn may_be(&self, uri: &str) -> bool {
        self.asked.iter().chain([&self.sure]).flatten().any(|one| one == uri)
    }
}
