//! What must not happen to certain messages, beyond what every message is judged by: that nothing
//! reaches the sink but what was forwarded octet by octet, and nothing the client but one answer.

use anyhow::{Context, Result, ensure};

use crate::corpus::Entry;
use crate::octets::{self, Pieces};
use crate::sink;
use crate::stand::{DOMAIN, Exchange, Stand, Wait, contacts};

/// Checks the index's `never` where it names more than the outcome.
pub(crate) fn check(stand: &mut Stand, entry: &Entry, seen: &Exchange) -> Result<()> {
    match entry.file.as_str() {
        "escnull.dat" => nul_is_no_end(stand, seen),
        "esc02.dat" => {
            let found = stand.bindings("resource", DOMAIN)?;
            ensure!(found.is_empty(), "an unknown method has registered {found:?}");
            Ok(())
        }
        "badbranch.dat" => a_bare_cookie_names_no_transaction(stand, entry),
        "bext01.dat" => {
            let unsupported = Pieces::cut(only(seen)?).value("unsupported").unwrap_or_default();
            let mut named: Vec<&str> = unsupported.split(',').map(str::trim).collect();
            named.sort_unstable();
            // A proxy is asked by Proxy-Require; Require is between the user agents.
            let wanted = ["norDoAnyProxiesSupportThis", "noProxiesSupportThis"];
            ensure!(named.len() == 2 && wanted.iter().all(|one| named.contains(one)), "{named:?}");
            Ok(())
        }
        "cparam01.dat" => {
            keeps(stand, seen, "watson", "<sip:+19725552222@gw1.example.net>;unknownparam")
        }
        "cparam02.dat" => {
            keeps(stand, seen, "watson", "<sip:+19725552222@gw1.example.net;unknownparam>")
        }
        "regescrt.dat" => {
            keeps(stand, seen, "user", "<sip:user@example.com?Route=%3Csip:sip.example.com%3E>")
        }
        "ipv6-good.dat" | "port-ambiguous.dat" | "port-unambiguous.dat" => {
            keeps(stand, seen, "user", "<sip:caller@[2001:db8::1]>")
        }
        _ => Ok(()),
    }
}

fn only(seen: &Exchange) -> Result<&[u8]> {
    seen.finals.first().map(Vec::as_slice).context("no answer")
}

/// The one contact comes back as it was given, in the answer and in later ones.
fn keeps(stand: &mut Stand, seen: &Exchange, user: &str, contact: &str) -> Result<()> {
    for found in [contacts(only(seen)?), stand.bindings(user, DOMAIN)?] {
        let kept = matches!(found.as_slice(), [one] if one.strip_prefix(contact).is_some_and(
            |rest| rest.is_empty() || rest.starts_with(';')
        ));
        ensure!(kept, "{contact} came back as {found:?}");
    }
    Ok(())
}

/// RFC 4475 3.1.1.4: two contacts, and a user whose name does not end before the NUL.
fn nul_is_no_end(stand: &mut Stand, seen: &Exchange) -> Result<()> {
    let whole = stand.bindings("null-%00-null", DOMAIN)?;
    for found in [contacts(only(seen)?), whole] {
        let named = |uri: &str| found.iter().any(|contact| contact.starts_with(uri));
        let both = named("<sip:%00@host5.example.com>") && named("<sip:%00%00@host5.example.com>");
        ensure!(both && found.len() == 2, "the contacts came back as {found:?}");
    }
    let cut = stand.bindings("null-", DOMAIN)?;
    ensure!(cut.is_empty(), "the user name was cut at the NUL: {cut:?}");
    Ok(())
}

/// RFC 4475 3.2.1: another request with the same bare cookie is no retransmission of the first.
fn a_bare_cookie_names_no_transaction(stand: &mut Stand, entry: &Entry) -> Result<()> {
    let text = octets::text(&entry.octets);
    let other = text.replace("Call-ID: badbranch.", "Call-ID: badbranch2.");
    ensure!(other != text, "the Call-ID of badbranch.dat is not what it was");
    let seen = stand.exchange(other.as_bytes(), Wait::Finals(1))?;
    let answer = Pieces::cut(only(&seen)?);
    let forwarded = answer.start.ends_with(sink::REASON) && seen.forwarded.len() == 1;
    ensure!(forwarded || answer.status() == Some(400), "taken for a retransmission");
    Ok(())
}
