//! Registrations: RFC 3261 10.2 and 10.3.

use anyhow::{Context, Result, ensure};
use viaduct_tests::support::sip_text::{Received, Request, unique};

use crate::agent::{Agent, is, parameter, uri_in};
use crate::case::{BOTH, Case, UDP};
use crate::stage::Stage;

macro_rules! case {
    ($says:literal, $over:expr, $run:expr) => {
        Case { rfc: 3261, section: "10.3", says: $says, over: $over, run: $run }
    };
}

pub(crate) const CASES: &[Case] = &[
    case!("the 200 lists all bindings, each with its expiry", BOTH, lists_all),
    case!("a contact of a second REGISTER stands beside that of the first", BOTH, adds),
    case!("a REGISTER of the same contact refreshes it", BOTH, refreshes),
    case!("expires of a contact counts before Expires", BOTH, parameter_first),
    case!("a contact with expiry 0 is removed, others stay", BOTH, removes_one),
    case!("`*` with Expires 0 removes all", BOTH, removes_all),
    case!("`*` with another expiry is 400 and removes nothing", BOTH, star_with_expiry),
    case!("`*` beside another contact is 400 and removes nothing", BOTH, star_with_another),
    case!("without Contact nothing changes, and all are listed", BOTH, fetches),
    case!("a lower CSeq of the same Call-ID fails and changes nothing", BOTH, cseq_order),
    case!("of a REGISTER that fails no part takes effect", BOTH, atomic),
    case!("contacts are compared as URIs: escapes, host in any case", BOTH, same_uri),
    case!("contacts that differ in port or in user's case are two", BOTH, other_uri),
    case!("too short an expiry is 423, with Min-Expires", BOTH, too_brief),
    case!("a To of another domain is 404", BOTH, foreign_to),
    case!("an unknown option in Require is 420, and nothing is stored", BOTH, unknown_option),
    case!("Record-Route is ignored and not sent back", BOTH, no_record_route),
    case!("an AoR is the same with escapes and parameters in its URI", BOTH, same_aor),
    case!("a binding ends with its time", UDP, ends),
    Case {
        rfc: 3261,
        section: "10.2",
        says: "a REGISTER for a user is not forwarded to his contacts",
        over: BOTH,
        run: not_forwarded,
    },
    Case {
        rfc: 3261,
        section: "10.2.1.1",
        says: "an expiry that cannot be read counts as 3600",
        over: BOTH,
        run: unreadable_expiry,
    },
];

/// A REGISTER of the agent's user with contacts as they are to be written.
fn register(stage: &Stage<'_>, agent: &Agent, contacts: &str) -> Request {
    Request::fetch(agent.user(), stage.domain()).with("Contact", contacts)
}

fn expiry(answer: &Received, contact: &str) -> Result<u32> {
    let list = answer.list("Contact");
    let found = list.iter().find(|one| uri_in(one) == Some(contact));
    let found = found.with_context(|| format!("no {contact} in\n{}", answer.text))?;
    Ok(parameter(found, "expires").context("no expires")?.parse()?)
}

/// The URIs a user is bound to.
fn bound(stage: &Stage<'_>, agent: &Agent) -> Result<Vec<String>> {
    let contacts = stage.contacts(agent.user())?;
    Ok(contacts.iter().filter_map(|one| uri_in(one)).map(str::to_owned).collect())
}

fn lists_all(stage: &Stage<'_>) -> Result<()> {
    let mut agent = stage.agent()?;
    let request = register(stage, &agent, "<sip:a@one.example>;expires=300, <sip:b@two.example>");
    let answer = agent.ask(&request.with("Expires", "500"))?;
    is(200, &answer)?;
    ensure!(expiry(&answer, "sip:a@one.example")? <= 300, "{}", answer.text);
    ensure!(expiry(&answer, "sip:b@two.example")? <= 500, "{}", answer.text);
    ensure!(answer.list("Contact").len() == 2, "{}", answer.text);
    Ok(())
}

fn adds(stage: &Stage<'_>) -> Result<()> {
    let mut agent = stage.agent()?;
    is(200, &agent.ask(&register(stage, &agent, "<sip:a@one.example>"))?)?;
    let answer = agent.ask(&register(stage, &agent, "<sip:b@two.example>"))?;
    is(200, &answer)?;
    expiry(&answer, "sip:a@one.example")?;
    expiry(&answer, "sip:b@two.example")?;
    Ok(())
}

fn refreshes(stage: &Stage<'_>) -> Result<()> {
    let mut agent = stage.agent()?;
    let request = register(stage, &agent, "<sip:a@one.example>");
    let first = agent.ask(&request.clone().with("Expires", "100"))?;
    ensure!(expiry(&first, "sip:a@one.example")? <= 100, "{}", first.text);
    let again = request.with("CSeq", "2 REGISTER").with("Expires", "1000");
    let second = agent.ask(&again)?;
    is(200, &second)?;
    ensure!(expiry(&second, "sip:a@one.example")? > 100, "{}", second.text);
    ensure!(second.list("Contact").len() == 1, "{}", second.text);
    Ok(())
}

fn parameter_first(stage: &Stage<'_>) -> Result<()> {
    let mut agent = stage.agent()?;
    let request = register(stage, &agent, "<sip:a@one.example>;expires=200");
    let answer = agent.ask(&request.with("Expires", "1000"))?;
    let granted = expiry(&answer, "sip:a@one.example")?;
    ensure!(granted <= 200, "{granted} s were granted");
    Ok(())
}

fn removes_one(stage: &Stage<'_>) -> Result<()> {
    let mut agent = stage.agent()?;
    let both = register(stage, &agent, "<sip:a@one.example>, <sip:b@two.example>");
    is(200, &agent.ask(&both)?)?;
    let answer = agent.ask(&register(stage, &agent, "<sip:a@one.example>;expires=0"))?;
    is(200, &answer)?;
    ensure!(bound(stage, &agent)? == ["sip:b@two.example"], "{}", answer.text);
    Ok(())
}

fn removes_all(stage: &Stage<'_>) -> Result<()> {
    let mut agent = stage.agent()?;
    let both = register(stage, &agent, "<sip:a@one.example>, <sip:b@two.example>");
    is(200, &agent.ask(&both)?)?;
    let answer = agent.ask(&register(stage, &agent, "*").with("Expires", "0"))?;
    is(200, &answer)?;
    ensure!(answer.list("Contact").is_empty(), "{}", answer.text);
    ensure!(bound(stage, &agent)?.is_empty(), "there are still bindings");
    Ok(())
}

fn star_refused(stage: &Stage<'_>, contacts: &str, expires: &str) -> Result<()> {
    let mut agent = stage.agent()?;
    is(200, &agent.ask(&register(stage, &agent, "<sip:a@one.example>"))?)?;
    let request = register(stage, &agent, contacts).with("Expires", expires);
    is(400, &agent.ask(&request)?)?;
    ensure!(bound(stage, &agent)? == ["sip:a@one.example"], "the bindings are others");
    Ok(())
}

fn star_with_expiry(stage: &Stage<'_>) -> Result<()> {
    star_refused(stage, "*", "60")
}

fn star_with_another(stage: &Stage<'_>) -> Result<()> {
    star_refused(stage, "*, <sip:b@two.example>", "0")
}

fn fetches(stage: &Stage<'_>) -> Result<()> {
    let mut agent = stage.agent()?;
    is(200, &agent.ask(&register(stage, &agent, "<sip:a@one.example>"))?)?;
    let fetch = Request::fetch(agent.user(), stage.domain()).with("Expires", "0");
    for _ in 0..2 {
        let answer = agent.ask(&fetch.clone().with("Call-ID", &unique("fetch")))?;
        is(200, &answer)?;
        expiry(&answer, "sip:a@one.example")?;
    }
    Ok(())
}

fn cseq_order(stage: &Stage<'_>) -> Result<()> {
    let mut agent = stage.agent()?;
    let request = register(stage, &agent, "<sip:a@one.example>").with("CSeq", "7 REGISTER");
    is(200, &agent.ask(&request)?)?;
    let late = request.with("CSeq", "6 REGISTER").with("Contact", "<sip:a@one.example>;expires=0");
    let answer = agent.ask(&late)?;
    ensure!(answer.status() >= Some(400), "{}", answer.text);
    ensure!(bound(stage, &agent)? == ["sip:a@one.example"], "the late one has removed it");
    Ok(())
}

fn atomic(stage: &Stage<'_>) -> Result<()> {
    let mut agent = stage.agent()?;
    let request = register(stage, &agent, "<sip:a@one.example>").with("CSeq", "7 REGISTER");
    is(200, &agent.ask(&request)?)?;
    // The second contact is refused for its CSeq; the first alone would be new.
    let both = "<sip:b@two.example>, <sip:a@one.example>;expires=60";
    let answer = agent.ask(&request.with("CSeq", "6 REGISTER").with("Contact", both))?;
    ensure!(answer.status() >= Some(400), "{}", answer.text);
    let bound = bound(stage, &agent)?;
    ensure!(bound == ["sip:a@one.example"], "bound are {bound:?}");
    Ok(())
}

fn same_uri(stage: &Stage<'_>) -> Result<()> {
    let mut agent = stage.agent()?;
    for contact in
        ["<sip:alice@one.example>", "<sip:%61lice@ONE.example>", "<SIP:alice@One.Example>"]
    {
        is(200, &agent.ask(&register(stage, &agent, contact))?)?;
    }
    let bound = bound(stage, &agent)?;
    ensure!(bound.len() == 1, "bound are {bound:?}");
    Ok(())
}

fn other_uri(stage: &Stage<'_>) -> Result<()> {
    let mut agent = stage.agent()?;
    for contact in
        ["<sip:alice@one.example>", "<sip:alice@one.example:5060>", "<sip:Alice@one.example>"]
    {
        is(200, &agent.ask(&register(stage, &agent, contact))?)?;
    }
    let bound = bound(stage, &agent)?;
    ensure!(bound.len() == 3, "bound are {bound:?}");
    Ok(())
}

fn too_brief(stage: &Stage<'_>) -> Result<()> {
    let mut agent = stage.agent()?;
    let answer = agent.ask(&register(stage, &agent, "<sip:a@one.example>;expires=1"))?;
    is(423, &answer)?;
    let least: u32 = answer.header("Min-Expires").context("no Min-Expires")?.parse()?;
    ensure!(least == 2, "{}", answer.text);
    ensure!(bound(stage, &agent)?.is_empty(), "it was stored");
    Ok(())
}

fn foreign_to(stage: &Stage<'_>) -> Result<()> {
    let mut agent = stage.agent()?;
    let foreign = format!("<sip:{}@elsewhere.example>", agent.user());
    let request = register(stage, &agent, "<sip:a@one.example>").with("To", &foreign);
    is(404, &agent.ask(&request)?)
}

fn unknown_option(stage: &Stage<'_>) -> Result<()> {
    let mut agent = stage.agent()?;
    let request = register(stage, &agent, "<sip:a@one.example>").with("Require", "oddOption");
    let answer = agent.ask(&request)?;
    is(420, &answer)?;
    ensure!(answer.list("Unsupported") == ["oddOption"], "{}", answer.text);
    ensure!(bound(stage, &agent)?.is_empty(), "it was stored");
    Ok(())
}

fn no_record_route(stage: &Stage<'_>) -> Result<()> {
    let mut agent = stage.agent()?;
    let request = register(stage, &agent, "<sip:a@one.example>");
    let answer = agent.ask(&request.with("Record-Route", "<sip:proxy.example;lr>"))?;
    is(200, &answer)?;
    ensure!(answer.header("Record-Route").is_none(), "{}", answer.text);
    Ok(())
}

fn same_aor(stage: &Stage<'_>) -> Result<()> {
    let mut agent = stage.agent()?;
    let user = agent.user().to_owned();
    ensure!(user.starts_with('u'), "{user}");
    let escaped = format!("<sip:%75{}@{};x=y>", user.trim_start_matches('u'), stage.domain());
    let request = register(stage, &agent, "<sip:a@one.example>").with("To", &escaped);
    is(200, &agent.ask(&request)?)?;
    ensure!(bound(stage, &agent)? == ["sip:a@one.example"], "the AoR is another");
    Ok(())
}

fn ends(stage: &Stage<'_>) -> Result<()> {
    let (mut phone, mut caller) = (stage.agent()?, stage.agent()?);
    let contact = format!("<{}>;expires=2", phone.contact());
    is(200, &phone.ask(&register(stage, &phone, &contact))?)?;
    let aor = phone.aor();
    // The phone answers as long as it is called: each answer is an event, the last one the end.
    loop {
        let sent = caller.send(&caller.request("MESSAGE", &aor))?;
        let next = phone.takes_or(&mut caller, "MESSAGE", &sent)?;
        match next {
            Some(message) => {
                phone.answer(&message, "200 OK", &[])?;
                is(200, &caller.outcome(&sent)?)?;
            }
            None => return is(480, &caller.outcome(&sent)?),
        }
    }
}

fn not_forwarded(stage: &Stage<'_>) -> Result<()> {
    let (mut agent, mut phone) = (stage.agent()?, stage.phone()?);
    let request = Request::register(phone.user(), stage.domain(), "sip:b@two.example", 60);
    // What two.example is to do with the probe below is not our matter.
    is(200, &agent.ask(&request.with("Contact", "<sip:b@two.example>;expires=0"))?)?;
    let before = agent.probe(&mut phone)?;
    ensure!(before.is_empty(), "the phone got {before:#?}");
    Ok(())
}

fn unreadable_expiry(stage: &Stage<'_>) -> Result<()> {
    let mut agent = stage.agent()?;
    let answer = agent.ask(&register(stage, &agent, "<sip:a@one.example>;expires=soon"))?;
    is(200, &answer)?;
    let granted = expiry(&answer, "sip:a@one.example")?;
    ensure!((3000..=3600).contains(&granted), "{granted} s were granted");
    Ok(())
}
