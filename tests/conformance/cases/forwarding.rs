//! What a request looks like behind the server: RFC 3261 16.6, item by item.

use anyhow::{Context, Result, bail, ensure};
use viaduct_tests::support::net::Transport;
use viaduct_tests::support::sip_text::Request;

use super::validation::reaches;
use crate::agent::{branch, is, parameter, uri_in};
use crate::case::{BOTH, Case, TCP, UDP};
use crate::stage::Stage;

const fn case(
    over: &'static [Transport],
    says: &'static str,
    run: fn(&Stage<'_>) -> Result<()>,
) -> Case {
    Case { rfc: 3261, section: "16.6", says, over, run }
}

pub(crate) const CASES: &[Case] = &[
    case(BOTH, "1: unknown header fields and the body are passed as they are, in order", copied),
    case(BOTH, "2: the Request-URI is the target's", request_uri),
    case(BOTH, "3: Max-Forwards is one less", max_forwards),
    case(BOTH, "3: without Max-Forwards it becomes 70", no_max_forwards),
    case(BOTH, "4: an INVITE is record-routed on top, by a SIP URI with lr", record_route),
    case(BOTH, "4: the Record-Route leads requests of the dialog through the server", in_dialog),
    case(BOTH, "6: a next hop without lr gets the Request-URI in the last Route", strict_next_hop),
    case(BOTH, "8: a Via is put on top; those below stay", via),
    case(BOTH, "8: each branch of a fork has a branch parameter of its own", own_branches),
    case(TCP, "9: what goes over a stream has Content-Length", content_length),
    case(UDP, "7: a request goes out by the transport its next hop names", transport_of_target),
    case(BOTH, "10: what was asked for twice, by two transactions, goes twice", two_transactions),
];

fn copied(stage: &Stage<'_>) -> Result<()> {
    let (mut caller, mut phone) = (stage.agent()?, stage.phone()?);
    let body = "one\r\n\r\ntwo: \u{fc}\r\n";
    let request = caller
        .request("MESSAGE", &phone.aor())
        .with("X-Odd", "a,  b ;c=\"d, e\"")
        .with("Subject", "first")
        .with("x-odd", "again")
        .with_body("text/plain;charset=utf-8", body);
    let text = caller.write(&request);
    let got = reaches(&mut caller, &mut phone, &request)?;
    ensure!(got.text.ends_with(&format!("\r\n\r\n{body}")), "the body in\n{}", got.text);
    let (_, wanted) = text.split_once("\r\nFrom:").context("no From")?;
    let (_, passed) = got.text.split_once("\r\nFrom:").context("no From")?;
    ensure!(wanted == passed, "sent\n{wanted}\npassed\n{passed}");
    Ok(())
}

fn request_uri(stage: &Stage<'_>) -> Result<()> {
    let (mut caller, mut phone) = (stage.agent()?, stage.phone()?);
    let request = caller.request("MESSAGE", &phone.aor());
    let got = reaches(&mut caller, &mut phone, &request)?;
    ensure!(got.request_uri() == Some(&phone.contact()), "{}", got.text);
    Ok(())
}

fn max_forwards(stage: &Stage<'_>) -> Result<()> {
    let (mut caller, mut phone) = (stage.agent()?, stage.phone()?);
    let request = caller.request("MESSAGE", &phone.aor()).with("Max-Forwards", "17");
    let got = reaches(&mut caller, &mut phone, &request)?;
    ensure!(got.headers("Max-Forwards") == ["16"], "{}", got.text);
    Ok(())
}

fn no_max_forwards(stage: &Stage<'_>) -> Result<()> {
    let (mut caller, mut phone) = (stage.agent()?, stage.phone()?);
    let request = caller.request("MESSAGE", &phone.aor()).without("Max-Forwards");
    let got = reaches(&mut caller, &mut phone, &request)?;
    ensure!(got.headers("Max-Forwards") == ["70"], "{}", got.text);
    Ok(())
}

fn record_route(stage: &Stage<'_>) -> Result<()> {
    let (mut caller, mut phone) = (stage.agent()?, stage.phone()?);
    let below = "<sip:below.example;lr>";
    let request = caller.request("INVITE", &phone.aor()).with("Record-Route", below);
    let sent = caller.send(&request)?;
    let got = phone.takes("INVITE")?;
    phone.answer(&got, "486 Busy Here", &[])?;
    is(486, &caller.outcome(&sent)?)?;
    let values = got.list("Record-Route");
    let (last, own) = values.split_last().context("no Record-Route")?;
    ensure!(last == below && !own.is_empty(), "{values:?}");
    for value in own {
        let uri = uri_in(value).context("no brackets")?;
        ensure!(uri.starts_with("sip:") && parameter(uri, "lr").is_some(), "{value}");
    }
    Ok(())
}

fn in_dialog(stage: &Stage<'_>) -> Result<()> {
    let (mut caller, mut phone) = (stage.agent()?, stage.phone()?);
    let sent = caller.send(&caller.request("INVITE", &phone.aor()))?;
    let got = phone.takes("INVITE")?;
    phone.answer(&got, "200 OK", &[])?;
    let answer = caller.outcome(&sent)?;
    is(200, &answer)?;
    caller.send(&caller.in_dialog("ACK", &answer)?)?;
    let ack = phone.takes("ACK")?;
    ensure!(ack.list("Via").len() == 2 && ack.header("Route").is_none(), "{}", ack.text);
    let bye = caller.in_dialog("BYE", &answer)?;
    let bye = reaches(&mut caller, &mut phone, &bye)?;
    ensure!(bye.list("Via").len() == 2 && bye.header("Route").is_none(), "{}", bye.text);
    Ok(())
}

fn strict_next_hop(stage: &Stage<'_>) -> Result<()> {
    let (mut caller, mut hop) = (stage.agent()?, stage.agent()?);
    let strict = hop.contact();
    let request = caller
        .request("MESSAGE", "sip:target@target.example")
        .with("To", "<sip:target@target.example>;tag=there")
        .with("Route", &format!("<sip:{};lr>", stage.address()))
        .with("Route", &format!("<{strict}>"));
    let got = reaches(&mut caller, &mut hop, &request)?;
    ensure!(got.request_uri() == Some(&strict), "{}", got.text);
    ensure!(got.list("Route") == ["<sip:target@target.example>"], "{}", got.text);
    Ok(())
}

fn via(stage: &Stage<'_>) -> Result<()> {
    let (mut caller, mut phone) = (stage.agent()?, stage.phone()?);
    let below = "SIP/2.0/TCP below.example:5062;branch=z9hG4bKbelow;x=y";
    let request = caller.request("MESSAGE", &phone.aor()).with("Via", below);
    let text = caller.write(&request);
    let sent = caller.send_text(&text)?;
    let got = phone.takes("MESSAGE")?;
    phone.answer(&got, "200 OK", &[])?;
    is(200, &caller.outcome(&sent)?)?;
    let vias = got.list("Via");
    let [own, callers, last] = vias.as_slice() else { bail!("{vias:?}") };
    let wanted = format!("SIP/2.0/{} ", stage.over().in_via());
    ensure!(own.starts_with(&wanted) && own.contains(&stage.address().ip().to_string()), "{own}");
    let branch = parameter(own, "branch").context("no branch")?;
    ensure!(branch.len() > 10 && branch.starts_with("z9hG4bK"), "{own}");
    ensure!(parameter(callers, "branch") == Some(sent.branch()) && last == below, "{vias:?}");
    Ok(())
}

fn own_branches(stage: &Stage<'_>) -> Result<()> {
    let (mut first, mut second) = stage.two_phones()?;
    let mut caller = stage.agent()?;
    let sent = caller.send(&caller.request("MESSAGE", &first.aor()))?;
    let (one, two) = (first.takes("MESSAGE")?, second.takes("MESSAGE")?);
    ensure!(branch(&one) != branch(&two), "both are {}", branch(&one));
    first.answer(&one, "404 Not Found", &[])?;
    second.answer(&two, "404 Not Found", &[])?;
    is(404, &caller.outcome(&sent)?)
}

fn content_length(stage: &Stage<'_>) -> Result<()> {
    let (mut caller, mut phone) = (stage.agent_over(Transport::Udp)?, stage.phone()?);
    let text = caller.write(&caller.request("MESSAGE", &phone.aor()));
    let sent = caller.send_text(&text.replace("Content-Length: 0\r\n\r\n", "\r\nto the end"))?;
    let got = phone.takes("MESSAGE")?;
    ensure!(got.headers("Content-Length") == ["10"], "{}", got.text);
    ensure!(got.text.ends_with("\r\n\r\nto the end"), "{}", got.text);
    phone.answer(&got, "200 OK", &[])?;
    is(200, &caller.outcome(&sent)?)
}

fn transport_of_target(stage: &Stage<'_>) -> Result<()> {
    for (here, there) in [(Transport::Udp, Transport::Tcp), (Transport::Tcp, Transport::Udp)] {
        let (mut caller, mut phone) = (stage.agent_over(here)?, stage.phone_over(there)?);
        let request = caller.request("MESSAGE", &phone.aor());
        let got = reaches(&mut caller, &mut phone, &request)?;
        let wanted = format!("SIP/2.0/{} ", there.in_via());
        ensure!(got.header("Via").is_some_and(|via| via.starts_with(&wanted)), "{}", got.text);
    }
    Ok(())
}

fn two_transactions(stage: &Stage<'_>) -> Result<()> {
    let (mut caller, mut phone) = (stage.agent()?, stage.phone()?);
    let request: Request = caller.request("MESSAGE", &phone.aor());
    let one = reaches(&mut caller, &mut phone, &request)?;
    let two = reaches(&mut caller, &mut phone, &request)?;
    ensure!(branch(&one) != branch(&two), "both are {}", branch(&one));
    Ok(())
}
