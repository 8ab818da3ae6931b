//! A user agent of a case: one socket, one user, and the words of RFC 3261 8, 12, 13 and 17 a case
//! needs to speak. It does nothing by itself; a case says each message.

use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use viaduct_tests::support::net::Transport;
use viaduct_tests::support::sip_client::SipClient;
use viaduct_tests::support::sip_text::{Received, Request, response, unique};

/// How long a message may take that nothing but a busy machine holds up.
const WAIT: Duration = Duration::from_secs(20);
/// How long a transaction may take that ends by its timer, 64*T1.
const TO_THE_END: Duration = Duration::from_secs(60);
/// Between looking here and looking there.
const LOOK: Duration = Duration::from_millis(20);

/// One agent.
#[derive(Debug)]
pub(crate) struct Agent {
    client: SipClient,
    user: String,
    domain: String,
    /// Its To tag in all responses.
    tag: String,
}

/// A request as it left.
#[derive(Clone, Debug)]
pub(crate) struct Sent(pub(crate) Received);

impl Sent {
    /// What was written, from the agent at `from`.
    pub(crate) fn new(text: String, from: SocketAddr) -> Self {
        Self(Received { text, from })
    }

    /// The branch of its Via.
    pub(crate) fn branch(&self) -> &str {
        branch(&self.0)
    }

    /// Is this response one to it (RFC 3261 17.1.3)?
    fn is_answered_by(&self, message: &Received) -> bool {
        message.status().is_some()
            && branch(message) == self.branch()
            && message.cseq_method() == self.0.method()
    }

    fn first_line(&self) -> &str {
        self.0.text.lines().next().unwrap_or_default()
    }
}

/// The branch of a message's topmost Via.
pub(crate) fn branch(message: &Received) -> &str {
    let via = message.header("Via").unwrap_or_default();
    let rest = via.split("branch=").nth(1).unwrap_or_default();
    rest.split([';', ',', ' ']).next().unwrap_or_default()
}

/// A parameter of a header field's value.
pub(crate) fn parameter<'a>(value: &'a str, name: &str) -> Option<&'a str> {
    value.split(';').skip(1).find_map(|one| {
        let (found, value) = one.split_once('=').unwrap_or((one, ""));
        found.trim().eq_ignore_ascii_case(name).then_some(value.trim())
    })
}

/// The URI between the angle brackets.
pub(crate) fn uri_in(value: &str) -> Option<&str> {
    value.split_once('<')?.1.split_once('>').map(|(uri, _)| uri)
}

/// Fails with the whole message unless it has this status.
pub(crate) fn is(status: u16, message: &Received) -> Result<()> {
    ensure!(message.status() == Some(status), "not {status}:\n{}", message.text);
    Ok(())
}

impl Agent {
    pub(crate) fn new(
        over: Transport,
        local: SocketAddr,
        server: SocketAddr,
        user: &str,
        domain: &str,
    ) -> Result<Self> {
        let client = SipClient::new(over, local, server)?;
        let (user, domain, tag) = (user.to_owned(), domain.to_owned(), unique("t"));
        Ok(Self { client, user, domain, tag })
    }

    /// An agent on a connection the server opens.
    pub(crate) fn accept(listener: &TcpListener, user: &str, domain: &str) -> Result<Self> {
        let client = SipClient::accept(listener, WAIT)?;
        let (user, domain, tag) = (user.to_owned(), domain.to_owned(), unique("t"));
        Ok(Self { client, user, domain, tag })
    }

    pub(crate) fn user(&self) -> &str {
        &self.user
    }

    /// Goes by the name of another.
    pub(crate) fn take_user(&mut self, user: &str) {
        user.clone_into(&mut self.user);
    }

    pub(crate) fn aor(&self) -> String {
        format!("sip:{}@{}", self.user, self.domain)
    }

    pub(crate) fn local(&self) -> SocketAddr {
        self.client.local()
    }

    /// The URI at which its socket is reached.
    pub(crate) fn contact(&self) -> String {
        self.client.contact(&self.user)
    }

    /// A request to an AoR.
    pub(crate) fn request(&self, method: &str, to: &str) -> Request {
        let request = Request::new(method, to, &self.aor(), to);
        match method {
            "INVITE" => request.with("Contact", &format!("<{}>", self.contact())),
            _ => request,
        }
    }

    /// A request as text, to be changed before it is sent.
    pub(crate) fn write(&self, request: &Request) -> String {
        request.render(self.client.transport(), self.local())
    }

    /// Sends octets as they are.
    pub(crate) fn send_raw(&mut self, octets: &[u8]) -> Result<()> {
        self.client.send_raw(octets)
    }

    /// Sends a text, which is a request.
    pub(crate) fn send_text(&mut self, text: &str) -> Result<Sent> {
        self.client.send_raw(text.as_bytes())?;
        Ok(Sent::new(text.to_owned(), self.local()))
    }

    /// Sends a request.
    pub(crate) fn send(&mut self, request: &Request) -> Result<Sent> {
        let text = self.write(request);
        self.send_text(&text)
    }

    /// Sends a request and waits for its final response.
    pub(crate) fn ask(&mut self, request: &Request) -> Result<Received> {
        let sent = self.send(request)?;
        self.outcome(&sent)
    }

    /// The same with a request that is a text.
    pub(crate) fn ask_text(&mut self, text: &str) -> Result<Received> {
        let sent = self.send_text(text)?;
        self.outcome(&sent)
    }

    /// The final response to a request; one to an INVITE that is a refusal is acknowledged.
    pub(crate) fn outcome(&mut self, sent: &Sent) -> Result<Received> {
        self.outcome_within(WAIT, sent)
    }

    /// The same where nobody answers it.
    pub(crate) fn outcome_in_the_end(&mut self, sent: &Sent) -> Result<Received> {
        self.outcome_within(TO_THE_END, sent)
    }

    fn outcome_within(&mut self, within: Duration, sent: &Sent) -> Result<Received> {
        let what = format!("final response to {}", sent.first_line());
        let wanted = |m: &Received| sent.is_answered_by(m) && m.status() >= Some(200);
        let answer = self.client.expect(&what, within, wanted)?;
        if sent.0.method() == Some("INVITE") && answer.status() >= Some(300) {
            self.acknowledge(sent, &answer)?;
        }
        Ok(answer)
    }

    /// The final response to a request, if the server has one before it answers another question.
    pub(crate) fn has_outcome(&mut self, sent: &Sent) -> Result<Option<Received>> {
        let mut found = self.probe_self()?;
        let is_final = |m: &Received| sent.is_answered_by(m) && m.status() >= Some(200);
        let at = found.iter().position(is_final);
        Ok(at.map(|at| found.swap_remove(at)))
    }

    /// A response with this status to a request.
    pub(crate) fn hears(&mut self, sent: &Sent, status: u16) -> Result<Received> {
        let what = format!("{status} to {}", sent.first_line());
        let wanted = |m: &Received| sent.is_answered_by(m) && m.status() == Some(status);
        self.client.expect(&what, WAIT, wanted)
    }

    /// The next request with this method.
    pub(crate) fn takes(&mut self, method: &str) -> Result<Received> {
        self.client.expect(method, WAIT, |m| m.method() == Some(method))
    }

    /// The next request with this method, or `None` where `caller` has got a final response to
    /// `sent` instead, which stays there to be asked for.
    pub(crate) fn takes_or(
        &mut self,
        caller: &mut Self,
        method: &str,
        sent: &Sent,
    ) -> Result<Option<Received>> {
        let deadline = Instant::now() + WAIT;
        loop {
            if self.client.has(LOOK, |m| m.method() == Some(method))? {
                return self.takes(method).map(Some);
            }
            let is_final = |m: &Received| sent.is_answered_by(m) && m.status() >= Some(200);
            if caller.client.has(LOOK, is_final)? {
                return Ok(None);
            }
            ensure!(Instant::now() < deadline, "neither {method} nor a final response came");
        }
    }

    /// The next request with this method, at this agent (true) or at `other`.
    pub(crate) fn takes_either(
        &mut self,
        other: &mut Self,
        method: &str,
    ) -> Result<(Received, bool)> {
        let deadline = Instant::now() + WAIT;
        let wanted = |m: &Received| m.method() == Some(method);
        loop {
            if self.client.has(LOOK, wanted)? {
                return Ok((self.takes(method)?, true));
            }
            if other.client.has(LOOK, wanted)? {
                return Ok((other.takes(method)?, false));
            }
            ensure!(Instant::now() < deadline, "no {method} came to either");
        }
    }

    /// What has come and was not asked for.
    pub(crate) fn unasked(&mut self) -> Vec<Received> {
        self.client.take_waiting()
    }

    /// Answers a request; `more` are header field lines. 1xx and 2xx to an INVITE get a Contact.
    pub(crate) fn answer(&mut self, to: &Received, status: &str, more: &[&str]) -> Result<()> {
        let text = self.answer_text(to, status, more);
        self.send_raw(text.as_bytes())
    }

    /// The same as a text, to be changed before it is sent.
    pub(crate) fn answer_text(&self, to: &Received, status: &str, more: &[&str]) -> String {
        let mut lines: Vec<String> = more.iter().map(|line| (*line).to_owned()).collect();
        let makes_dialog = to.method() == Some("INVITE") && status.starts_with(['1', '2']);
        if makes_dialog && !status.starts_with("100") {
            lines.push(format!("Contact: <{}>", self.contact()));
        }
        response(to, status, &self.tag, &lines)
    }

    /// An ACK to a refusal (RFC 3261 17.1.1.3).
    pub(crate) fn acknowledge(&mut self, sent: &Sent, answer: &Received) -> Result<()> {
        let to = answer.header("To").context("a response without To")?;
        let text = hop_by_hop(sent, "ACK", to)?;
        self.send_raw(text.as_bytes())
    }

    /// Sends a CANCEL of a request.
    pub(crate) fn cancel(&mut self, sent: &Sent) -> Result<Sent> {
        let text = self.cancel_text(sent)?;
        self.send_text(&text)
    }

    /// A CANCEL of a request (RFC 3261 9.1).
    pub(crate) fn cancel_text(&self, sent: &Sent) -> Result<String> {
        hop_by_hop(sent, "CANCEL", sent.0.header("To").context("a request without To")?)
    }

    /// A request in the dialog that a 2xx to the caller has made (RFC 3261 12.2.1.1).
    pub(crate) fn in_dialog(&self, method: &str, answer: &Received) -> Result<Request> {
        let field = |name: &str| answer.header(name).with_context(|| format!("no {name}"));
        let target = uri_in(field("Contact")?).context("a Contact without brackets")?;
        let cseq = field("CSeq")?.split(' ').next().unwrap_or_default();
        let number: u32 = cseq.parse().with_context(|| format!("CSeq {cseq}"))?;
        let number = if method == "ACK" { number } else { number + 1 };
        let mut request = Request::new(method, target, &self.aor(), &self.aor())
            .with("From", field("From")?)
            .with("To", field("To")?)
            .with("Call-ID", field("Call-ID")?)
            .with("CSeq", &format!("{number} {method}"));
        for route in answer.list("Record-Route").iter().rev() {
            request = request.with("Route", route);
        }
        Ok(request)
    }

    /// Sends a MESSAGE to `phone` by way of the server; gives back what `phone` had got before it.
    /// Everything the server has sent `phone` because of earlier messages has come by then.
    pub(crate) fn probe(&mut self, phone: &mut Self) -> Result<Vec<Received>> {
        let request = self.request("MESSAGE", &phone.aor());
        let sent = self.send(&request)?;
        let call_id = sent.0.header("Call-ID").map(str::to_owned);
        let probe = phone.client.expect("probe", WAIT, |m| {
            m.method() == Some("MESSAGE") && m.header("Call-ID") == call_id.as_deref()
        })?;
        let before = phone.unasked();
        phone.answer(&probe, "200 OK", &[])?;
        is(200, &self.outcome(&sent)?)?;
        Ok(before)
    }

    /// Gives back what this agent had got before the server answered a question it asks now.
    pub(crate) fn probe_self(&mut self) -> Result<Vec<Received>> {
        let request =
            Request::new("OPTIONS", &format!("sip:{}", self.domain), &self.aor(), &self.aor());
        let answer = self.ask(&request)?;
        ensure!(answer.status().is_some(), "no response");
        Ok(self.unasked())
    }
}

/// A request that goes with another in the same transaction or to the same hop.
fn hop_by_hop(sent: &Sent, method: &str, to: &str) -> Result<String> {
    let field = |name: &str| sent.0.header(name).with_context(|| format!("no {name}"));
    let uri = sent.0.request_uri().context("no Request-URI")?;
    let number = field("CSeq")?.split(' ').next().unwrap_or_default().to_owned();
    let mut routes = String::new();
    for route in sent.0.headers("Route") {
        routes.push_str(&format!("Route: {route}\r\n"));
    }
    Ok(format!(
        "{method} {uri} SIP/2.0\r\nVia: {}\r\nMax-Forwards: 70\r\n{routes}From: {}\r\nTo: {to}\r\n\
         Call-ID: {}\r\nCSeq: {number} {method}\r\nContent-Length: 0\r\n\r\n",
        field("Via")?,
        field("From")?,
        field("Call-ID")?,
    ))
}
