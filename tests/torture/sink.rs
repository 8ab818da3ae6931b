//! The phone that torture messages are forwarded to: registers for any AoR, keeps each request as
//! it came and answers it `200 Sink`.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use viaduct_tests::support::net::Transport;
use viaduct_tests::support::sip_client::PATIENCE;
use viaduct_tests::support::sip_text::{Request, unique};

use crate::flow::{Arrival, Flow};
use crate::octets::{self, Pieces};

/// The reason phrase by which the sink's own answers are known.
pub(crate) const REASON: &[u8] = b"Sink";

/// How long the receiving thread waits before it looks whether it is still wanted.
const LOOK: Duration = Duration::from_millis(50);

/// A registered phone on one flow.
#[derive(Debug)]
pub(crate) struct Sink {
    flow: Flow,
    requests: Receiver<Vec<u8>>,
    responses: Receiver<Vec<u8>>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Sink {
    /// A phone at `ip`.
    pub(crate) fn start(transport: Transport, ip: IpAddr, server: SocketAddr) -> Result<Self> {
        let flow = Flow::open(transport, ip, server)?;
        let twin = flow.twin()?;
        let (to_requests, requests) = channel();
        let (to_responses, responses) = channel();
        let over = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&over);
        let thread = thread::spawn(move || serve(twin, &to_requests, &to_responses, &ends));
        Ok(Self { flow, requests, responses, over, thread: Some(thread) })
    }

    /// Makes a contact of its own the only binding of an AoR; gives back the contact.
    pub(crate) fn register(&mut self, user: &str, host: &str) -> Result<String> {
        self.clear(user, host)?;
        let transport = match self.flow.transport() {
            Transport::Udp => "",
            Transport::Tcp => ";transport=tcp",
        };
        let contact = format!("sip:{}@{}{transport}", unique("s"), self.flow.local());
        self.transact(&Request::register(user, host, &contact, 600))?;
        Ok(contact)
    }

    /// Removes every binding of an AoR (RFC 3261 10.2.2).
    pub(crate) fn clear(&mut self, user: &str, host: &str) -> Result<()> {
        let request = Request::register(user, host, "", 0).with("Contact", "*");
        self.transact(&request)
    }

    /// Requests that have come since the last question, in order, each once.
    pub(crate) fn taken(&self) -> Vec<Vec<u8>> {
        let mut taken: Vec<Vec<u8>> = Vec::new();
        for request in self.requests.try_iter() {
            // A retransmission is the same octets again.
            if !taken.contains(&request) {
                taken.push(request);
            }
        }
        taken
    }

    fn transact(&mut self, request: &Request) -> Result<()> {
        let text = request.render(self.flow.transport(), self.flow.local());
        self.flow.send(text.as_bytes())?;
        let answer = self.responses.recv_timeout(PATIENCE);
        let answer = answer.with_context(|| format!("no answer to the sink's\n{text}"))?;
        let accepted = Pieces::cut(&answer).status() == Some(200);
        ensure!(accepted, "to the sink's\n{text}came\n{}", octets::text(&answer));
        Ok(())
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            // A panic there has shown itself as a missing answer.
            let _ = thread.join();
        }
    }
}

fn serve(
    mut flow: Flow,
    requests: &Sender<Vec<u8>>,
    responses: &Sender<Vec<u8>>,
    over: &AtomicBool,
) {
    while !over.load(Ordering::SeqCst) {
        let message = match flow.receive(LOOK) {
            Ok(Some(Arrival::Message(message))) => message,
            Ok(None) => continue,
            Ok(Some(Arrival::Closed)) | Err(_) => return,
        };
        let pieces = Pieces::cut(&message);
        let answer = match pieces.method() {
            None => {
                let _ = responses.send(message);
                continue;
            }
            Some(b"ACK") => None,
            Some(_) => Some(answer(&pieces)),
        };
        // Kept before it is answered: who has seen the answer finds the request.
        if requests.send(message).is_err() {
            return;
        }
        if let Some(answer) = answer
            && flow.send(&answer).is_err()
        {
            return;
        }
    }
}

/// A 200 with the header fields RFC 3261 8.2.6.2 names, octet by octet.
fn answer(request: &Pieces<'_>) -> Vec<u8> {
    let mut answer = [b"SIP/2.0 200 ", REASON, b"\r\n"].concat();
    for field in &request.fields {
        let name = octets::name(field);
        let copied = ["via", "record-route", "from", "to", "call-id", "cseq"];
        if !copied.contains(&name.as_str()) {
            continue;
        }
        answer.extend_from_slice(field);
        if name == "to" && !has_tag(field) {
            answer.extend_from_slice(b";tag=sink");
        }
        answer.extend_from_slice(b"\r\n");
    }
    answer.extend_from_slice(b"Content-Length: 0\r\n\r\n");
    answer
}

/// Has a To or From header field a tag?
fn has_tag(field: &[u8]) -> bool {
    let field = octets::text(field);
    let parameters = field.rsplit_once('>').map_or(field.as_str(), |(_, rest)| rest);
    let mut names = parameters.split(';').skip(1).map(|one| one.split('=').next());
    names.any(|name| name.is_some_and(|name| name.trim().eq_ignore_ascii_case("tag")))
}
