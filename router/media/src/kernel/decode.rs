//! Attributes to reports and events.

use std::net::{IpAddr, SocketAddr};

use super::names::*;
use super::wire::{self, Message, Received};
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

/// The events of a datagram of the module's group; what is none, or is broken, is passed over.
#[must_use]
pub fn heard(datagram: &[u8]) -> Vec<Event> {
    let events = wire::messages(datagram).filter_map(|(_, message)| match message {
        Message::Data { command: CMD_EVENT, attrs, .. } => event(attrs),
        _ => None,
    });
    events.collect()
}

/// The event of a message.
fn event(message: Received<'_>) -> Option<Event> {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::wire::Attrs;
    use super::*;

    fn leg(port: u16) -> Attrs {
        let mut counters = Attrs::default();
        counters.put_u64(C_PACKETS, 7);
        let mut leg = Attrs::default();
        leg.put(L_LOCAL_ADDR, &[192, 0, 2, 1]).put_u16(L_LOCAL_PORT, port);
        leg.put_u8(L_LOCKED, 1).nest(L_COUNTERS, &counters);
        leg
    }

    fn session() -> Attrs {
        let mut session = Attrs::default();
        session.put_u64(S_ID, 42).nest(S_LEG_A, &leg(30_000)).nest(S_LEG_B, &leg(30_002));
        let mut message = Attrs::default();
        message.nest(A_SESSION, &session).put_u32(A_EVENT, 1);
        message
    }

    #[test]
    fn a_session_is_read_with_both_legs() {
        let message = session();
        let read = report(Received::of(message.bytes())).unwrap();
        assert_eq!(read.id, 42);
        let [a, b] = read.legs;
        assert_eq!((a.local.port(), b.local.port()), (30_000, 30_002));
        assert!(a.locked && a.peer.is_none());
        assert!(event(Received::of(message.bytes())).is_some_and(|event| event.session.is_some()));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn damaged_sessions_and_noise_are_read_without_panic(
            noise in proptest::collection::vec(any::<u8>(), 0..120),
            damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        ) {
            let mut bytes = session().bytes().to_vec();
            for (at, value) in damage {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            bytes.extend_from_slice(&noise);
            for octets in [bytes.as_slice(), &noise] {
                let _ = report(Received::of(octets));
                let _ = event(Received::of(octets));
            }
        }
    }
}
