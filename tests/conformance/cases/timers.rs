//! Transactions: RFC 3261 17, RFC 4320, RFC 6026. Times are those of the server; a case counts what
//! comes and never says when. Where something must not come any more, a later timer of another
//! transaction, begun after it, is the clock.

use anyhow::{Context, Result, ensure};
use viaduct_tests::support::net::Transport;
use viaduct_tests::support::sip_text::{Received, unique};

use crate::agent::{Agent, Sent, branch, is};
use crate::case::{BOTH, Case, UDP, case};
use crate::stage::Stage;

/// In the order of how long they take.
pub(crate) const CASES: &[Case] = &[
    case((3261, "16.8"), UDP, "a phone that answers nothing at all is 408 to an INVITE", timer_b),
    case((4320, "4.2"), UDP, "nothing but INVITE ever gets 408", no_408),
    case((4320, "4.1"), UDP, "a request nobody answers gets 100 in the end", late_trying),
    case(
        (4320, "4.1"),
        BOTH,
        "of provisional responses only 100 may go with other methods",
        no_18x,
    ),
    case((3261, "17.1.1"), UDP, "A: an INVITE without response is sent again, as it was", timer_a),
    case((3261, "17.1.1"), UDP, "A: after a provisional response it is not", timer_a_ends),
    case((3261, "17.1.1"), UDP, "A: nothing is sent again over a stream", timer_a_stream),
    case((3261, "17.1.2"), UDP, "E: another request is sent again, as it was", timer_e),
    case((3261, "17.2.1"), UDP, "G: a refusal of an INVITE is sent until its ACK comes", timer_g),
    case(
        (3261, "17.1.1.3"),
        BOTH,
        "a refusal gets an ACK from the server, in the transaction",
        ack,
    ),
    case(
        (3261, "17.1.1"),
        UDP,
        "a refusal that comes again gets another ACK and goes no further",
        again,
    ),
    case((3261, "17.2.1"), BOTH, "an INVITE gets 100 before anybody answers", trying),
    case(
        (3261, "17.2.1"),
        UDP,
        "an INVITE that comes again gets the last provisional response",
        absorbed,
    ),
    case((3261, "17.2.2"), UDP, "a request that comes again gets the same response", repeated),
    case(
        (3261, "17.2.3"),
        BOTH,
        "the same branch from another sent-by is another transaction",
        sent_by,
    ),
    case(
        (3261, "17.2.3"),
        UDP,
        "without the magic cookie a retransmission is still one",
        no_cookie,
    ),
    case((6026, "8.9"), BOTH, "a response whose branch nobody has sent goes no further", strange),
    case((3261, "17.1.3"), BOTH, "a response of another method goes no further", other_method),
    case((6026, "7.1"), UDP, "an INVITE that comes again after the 2xx is absorbed", accepted),
    case((6026, "7.1"), BOTH, "a 2xx that comes again is forwarded again", success_again),
    case(
        (6026, "7.1"),
        BOTH,
        "the ACK to a 2xx is a request of its own and is forwarded",
        ack_of_success,
    ),
    case((6026, "7.2"), BOTH, "another 2xx of the same branch is forwarded", late_success),
];

fn invite(stage: &Stage<'_>) -> Result<(Agent, Sent, Agent, Received)> {
    let (mut caller, mut phone) = (stage.agent()?, stage.phone()?);
    let sent = caller.send(&caller.request("INVITE", &phone.aor()))?;
    let invite = phone.takes("INVITE")?;
    Ok((caller, sent, phone, invite))
}

/// Waits until a phone that answers nothing has got its INVITE three times more: some seconds of
/// the server's own time.
fn some_time(stage: &Stage<'_>) -> Result<()> {
    let (mut caller, mut phone) =
        (stage.agent_over(Transport::Udp)?, stage.phone_over(Transport::Udp)?);
    let sent = caller.send(&caller.request("INVITE", &phone.aor()))?;
    for _ in 0..3 {
        phone.takes("INVITE")?;
    }
    let invite = phone.takes("INVITE")?;
    phone.answer(&invite, "480 Away", &[])?;
    is(480, &caller.outcome(&sent)?)
}

fn timer_b(stage: &Stage<'_>) -> Result<()> {
    let (mut caller, sent, _phone, _) = invite(stage)?;
    is(408, &caller.outcome_in_the_end(&sent)?)
}

fn no_408(stage: &Stage<'_>) -> Result<()> {
    let (mut caller, mut phone) = (stage.agent()?, stage.phone()?);
    let sent = caller.send(&caller.request("MESSAGE", &phone.aor()))?;
    phone.takes("MESSAGE")?;
    // Begun later, so that it ends later.
    timer_b(stage)?;
    let finals = caller.probe_self()?;
    let fault = finals.iter().find(|m| m.status() >= Some(200) && branch(m) == sent.branch());
    ensure!(fault.is_none(), "{fault:#?}");
    Ok(())
}

fn late_trying(stage: &Stage<'_>) -> Result<()> {
    let (mut caller, mut phone) = (stage.agent()?, stage.phone()?);
    let sent = caller.send(&caller.request("MESSAGE", &phone.aor()))?;
    let got = phone.takes("MESSAGE")?;
    caller.hears(&sent, 100)?;
    phone.answer(&got, "200 OK", &[])?;
    is(200, &caller.outcome(&sent)?)
}

fn no_18x(stage: &Stage<'_>) -> Result<()> {
    let (mut caller, mut phone) = (stage.agent()?, stage.phone()?);
    let sent = caller.send(&caller.request("MESSAGE", &phone.aor()))?;
    let got = phone.takes("MESSAGE")?;
    phone.answer(&got, "183 Thinking", &[])?;
    phone.answer(&got, "200 OK", &[])?;
    is(200, &caller.outcome(&sent)?)?;
    let others = caller.unasked();
    let fault = others.iter().find(|m| m.status() > Some(100));
    ensure!(fault.is_none(), "{fault:#?}");
    Ok(())
}

/// A request to a phone that says nothing comes three times more, each as the first.
fn sent_again(stage: &Stage<'_>, method: &str) -> Result<()> {
    let (mut caller, mut phone) = (stage.agent()?, stage.phone()?);
    let sent = caller.send(&caller.request(method, &phone.aor()))?;
    let first = phone.takes(method)?;
    for _ in 0..3 {
        let again = phone.takes(method)?;
        ensure!(again.text == first.text, "first\n{}\nthen\n{}", first.text, again.text);
    }
    phone.answer(&first, "480 Away", &[])?;
    is(480, &caller.outcome(&sent)?)
}

fn timer_a(stage: &Stage<'_>) -> Result<()> {
    sent_again(stage, "INVITE")
}

fn timer_e(stage: &Stage<'_>) -> Result<()> {
    sent_again(stage, "MESSAGE")
}

/// After `before` of the phone's answers an INVITE does not come again.
fn not_sent_again(stage: &Stage<'_>, over: Transport, answers: &[&str]) -> Result<()> {
    let (mut caller, mut phone) = (stage.agent()?, stage.phone_over(over)?);
    let sent = caller.send(&caller.request("INVITE", &phone.aor()))?;
    let got = phone.takes("INVITE")?;
    for answer in answers {
        phone.answer(&got, answer, &[])?;
        caller.hears(&sent, 180)?;
    }
    // What was under way when the answer came may have come twice.
    caller.probe(&mut phone)?;
    some_time(stage)?;
    let later = caller.probe(&mut phone)?;
    ensure!(!later.iter().any(|m| m.method() == Some("INVITE")), "it came again");
    phone.answer(&got, "480 Away", &[])?;
    is(480, &caller.outcome(&sent)?)
}

fn timer_a_ends(stage: &Stage<'_>) -> Result<()> {
    not_sent_again(stage, Transport::Udp, &["180 Ringing"])
}

fn timer_a_stream(stage: &Stage<'_>) -> Result<()> {
    not_sent_again(stage, Transport::Tcp, &[])
}

fn timer_g(stage: &Stage<'_>) -> Result<()> {
    let (mut caller, sent, mut phone, invite) = invite(stage)?;
    phone.answer(&invite, "486 Busy Here", &[])?;
    let first = caller.hears(&sent, 486)?;
    for _ in 0..3 {
        let again = caller.hears(&sent, 486)?;
        ensure!(again.text == first.text, "first\n{}\nthen\n{}", first.text, again.text);
    }
    caller.acknowledge(&sent, &first)?;
    caller.probe_self()?;
    some_time(stage)?;
    let later = caller.probe_self()?;
    let more = later.iter().filter(|m| m.status() == Some(486)).count();
    ensure!(more == 0, "{more} more after the ACK");
    Ok(())
}

fn ack(stage: &Stage<'_>) -> Result<()> {
    let (mut caller, sent, mut phone, invite) = invite(stage)?;
    phone.answer(&invite, "486 Busy Here", &[])?;
    let ack = phone.takes("ACK")?;
    ensure!(ack.request_uri() == invite.request_uri(), "{}", ack.text);
    ensure!(ack.list("Via").len() == 1 && branch(&ack) == branch(&invite), "{}", ack.text);
    for name in ["From", "Call-ID"] {
        ensure!(ack.header(name) == invite.header(name), "{name} in\n{}", ack.text);
    }
    ensure!(ack.header("CSeq") == Some("1 ACK"), "{}", ack.text);
    ensure!(ack.tag("To").is_some(), "To in\n{}", ack.text);
    is(486, &caller.outcome(&sent)?)
}

fn again(stage: &Stage<'_>) -> Result<()> {
    let (mut caller, sent, mut phone, invite) = invite(stage)?;
    phone.answer(&invite, "486 Busy Here", &[])?;
    let first = phone.takes("ACK")?;
    is(486, &caller.outcome(&sent)?)?;
    // The ACK of the caller has come when what follows it is answered.
    caller.probe_self()?;
    phone.answer(&invite, "486 Busy Here", &[])?;
    let second = phone.takes("ACK")?;
    ensure!(first.text == second.text, "first\n{}\nthen\n{}", first.text, second.text);
    let later = caller.probe_self()?;
    ensure!(!later.iter().any(|m| m.status() == Some(486)), "it was forwarded again");
    Ok(())
}

fn trying(stage: &Stage<'_>) -> Result<()> {
    let (mut caller, sent, mut phone, invite) = invite(stage)?;
    let trying = caller.hears(&sent, 100)?;
    ensure!(trying.header("Via").is_some_and(|via| via.contains(sent.branch())));
    phone.answer(&invite, "480 Away", &[])?;
    is(480, &caller.outcome(&sent)?)
}

fn absorbed(stage: &Stage<'_>) -> Result<()> {
    let (mut caller, sent, mut phone, invite) = invite(stage)?;
    phone.answer(&invite, "180 Ringing", &[])?;
    let first = caller.hears(&sent, 180)?;
    caller.send_text(&sent.0.text)?;
    let second = caller.hears(&sent, 180)?;
    ensure!(first.text == second.text, "first\n{}\nthen\n{}", first.text, second.text);
    let others = caller.probe(&mut phone)?;
    let strangers = others.iter().find(|m| branch(m) != branch(&invite));
    ensure!(strangers.is_none(), "the phone got {strangers:#?}");
    phone.answer(&invite, "480 Away", &[])?;
    is(480, &caller.outcome(&sent)?)
}

fn repeated(stage: &Stage<'_>) -> Result<()> {
    let (mut caller, mut phone) = (stage.agent()?, stage.phone()?);
    let sent = caller.send(&caller.request("MESSAGE", &phone.aor()))?;
    let got = phone.takes("MESSAGE")?;
    phone.answer(&got, "202 Later", &["X-Once: yes"])?;
    let first = caller.outcome(&sent)?;
    let second = caller.ask_text(&sent.0.text)?;
    ensure!(first.text == second.text, "first\n{}\nthen\n{}", first.text, second.text);
    let others = caller.probe(&mut phone)?;
    let strangers = others.iter().find(|m| branch(m) != branch(&got));
    ensure!(strangers.is_none(), "the phone got {strangers:#?}");
    Ok(())
}

fn sent_by(stage: &Stage<'_>) -> Result<()> {
    let (mut one, mut two, mut phone) = (stage.agent()?, stage.agent()?, stage.phone()?);
    let request = one.request("MESSAGE", &phone.aor());
    let first = one.write(&request);
    let second = first.replace(&one.local().to_string(), &two.local().to_string());
    let first = one.send_text(&first)?;
    let got = phone.takes("MESSAGE")?;
    phone.answer(&got, "202 Once", &[])?;
    is(202, &one.outcome(&first)?)?;
    let second = two.send_text(&second)?;
    let got = phone.takes("MESSAGE")?;
    phone.answer(&got, "200 Twice", &[])?;
    is(200, &two.outcome(&second)?)
}

fn no_cookie(stage: &Stage<'_>) -> Result<()> {
    let (mut caller, mut phone) = (stage.agent()?, stage.phone()?);
    let text = caller.write(&caller.request("MESSAGE", &phone.aor()));
    let text = text.replace("branch=z9hG4bK", "branch=");
    let sent = caller.send_text(&text)?;
    let got = phone.takes("MESSAGE")?;
    phone.answer(&got, "202 Once", &[])?;
    is(202, &caller.outcome(&sent)?)?;
    is(202, &caller.ask_text(&text)?)?;
    let others = caller.probe(&mut phone)?;
    let strangers = others.iter().find(|m| branch(m) != branch(&got));
    ensure!(strangers.is_none(), "the phone got {strangers:#?}");
    Ok(())
}

/// A response that belongs to nothing is dropped; the right one then comes through.
fn dropped(stage: &Stage<'_>, change: impl Fn(&str, &Received) -> String) -> Result<()> {
    let (mut caller, mut phone) = (stage.agent()?, stage.phone()?);
    let sent = caller.send(&caller.request("MESSAGE", &phone.aor()))?;
    let got = phone.takes("MESSAGE")?;
    let right = phone.answer_text(&got, "200 Right", &[]);
    let wrong = change(&right.replace("200 Right", "404 Wrong"), &got);
    ensure!(wrong.contains("404 Wrong"), "nothing to send");
    phone.send_raw(wrong.as_bytes())?;
    phone.send_raw(right.as_bytes())?;
    is(200, &caller.outcome(&sent)?)
}

fn strange(stage: &Stage<'_>) -> Result<()> {
    dropped(stage, |text, got| text.replace(branch(got), &unique("z9hG4bKother")))
}

fn other_method(stage: &Stage<'_>) -> Result<()> {
    dropped(stage, |text, _| text.replace("1 MESSAGE", "1 SUBSCRIBE"))
}

fn accepted(stage: &Stage<'_>) -> Result<()> {
    let (mut caller, sent, mut phone, invite) = invite(stage)?;
    phone.answer(&invite, "200 OK", &[])?;
    is(200, &caller.outcome(&sent)?)?;
    caller.send_text(&sent.0.text)?;
    let others = caller.probe(&mut phone)?;
    let strangers = others.iter().find(|m| branch(m) != branch(&invite));
    ensure!(strangers.is_none(), "the phone got {strangers:#?}");
    let more = caller.unasked();
    ensure!(!more.iter().any(|m| m.status() >= Some(200)), "the caller got {more:#?}");
    Ok(())
}

fn success_again(stage: &Stage<'_>) -> Result<()> {
    let (mut caller, sent, mut phone, invite) = invite(stage)?;
    phone.answer(&invite, "200 OK", &[])?;
    let first = caller.outcome(&sent)?;
    phone.answer(&invite, "200 OK", &[])?;
    let second = caller.outcome(&sent)?;
    is(200, &first)?;
    ensure!(first.text == second.text, "first\n{}\nthen\n{}", first.text, second.text);
    Ok(())
}

fn ack_of_success(stage: &Stage<'_>) -> Result<()> {
    let (mut caller, sent, mut phone, invite) = invite(stage)?;
    phone.answer(&invite, "200 OK", &[])?;
    let answer = caller.outcome(&sent)?;
    let request = caller.in_dialog("ACK", &answer)?;
    let own = caller.send(&request)?;
    let ack = phone.takes("ACK")?;
    ensure!(branch(&ack) != branch(&invite), "{}", ack.text);
    ensure!(ack.text.contains(own.branch()) && ack.list("Via").len() == 2, "{}", ack.text);
    let tag = answer.tag("To").context("no To tag")?;
    ensure!(ack.tag("To") == Some(tag), "{}", ack.text);
    Ok(())
}

fn late_success(stage: &Stage<'_>) -> Result<()> {
    let (mut caller, sent, mut phone, invite) = invite(stage)?;
    phone.answer(&invite, "200 OK", &[])?;
    let first = caller.outcome(&sent)?;
    // A proxy behind the server that has forked: another To tag.
    let tag = first.tag("To").context("no To tag")?;
    let other = phone.answer_text(&invite, "200 OK", &[]).replace(tag, "another");
    phone.send_raw(other.as_bytes())?;
    let second = caller.outcome(&sent)?;
    ensure!(second.status() == Some(200) && second.tag("To") == Some("another"));
    Ok(())
}
