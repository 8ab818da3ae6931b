//! What must hold, whatever happens.

use std::sync::PoisonError;

use viaduct_engine::Location as _;
use viaduct_message::{Head, Limits, Message, check};

use crate::router::START_MS;
use crate::text::Sip;
use crate::world::World;

/// What a registrar's clock, a datagram on its way and a round of housekeeping may be off,
/// milliseconds.
const SLACK_MS: u64 = 10_000;

/// How long a REGISTER is sent again, by phone and edge proxy one after the other.
const STILL_ON_ITS_WAY_US: u64 = 70_000_000;

/// Whatever leaves a router is SIP, for our own reader and for one that shares nothing with it.
pub(crate) fn message_is_legal(bytes: &[u8]) -> Result<(), String> {
    let complain = |why: String| Err(format!("{why} in\n{}", String::from_utf8_lossy(bytes)));
    let mut head = Head::new();
    if let Err(fault) = head.scan(bytes, &Limits::default()) {
        return complain(format!("the scanner finds {fault:?}"));
    }
    let message = Message::new(bytes, &head);
    let checked = match message.is_request() {
        true => check::request(message).map(|_| ()),
        false => check::response(message).map(|_| ()),
    };
    if let Err(fault) = checked {
        return complain(format!("the check finds {fault:?}"));
    }
    let sip = match Sip::read(bytes) {
        Ok(sip) => sip,
        Err(why) => return complain(why),
    };
    for name in ["From", "To", "Call-ID", "CSeq", "Content-Length"] {
        let count = sip.all(name).count();
        if count != 1 {
            return complain(format!("{count} times {name}"));
        }
    }
    if sip.one("Content-Length").parse() != Ok(sip.body.len()) {
        return complain("a wrong Content-Length".to_owned());
    }
    if sip.all("Via").next().is_none() {
        return complain("no Via".to_owned());
    }
    Ok(())
}

/// R-G3: no transaction is decided by two versions of a policy.
pub(crate) fn versions_do_not_mix(world: &World) -> Result<(), String> {
    for router in &world.routers {
        let mut mixed = router.watch.mixed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(what) = mixed.take() {
            return Err(format!("{:?}: {what}", router.role));
        }
    }
    Ok(())
}

/// An acknowledged binding is found until it expires, and none is found that nobody asked for or
/// that was taken back.
pub(crate) fn bindings_are_as_acknowledged(world: &World) -> Result<(), String> {
    let Some(registrar) = world.routers.get(1) else { return Ok(()) };
    let Some(location) = registrar.location() else { return Ok(()) };
    let now_ms = registrar.now(world.now_us).unix_ms;
    for phone in &world.phones {
        let aor = format!("{}@{}", phone.user, crate::router::DOMAIN);
        let set = location.get("location", aor.as_bytes());
        let live = set.iter().flat_map(|set| set.live(now_ms)).map(|binding| binding.fields());
        let of_phone: Vec<u32> = live
            .filter(|fields| fields.call_id == phone.register_id.as_bytes())
            .map(|fields| fields.cseq)
            .collect();
        // What a registrar knows of removals dies with it: an old REGISTER that is still on its way
        // may then bring a binding back.
        let removed_us = phone.claim.sent.iter().rev().find(|(_, e, _)| *e == 0).map(|s| s.2);
        if removed_us
            .zip(phone.crashed_us)
            .is_some_and(|(at, crash)| crash < at + STILL_ON_ITS_WAY_US && crash > at)
        {
            continue;
        }
        let newest_sent = phone.claim.sent.last().map_or(0, |(cseq, ..)| *cseq);
        let acknowledged = phone.claim.acknowledged;
        for cseq in &of_phone {
            if *cseq > newest_sent {
                return Err(format!("{aor}: a binding by REGISTER {cseq}, which was never sent"));
            }
            let Some((known, expires_s, _)) = acknowledged else { continue };
            if *cseq < known {
                return Err(format!("{aor}: a binding of {cseq}, but {known} was acknowledged"));
            }
            if *cseq == known && expires_s == 0 {
                return Err(format!("{aor}: a ghost: {known} took the binding back"));
            }
        }
        let Some((known, expires_s, sent_us)) = acknowledged.filter(|(_, e, _)| *e > 0) else {
            continue;
        };
        // A newer one that took it back may have been done, though its answer is not here yet.
        let taken_back = phone.claim.sent.iter().any(|(cseq, e, _)| *cseq > known && *e == 0);
        let until_ms = START_MS + sent_us / 1000 + expires_s * 1000;
        let slack_ms = SLACK_MS + world.jumped_ms;
        let alive = START_MS + world.now_us / 1000 + slack_ms < until_ms;
        // RFC 5626 7: a binding does not outlive the stream it was made over. That of a stream to
        // the edge ends when the edge says so: 430 to a call (5.3).
        let ended = phone.stream && phone.lost_us.is_some_and(|lost_us| lost_us >= sent_us);
        if alive && !ended && !taken_back && of_phone.is_empty() {
            return Err(format!("{aor}: the binding of REGISTER {known} is lost"));
        }
    }
    Ok(())
}

/// Once the faults have ended, whoever wants to be registered is.
pub(crate) fn everybody_is_back(world: &mut World) -> Result<(), String> {
    bindings_are_as_acknowledged(world)?;
    for phone in world.phones.iter().filter(|phone| phone.wants) {
        let newest = phone.claim.sent.last().map_or(0, |(cseq, ..)| *cseq);
        let known = phone.claim.acknowledged.map_or(0, |(cseq, ..)| cseq);
        if known + 1 < newest {
            let user = &phone.user;
            return Err(format!(
                "{user} sent REGISTER {newest}, and {known} was acknowledged last"
            ));
        }
        world.tally.registered += 1;
    }
    Ok(())
}

/// Everybody who is registered can be called.
pub(crate) fn calls_went_well(world: &mut World) -> Result<(), String> {
    let Some(checker) = world.phones.last() else { return Ok(()) };
    for (call_id, leg) in &checker.legs {
        if (leg.status, leg.ended) != (Some(200), Some(200)) {
            let outcome = (leg.status, leg.ended);
            return Err(format!("{call_id} was answered and ended with {outcome:?}"));
        }
        world.tally.answered_calls += 1;
    }
    Ok(())
}

/// When nobody does anything any more, nothing is left (RFC 3261 17: every timer ends).
pub(crate) fn nothing_is_left(world: &World) -> Result<(), String> {
    for router in &world.routers {
        let (role, left) = (router.role, router.transactions());
        if left > 0 {
            return Err(format!("{role:?} has {left} transactions left"));
        }
        if let Some(deadline_us) = router.deadline_us() {
            return Err(format!("{role:?} has a timer at {deadline_us} left"));
        }
    }
    Ok(())
}
