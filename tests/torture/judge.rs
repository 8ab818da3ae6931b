//! One message, sent and judged.

use std::fmt;

use anyhow::{Context, Result, bail, ensure};
use viaduct_tests::support::net::Transport;

use crate::corpus::Entry;
use crate::forwarded;
use crate::nevers;
use crate::octets::{self, Pieces};
use crate::sink;
use crate::stand::{DOMAIN, Exchange, Stand, Wait};

/// What the router did with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The sink got it.
    Forwarded,
    /// The router has answered by itself.
    Final(u16),
    /// Neither.
    Dropped,
}

impl fmt::Display for Outcome {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forwarded => write!(out, "forwarded"),
            Self::Final(status) => write!(out, "{status}"),
            Self::Dropped => write!(out, "dropped"),
        }
    }
}

/// How a message is sent, and what differs from its index then.
struct Plan {
    octets: Vec<u8>,
    wait: Wait,
    /// The connection must be closed, and must not be otherwise.
    closes: bool,
    /// In place of the index's outcomes.
    allowed: Option<&'static [&'static str]>,
}

/// Sends a message and judges what comes of it. An error carries the outcome, where there was one.
pub(crate) fn judge(stand: &mut Stand, entry: &Entry, transport: Transport) -> Result<Outcome> {
    if let ("dblreq.dat", Transport::Tcp) = (entry.file.as_str(), transport) {
        return two_on_a_stream(stand, entry);
    }
    let plan = plan(entry, transport);
    let contact = prepare(stand, entry, &plan)?;
    let thrown_away = stand.node.thrown_away()?;
    let seen = stand.exchange(&plan.octets, plan.wait)?;
    let outcome = outcome(&seen)?;
    agrees(stand, entry, &plan, contact.as_deref(), &seen, outcome).context(outcome)?;
    if !entry.is_request {
        stand.node.wait_until_thrown_away(thrown_away + 1).context(outcome)?;
    }
    Ok(outcome)
}

/// Does what came of a message agree with its index?
fn agrees(
    stand: &mut Stand,
    entry: &Entry,
    plan: &Plan,
    contact: Option<&str>,
    seen: &Exchange,
    outcome: Outcome,
) -> Result<()> {
    let allowed = match (plan.allowed, outcome) {
        (Some(allowed), _) => allowed.contains(&word(outcome).as_str()),
        (None, Outcome::Forwarded) => entry.allows("forward") || entry.allows("forward-fixed"),
        (None, Outcome::Final(status)) => entry.allows(&status.to_string()),
        (None, Outcome::Dropped) => may_be_dropped(entry),
    };
    ensure!(allowed, "its index allows {:?}{}", entry.allowed, last(seen));
    ensure!(seen.closed == plan.closes, "connection closed: {}", seen.closed);
    if outcome == Outcome::Forwarded {
        let contact = contact.context("nobody was registered")?;
        let got = seen.forwarded.first().context("no forwarded request")?;
        arrived(entry, &plan.octets, got, contact, stand)?;
    } else {
        could_not_be_forwarded(entry, plan, contact.is_some(), outcome)?;
    }
    nevers::check(stand, entry, seen)
}

/// Makes the sink reachable for the message's AoR; gives back the contact it is reached by.
fn prepare(stand: &mut Stand, entry: &Entry, plan: &Plan) -> Result<Option<String>> {
    let aor = entry.aor();
    let decoy = ("user".to_owned(), DOMAIN.to_owned());
    if aor.as_ref() != Some(&decoy) {
        // Who routes by To, or by a part of the user name, ends up there.
        stand.sink.register(&decoy.0, &decoy.1)?;
    }
    let Some((user, host)) = aor else { return Ok(None) };
    if entry.is_register() {
        stand.sink.clear(&user, &host)?;
        return Ok(None);
    }
    let goes_on = |allowed: &str| allowed.starts_with("forward");
    let planned = plan.allowed.is_some_and(|allowed| allowed.iter().copied().any(goes_on));
    if !planned && !entry.allowed.iter().any(|allowed| goes_on(allowed)) {
        return Ok(None);
    }
    stand.sink.register(&user, &host).map(Some)
}

fn plan(entry: &Entry, transport: Transport) -> Plan {
    let wait = if may_be_dropped(entry) { Wait::None } else { Wait::Finals(1) };
    let octets = entry.octets.clone();
    let plan = Plan { octets, wait, closes: false, allowed: None };
    if transport == Transport::Udp {
        return plan;
    }
    match entry.file.as_str() {
        // No length, two, or a line that is none: nobody knows where the next message begins.
        "ncl.dat" | "mcl01.dat" | "inv2543.dat" | "test.dat" => {
            Plan { wait: Wait::Close, closes: true, allowed: Some(&["400", "drop"]), ..plan }
        }
        // More is announced than there is: the rest is waited for, and it is one message then.
        "clerr.dat" => {
            let mut octets = plan.octets;
            let missing = 9999 - Pieces::cut(&octets).rest.len();
            octets.extend(std::iter::repeat_n(b'.', missing));
            Plan { octets, allowed: Some(&["forward"]), ..plan }
        }
        // The file lacks the empty line, without which a stream's message has no end.
        "baddn.dat" => Plan { octets: [plan.octets.as_slice(), b"\r\n"].concat(), ..plan },
        _ => plan,
    }
}

fn may_be_dropped(entry: &Entry) -> bool {
    ["drop", "drop-unmatched", "forward-response"].iter().any(|one| entry.allows(one))
}

fn word(outcome: Outcome) -> String {
    match outcome {
        Outcome::Forwarded => "forward".to_owned(),
        Outcome::Final(status) => status.to_string(),
        Outcome::Dropped => "drop".to_owned(),
    }
}

fn outcome(seen: &Exchange) -> Result<Outcome> {
    let from_sink = |answer: &[u8]| Pieces::cut(answer).start.ends_with(sink::REASON);
    match (seen.forwarded.as_slice(), seen.finals.as_slice()) {
        ([], []) => Ok(Outcome::Dropped),
        ([], [answer]) => Ok(Outcome::Final(Pieces::cut(answer).status().context("no status")?)),
        ([_], [answer]) if from_sink(answer) => Ok(Outcome::Forwarded),
        (forwarded, finals) => {
            let text =
                |all: &[Vec<u8>]| all.iter().map(|one| octets::text(one)).collect::<Vec<_>>();
            bail!("the sink got {:#?}, the client {:#?}", text(forwarded), text(finals))
        }
    }
}

/// The forwarded request is the message, or the message without its fault.
fn arrived(entry: &Entry, sent: &[u8], got: &[u8], contact: &str, stand: &Stand) -> Result<()> {
    if let Some(fault) = forwarded::fault_of(&entry.file) {
        let gone = memchr::memmem::find(got, fault).is_none();
        ensure!(gone, "sent on with its fault:\n{}", octets::text(got));
        return Ok(());
    }
    forwarded::compare(sent, got, contact, stand.client())
        .with_context(|| format!("the sink got\n{}", octets::text(got)))
}

/// The index allows 404 where nobody is registered; here somebody is. What ends at a proxy because
/// it belongs to no dialog (481) is another matter.
fn could_not_be_forwarded(
    entry: &Entry,
    plan: &Plan,
    registered: bool,
    outcome: Outcome,
) -> Result<()> {
    let expected = registered && entry.allows("forward") && plan.allowed.is_none();
    let refused = entry.allows("400") && outcome == Outcome::Final(400);
    let no_dialog = entry.allows("481") && outcome == Outcome::Final(481);
    ensure!(!expected || refused || no_dialog, "its user is registered");
    Ok(())
}

fn last(seen: &Exchange) -> String {
    seen.finals.last().map(|answer| format!(":\n{}", octets::text(answer))).unwrap_or_default()
}

/// RFC 4475 3.1.1.8 on a stream: the octets behind the REGISTER are a message of their own, an
/// INVITE for joe. Behind its body come five octets more; those begin no message, and the
/// connection ends.
fn two_on_a_stream(stand: &mut Stand, entry: &Entry) -> Result<Outcome> {
    let at = memchr::memmem::find(&entry.octets, b"INVITE sip:joe").context("no INVITE")?;
    let (_, invite) = entry.octets.split_at(at);
    let extra = Pieces::cut(invite).rest.len() - Pieces::cut(invite).body().len();
    ensure!(extra == 5, "{extra} octets behind the INVITE");
    let (two, nothing) = entry.octets.split_at(entry.octets.len() - extra);
    stand.sink.clear("j.user", DOMAIN)?;
    let contact = stand.sink.register("joe", DOMAIN)?;
    let from = stand.client();
    let seen = stand.exchange(two, Wait::Finals(2))?;
    ensure!(!seen.closed, "the second message has closed the connection");
    let ([first, second], [got]) = (seen.finals.as_slice(), seen.forwarded.as_slice()) else {
        bail!("{} answers, {} forwarded", seen.finals.len(), seen.forwarded.len());
    };
    forwarded::compare(invite, got, &contact, from)?;
    ensure!(Pieces::cut(second).start.ends_with(sink::REASON), "{}", octets::text(second));
    let outcome = Outcome::Final(Pieces::cut(first).status().context("no status")?);
    ensure!(entry.allows(&word(outcome)), "the REGISTER was answered {outcome}");
    let seen = stand.exchange(nothing, Wait::Close)?;
    ensure!(seen.closed && seen.finals.is_empty(), "five octets of nothing got an answer");
    Ok(outcome)
}
