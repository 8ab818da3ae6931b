//! What arrives at one leg leaves from the other (R-M1, R-M2, R-M7).

use anyhow::Result;
use viaduct_media::session::{Classes, Counter, Leg};

use crate::packets::{rtcp, rtp};
use crate::phone::Phone;
use crate::stage;
use crate::stage::{Call, passes};

#[test]
fn r_m2_packets_are_relayed_both_ways_and_counted_exactly() -> Result<()> {
    let mut stage = stage!(new);
    let call = Call::up(&mut stage)?;
    let mut octets = 0;
    for number in 0..300 {
        let packet = rtp(number);
        octets += packet.len() as u64;
        call.alice.send(call.for_alice, &packet)?;
        assert_eq!(call.bob.receive()?.data, packet);
        if number % 3 == 0 {
            call.bob_reaches_alice()?;
        }
    }
    stage.counted(call.for_alice, Counter::Packets, 300)?;
    stage.counted(call.for_alice, Counter::Octets, octets)?;
    stage.counted(call.for_alice, Counter::Rtp, 300)?;
    stage.counted(call.for_bob, Counter::Packets, 100)?;
    assert_eq!(stage.report(call.for_alice).legs[0].ssrc, Some(0x0102_0304));
    Ok(())
}

#[test]
fn r_m2_rtcp_passes_on_the_port_of_rtp() -> Result<()> {
    let mut stage = stage!(new);
    let call = Call::up(&mut stage)?;
    call.alice.send(call.for_alice, &rtcp())?;
    assert_eq!(call.bob.receive()?.data, rtcp());
    stage.counted(call.for_alice, Counter::Rtcp, 1)
}

#[test]
fn r_m2_rtcp_has_a_session_of_its_own_on_its_own_port() -> Result<()> {
    let mut stage = stage!(new);
    let call = Call::up(&mut stage)?;
    let control = Call {
        alice: Phone::new(&stage.net.a, "10.0.1.1:4001")?,
        bob: Phone::new(&stage.net.b, "10.0.2.1:5001")?,
        for_alice: "10.0.1.254:30001".parse()?,
        for_bob: "10.0.2.254:30003".parse()?,
    };
    let mut legs = control.legs();
    legs.iter_mut().for_each(|leg| leg.forward = Classes::RTCP);
    stage.add(legs)?;
    control.alice.send(control.for_alice, &rtp(1))?;
    control.alice.send(control.for_alice, &rtcp())?;
    assert_eq!(control.bob.receive()?.data, rtcp());
    stage.counted(control.for_alice, Counter::Class, 1)?;
    call.alice_reaches_bob()
}

#[test]
fn r_m2_sessions_do_not_mix() -> Result<()> {
    let mut stage = stage!(new);
    let first = Call::up(&mut stage)?;
    let second = Call {
        alice: Phone::new(&stage.net.a, "10.0.1.2:4000")?,
        bob: Phone::new(&stage.net.b, "10.0.2.2:5000")?,
        for_alice: "10.0.1.254:30010".parse()?,
        for_bob: "10.0.2.254:30012".parse()?,
    };
    stage.add(second.legs())?;
    for _ in 0..20 {
        first.alice_reaches_bob()?;
        second.alice_reaches_bob()?;
        second.bob_reaches_alice()?;
        first.bob_reaches_alice()?;
    }
    // Each is strange to the other's session.
    second.alice.send(first.for_alice, &rtp(9))?;
    stage.counted(first.for_alice, Counter::Foreign, 1)?;
    first.alice_reaches_bob()
}

#[test]
fn r_m2_ipv6_is_relayed() -> Result<()> {
    let mut stage = stage!(new);
    let call = Call {
        alice: Phone::new(&stage.net.a, "[fd00:1::1]:4000")?,
        bob: Phone::new(&stage.net.b, "[fd00:2::1]:5000")?,
        for_alice: "[fd00:1::fe]:30000".parse()?,
        for_bob: "[fd00:2::fe]:30002".parse()?,
    };
    stage.add(call.legs())?;
    call.alice_reaches_bob()?;
    call.bob_reaches_alice()
}

#[test]
fn r_m2_the_legs_may_be_of_two_families() -> Result<()> {
    let mut stage = stage!(new);
    let call = Call {
        alice: Phone::new(&stage.net.a, "10.0.1.1:4000")?,
        bob: Phone::new(&stage.net.b, "[fd00:2::1]:5000")?,
        for_alice: "10.0.1.254:30000".parse()?,
        for_bob: "[fd00:2::fe]:30002".parse()?,
    };
    stage.add(call.legs())?;
    for _ in 0..10 {
        call.alice_reaches_bob()?;
        call.bob_reaches_alice()?;
    }
    Ok(())
}

#[test]
fn r_m1_payloads_of_all_sizes_arrive_unchanged() -> Result<()> {
    let mut stage = stage!(new);
    let call = Call::up(&mut stage)?;
    for size in [12usize, 13, 14, 15, 63, 64, 172, 255, 256, 1199, 1399] {
        let mut packet = rtp(size as u16);
        packet.resize(size, 0xa5);
        call.alice.send(call.for_alice, &packet)?;
        assert_eq!(call.bob.receive()?.data, packet, "{size} octets");
    }
    Ok(())
}

#[test]
fn r_m7_dscp_is_copied_where_nothing_is_said() -> Result<()> {
    let mut stage = stage!(new);
    let call = Call::up(&mut stage)?;
    call.alice.send_marked(call.for_alice, &rtp(1), (0x88, 64))?;
    assert_eq!(call.bob.receive()?.tclass, 0x88);
    Ok(())
}

#[test]
fn r_m7_dscp_is_set_by_the_leg_it_leaves_from_and_ecn_is_kept() -> Result<()> {
    let mut stage = stage!(new);
    let call = Call::new(&stage)?;
    let mut legs = call.legs();
    legs[1].dscp = Some(46);
    stage.add(legs)?;
    for ecn in 0..4 {
        call.alice.send_marked(call.for_alice, &rtp(1), (0x20 | ecn, 64))?;
        assert_eq!(call.bob.receive()?.tclass, (46 << 2) | ecn);
    }
    call.bob.send_marked(call.for_bob, &rtp(1), (0x20, 64))?;
    assert_eq!(call.alice.receive()?.tclass, 0x20);
    Ok(())
}

#[test]
fn r_m7_dscp_and_ecn_hold_over_ipv6() -> Result<()> {
    let mut stage = stage!(new);
    let call = Call {
        alice: Phone::new(&stage.net.a, "[fd00:1::1]:4000")?,
        bob: Phone::new(&stage.net.b, "[fd00:2::1]:5000")?,
        for_alice: "[fd00:1::fe]:30000".parse()?,
        for_bob: "[fd00:2::fe]:30002".parse()?,
    };
    let mut legs = call.legs();
    legs[1].dscp = Some(34);
    stage.add(legs)?;
    call.alice.send_marked(call.for_alice, &rtp(1), (0xb9, 64))?;
    assert_eq!(call.bob.receive()?.tclass, (34 << 2) | 1);
    Ok(())
}

#[test]
fn r_m1_a_loop_of_two_sessions_ends_with_the_hops() -> Result<()> {
    let mut stage = stage!(module);
    // What leaves the first session enters the second, and what leaves that enters the first.
    let at = |port: u16| std::net::SocketAddr::from(([10, 0, 1, 254], port));
    let leg = |local, peer| Leg::new(at(local), Some(at(peer)));
    stage.add([leg(31_000, 32_001), leg(31_001, 32_000)])?;
    stage.add([leg(32_000, 31_001), leg(32_001, 31_000)])?;
    let kick = Phone::new(&stage.net.r, "10.0.1.254:32001")?;
    kick.send_marked(at(31_000), &rtp(1), (0, 64))?;
    // 63 times on, by turns at the first leg of either session; then there is no hop left.
    stage.counted(at(32_000), Counter::Hops, 1)?;
    stage.counted(at(31_000), Counter::Packets, 32)?;
    stage.counted(at(32_000), Counter::Packets, 31)
}

#[test]
fn r_m1_a_packet_at_the_end_of_its_hops_goes_no_further() -> Result<()> {
    let mut stage = stage!(new);
    let call = Call::up(&mut stage)?;
    call.alice.send_marked(call.for_alice, &rtp(1), (0, 1))?;
    stage.counted(call.for_alice, Counter::Hops, 1)?;
    call.alice.send_marked(call.for_alice, &rtp(2), (0, 10))?;
    let arrived = call.bob.receive()?;
    assert_eq!((arrived.data, arrived.ttl), (rtp(2), 9));
    Ok(())
}

#[test]
fn a_peer_that_cannot_be_reached_costs_its_own_packets_only() -> Result<()> {
    let mut stage = stage!(new);
    let call = Call::new(&stage)?;
    let mut legs = call.legs();
    legs[1].peer = Some("198.51.100.1:5000".parse()?);
    stage.add(legs)?;
    call.alice.send(call.for_alice, &rtp(1))?;
    stage.counted(call.for_alice, Counter::NoRoute, 1)?;
    stage.relay.set(&[Leg::new(call.for_bob, Some(call.bob.address))])?;
    call.alice_reaches_bob()
}

#[test]
fn a_broadcast_address_is_no_peer() -> Result<()> {
    let mut stage = stage!(new);
    let call = Call::new(&stage)?;
    let mut legs = call.legs();
    legs[1].peer = Some("10.0.2.255:5000".parse()?);
    stage.add(legs)?;
    call.alice.send(call.for_alice, &rtp(1))?;
    stage.counted(call.for_alice, Counter::NoRoute, 1)
}

#[test]
fn a_peer_not_known_yet_gets_nothing() -> Result<()> {
    let mut stage = stage!(new);
    let call = Call::new(&stage)?;
    let mut legs = call.legs();
    legs[1].peer = None;
    stage.add(legs)?;
    call.alice.send(call.for_alice, &rtp(1))?;
    stage.counted(call.for_alice, Counter::NoPeer, 1)?;
    stage.relay.set(&[Leg::new(call.for_bob, Some(call.bob.address))])?;
    passes(&call.alice, call.for_alice, &call.bob, call.for_bob)
}
