//! Attributes to reports and events.

use std::net::{IpAddr, SocketAddr};

use super::names::*;
use super::wire::Received;
use crate::executor::ExecutorError;
use crate::session::{Carrier, Counter, Counters, Event, Events, LegReport, Report};

/// The session of a message.
pub(super) fn report(message: Received<'_>) -> Result<Report, ExecutorError> {
    let session =
        message.nested(A_SESSION).ok_or(ExecutorError::Answer("there is no session in it"))?;
    let leg = |kind| session.nested(kind).and_then(leg);
    let (Some(a), Some(b)) = (leg(S_LEG_A), leg(S_LEG_B)) else {
        return Err(ExecutorError::Answer("a session without its two legs"));
    };
    Ok(Report { id: session.u64(S_ID).unwrap_or(0), carrier: Carrier::Kernel, legs: [a, b] })
}

/// Whose session it is.
pub(super) fn owner(message: Received<'_>) -> Option<u64> {
    message.nested(A_SESSION)?.u64(S_OWNER)
}

/// The event of a message.
pub(super) fn event(message: Received<'_>) -> Option<Event> {
    Some(Event {
        events: Events::from_bits_truncate(message.u32(A_EVENT)?),
        session: report(message).ok(),
        owner: message.u64(A_OWNER),
    })
}

fn leg(leg: Received<'_>) -> Option<LegReport> {
    Some(LegReport {
        local: address(leg, L_LOCAL_ADDR, L_LOCAL_PORT)?,
        peer: address(leg, L_PEER_ADDR, L_PEER_PORT),
        learned: address(leg, L_LEARNED_ADDR, L_LEARNED_PORT),
        locked: leg.u8(L_LOCKED)? != 0,
        seen_ms: leg.u64(L_SEEN_MS),
        ssrc: leg.u32(L_SSRC),
        counters: leg.nested(L_COUNTERS).map(counters).unwrap_or_default(),
        quality: None,
    })
}

fn counters(nested: Received<'_>) -> Counters {
    let mut counters = Counters::default();
    for (kind, counter) in (C_PACKETS..).zip(Counter::ALL) {
        counters.add(counter, nested.u64(kind).unwrap_or(0));
    }
    counters
}

fn address(leg: Received<'_>, ip: u16, port: u16) -> Option<SocketAddr> {
    let octets = leg.get(ip)?;
    let ip = match <[u8; 4]>::try_from(octets) {
        Ok(v4) => IpAddr::from(v4),
        Err(_) => IpAddr::from(<[u8; 16]>::try_from(octets).ok()?),
    };
    Some(SocketAddr::new(ip, leg.u16(port)?))
}
