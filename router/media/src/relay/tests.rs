#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use proptest::prelude::*;

use super::*;
use crate::session::{Learn, LegFlags, Rank};

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn now(ms: u64) -> Now {
    Now { ns: ms * 1_000_000 }
}

fn rtp(source: &str, data: &'static [u8]) -> Packet<'static> {
    Packet { source: at(source), tclass: 0, ttl: 64, data }
}

const RTP: &[u8] = &[0x80, 0, 0, 1, 0, 0, 0, 0, 1, 2, 3, 4, 0xff];

fn session() -> Session {
    let leg = |local, peer| Leg::new(at(local), Some(at(peer)));
    let a = leg("198.51.100.1:30000", "192.0.2.1:4000");
    let b = leg("198.51.100.1:30002", "203.0.113.1:5000");
    Session { id: 7, idle_s: 10, legs: [a, b] }
}

#[test]
fn r_m2_a_packet_goes_to_the_other_legs_peer_from_the_other_legs_address() {
    let mut relay = Relay::new();
    relay.add(now(0), &[session()]).unwrap();
    let local = at("198.51.100.1:30000");
    let packet = rtp("192.0.2.1:4000", RTP);
    let Verdict::Forward(forward) = relay.receive(now(1), local, packet) else { panic!() };
    assert_eq!((forward.from, forward.to), (at("198.51.100.1:30002"), at("203.0.113.1:5000")));
    assert_eq!(forward.ttl, 63);
    relay.sent(now(1), local, (packet, forward), None);
    let report = relay.remove(local, now(5)).unwrap();
    assert_eq!(report.legs[0].counters.get(Counter::Octets), 13);
    assert_eq!((report.legs[0].seen_ms, report.legs[0].ssrc), (Some(4), Some(0x0102_0304)));
}

#[test]
fn r_m9_idleness_is_told_once_until_something_is_relayed() {
    let mut relay = Relay::new();
    relay.add(now(0), &[session()]).unwrap();
    let told = |relay: &mut Relay, ms| relay.events(now(ms)).len();
    assert_eq!((told(&mut relay, 9_999), told(&mut relay, 10_000)), (0, 1));
    assert_eq!(told(&mut relay, 50_000), 0);
    let (local, packet) = (at("198.51.100.1:30000"), rtp("192.0.2.1:4000", RTP));
    let Verdict::Forward(forward) = relay.receive(now(50_001), local, packet) else { panic!() };
    relay.sent(now(50_001), local, (packet, forward), None);
    assert_eq!(relay.events(now(50_002))[0].events, Events::FIRST);
    assert_eq!(relay.events(now(60_001))[0].events, Events::IDLE);
}

#[test]
fn r_m6_a_prefix_that_sprays_is_limited_and_others_are_not() {
    let mut relay = Relay::new();
    let mut session = session();
    session.legs[0].learn = Learn { window_ms: 60_000, settle_ms: 60_000, lowest: Rank::Any };
    relay.add(now(0), &[session]).unwrap();
    let local = at("198.51.100.1:30000");
    for port in 1..=5_000 {
        let source = SocketAddr::from(([203, 0, 113, 9], port));
        relay.receive(now(1), local, Packet { source, ..rtp("192.0.2.1:4000", RTP) });
    }
    let counters = relay.report(local, now(1)).unwrap().legs[0].counters;
    assert_eq!(counters.get(Counter::Candidate), 4_000);
    assert_eq!(counters.get(Counter::Prefix), 1_000);
    let peer = relay.receive(now(1), local, rtp("192.0.2.1:4000", RTP));
    assert!(matches!(peer, Verdict::Forward(_)));
}

proptest! {
    /// Whoever sends what: nothing goes to an address that was not signalled and is not locked.
    #[test]
    fn r_m5_no_packet_reflects_to_an_address_that_is_not_locked(
        packets in proptest::collection::vec(
            (0usize..2, 0u8..3, 4_000u16..4_002, 0u64..500, any::<bool>()), 1..80),
        settle_ms in 0u32..2_000,
        flags in 0u32..16,
    ) {
        let mut session = session();
        for leg in &mut session.legs {
            leg.learn = Learn { window_ms: 2_000, settle_ms, lowest: Rank::Any };
            leg.flags = LegFlags::from_bits_truncate(flags);
        }
        let mut relay = Relay::new();
        relay.add(now(0), &[session.clone()]).unwrap();
        let mut clock = 0;
        for (side, host, port, pause, good) in packets {
            clock += pause;
            let source = SocketAddr::from(([192, 0, 2, host], port));
            let packet = Packet { source, tclass: 0, ttl: 64, data: if good { RTP } else { &RTP[..9] } };
            let local = session.legs[side].local;
            let Verdict::Forward(forward) = relay.receive(now(clock), local, packet) else { continue };
            relay.sent(now(clock), local, (packet, forward), None);
            let out = &relay.report(local, now(clock)).unwrap().legs[1 - side];
            prop_assert!(good);
            prop_assert_eq!(forward.from, out.local);
            let expected = if out.locked { out.learned.or(out.peer) } else { out.peer };
            prop_assert_eq!(Some(forward.to), expected);
        }
    }
}
