//! How messages travel: RFC 3261 7.5 and 18, RFC 3581.

use std::net::{SocketAddr, TcpListener};

use anyhow::{Context, Result, ensure};
use viaduct_tests::support::net::Transport;
use viaduct_tests::support::sip_text::Request;

use crate::agent::{Agent, Sent, is, parameter};
use crate::case::{BOTH, Case, TCP, UDP, case};
use crate::stage::{LONG_S, Stage};

pub(crate) const CASES: &[Case] = &[
    case((3261, "7.5"), TCP, "line ends before a message are skipped", blank_lines),
    case((3261, "18.1.1"), UDP, "requests of more than 1300 octets go by TCP", large_goes_by_tcp),
    case((3261, "18.1.1"), BOTH, "messages of more than 1300 octets are taken", large_is_taken),
    case((3261, "18.2.1"), BOTH, "a sent-by that is not the source gets received", received),
    case(
        (3261, "18.2.2"),
        UDP,
        "without rport the response goes to the port of sent-by",
        sent_by_port,
    ),
    case(
        (3261, "18.2.2"),
        TCP,
        "the response comes over the request's connection",
        same_connection,
    ),
    case((3261, "18.3"), TCP, "a message in pieces is one message", pieces),
    case((3261, "18.3"), TCP, "messages in one piece are each answered", joined),
    case((3261, "18.3"), UDP, "octets behind the body are thrown away", longer),
    case((3261, "18.3"), UDP, "a body shorter than announced is 400", shorter),
    case((3261, "18.3"), UDP, "without Content-Length the body goes to the end", to_the_end),
    case((3581, "4"), UDP, "rport gets the source port, and the response goes there", rport),
    case((3581, "4"), UDP, "with rport there is always received", always_received),
    case((3581, "4"), UDP, "the response comes from where the request went", from_there),
];

fn options(stage: &Stage<'_>, agent: &Agent) -> String {
    agent.write(&agent.request("OPTIONS", &stage.server_uri()))
}

fn blank_lines(stage: &Stage<'_>) -> Result<()> {
    let mut agent = stage.agent()?;
    let text = options(stage, &agent);
    agent.send_raw(b"\r\n")?;
    is(200, &agent.ask_text(&text)?)
}

fn large_is_taken(stage: &Stage<'_>) -> Result<()> {
    let (mut caller, mut phone) = (stage.agent()?, stage.phone_over(Transport::Tcp)?);
    let body = "0123456789".repeat(2000);
    let request = caller.request("MESSAGE", &phone.aor()).with_body("text/plain", &body);
    let sent = caller.send(&request)?;
    let got = phone.takes("MESSAGE")?;
    ensure!(got.text.ends_with(&body), "{} octets came", got.text.len());
    phone.answer(&got, "200 OK", &[])?;
    is(200, &caller.outcome(&sent)?)
}

fn large_goes_by_tcp(stage: &Stage<'_>) -> Result<()> {
    let (mut caller, mut phone) = (stage.agent()?, stage.phone()?);
    let listener = TcpListener::bind(phone.local()).context("the same port for TCP")?;
    let body = "0123456789".repeat(150);
    let request = caller.request("MESSAGE", &phone.aor()).with_body("text/plain", &body);
    let sent = caller.send(&request)?;
    let mut by_tcp = Agent::accept(&listener, phone.user(), stage.domain())?;
    let got = by_tcp.takes("MESSAGE")?;
    ensure!(got.header("Via").is_some_and(|via| via.starts_with("SIP/2.0/TCP ")), "{}", got.text);
    ensure!(got.text.ends_with(&body), "{}", got.text);
    by_tcp.answer(&got, "200 OK", &[])?;
    is(200, &caller.outcome(&sent)?)?;
    ensure!(phone.unasked().is_empty(), "it came by UDP too");
    Ok(())
}

fn received(stage: &Stage<'_>) -> Result<()> {
    let mut agent = stage.agent()?;
    let port = agent.local().port();
    let other = format!("elsewhere.example:{port};branch");
    let text = options(stage, &agent);
    let text = text.replace(&format!("{};branch", agent.local()), &other);
    let answer = agent.ask_text(&text)?;
    let via = answer.header("Via").context("no Via")?;
    ensure!(parameter(via, "received") == Some(&agent.local().ip().to_string()), "{via}");
    ensure!(via.contains("elsewhere.example"), "{via}");
    Ok(())
}

fn sent_by_port(stage: &Stage<'_>) -> Result<()> {
    let (mut sender, mut receiver) = (stage.agent()?, stage.agent()?);
    let text = options(stage, &receiver).replace(";rport", "");
    let sent = sender.send_text(&text)?;
    is(200, &receiver.outcome(&sent)?)
}

fn same_connection(stage: &Stage<'_>) -> Result<()> {
    let (mut sender, other) = (stage.agent()?, stage.agent()?);
    let text = options(stage, &other).replace(";rport", "");
    is(200, &sender.ask_text(&text)?)
}

fn pieces(stage: &Stage<'_>) -> Result<()> {
    let (mut caller, mut phone) = (stage.agent()?, stage.phone()?);
    let request = caller.request("MESSAGE", &phone.aor()).with_body("text/plain", "abc\r\n\r\ndef");
    let text = caller.write(&request);
    // The first ends within a line end, the last within the body.
    let cuts = [1, 20, text.find("\r\n").context("no line")? + 1, text.len() - 4, text.len()];
    let mut from = 0;
    for to in cuts {
        caller.send_raw(text.as_bytes().get(from..to).context("cuts are out of order")?)?;
        from = to;
    }
    let sent = Sent::new(text, caller.local());
    let got = phone.takes("MESSAGE")?;
    ensure!(got.text.ends_with("\r\n\r\nabc\r\n\r\ndef"), "{}", got.text);
    phone.answer(&got, "200 OK", &[])?;
    is(200, &caller.outcome(&sent)?)
}

fn joined(stage: &Stage<'_>) -> Result<()> {
    let mut agent = stage.agent()?;
    let request = agent.request("OPTIONS", &stage.server_uri()).with_body("text/plain", "abc");
    let texts = [0; 3].map(|_| agent.write(&request));
    agent.send_raw(texts.concat().as_bytes())?;
    for text in texts {
        let sent = Sent::new(text, agent.local());
        is(200, &agent.outcome(&sent)?)?;
    }
    Ok(())
}

/// A MESSAGE whose datagram says and carries other lengths; the text behind the header that came.
fn body_through(stage: &Stage<'_>, length: &str, body: &str) -> Result<String> {
    let (mut caller, mut phone) = (stage.agent()?, stage.phone()?);
    let text = caller.write(&caller.request("MESSAGE", &phone.aor()));
    let text = text.replace("Content-Length: 0\r\n\r\n", &format!("{length}\r\n{body}"));
    let sent = caller.send_text(&text)?;
    let got = phone.takes("MESSAGE")?;
    phone.answer(&got, "200 OK", &[])?;
    is(200, &caller.outcome(&sent)?)?;
    let (_, body) = got.text.split_once("\r\n\r\n").context("no body")?;
    Ok(body.to_owned())
}

fn longer(stage: &Stage<'_>) -> Result<()> {
    let body = body_through(stage, "Content-Length: 3\r\n", "abcdef")?;
    ensure!(body == "abc", "{body}");
    Ok(())
}

fn to_the_end(stage: &Stage<'_>) -> Result<()> {
    let body = body_through(stage, "", "abcdef")?;
    ensure!(body == "abcdef", "{body}");
    Ok(())
}

fn shorter(stage: &Stage<'_>) -> Result<()> {
    let (mut caller, phone) = (stage.agent()?, stage.phone()?);
    let text = caller.write(&caller.request("MESSAGE", &phone.aor()));
    is(400, &caller.ask_text(&text.replace("Content-Length: 0", "Content-Length: 9"))?)
}

fn rport(stage: &Stage<'_>) -> Result<()> {
    let (mut sender, other) = (stage.agent()?, stage.agent()?);
    let answer = sender.ask_text(&options(stage, &other))?;
    let via = answer.header("Via").context("no Via")?;
    ensure!(parameter(via, "rport") == Some(&sender.local().port().to_string()), "{via}");
    Ok(())
}

fn always_received(stage: &Stage<'_>) -> Result<()> {
    let mut agent = stage.agent()?;
    let answer = agent.ask_text(&options(stage, &agent))?;
    let via = answer.header("Via").context("no Via")?;
    ensure!(parameter(via, "received") == Some(&agent.local().ip().to_string()), "{via}");
    Ok(())
}

fn from_there(stage: &Stage<'_>) -> Result<()> {
    let mut agent = stage.agent()?;
    let contact = agent.contact();
    let request = Request::register(agent.user(), stage.domain(), &contact, LONG_S);
    let from: SocketAddr = agent.ask(&request)?.from;
    ensure!(from == stage.address(), "it came from {from}");
    Ok(())
}
