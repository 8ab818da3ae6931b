//! Packets from anywhere at a learning session: nothing goes to an address that was neither
//! signalled nor locked, and every packet is forwarded or counted.
#![no_main]

use libfuzzer_sys::fuzz_target;
use viaduct_media::relay::{Now, Packet, Relay, Verdict};
use viaduct_media::session::{Counter, Learn, Leg, LegFlags, Rank, Session};

fuzz_target!(|bytes: &[u8]| {
    let [flags, settle, rest @ ..] = bytes else { return };
    let legs = [30_000u16, 30_002].map(|port| {
        let mut leg =
            Leg::new(([198, 51, 100, 1], port).into(), Some(([192, 0, 2, 1], port).into()));
        leg.flags = LegFlags::from_bits_truncate(u32::from(*flags));
        leg.learn = Learn { window_ms: 500, settle_ms: u32::from(*settle), lowest: Rank::Any };
        leg
    });
    let mut relay = Relay::new();
    let mut now = Now { ns: 0 };
    let session = Session { id: 1, idle_s: 0, legs: legs.clone() };
    relay.add(now, &[session]).unwrap();
    let mut sent = 0;
    // Each packet: which leg, from where, after how long, how many octets; then those.
    let mut left = rest;
    while let [side, host, pause, len, behind @ ..] = left {
        let (data, behind) = behind.split_at(usize::from(*len).min(behind.len()));
        left = behind;
        now.ns += u64::from(*pause) * 1_000_000;
        let side = usize::from(side & 1);
        let source = ([192, 0, 2, host & 3], 30_000 + u16::from(host >> 2 & 3)).into();
        let packet = Packet { source, tclass: 0, ttl: 64, data };
        sent += 1;
        if let Verdict::Forward(forward) = relay.receive(now, legs[side].local, packet) {
            relay.sent(now, legs[side].local, (packet, forward), None);
            let out = &relay.report(forward.from, now).unwrap().legs[1 - side];
            let expected = if out.locked { out.learned.or(out.peer) } else { out.peer };
            assert_eq!(Some(forward.to), expected);
        }
    }
    let report = relay.report(legs[0].local, now).unwrap();
    let not_packets = [Counter::Octets, Counter::Rtp, Counter::Rtcp];
    let counted: u64 = Counter::ALL
        .into_iter()
        .filter(|counter| !not_packets.contains(counter))
        .map(|counter| report.legs.iter().map(|leg| leg.counters.get(counter)).sum::<u64>())
        .sum();
    assert_eq!(counted, sent);
});
