//! Flows: RFC 5626.

use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};

use anyhow::{Context, Result, bail, ensure};
use viaduct_tests::support::net::Transport;
use viaduct_tests::support::sip_client::PATIENCE;
use viaduct_tests::support::sip_text::{Received, Request, unique};

use crate::agent::{Agent, Sent, is, uri_in};
use crate::case::{BOTH, Case, TCP, UDP};
use crate::stage::{LONG_S, Stage};

const fn case(
    section: &'static str,
    over: &'static [Transport],
    says: &'static str,
    run: fn(&Stage<'_>) -> Result<()>,
) -> Case {
    Case { rfc: 5626, section, says, over, run }
}

pub(crate) const CASES: &[Case] = &[
    case("6", BOTH, "flows of one instance are told apart by reg-id", two_flows),
    case("6", BOTH, "the same instance and reg-id is the same binding, whatever its URI", replaced),
    case("6", BOTH, "the 200 to a flow requires outbound", requires),
    case("6", BOTH, "two flows in one REGISTER are 400", two_at_once),
    case("6", BOTH, "a REGISTER by an edge without outbound is 439", edge_without),
    case(
        "7",
        BOTH,
        "of the flows of an instance one is tried at a time, 430 leads to the next",
        next_flow,
    ),
    case("7", BOTH, "a refusal of an instance is not asked again by its other flow", no_other_flow),
    case("5.3", TCP, "requests of the dialog go by the flow the Record-Route names", by_token),
    case("5.3", TCP, "a token that was changed is 403", forged),
    case("5.4", TCP, "a double line end is answered by one", crlf),
    case("5.4", UDP, "a STUN binding request is answered with the source", stun),
];

/// A REGISTER of a flow.
fn register(stage: &Stage<'_>, agent: &Agent, instance: &str, reg_id: u32) -> Request {
    let contact = format!("<{}>;reg-id={reg_id};+sip.instance=\"<{instance}>\"", agent.contact());
    Request::register(agent.user(), stage.domain(), "x", LONG_S)
        .with("Contact", &contact)
        .with("Supported", "path, outbound")
}

fn instance() -> String {
    format!("urn:example:{}", unique("i"))
}

/// Two flows of one instance, each with a socket.
fn flows(stage: &Stage<'_>) -> Result<(Agent, Agent)> {
    let (mut first, mut second) = (stage.agent()?, stage.agent()?);
    second.take_user(first.user());
    let instance = instance();
    is(200, &first.ask(&register(stage, &first, &instance, 1))?)?;
    is(200, &second.ask(&register(stage, &second, &instance, 2))?)?;
    Ok((first, second))
}

fn two_flows(stage: &Stage<'_>) -> Result<()> {
    let (first, second) = flows(stage)?;
    let contacts = stage.contacts(first.user())?;
    let of = |agent: &Agent| contacts.iter().any(|one| uri_in(one) == Some(&agent.contact()));
    ensure!(contacts.len() == 2 && of(&first) && of(&second), "{contacts:?}");
    Ok(())
}

fn replaced(stage: &Stage<'_>) -> Result<()> {
    let (mut first, mut second) = (stage.agent()?, stage.agent()?);
    second.take_user(first.user());
    let instance = instance();
    is(200, &first.ask(&register(stage, &first, &instance, 1))?)?;
    let answer = second.ask(&register(stage, &second, &instance, 1))?;
    is(200, &answer)?;
    let contacts = answer.list("Contact");
    let [only] = contacts.as_slice() else { bail!("{contacts:?}") };
    ensure!(uri_in(only) == Some(&second.contact()), "{only}");
    Ok(())
}

fn requires(stage: &Stage<'_>) -> Result<()> {
    let mut agent = stage.agent()?;
    let answer = agent.ask(&register(stage, &agent, &instance(), 1))?;
    is(200, &answer)?;
    ensure!(answer.list("Require").iter().any(|one| one == "outbound"), "{}", answer.text);
    Ok(())
}

fn two_at_once(stage: &Stage<'_>) -> Result<()> {
    let mut agent = stage.agent()?;
    let (instance, own) = (instance(), agent.contact());
    let one = |id: u32| format!("<{own};n={id}>;reg-id={id};+sip.instance=\"<{instance}>\"");
    let request = register(stage, &agent, &instance, 1);
    let request = request.with("Contact", &format!("{}, {}", one(1), one(2)));
    is(400, &agent.ask(&request)?)?;
    ensure!(stage.contacts(agent.user())?.is_empty(), "it was stored");
    Ok(())
}

fn edge_without(stage: &Stage<'_>) -> Result<()> {
    let mut edge = stage.agent()?;
    let request = register(stage, &edge, &instance(), 1)
        .with("Via", "SIP/2.0/UDP 192.0.2.9;branch=z9hG4bKphone")
        .with("Path", &format!("<{};lr>", edge.contact()));
    is(439, &edge.ask(&request)?)
}

/// A MESSAGE for both; which of the two got it first, and the other.
fn call(
    stage: &Stage<'_>,
    flows: (Agent, Agent),
) -> Result<(Agent, Sent, (Agent, Received), Agent)> {
    let (mut first, mut second) = flows;
    let mut caller = stage.agent()?;
    let sent = caller.send(&caller.request("MESSAGE", &first.aor()))?;
    let (got, by_first) = first.takes_either(&mut second, "MESSAGE")?;
    let (asked, other) = if by_first { (first, second) } else { (second, first) };
    Ok((caller, sent, (asked, got), other))
}

fn next_flow(stage: &Stage<'_>) -> Result<()> {
    let (mut caller, sent, (mut asked, got), mut other) = call(stage, flows(stage)?)?;
    let early = other.probe_self()?;
    ensure!(early.is_empty(), "the other flow got {early:#?}");
    asked.answer(&got, "430 Flow Failed", &[])?;
    let got = other.takes("MESSAGE")?;
    other.answer(&got, "200 OK", &[])?;
    is(200, &caller.outcome(&sent)?)
}

fn no_other_flow(stage: &Stage<'_>) -> Result<()> {
    let (mut caller, sent, (mut asked, got), mut other) = call(stage, flows(stage)?)?;
    asked.answer(&got, "486 Busy Here", &[])?;
    is(486, &caller.outcome(&sent)?)?;
    let later = other.probe_self()?;
    ensure!(later.is_empty(), "the other flow got {later:#?}");
    Ok(())
}

/// A call to a phone behind a NAT, whose Contact leads nowhere.
fn call_behind_nat(stage: &Stage<'_>) -> Result<(Agent, Agent, Received)> {
    let (mut caller, mut phone) = (stage.agent()?, stage.agent()?);
    is(200, &phone.ask(&register(stage, &phone, &instance(), 1))?)?;
    let sent = caller.send(&caller.request("INVITE", &phone.aor()))?;
    let invite = phone.takes("INVITE")?;
    let nowhere = "sip:phone@192.0.2.9:5060;transport=tcp";
    let text = phone.answer_text(&invite, "200 OK", &[]).replace(&phone.contact(), nowhere);
    phone.send_raw(text.as_bytes())?;
    let answer = caller.outcome(&sent)?;
    is(200, &answer)?;
    Ok((caller, phone, answer))
}

fn by_token(stage: &Stage<'_>) -> Result<()> {
    let (mut caller, mut phone, answer) = call_behind_nat(stage)?;
    caller.send(&caller.in_dialog("ACK", &answer)?)?;
    phone.takes("ACK")?;
    let bye = caller.send(&caller.in_dialog("BYE", &answer)?)?;
    let got = phone.takes("BYE")?;
    phone.answer(&got, "200 OK", &[])?;
    is(200, &caller.outcome(&bye)?)
}

fn forged(stage: &Stage<'_>) -> Result<()> {
    let (mut caller, mut phone, answer) = call_behind_nat(stage)?;
    let bye = caller.write(&caller.in_dialog("BYE", &answer)?);
    // The token is the user part; its last characters are part of what protects it.
    let at = bye.find(&format!("@{}", stage.address())).context("no token in Route")?;
    let mut changed = bye.into_bytes();
    let octet = changed.get_mut(at - 5).context("no token")?;
    *octet = if *octet == b'A' { b'B' } else { b'A' };
    is(403, &caller.ask_text(&String::from_utf8(changed)?)?)?;
    let later = phone.probe_self()?;
    ensure!(!later.iter().any(|m| m.method() == Some("BYE")), "it was forwarded");
    Ok(())
}

fn crlf(stage: &Stage<'_>) -> Result<()> {
    let mut stream = TcpStream::connect(stage.address())?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"\r\n\r\n")?;
    let mut pong = [0; 2];
    stream.read_exact(&mut pong)?;
    ensure!(&pong == b"\r\n", "{pong:?}");
    Ok(())
}

fn stun(stage: &Stage<'_>) -> Result<()> {
    let socket = UdpSocket::bind((stage.ip(), 0))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let request = [&b"\0\x01\0\0\x21\x12\xa4\x42"[..], b"0123456789ab"].concat();
    socket.send_to(&request, stage.address())?;
    let mut answer = [0; 512];
    let length = socket.recv(&mut answer)?;
    let answer = answer.get(..length).context("nothing")?;
    ensure!(answer.starts_with(b"\x01\x01"), "no binding success: {answer:?}");
    ensure!(answer.get(4..20) == request.get(4..20), "another transaction: {answer:?}");
    // XOR-MAPPED-ADDRESS (RFC 8489 14.2): type, length, family, port.
    let port = (socket.local_addr()?.port() ^ 0x2112).to_be_bytes();
    let begin = if stage.ip().is_ipv4() { b"\0\x20\0\x08\0\x01" } else { b"\0\x20\0\x14\0\x02" };
    let wanted = [&begin[..], &port].concat();
    ensure!(answer.windows(8).any(|eight| eight == wanted), "{answer:?}");
    Ok(())
}
