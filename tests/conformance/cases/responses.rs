//! What becomes of responses, and CANCEL: RFC 3261 9.1, 16.7 and 16.10.

use anyhow::{Result, ensure};
use viaduct_tests::support::sip_text::Received;

use crate::agent::{Agent, Sent, branch, is};
use crate::case::{BOTH, Case};
use crate::stage::Stage;

const fn case(
    section: &'static str,
    says: &'static str,
    run: fn(&Stage<'_>) -> Result<()>,
) -> Case {
    Case { rfc: 3261, section, says, over: BOTH, run }
}

pub(crate) const CASES: &[Case] = &[
    case("16.7", "3: the server's Via is taken off, those below stay", via_removed),
    case("16.7", "5: provisional responses are forwarded at once, but 100", provisional),
    case("16.7", "5: a 2xx is forwarded while others still ring", success_at_once),
    case("16.7", "5: every 2xx to an INVITE is forwarded", several_successes),
    case("16.7", "5: no refusal is forwarded while another branch rings", refusal_waits),
    case("16.7", "6: of refusals the lowest class is the best", lowest_class),
    case("16.7", "6: a 6xx counts before all others", global_failure),
    case("16.7", "6: within 4xx those that help to do better are preferred", helpful),
    case("16.7", "6: a 503 is not forwarded, it becomes 500", unavailable),
    case("16.7", "7: challenges of all branches are gathered", challenges),
    case("16.7", "9: To tag, reason and header fields of a response are passed", passed),
    case("16.7", "10: a 2xx ends the other branches by CANCEL", losers_cancelled),
    case("16.7", "10: a 6xx ends the other branches by CANCEL", cancelled_by_6xx),
    case("16.10", "CANCEL is answered at once and each branch is cancelled", cancelled),
    case("16.10", "CANCEL of one fork reaches all its branches", fork_cancelled),
    case("9.1", "no CANCEL leaves before a provisional response has come", cancel_waits),
    case("9.1", "CANCEL repeats its INVITE: URI, Via, Call-ID, From, To, number", cancel_repeats),
    case("9.2", "a CANCEL after the final response changes nothing", cancel_too_late),
];

/// An INVITE of one caller on its way to two phones of one user.
struct Fork {
    caller: Agent,
    sent: Sent,
    first: Agent,
    one: Received,
    second: Agent,
    two: Received,
}

impl Fork {
    fn start(stage: &Stage<'_>) -> Result<Self> {
        let (mut first, mut second) = stage.two_phones()?;
        let mut caller = stage.agent()?;
        let sent = caller.send(&caller.request("INVITE", &first.aor()))?;
        let (one, two) = (first.takes("INVITE")?, second.takes("INVITE")?);
        Ok(Self { caller, sent, first, one, second, two })
    }

    fn ring_both(&mut self) -> Result<()> {
        self.first.answer(&self.one, "180 Ringing", &[])?;
        self.caller.hears(&self.sent, 180)?;
        self.second.answer(&self.two, "183 Session Progress", &[])?;
        self.caller.hears(&self.sent, 183).map(drop)
    }

    /// Both refuse; the caller's final response.
    fn refused(&mut self, one: (&str, &[&str]), two: (&str, &[&str])) -> Result<Received> {
        self.first.answer(&self.one, one.0, one.1)?;
        self.second.answer(&self.two, two.0, two.1)?;
        self.caller.outcome(&self.sent)
    }

    /// The second phone is cancelled and says so.
    fn second_is_cancelled(&mut self) -> Result<()> {
        let cancel = self.second.takes("CANCEL")?;
        ensure!(branch(&cancel) == branch(&self.two), "{}", cancel.text);
        self.second.answer(&cancel, "200 OK", &[])?;
        self.second.answer(&self.two, "487 Request Terminated", &[])
    }
}

/// An INVITE that has reached its phone.
fn invited(stage: &Stage<'_>) -> Result<(Agent, Sent, Agent, Received)> {
    let (mut caller, mut phone) = (stage.agent()?, stage.phone()?);
    let sent = caller.send(&caller.request("INVITE", &phone.aor()))?;
    let invite = phone.takes("INVITE")?;
    Ok((caller, sent, phone, invite))
}

fn via_removed(stage: &Stage<'_>) -> Result<()> {
    let (mut caller, mut phone) = (stage.agent()?, stage.phone()?);
    let below = "SIP/2.0/UDP below.example;branch=z9hG4bKbelow";
    let sent = caller.send(&caller.request("MESSAGE", &phone.aor()).with("Via", below))?;
    let got = phone.takes("MESSAGE")?;
    phone.answer(&got, "200 OK", &[])?;
    let vias = caller.outcome(&sent)?.list("Via");
    ensure!(vias.len() == 2 && vias.last().is_some_and(|via| via == below), "{vias:?}");
    Ok(())
}

fn provisional(stage: &Stage<'_>) -> Result<()> {
    let (mut caller, sent, mut phone, invite) = invited(stage)?;
    phone.answer(&invite, "100 Mine Alone", &[])?;
    phone.answer(&invite, "181 Forwarded", &[])?;
    phone.answer(&invite, "180 Ringing", &[])?;
    caller.hears(&sent, 181)?;
    caller.hears(&sent, 180)?;
    phone.answer(&invite, "486 Busy Here", &[])?;
    is(486, &caller.outcome(&sent)?)?;
    let foreign = |one: &Received| one.text.starts_with("SIP/2.0 100 Mine Alone");
    ensure!(!caller.unasked().iter().any(foreign), "the phone's 100 was forwarded");
    Ok(())
}

fn success_at_once(stage: &Stage<'_>) -> Result<()> {
    let mut fork = Fork::start(stage)?;
    fork.ring_both()?;
    fork.first.answer(&fork.one, "200 OK", &[])?;
    is(200, &fork.caller.outcome(&fork.sent)?)?;
    fork.second_is_cancelled()?;
    fork.second.takes("ACK").map(drop)
}

fn several_successes(stage: &Stage<'_>) -> Result<()> {
    let mut fork = Fork::start(stage)?;
    fork.ring_both()?;
    fork.first.answer(&fork.one, "200 OK", &[])?;
    let one = fork.caller.outcome(&fork.sent)?;
    fork.second.answer(&fork.two, "200 OK", &[])?;
    let two = fork.caller.outcome(&fork.sent)?;
    is(200, &one)?;
    is(200, &two)?;
    ensure!(one.tag("To").is_some() && one.tag("To") != two.tag("To"), "{}", two.text);
    Ok(())
}

fn refusal_waits(stage: &Stage<'_>) -> Result<()> {
    let mut fork = Fork::start(stage)?;
    fork.second.answer(&fork.two, "180 Ringing", &[])?;
    fork.caller.hears(&fork.sent, 180)?;
    fork.first.answer(&fork.one, "486 Busy Here", &[])?;
    // The branch has ended when its ACK comes.
    fork.first.takes("ACK")?;
    fork.second.answer(&fork.two, "200 OK", &[])?;
    is(200, &fork.caller.outcome(&fork.sent)?)
}

fn lowest_class(stage: &Stage<'_>) -> Result<()> {
    let mut fork = Fork::start(stage)?;
    is(480, &fork.refused(("500 Broken", &[]), ("480 Away", &[]))?)?;
    let mut fork = Fork::start(stage)?;
    let moved = &["Contact: <sip:there@elsewhere.example>"][..];
    is(302, &fork.refused(("302 Moved", moved), ("404 Not Found", &[]))?)
}

fn global_failure(stage: &Stage<'_>) -> Result<()> {
    let mut fork = Fork::start(stage)?;
    is(603, &fork.refused(("404 Not Found", &[]), ("603 Decline", &[]))?)
}

fn helpful(stage: &Stage<'_>) -> Result<()> {
    let mut fork = Fork::start(stage)?;
    is(484, &fork.refused(("404 Not Found", &[]), ("484 Address Incomplete", &[]))?)?;
    let mut fork = Fork::start(stage)?;
    let accept = &["Accept: text/plain"][..];
    is(415, &fork.refused(("415 Unsupported Media Type", accept), ("404 Not Found", &[]))?)
}

fn unavailable(stage: &Stage<'_>) -> Result<()> {
    let (mut caller, sent, mut phone, invite) = invited(stage)?;
    phone.answer(&invite, "503 Service Unavailable", &["Retry-After: 10"])?;
    let answer = caller.outcome(&sent)?;
    is(500, &answer)
}

fn challenges(stage: &Stage<'_>) -> Result<()> {
    let mut fork = Fork::start(stage)?;
    let www = "WWW-Authenticate: Digest realm=\"one\", nonce=\"a\"";
    let proxy = "Proxy-Authenticate: Digest realm=\"two\", nonce=\"b\"";
    let answer = fork
        .refused(("401 Unauthorized", &[www]), ("407 Proxy Authentication Required", &[proxy]))?;
    ensure!(matches!(answer.status(), Some(401 | 407)), "{}", answer.text);
    for (name, realm) in [("WWW-Authenticate", "one"), ("Proxy-Authenticate", "two")] {
        let realm = format!("realm=\"{realm}\"");
        let found = answer.headers(name);
        let one = matches!(found.as_slice(), [one] if one.contains(&realm));
        ensure!(one, "{name} in\n{}", answer.text);
    }
    Ok(())
}

fn passed(stage: &Stage<'_>) -> Result<()> {
    let (mut caller, sent, mut phone, invite) = invited(stage)?;
    let text = phone.answer_text(&invite, "486 In A Meeting", &["X-Why: because, \"of that\""]);
    phone.send_raw(text.as_bytes())?;
    let answer = caller.outcome(&sent)?;
    ensure!(answer.text.starts_with("SIP/2.0 486 In A Meeting\r\n"), "{}", answer.text);
    ensure!(answer.header("X-Why") == Some("because, \"of that\""), "{}", answer.text);
    let tag = Received { text, from: phone.local() }.tag("To").map(str::to_owned);
    ensure!(tag.is_some() && answer.tag("To") == tag.as_deref(), "{}", answer.text);
    Ok(())
}

fn losers_cancelled(stage: &Stage<'_>) -> Result<()> {
    let mut fork = Fork::start(stage)?;
    fork.ring_both()?;
    fork.first.answer(&fork.one, "200 OK", &[])?;
    fork.second_is_cancelled()?;
    fork.second.takes("ACK")?;
    is(200, &fork.caller.outcome(&fork.sent)?)?;
    let more = fork.caller.probe_self()?;
    let refusal = |one: &Received| one.status() >= Some(300);
    ensure!(!more.iter().any(refusal), "the 487 of the loser was forwarded: {more:#?}");
    Ok(())
}

fn cancelled_by_6xx(stage: &Stage<'_>) -> Result<()> {
    let mut fork = Fork::start(stage)?;
    fork.ring_both()?;
    fork.first.answer(&fork.one, "603 Decline", &[])?;
    fork.second_is_cancelled()?;
    is(603, &fork.caller.outcome(&fork.sent)?)
}

/// A phone takes the CANCEL of its INVITE, as RFC 3261 9.2 says.
fn gives_up(phone: &mut Agent, invite: &Received) -> Result<Received> {
    let got = phone.takes("CANCEL")?;
    phone.answer(&got, "200 OK", &[])?;
    phone.answer(invite, "487 Request Terminated", &[])?;
    Ok(got)
}

fn cancelled(stage: &Stage<'_>) -> Result<()> {
    let (mut caller, sent, mut phone, invite) = invited(stage)?;
    phone.answer(&invite, "180 Ringing", &[])?;
    caller.hears(&sent, 180)?;
    let cancel = caller.cancel(&sent)?;
    // Before the phone has said anything.
    is(200, &caller.outcome(&cancel)?)?;
    gives_up(&mut phone, &invite)?;
    is(487, &caller.outcome(&sent)?)
}

fn fork_cancelled(stage: &Stage<'_>) -> Result<()> {
    let mut fork = Fork::start(stage)?;
    fork.ring_both()?;
    let cancel = fork.caller.cancel(&fork.sent)?;
    is(200, &fork.caller.outcome(&cancel)?)?;
    gives_up(&mut fork.first, &fork.one)?;
    fork.second_is_cancelled()?;
    is(487, &fork.caller.outcome(&fork.sent)?)
}

fn cancel_waits(stage: &Stage<'_>) -> Result<()> {
    let (mut caller, sent, mut phone, invite) = invited(stage)?;
    let cancel = caller.cancel(&sent)?;
    is(200, &caller.outcome(&cancel)?)?;
    let early = caller.probe(&mut phone)?;
    let is_cancel = |one: &Received| one.method() == Some("CANCEL");
    ensure!(!early.iter().any(is_cancel), "it left before a provisional response");
    phone.answer(&invite, "180 Ringing", &[])?;
    gives_up(&mut phone, &invite)?;
    is(487, &caller.outcome(&sent)?)
}

fn cancel_repeats(stage: &Stage<'_>) -> Result<()> {
    let (mut caller, sent, mut phone, invite) = invited(stage)?;
    phone.answer(&invite, "180 Ringing", &[])?;
    caller.hears(&sent, 180)?;
    let cancel = caller.cancel(&sent)?;
    is(200, &caller.outcome(&cancel)?)?;
    let got = gives_up(&mut phone, &invite)?;
    is(487, &caller.outcome(&sent)?)?;
    ensure!(got.request_uri() == invite.request_uri(), "{}", got.text);
    for name in ["From", "To", "Call-ID"] {
        ensure!(got.header(name) == invite.header(name), "{name} in\n{}", got.text);
    }
    ensure!(got.header("CSeq") == Some("1 CANCEL"), "{}", got.text);
    let own = invite.list("Via").into_iter().take(1).collect::<Vec<_>>();
    ensure!(got.list("Via") == own, "Via in\n{}", got.text);
    ensure!(got.header("Require").is_none() && got.header("Proxy-Require").is_none());
    Ok(())
}

fn cancel_too_late(stage: &Stage<'_>) -> Result<()> {
    let (mut caller, sent, mut phone, invite) = invited(stage)?;
    phone.answer(&invite, "200 OK", &[])?;
    is(200, &caller.outcome(&sent)?)?;
    let cancel = caller.cancel(&sent)?;
    // 200 where the transaction is still there, 481 where not.
    let answer = caller.outcome(&cancel)?;
    ensure!(matches!(answer.status(), Some(200 | 481)), "{}", answer.text);
    let later = caller.probe(&mut phone)?;
    let is_cancel = |one: &Received| one.method() == Some("CANCEL");
    ensure!(!later.iter().any(is_cancel), "a call that was answered was cancelled");
    Ok(())
}
