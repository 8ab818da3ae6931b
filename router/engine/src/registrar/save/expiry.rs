//! How long a binding lasts: bounds, spread, and what the registrar behind us has granted.

use viaduct_message::{Contacts, Message, NameAddr, uri};

use super::apply::seconds;
use super::{SaveInput, SaveRefusal};

/// 423 is for intervals below an hour only (RFC 3261 10.3 step 7), seconds.
const SHORT_EXPIRES_S: u32 = 3600;

/// Step 7: the registrar may shorten an interval, and refuses those too short, if it is told to.
pub(super) fn bounded_expires_s(asked_s: u32, input: &SaveInput<'_>) -> Result<u32, SaveRefusal> {
    let registrar = input.registrar;
    let min_s = input.flags.min_expires_s.unwrap_or(registrar.min_expires_s);
    let max_s = input.flags.max_expires_s.unwrap_or(registrar.max_expires_s);
    if asked_s == 0 {
        return Ok(0);
    }
    if asked_s < min_s && asked_s < SHORT_EXPIRES_S && registrar.reject_short_expires {
        let refusal = SaveRefusal::new(423, "Interval Too Brief");
        return Err(refusal.with_header("Min-Expires", min_s));
    }
    let bounded = |value_s: u32| {
        let raised_s = value_s.max(min_s);
        if max_s == 0 { raised_s } else { raised_s.min(max_s) }
    };
    Ok(bounded(spread_s(bounded(asked_s), input)))
}

/// Moves an expiry by chance, so that phones that registered together do not come back together.
/// Never to 0, which would be a removal.
fn spread_s(expires_s: u32, input: &SaveInput<'_>) -> u32 {
    let registrar = input.registrar;
    let deviation_s = registrar.expires_deviation_s.min(expires_s.saturating_sub(1));
    let percent = u64::from(registrar.expires_shorten_percent.min(90));
    let shorten_s = (u64::from(expires_s) * percent / 100) as u32;
    let least_s = expires_s.saturating_sub(deviation_s.max(shorten_s));
    let most_s = expires_s.saturating_add(registrar.expires_deviation_s);
    let span = u64::from(most_s.saturating_sub(least_s)).saturating_add(1);
    // The high half of the product is below `span`, and even where the seed is.
    let moved = ((u128::from(input.seed) * u128::from(span)) >> 64) as u32;
    least_s.saturating_add(moved).max(1)
}

/// Seconds the registrar behind us has granted to a contact: its own `expires`, else the Expires of
/// the response. 0 where the response does not list it: it is gone there. A single Contact is the
/// one, however it is written: a policy may have sent another URI on.
pub(super) fn granted_s(response: Message<'_>, contact: &[u8]) -> u32 {
    let Contacts::List(list) = response.contacts() else { return 0 };
    let single = list.clone().nth(1).is_none();
    let mut listed = list.filter_map(|value| NameAddr::parse(value.bytes).ok());
    let Some(found) = listed.find(|listed| single || uri::equivalent(listed.uri, contact)) else {
        return 0;
    };
    match found.params.get(b"expires") {
        Some(value) => value.and_then(seconds).unwrap_or(0),
        None => response.expires_s().ok().flatten().unwrap_or(0),
    }
}
