//! What the server answers by itself: RFC 3261 8.2, 9.2 and 11.2.

use anyhow::{Result, ensure};
use viaduct_tests::support::sip_text::{Request, unique};

use crate::agent::is;
use crate::case::{BOTH, Case, UDP};
use crate::stage::Stage;

pub(crate) const CASES: &[Case] = &[
    Case {
        rfc: 3261,
        section: "8.2.1",
        says: "a method it knows and does not take is 405, with Allow",
        over: BOTH,
        run: not_allowed,
    },
    Case {
        rfc: 3261,
        section: "8.2.2.3",
        says: "Require with an unknown option is 420, which names it in Unsupported",
        over: BOTH,
        run: unknown_option,
    },
    Case {
        rfc: 3261,
        section: "8.2.2.3",
        says: "Require in a CANCEL is not looked at",
        over: BOTH,
        run: require_in_cancel,
    },
    Case {
        rfc: 3261,
        section: "8.2.6.1",
        says: "a request other than INVITE gets no provisional response",
        over: BOTH,
        run: no_provisional,
    },
    Case {
        rfc: 3261,
        section: "8.2.6.1",
        says: "100 repeats the Timestamp of its request",
        over: BOTH,
        run: timestamp,
    },
    Case {
        rfc: 3261,
        section: "8.2.6.2",
        says: "From, Call-ID, CSeq and all Via values come back as they were, in order",
        over: BOTH,
        run: copied_fields,
    },
    Case { rfc: 3261, section: "8.2.6.2", says: "To gets a tag", over: BOTH, run: to_gets_a_tag },
    Case {
        rfc: 3261,
        section: "8.2.6.2",
        says: "a To that has a tag comes back with that tag alone",
        over: BOTH,
        run: to_keeps_its_tag,
    },
    Case {
        rfc: 3261,
        section: "8.2.7",
        says: "a retransmission gets the same To tag",
        over: UDP,
        run: same_tag_again,
    },
    Case {
        rfc: 3261,
        section: "9.2",
        says: "a CANCEL that matches nothing is 481",
        over: BOTH,
        run: cancel_of_nothing,
    },
    Case {
        rfc: 3261,
        section: "11.2",
        says: "OPTIONS to the server itself is 200 with Allow",
        over: BOTH,
        run: options,
    },
];

fn not_allowed(stage: &Stage<'_>) -> Result<()> {
    let mut agent = stage.agent()?;
    let answer = agent.ask(&agent.request("MESSAGE", &stage.server_uri()))?;
    is(405, &answer)?;
    let allow = answer.list("Allow");
    ensure!(!allow.is_empty() && !allow.contains(&"MESSAGE".to_owned()), "{}", answer.text);
    Ok(())
}

fn unknown_option(stage: &Stage<'_>) -> Result<()> {
    let mut agent = stage.agent()?;
    let request = agent.request("OPTIONS", &stage.server_uri());
    let answer = agent.ask(&request.with("Require", "nothingSupportsThis"))?;
    is(420, &answer)?;
    ensure!(answer.list("Unsupported") == ["nothingSupportsThis"], "{}", answer.text);
    Ok(())
}

fn require_in_cancel(stage: &Stage<'_>) -> Result<()> {
    let (mut caller, mut phone) = (stage.agent()?, stage.phone()?);
    let sent = caller.send(&caller.request("INVITE", &phone.aor()))?;
    let invite = phone.takes("INVITE")?;
    phone.answer(&invite, "180 Ringing", &[])?;
    caller.hears(&sent, 180)?;
    let cancel = caller.cancel_text(&sent)?;
    let cancel = cancel.replace("Content-Length", "Require: nothingSupportsThis\r\nContent-Length");
    is(200, &caller.ask_text(&cancel)?)?;
    let cancel = phone.takes("CANCEL")?;
    phone.answer(&cancel, "200 OK", &[])?;
    phone.answer(&invite, "487 Request Terminated", &[])?;
    is(487, &caller.outcome(&sent)?)
}

fn no_provisional(stage: &Stage<'_>) -> Result<()> {
    let mut agent = stage.agent()?;
    is(200, &agent.ask(&agent.request("OPTIONS", &stage.server_uri()))?)?;
    let (user, contact) = (agent.user().to_owned(), agent.contact());
    is(200, &agent.ask(&Request::register(&user, stage.domain(), &contact, 60))?)?;
    let others = agent.unasked();
    ensure!(others.is_empty(), "there also came {others:#?}");
    Ok(())
}

fn timestamp(stage: &Stage<'_>) -> Result<()> {
    let (mut caller, mut phone) = (stage.agent()?, stage.phone()?);
    let request = caller.request("INVITE", &phone.aor()).with("Timestamp", "54.25");
    let sent = caller.send(&request)?;
    let trying = caller.hears(&sent, 100)?;
    // RFC 3261 20.38 lets the server add its delay behind it.
    let stamp = trying.header("Timestamp").and_then(|value| value.split(' ').next());
    ensure!(stamp == Some("54.25"), "{}", trying.text);
    let invite = phone.takes("INVITE")?;
    phone.answer(&invite, "486 Busy Here", &[])?;
    is(486, &caller.outcome(&sent)?)
}

fn copied_fields(stage: &Stage<'_>) -> Result<()> {
    let mut agent = stage.agent()?;
    let below = format!("SIP/2.0/UDP below.example;branch={};x=y", unique("z9hG4bKb"));
    let request = agent.request("OPTIONS", &stage.server_uri());
    let sent = agent.send(&request.with("Via", &below))?;
    let answer = agent.outcome(&sent)?;
    for name in ["From", "Call-ID", "CSeq"] {
        ensure!(answer.header(name) == sent.0.header(name), "{name} in\n{}", answer.text);
    }
    let vias = answer.list("Via");
    ensure!(vias.len() == 2 && vias.last() == Some(&below), "Via in\n{}", answer.text);
    Ok(())
}

fn to_gets_a_tag(stage: &Stage<'_>) -> Result<()> {
    let mut agent = stage.agent()?;
    let answer = agent.ask(&agent.request("OPTIONS", &stage.server_uri()))?;
    ensure!(answer.tag("To").is_some_and(|tag| !tag.is_empty()), "{}", answer.text);
    Ok(())
}

fn to_keeps_its_tag(stage: &Stage<'_>) -> Result<()> {
    let mut agent = stage.agent()?;
    let to = format!("<{}>;tag=mine", stage.server_uri());
    let request = agent.request("OPTIONS", &stage.server_uri()).with("To", &to);
    let answer = agent.ask(&request)?;
    ensure!(answer.header("To") == Some(&to), "{}", answer.text);
    Ok(())
}

fn same_tag_again(stage: &Stage<'_>) -> Result<()> {
    let mut agent = stage.agent()?;
    let text = agent.write(&agent.request("OPTIONS", &stage.server_uri()));
    let first = agent.ask_text(&text)?;
    let second = agent.ask_text(&text)?;
    ensure!(first.tag("To").is_some() && first.tag("To") == second.tag("To"), "{}", second.text);
    Ok(())
}

fn cancel_of_nothing(stage: &Stage<'_>) -> Result<()> {
    let (mut agent, phone) = (stage.agent()?, stage.phone()?);
    is(481, &agent.ask(&agent.request("CANCEL", &phone.aor()))?)
}

fn options(stage: &Stage<'_>) -> Result<()> {
    let mut agent = stage.agent()?;
    let answer = agent.ask(&agent.request("OPTIONS", &stage.server_uri()))?;
    is(200, &answer)?;
    ensure!(answer.list("Allow").iter().any(|one| one == "OPTIONS"), "{}", answer.text);
    Ok(())
}
