//! Path: RFC 3327. An agent plays the edge proxy between phone and server.

use anyhow::{Context, Result, ensure};
use viaduct_tests::support::sip_text::{Received, Request};

use crate::agent::{Agent, is};
use crate::case::{BOTH, Case};
use crate::stage::{LONG_S, Stage};

const fn case(
    section: &'static str,
    says: &'static str,
    run: fn(&Stage<'_>) -> Result<()>,
) -> Case {
    Case { rfc: 3327, section, says, over: BOTH, run }
}

pub(crate) const CASES: &[Case] = &[
    case(
        "5.3",
        "the 200 repeats the Path values in their order, where Path is supported",
        repeated,
    ),
    case("5.3", "several lines of Path and values with commas are one list", one_list),
    case("5.3", "the Path of the last REGISTER counts", last_counts),
    case("5.3", "a contact without the phone's support for Path is taken too", unsupported),
    case("5.4", "a request goes to the topmost Path value, with Path as its Route", routed),
    case("5.4", "in front of Path stands no Route that was there before", in_front),
];

const FAR: &str = "<sip:far.example;lr>";

/// Registers an agent by way of an edge; the answer.
fn register(
    edge: &mut Agent,
    stage: &Stage<'_>,
    path: &[&str],
    supported: bool,
) -> Result<Received> {
    let contact = format!("sip:{}@192.0.2.9", edge.user());
    let mut request = Request::register(edge.user(), stage.domain(), &contact, LONG_S);
    for value in path {
        request = request.with("Path", value);
    }
    if supported {
        request = request.with("Supported", "path");
    }
    let answer = edge.ask(&request)?;
    is(200, &answer)?;
    Ok(answer)
}

fn own(edge: &Agent) -> String {
    format!("<{};lr>", edge.contact())
}

fn repeated(stage: &Stage<'_>) -> Result<()> {
    let mut edge = stage.agent()?;
    let values = [own(&edge), FAR.to_owned(), "<sip:more.example;lr;x=y>".to_owned()];
    let answer = register(&mut edge, stage, &[&values.join(", ")], true)?;
    ensure!(answer.list("Path") == values, "{}", answer.text);
    Ok(())
}

fn one_list(stage: &Stage<'_>) -> Result<()> {
    let mut edge = stage.agent()?;
    let own = own(&edge);
    let two = format!("<sip:more.example;lr>,{FAR}");
    let answer = register(&mut edge, stage, &[&own, &two], true)?;
    ensure!(answer.list("Path") == [&own, "<sip:more.example;lr>", FAR], "{}", answer.text);
    Ok(())
}

/// What reaches the edge of a MESSAGE for its user.
fn message(stage: &Stage<'_>, edge: &mut Agent) -> Result<Received> {
    let mut caller = stage.agent()?;
    let sent = caller.send(&caller.request("MESSAGE", &edge.aor()))?;
    let got = edge.takes("MESSAGE")?;
    edge.answer(&got, "200 OK", &[])?;
    is(200, &caller.outcome(&sent)?)?;
    Ok(got)
}

fn last_counts(stage: &Stage<'_>) -> Result<()> {
    let mut edge = stage.agent()?;
    let own = own(&edge);
    register(&mut edge, stage, &[&own, FAR], true)?;
    let answer = register(&mut edge, stage, &[&own], true)?;
    ensure!(answer.list("Path") == [own.as_str()], "{}", answer.text);
    let got = message(stage, &mut edge)?;
    ensure!(got.list("Route") == [own], "{}", got.text);
    Ok(())
}

fn unsupported(stage: &Stage<'_>) -> Result<()> {
    let mut edge = stage.agent()?;
    let own = own(&edge);
    register(&mut edge, stage, &[&own], false)?;
    let got = message(stage, &mut edge)?;
    ensure!(got.list("Route") == [own], "{}", got.text);
    Ok(())
}

fn routed(stage: &Stage<'_>) -> Result<()> {
    let mut edge = stage.agent()?;
    let own = own(&edge);
    register(&mut edge, stage, &[&own, FAR], true)?;
    let got = message(stage, &mut edge)?;
    ensure!(got.list("Route") == [own.as_str(), FAR], "{}", got.text);
    let contact = format!("sip:{}@192.0.2.9", edge.user());
    ensure!(got.request_uri() == Some(&contact), "{}", got.text);
    Ok(())
}

fn in_front(stage: &Stage<'_>) -> Result<()> {
    let (mut edge, mut caller) = (stage.agent()?, stage.agent()?);
    let own = own(&edge);
    register(&mut edge, stage, &[&own], true)?;
    let route = format!("<sip:{};lr>", stage.address());
    let sent = caller.send(&caller.request("MESSAGE", &edge.aor()).with("Route", &route))?;
    let got = edge.takes("MESSAGE")?;
    edge.answer(&got, "200 OK", &[])?;
    is(200, &caller.outcome(&sent)?)?;
    let routes = got.list("Route");
    ensure!(routes.first().context("no Route")? == &own && routes.len() == 1, "{routes:?}");
    Ok(())
}
