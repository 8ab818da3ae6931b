//! Which requests are forwarded and which refused: RFC 3261 16.3 and 16.4, RFC 5393.

use anyhow::{Context, Result, bail, ensure};
use viaduct_tests::support::net::Transport;
use viaduct_tests::support::place;
use viaduct_tests::support::sip_text::{Received, Request, unique};
use viaduct_tests::support::skip::skipped;

use crate::agent::{Agent, is, uri_in};
use crate::case::{BOTH, Case, UDP};
use crate::stage::{LONG_S, Stage};

const fn case(
    (rfc, section): (u16, &'static str),
    says: &'static str,
    run: fn(&Stage<'_>) -> Result<()>,
) -> Case {
    Case { rfc, section, says, over: BOTH, run }
}

const CHECKS: (u16, &str) = (3261, "16.3");
const ROUTE: (u16, &str) = (3261, "16.4");

pub(crate) const CASES: &[Case] = &[
    case(CHECKS, "a request that lacks Call-ID is 400", no_call_id),
    case(CHECKS, "an unknown method is forwarded", unknown_method),
    case(CHECKS, "a header field it has no use for may be malformed", malformed_but_unused),
    case(CHECKS, "a Request-URI of an unknown scheme is 416", unknown_scheme),
    case(CHECKS, "Max-Forwards 0 is 483", no_hops_left),
    case(CHECKS, "an INVITE with Max-Forwards 0 is 483", invite_without_hops),
    case(CHECKS, "an unknown option in Proxy-Require is 420, with Unsupported", proxy_require),
    case(CHECKS, "Require is between the user agents and is passed on", require_is_passed),
    case(ROUTE, "a Route that names the server is taken off", own_route),
    case(ROUTE, "of two Routes the server's is taken off, the other is the next hop", next_route),
    case(ROUTE, "what a strict router put into the Request-URI is put back", strict_previous_hop),
    case(ROUTE, "a maddr that names the server is taken off", own_maddr),
    case((5393, "4.2"), "a request that goes in circles is 482", circle),
    case((5393, "4.2"), "a request that comes back for another target is no loop", spiral),
    Case {
        rfc: 5393,
        section: "5.3.3",
        says: "the Max-Breadth of branches is no more in sum than that of the request",
        over: UDP,
        run: breadth_is_shared,
    },
    Case {
        rfc: 5393,
        section: "5.3.3",
        says: "with a Max-Breadth of 1 there is one branch at a time, or 440",
        over: UDP,
        run: breadth_of_one,
    },
];

fn no_call_id(stage: &Stage<'_>) -> Result<()> {
    let (mut caller, phone) = (stage.agent()?, stage.phone()?);
    let text = caller.write(&caller.request("MESSAGE", &phone.aor()));
    let lines = text.split_inclusive("\r\n").filter(|line| !line.starts_with("Call-ID"));
    let text: String = lines.collect();
    is(400, &caller.ask_text(&text)?)
}

/// Sends `request` to a phone, lets it answer 200, and gives back what the phone got.
pub(super) fn reaches(
    caller: &mut Agent,
    phone: &mut Agent,
    request: &Request,
) -> Result<Received> {
    let sent = caller.send(request)?;
    let method = sent.0.method().context("no request")?.to_owned();
    let Some(got) = phone.takes_or(caller, &method, &sent)? else {
        bail!("refused: {}", caller.outcome(&sent)?.text);
    };
    phone.answer(&got, "200 OK", &[])?;
    is(200, &caller.outcome(&sent)?)?;
    Ok(got)
}

fn unknown_method(stage: &Stage<'_>) -> Result<()> {
    let (mut caller, mut phone) = (stage.agent()?, stage.phone()?);
    let request = caller.request("NEWMETHOD", &phone.aor());
    reaches(&mut caller, &mut phone, &request).map(drop)
}

fn malformed_but_unused(stage: &Stage<'_>) -> Result<()> {
    let (mut caller, mut phone) = (stage.agent()?, stage.phone()?);
    let request = caller.request("MESSAGE", &phone.aor()).with("Date", "yesterday,, <;=\"");
    let got = reaches(&mut caller, &mut phone, &request)?;
    ensure!(got.header("Date") == Some("yesterday,, <;=\""), "{}", got.text);
    Ok(())
}

fn unknown_scheme(stage: &Stage<'_>) -> Result<()> {
    let mut caller = stage.agent()?;
    let request = Request::new("OPTIONS", "unheard:of", &caller.aor(), &caller.aor());
    is(416, &caller.ask(&request)?)
}

fn no_hops_left(stage: &Stage<'_>) -> Result<()> {
    let (mut caller, mut phone) = (stage.agent()?, stage.phone()?);
    let request = caller.request("MESSAGE", &phone.aor()).with("Max-Forwards", "0");
    is(483, &caller.ask(&request)?)?;
    let before = caller.probe(&mut phone)?;
    ensure!(before.is_empty(), "the phone got {before:#?}");
    Ok(())
}

fn invite_without_hops(stage: &Stage<'_>) -> Result<()> {
    let (mut caller, phone) = (stage.agent()?, stage.phone()?);
    let request = caller.request("INVITE", &phone.aor()).with("Max-Forwards", "0");
    is(483, &caller.ask(&request)?)
}

fn proxy_require(stage: &Stage<'_>) -> Result<()> {
    let (mut caller, phone) = (stage.agent()?, stage.phone()?);
    let request = caller.request("MESSAGE", &phone.aor()).with("Proxy-Require", "oddProxyOption");
    let answer = caller.ask(&request)?;
    is(420, &answer)?;
    ensure!(answer.list("Unsupported") == ["oddProxyOption"], "{}", answer.text);
    Ok(())
}

fn require_is_passed(stage: &Stage<'_>) -> Result<()> {
    let (mut caller, mut phone) = (stage.agent()?, stage.phone()?);
    let request = caller.request("MESSAGE", &phone.aor()).with("Require", "oddOption");
    let got = reaches(&mut caller, &mut phone, &request)?;
    ensure!(got.header("Require") == Some("oddOption"), "{}", got.text);
    Ok(())
}

fn own_route(stage: &Stage<'_>) -> Result<()> {
    let (mut caller, mut phone) = (stage.agent()?, stage.phone()?);
    let route = format!("<sip:{};lr>", stage.address());
    let request = caller.request("MESSAGE", &phone.aor()).with("Route", &route);
    let got = reaches(&mut caller, &mut phone, &request)?;
    ensure!(got.header("Route").is_none(), "{}", got.text);
    Ok(())
}

fn next_route(stage: &Stage<'_>) -> Result<()> {
    let (mut caller, mut hop) = (stage.agent()?, stage.agent()?);
    let next = format!("<{};lr>", hop.contact());
    let request = caller
        .request("MESSAGE", "sip:target@target.example")
        .with("To", "<sip:target@target.example>;tag=there")
        .with("Route", &format!("<sip:{};lr>", stage.address()))
        .with("Route", &next);
    let got = reaches(&mut caller, &mut hop, &request)?;
    ensure!(got.list("Route") == [next], "{}", got.text);
    ensure!(got.request_uri() == Some("sip:target@target.example"), "{}", got.text);
    Ok(())
}

fn strict_previous_hop(stage: &Stage<'_>) -> Result<()> {
    let (mut caller, mut phone) = (stage.agent()?, stage.phone()?);
    let invite = caller.request("INVITE", &phone.aor());
    let sent = caller.send(&invite)?;
    let got = phone.takes("INVITE")?;
    phone.answer(&got, "200 OK", &[])?;
    let answer = caller.outcome(&sent)?;
    is(200, &answer)?;
    caller.send(&caller.in_dialog("ACK", &answer)?)?;
    phone.takes("ACK")?;
    // As a strict router in front of the server would send it: RFC 3261 16.12.1.2.
    let routes = answer.list("Record-Route");
    let own = routes.last().and_then(|one| uri_in(one)).context("no Record-Route")?;
    let mut bye = caller.in_dialog("BYE", &answer)?.without("Route").at(own);
    for route in routes.iter().rev().skip(1) {
        bye = bye.with("Route", route);
    }
    let contact = phone.contact();
    let bye = bye.with("Route", &format!("<{contact}>"));
    let got = reaches(&mut caller, &mut phone, &bye)?;
    ensure!(got.request_uri() == Some(&contact), "{}", got.text);
    ensure!(got.header("Route").is_none(), "{}", got.text);
    Ok(())
}

fn own_maddr(stage: &Stage<'_>) -> Result<()> {
    let (mut caller, mut phone) = (stage.agent()?, stage.phone()?);
    let uri = format!("{};maddr={}", phone.aor(), stage.address().ip());
    let request = caller.request("MESSAGE", &uri);
    let got = reaches(&mut caller, &mut phone, &request)?;
    ensure!(got.request_uri() == Some(&phone.contact()), "{}", got.text);
    Ok(())
}

/// Binds a user at the server's own address to another one there. The agent is at that address
/// too, by UDP: whose Contact names another host or transport than his own, may well be taken for
/// one behind a NAT.
///
/// Says whether it could: an agent cannot be there where the server is in a namespace of its own.
fn bind_here(stage: &Stage<'_>, user: &str, to: &str) -> Result<bool> {
    if place::are_routers_apart() {
        skipped("loops and spirals: no phone can be at the router's own address here");
        return Ok(false);
    }
    let ip = stage.address().ip();
    let contact = format!("sip:{to}@{ip}");
    let mut agent = stage.agent_at(Transport::Udp, ip)?;
    is(200, &agent.ask(&Request::register(user, &ip.to_string(), &contact, LONG_S))?)?;
    Ok(true)
}

fn circle(stage: &Stage<'_>) -> Result<()> {
    let host = stage.address().ip();
    let (one, two) = (unique("c"), unique("c"));
    if !bind_here(stage, &one, &two)? || !bind_here(stage, &two, &one)? {
        return Ok(());
    }
    let mut caller = stage.agent()?;
    is(482, &caller.ask(&caller.request("MESSAGE", &format!("sip:{one}@{host}")))?)
}

fn spiral(stage: &Stage<'_>) -> Result<()> {
    let host = stage.address().ip();
    let (mut caller, mut phone) = (stage.agent()?, stage.agent()?);
    let one = unique("s");
    if !bind_here(stage, &one, phone.user())? {
        return Ok(());
    }
    let user = phone.user().to_owned();
    let register = Request::register(&user, &host.to_string(), &phone.contact(), LONG_S);
    is(200, &phone.ask(&register)?)?;
    let request = caller.request("MESSAGE", &format!("sip:{one}@{host}"));
    let got = reaches(&mut caller, &mut phone, &request)?;
    ensure!(got.list("Via").len() == 3, "{}", got.text);
    Ok(())
}

fn breadth_is_shared(stage: &Stage<'_>) -> Result<()> {
    let (mut first, mut second) = stage.two_phones()?;
    let mut caller = stage.agent()?;
    let request = caller.request("MESSAGE", &first.aor()).with("Max-Breadth", "9");
    let sent = caller.send(&request)?;
    let mut sum = 0;
    for phone in [&mut first, &mut second] {
        let got = phone.takes("MESSAGE")?;
        sum += got.header("Max-Breadth").context("no Max-Breadth")?.parse::<u32>()?;
        phone.answer(&got, "404 Not Found", &[])?;
    }
    ensure!(sum <= 9, "in sum {sum}");
    is(404, &caller.outcome(&sent)?)
}

fn breadth_of_one(stage: &Stage<'_>) -> Result<()> {
    let (mut first, mut second) = stage.two_phones()?;
    let mut caller = stage.agent()?;
    let request = caller.request("MESSAGE", &first.aor()).with("Max-Breadth", "1");
    let sent = caller.send(&request)?;
    if let Some(answer) = caller.has_outcome(&sent)? {
        return is(440, &answer);
    }
    let (got, by_first) = first.takes_either(&mut second, "MESSAGE")?;
    let (asked, other) =
        if by_first { (&mut first, &mut second) } else { (&mut second, &mut first) };
    let early = other.probe_self()?;
    ensure!(early.is_empty(), "a second branch meanwhile: {early:#?}");
    asked.answer(&got, "404 Not Found", &[])?;
    let got = other.takes("MESSAGE")?;
    other.answer(&got, "404 Not Found", &[])?;
    is(404, &caller.outcome(&sent)?)
}
