//! A REGISTER storm, and what must be left of it: clients that register the same users again and
//! again, remember what was acknowledged, and compare.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};

use super::net::{Transport, own_address};
use super::sip_client::SipClient;
use super::sip_text::{Received, Request};

/// Requests a client has outstanding.
const BURST: usize = 32;
/// Users of each client. They register again and again, with a new contact each time.
const USERS: usize = 400;
/// Contacts a REGISTER removes; a router takes 128 values.
const MOST_EARLIER: usize = 60;

/// What a user's binding may be.
#[derive(Debug, Default)]
pub struct Expected {
    /// The last acknowledged state; `None`: no contact.
    pub sure: Option<String>,
    /// The contacts of REGISTERs that were sent later and not acknowledged: they may have been
    /// stored or not, and both are right.
    pub asked: Vec<Option<String>>,
}

/// What every user's binding may be.
pub type Outcome = BTreeMap<String, Expected>;

/// One REGISTER. `contact` is what the user has then; `None`: a removal.
struct Asked {
    user: String,
    contact: Option<String>,
}

/// Clients at work.
pub struct Storm {
    clients: Vec<JoinHandle<Result<Outcome>>>,
    shared: Arc<Shared>,
    told: Receiver<()>,
}

struct Shared {
    domain: String,
    /// Between bursts.
    pause: Duration,
    over: AtomicBool,
    acknowledged: AtomicUsize,
    /// Acknowledgements after which somebody is told.
    tell_at: AtomicUsize,
    tell: Sender<()>,
}

impl Storm {
    /// Starts `clients` clients, spread over the servers.
    #[must_use]
    pub fn start(servers: &[SocketAddr], domain: &str, clients: usize) -> Self {
        Self::start_paced(servers, domain, clients, Duration::ZERO)
    }

    /// The same with a pause between a client's bursts.
    #[must_use]
    pub fn start_paced(
        servers: &[SocketAddr],
        domain: &str,
        clients: usize,
        pause: Duration,
    ) -> Self {
        let (tell, told) = channel();
        let shared = Arc::new(Shared {
            domain: domain.to_owned(),
            pause,
            over: AtomicBool::new(false),
            acknowledged: AtomicUsize::new(0),
            tell_at: AtomicUsize::new(usize::MAX),
            tell,
        });
        let servers = servers.iter().copied().cycle().take(clients);
        let clients = servers.enumerate().map(|(number, server)| {
            let (shared, local) = (Arc::clone(&shared), SocketAddr::from((own_address(), 5060)));
            thread::spawn(move || storm(number, local, server, &shared))
        });
        Self { clients: clients.collect(), shared, told }
    }

    /// Waits until so many more REGISTERs are acknowledged.
    ///
    /// # Errors
    /// When that takes too long.
    pub fn wait_for(&self, more: usize) -> Result<()> {
        while self.told.try_recv().is_ok() {}
        let count = self.shared.acknowledged.load(Ordering::SeqCst);
        self.shared.tell_at.store(count + more, Ordering::SeqCst);
        let patience = Duration::from_secs(120);
        self.told.recv_timeout(patience).context("the routers acknowledge too little")
    }

    /// Ends it, and tells what was acknowledged.
    ///
    /// # Errors
    /// When a REGISTER was answered by something other than 200 and 503.
    pub fn stop(self) -> Result<Outcome> {
        self.shared.over.store(true, Ordering::SeqCst);
        let mut expected = Outcome::new();
        for client in self.clients {
            expected.extend(client.join().map_err(|_| anyhow!("a client panicked"))??);
        }
        Ok(expected)
    }
}

/// One client: bursts of REGISTER until it is over.
fn storm(number: usize, local: SocketAddr, server: SocketAddr, shared: &Shared) -> Result<Outcome> {
    let mut client = SipClient::new(Transport::Udp, local, server)?;
    let mut expected = Outcome::new();
    let mut cseq = 0_usize;
    while !shared.over.load(Ordering::SeqCst) {
        thread::sleep(shared.pause);
        let mut sent = BTreeMap::new();
        for _ in 0..BURST {
            cseq += 1;
            let one = next(number, cseq);
            let state = expected.entry(one.user.clone()).or_default();
            let request = request(&one, &state.earlier(), cseq, &shared.domain);
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
            match answer.status() {
                Some(200) => {}
                // The store is away: nothing is promised, and the phone comes again.
                Some(503) => continue,
                _ => anyhow::bail!("REGISTER was refused:\n{}", answer.text),
            }
            expected.insert(one.user, Expected { sure: one.contact, asked: Vec::new() });
            let count = shared.acknowledged.fetch_add(1, Ordering::SeqCst) + 1;
            if count == shared.tell_at.load(Ordering::SeqCst) {
                let _ = shared.tell.send(());
            }
        }
    }
    Ok(expected)
}

/// What a client does as its `cseq`th: users in turn, and every seventh time a removal.
fn next(client: usize, cseq: usize) -> Asked {
    let user = format!("u{client}x{}", cseq % USERS);
    let contact = (!cseq.is_multiple_of(7))
        .then(|| format!("sip:{user}@192.0.2.9:{}", 1_024 + cseq % 60_000));
    Asked { user, contact }
}

/// Registers the new contact and removes those there may be in the same request, or removes all: a
/// REGISTER is all or nothing (RFC 3261 10.3), so there is never a user with both.
fn request(one: &Asked, earlier: &[&str], cseq: usize, domain: &str) -> Request {
    let request = match &one.contact {
        None => Request::register(&one.user, domain, "x", 0).with("Contact", "*"),
        Some(new) => {
            let mut contacts = format!("<{new}>");
            for old in earlier.iter().filter(|old| *old != new) {
                contacts.push_str(&format!(", <{old}>;expires=0"));
            }
            Request::register(&one.user, domain, new, 3_600).with("Contact", &contacts)
        }
    };
    request
        .with("Call-ID", &format!("storm-{}", one.user))
        .with("CSeq", &format!("{cseq} REGISTER"))
}

fn cseq_of(message: &Received) -> Option<usize> {
    message.status().filter(|status| *status >= 200)?;
    message.header("CSeq")?.split_whitespace().next()?.parse().ok()
}

/// Asks a server for every user.
///
/// # Errors
/// When a user has another contact than was acknowledged, or too few could be compared exactly.
pub fn check(server: SocketAddr, domain: &str, expected: &Outcome) -> Result<()> {
    let mut client = SipClient::new(Transport::Udp, (own_address(), 5060).into(), server)?;
    let (mut found, mut removed) = (0, 0);
    for (user, expected) in expected {
        let answer = client.transact(&Request::fetch(user, domain))?;
        ensure!(answer.status() == Some(200), "asking for {user}:\n{}", answer.text);
        let contacts = answer.list("Contact");
        let uris: Vec<&str> = contacts.iter().filter_map(|c| c.split(['<', '>']).nth(1)).collect();
        let is = |state: &Option<String>| uris == state.as_deref().into_iter().collect::<Vec<_>>();
        let right = is(&expected.sure)
            || expected.asked.iter().any(is)
            // Two unanswered requests do not know of each other's contact, and may leave both.
            || (expected.asked.len() > 1 && uris.iter().all(|uri| expected.may_be(uri)));
        ensure!(right, "{user} at {server} should have {:?}, has {uris:?}", expected.sure);
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
    /// Contacts that may be bound. What was refused for want of the store may have reached it all
    /// the same: the first after what is sure, as the store went away, and the last, as it came
    /// back; those between found it gone.
    fn earlier(&self) -> Vec<&str> {
        let all: Vec<&str> =
            self.sure.iter().chain(self.asked.iter().flatten()).map(String::as_str).collect();
        let (first, rest) = all.split_at(all.len().min(MOST_EARLIER / 2));
        let last = rest.len().saturating_sub(MOST_EARLIER / 2);
        first.iter().chain(rest.iter().skip(last)).copied().collect()
    }

    fn may_be(&self, uri: &str) -> bool {
        self.asked.iter().chain([&self.sure]).flatten().any(|one| one == uri)
    }
}
