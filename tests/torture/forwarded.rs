//! Is a forwarded request what was sent, but for what a proxy must change (RFC 3261 16.6)?
//!
//! Request-URI, a Via on top, `received` and `rport` of the Via below, Max-Forwards, Record-Route,
//! our own Route values: nothing else may differ, not by one octet.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};

use crate::octets::{self, Pieces};

/// Compares what the sink got with what the client at `from` has sent; `contact` is the sink's.
pub(crate) fn compare(sent: &[u8], got: &[u8], contact: &str, from: SocketAddr) -> Result<()> {
    let (sent, got) = (Pieces::cut(sent), Pieces::cut(got));
    let method = octets::text(sent.method().context("a request was forwarded as a response")?);
    let start = format!("{method} {contact} SIP/2.0");
    ensure!(got.start == start.as_bytes(), "request line '{}'", octets::text(got.start));
    let body = sent.body();
    ensure!(got.rest == body, "{} octets of body became {}", body.len(), got.rest.len());
    let kept: Vec<&[u8]> =
        sent.fields.iter().copied().filter(|field| octets::name(field) != "route").collect();
    let added = got.fields.len().checked_sub(kept.len()).context("header fields are gone")?;
    let (added, rest) = got.fields.split_at(added);
    let had_hops = sent.all("max-forwards").next().is_some();
    additions(added, had_hops, &method)?;
    let mut top_via = true;
    for (before, after) in kept.into_iter().zip(rest.iter().copied()) {
        let same = match octets::name(before).as_str() {
            "via" if std::mem::take(&mut top_via) => is_same_via(before, after, from),
            "max-forwards" => is_one_hop_less(before, after),
            _ => before == after,
        };
        ensure!(same, "'{}' became '{}'", octets::text(before), octets::text(after));
    }
    Ok(())
}

/// What a proxy puts on top.
fn additions(added: &[&[u8]], had_hops: bool, method: &str) -> Result<()> {
    let count = |wanted: &str| added.iter().filter(|field| octets::name(field) == wanted).count();
    let (vias, hops, routes) = (count("via"), count("max-forwards"), count("record-route"));
    let via = added.first().map(|field| octets::text(field)).unwrap_or_default();
    let own = via.starts_with("Via: SIP/2.0/") && via.contains(";branch=z9hG4bK");
    ensure!(own && vias == 1, "{vias} Vias on top, the first of all is '{via}'");
    // RFC 3261 16.6 step 3.
    ensure!(hops == usize::from(!had_hops), "{hops} Max-Forwards on top");
    // Those that make no dialog have no use for it; of a method we do not know nobody can say.
    let may_stay = !["OPTIONS", "MESSAGE"].contains(&method);
    ensure!(routes <= usize::from(may_stay) * 2, "{routes} Record-Routes in a {method}");
    let others = added.len() - vias - hops - routes;
    ensure!(others == 0, "{others} other header fields on top");
    Ok(())
}

/// The client's Via with `received` and `rport` filled in (RFC 3261 18.2.1, RFC 3581 4).
fn is_same_via(before: &[u8], after: &[u8], from: SocketAddr) -> bool {
    let filled = octets::text(after);
    let own = filled.split(',').next().unwrap_or_default();
    let says = |wanted: String| own.split(';').any(|one| one.trim() == wanted);
    without_source(before) == without_source(after)
        && says(format!("received={}", from.ip()))
        && says(format!("rport={}", from.port()))
}

/// A Via line without the parameters of its first value that its receiver fills in.
fn without_source(line: &[u8]) -> String {
    let line = octets::text(line);
    let (own, others) = line.split_at(line.find(',').unwrap_or(line.len()));
    let kept = own.split(';').filter(|one| {
        let name = one.split('=').next().unwrap_or_default().trim();
        name != "received" && name != "rport"
    });
    // The blanks before a comma belong to the value's end, wherever that is now.
    let own = kept.collect::<Vec<_>>().join(";");
    format!("{}{others}", own.trim_end())
}

/// The same line with a number one lower.
fn is_one_hop_less(before: &[u8], after: &[u8]) -> bool {
    let (before, after) = (octets::text(before), octets::text(after));
    let split = |line: &str| {
        let digits = line.find(|c: char| c.is_ascii_digit()).unwrap_or(line.len());
        let number = line.get(digits..).and_then(|text| text.trim().parse::<u32>().ok());
        (line.get(..digits).unwrap_or_default().to_owned(), number)
    };
    let ((label, hops), (same_label, left)) = (split(&before), split(&after));
    label == same_label && hops.is_some() && hops.and_then(|hops| hops.checked_sub(1)) == left
}

/// The fault of a message that may be forwarded without it only: octets that must be gone.
pub(crate) fn fault_of(file: &str) -> Option<&'static [u8]> {
    Some(match file {
        "ltgtruri.dat" => b" <sip:user@example.com> SIP/2.0",
        "lwsruri.dat" => b"; lr SIP/2.0",
        "lwsstart.dat" => b"INVITE  ",
        "trws.dat" => b"SIP/2.0  ",
        "escruri.dat" => b"?Route",
        "badaspec.dat" => b"< sip:t.watson",
        "baddn.dat" => b" Bell, Alexander <",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SENT: &str =
        "OPTIONS sip:a@b SIP/2.0\nv : x ; rport , y\nRoute: <r>\nMax-Forwards: 007\nZ: ,\n\n";

    fn judge(got: &str) -> Result<()> {
        let [sent, got] = [SENT, got].map(|text| text.replace('\n', "\r\n"));
        compare(sent.as_bytes(), got.as_bytes(), "sip:s@h", "127.0.0.1:7".parse().unwrap())
    }

    #[test]
    fn what_a_proxy_must_change_passes_and_one_octet_more_does_not() {
        let good = "OPTIONS sip:s@h SIP/2.0\nVia: SIP/2.0/UDP p;branch=z9hG4bK1\n\
                    v : x ; rport=7;received=127.0.0.1 , y\nMax-Forwards: 6\nZ: ,\n\n";
        judge(good).unwrap();
        for (before, after) in [
            ("Z: ,", "Z:,"),
            ("6\n", "7\n"),
            ("=7;", "=8;"),
            ("s@h", "t@h"),
            ("Z: ,\n\n", "Z: ,\n\nx"),
            ("Max", "X: y\nMax"),
            ("Via: ", "Record-Route: <z>\nVia: "),
        ] {
            assert!(judge(&good.replace(before, after)).is_err(), "{before} -> {after}");
        }
    }
}
