//! Whom a leg believes (R-M5; CVE-2025-53399 is what happens otherwise).

use anyhow::Result;
use viaduct_media::session::{Counter, Events, LegFlags, Rank};

use crate::packets::{rtcp, rtp, rtp_of};
use crate::phone::Phone;
use crate::stage;
use crate::stage::{Call, learn, passes, passes_after};

/// Longer than any test: only what ends a window early can end this one.
const LONG_MS: u32 = 60_000;

#[test]
fn r_m5_without_learning_only_the_signalled_peer_is_heard() -> Result<()> {
    let mut stage = stage!(new);
    let call = Call::up(&mut stage)?;
    let other_port = Phone::new(&stage.net.a, "10.0.1.1:4002")?;
    let other_host = Phone::new(&stage.net.a, "10.0.1.2:4000")?;
    other_port.send(call.for_alice, &rtp(1))?;
    other_host.send(call.for_alice, &rtp(2))?;
    stage.counted(call.for_alice, Counter::Foreign, 2)?;
    call.alice_reaches_bob()?;
    call.bob_reaches_alice()?;
    assert!(other_port.drain().is_empty() && other_host.drain().is_empty());
    Ok(())
}

#[test]
fn r_m5_an_exact_match_locks_at_once() -> Result<()> {
    let mut stage = stage!(new);
    let call = Call::with(&mut stage, |leg| leg.learn = learn(LONG_MS, LONG_MS))?;
    assert!(!stage.report(call.for_alice).legs[0].locked);
    call.alice_reaches_bob()?;
    let report = stage.report(call.for_alice);
    assert!(report.legs[0].locked && report.legs[0].learned.is_none());
    let nat = Phone::new(&stage.net.a, "10.0.1.1:4002")?;
    nat.send(call.for_alice, &rtp(1))?;
    stage.counted(call.for_alice, Counter::Foreign, 1)
}

#[test]
fn r_m5_the_same_host_on_another_port_is_heard_at_once_and_learned() -> Result<()> {
    let mut stage = stage!(new);
    let call = Call::with(&mut stage, |leg| leg.learn = learn(LONG_MS, 150))?;
    let nat = Phone::new(&stage.net.a, "10.0.1.1:61000")?;
    nat.send(call.for_alice, &rtp(1))?;
    assert_eq!(call.bob.receive()?.data, rtp(1));
    // Until it is locked, the other direction goes to the signalled address.
    while stage.report(call.for_alice).legs[0].learned.is_none() {
        nat.send(call.for_alice, &rtp(2))?;
    }
    assert_eq!(stage.report(call.for_alice).legs[0].learned, Some(nat.address));
    passes(&call.bob, call.for_bob, &nat, call.for_alice)
}

#[test]
fn r_m5_another_host_is_neither_heard_nor_sent_to_before_the_lock() -> Result<()> {
    let mut stage = stage!(new);
    let call = Call::with(&mut stage, |leg| leg.learn = learn(LONG_MS, LONG_MS))?;
    let sprayer = Phone::new(&stage.net.a, "10.0.1.2:4000")?;
    for number in 0..100 {
        sprayer.send(call.for_alice, &rtp(number))?;
        call.bob_reaches_alice()?;
    }
    stage.counted(call.for_alice, Counter::Candidate, 100)?;
    assert!(sprayer.drain().is_empty(), "reflected");
    call.alice_reaches_bob()
}

#[test]
fn r_m5_another_host_is_learned_when_nobody_better_came() -> Result<()> {
    let mut stage = stage!(new);
    let call = Call::with(&mut stage, |leg| leg.learn = learn(LONG_MS, 100))?;
    let nat = Phone::new(&stage.net.a, "10.0.1.2:7777")?;
    while !stage.report(call.for_alice).legs[0].locked {
        nat.stream(call.for_alice, &rtp(1))?;
    }
    assert_eq!(stage.report(call.for_alice).legs[0].learned, Some(nat.address));
    passes_after(&rtp(1), (&nat, call.for_alice), (&call.bob, call.for_bob))?;
    passes(&call.bob, call.for_bob, &nat, call.for_alice)?;
    // Locked is locked, to the signalled address too.
    call.alice.send(call.for_alice, &rtp(1))?;
    stage.counted(call.for_alice, Counter::Foreign, 1)?;
    let event = stage.event(|event| event.events.contains(Events::LEARNED))?;
    assert_eq!(event.session.unwrap().legs[0].learned, Some(nat.address));
    Ok(())
}

#[test]
fn r_m5_the_other_direction_locks_a_leg_whose_time_has_come() -> Result<()> {
    let mut stage = stage!(new);
    let call = Call::with(&mut stage, |leg| leg.learn = learn(LONG_MS, 50))?;
    let nat = Phone::new(&stage.net.a, "10.0.1.2:7777")?;
    nat.send(call.for_alice, &rtp(1))?;
    stage.counted(call.for_alice, Counter::Candidate, 1)?;
    while !stage.report(call.for_alice).legs[0].locked {
        call.bob.stream(call.for_bob, &rtp(2))?;
    }
    passes_after(&rtp(2), (&call.bob, call.for_bob), (&nat, call.for_alice))
}

#[test]
fn r_m5_after_the_window_nobody_is_learned() -> Result<()> {
    let mut stage = stage!(new);
    let call = Call::with(&mut stage, |leg| leg.learn = learn(1, 1))?;
    // Bob's packets go to the signalled address, and lock it once the window is over.
    while !stage.report(call.for_alice).legs[0].locked {
        call.bob_reaches_alice()?;
    }
    let late = Phone::new(&stage.net.a, "10.0.1.2:4000")?;
    late.send(call.for_alice, &rtp(1))?;
    stage.counted(call.for_alice, Counter::Foreign, 1)?;
    call.alice_reaches_bob()
}

#[test]
fn r_m5_a_sprayer_gets_nothing_and_injects_nothing_after_the_lock() -> Result<()> {
    let mut stage = stage!(new);
    let call = Call::with(&mut stage, |leg| leg.learn = learn(LONG_MS, LONG_MS))?;
    let sprayers: Vec<_> = (2..=4)
        .flat_map(|host| (0..4).map(move |port| format!("10.0.1.{host}:{}", 4000 + port)))
        .map(|address| Phone::new(&stage.net.a, &address))
        .collect::<Result<_>>()?;
    let spray = |round: u16| -> Result<()> {
        for sprayer in &sprayers {
            for number in 0..20 {
                sprayer.send(call.for_alice, &rtp_of(0, 666, round + number))?;
            }
        }
        Ok(())
    };
    spray(0)?;
    stage.counted(call.for_alice, Counter::Candidate, 240)?;
    call.alice_reaches_bob()?;
    for round in 1..5 {
        spray(round)?;
        call.alice_reaches_bob()?;
        call.bob_reaches_alice()?;
    }
    stage.counted(call.for_alice, Counter::Foreign, 960)?;
    let injected = call.bob.drain();
    assert!(injected.is_empty(), "{} injected", injected.len());
    assert!(sprayers.iter().all(|sprayer| sprayer.drain().is_empty()), "reflected");
    stage.event(|event| event.events.contains(Events::FOREIGN))?;
    Ok(())
}

#[test]
fn r_m5_ranks_below_the_lowest_allowed_are_not_learned() -> Result<()> {
    let mut stage = stage!(new);
    let call = Call::with(&mut stage, |leg| {
        leg.learn = learn(LONG_MS, 0);
        leg.learn.lowest = Rank::Address;
    })?;
    let stranger = Phone::new(&stage.net.a, "10.0.1.2:4000")?;
    stranger.send(call.for_alice, &rtp(1))?;
    stage.counted(call.for_alice, Counter::Foreign, 1)?;
    let nat = Phone::new(&stage.net.a, "10.0.1.1:4002")?;
    nat.send(call.for_alice, &rtp(1))?;
    assert_eq!(call.bob.receive()?.data, rtp(1));
    assert_eq!(stage.report(call.for_alice).legs[0].learned, Some(nat.address));
    Ok(())
}

#[test]
fn r_m5_private_addresses_are_not_learned_where_that_is_forbidden() -> Result<()> {
    let mut stage = stage!(new);
    let call = Call::with(&mut stage, |leg| {
        leg.learn = learn(LONG_MS, 0);
        leg.flags |= LegFlags::NO_PRIVATE;
    })?;
    let nat = Phone::new(&stage.net.a, "10.0.1.1:4002")?;
    nat.send(call.for_alice, &rtp(1))?;
    stage.counted(call.for_alice, Counter::Foreign, 1)?;
    // Being signalled is another matter.
    call.alice_reaches_bob()
}

#[test]
fn r_m5_stray_rtcp_is_nothing_to_learn_from() -> Result<()> {
    let mut stage = stage!(new);
    let call = Call::with(&mut stage, |leg| leg.learn = learn(LONG_MS, 0))?;
    let stray = Phone::new(&stage.net.a, "10.0.1.1:4001")?;
    stray.send(call.for_alice, &rtcp())?;
    stage.counted(call.for_alice, Counter::Candidate, 1)?;
    assert!(!stage.report(call.for_alice).legs[0].locked);
    call.alice_reaches_bob()
}

#[test]
fn r_m5_malformed_packets_are_nothing_to_learn_from() -> Result<()> {
    let mut stage = stage!(new);
    let call = Call::with(&mut stage, |leg| leg.learn = learn(LONG_MS, 0))?;
    let stranger = Phone::new(&stage.net.a, "10.0.1.1:4001")?;
    stranger.send(call.for_alice, &rtp(1)[..11])?;
    stage.counted(call.for_alice, Counter::Malformed, 1)?;
    assert!(!stage.report(call.for_alice).legs[0].locked);
    Ok(())
}

#[test]
fn r_m5_a_leg_of_ours_is_never_learned() -> Result<()> {
    let mut stage = stage!(new);
    let call = Call::new(&stage)?;
    let mut legs = call.legs();
    legs[0].learn = learn(LONG_MS, 0);
    // A second session whose packets come from its leg to the first one's leg.
    let own: std::net::SocketAddr = "10.0.1.254:31000".parse()?;
    let helper = Phone::new(&stage.net.b, "10.0.2.2:6000")?;
    let mut feeding = [
        viaduct_media::session::Leg::new(own, Some(call.for_alice)),
        viaduct_media::session::Leg::new("10.0.2.254:31002".parse()?, Some(helper.address)),
    ];
    feeding[1].payload_types = u128::MAX;
    stage.add(legs)?;
    stage.add(feeding)?;
    helper.send("10.0.2.254:31002".parse()?, &rtp(1))?;
    stage.counted(call.for_alice, Counter::Foreign, 1)?;
    assert!(!stage.report(call.for_alice).legs[0].locked);
    Ok(())
}

#[test]
fn r_m5_signalling_opens_the_leg_anew() -> Result<()> {
    let mut stage = stage!(new);
    let call = Call::up(&mut stage)?;
    call.alice_reaches_bob()?;
    let moved = Phone::new(&stage.net.a, "10.0.1.3:4300")?;
    moved.send(call.for_alice, &rtp(1))?;
    stage.counted(call.for_alice, Counter::Foreign, 1)?;
    let leg = viaduct_media::session::Leg::new(call.for_alice, Some(moved.address));
    stage.relay.set(&[leg])?;
    passes(&moved, call.for_alice, &call.bob, call.for_bob)?;
    passes(&call.bob, call.for_bob, &moved, call.for_alice)?;
    call.alice.send(call.for_alice, &rtp(1))?;
    stage.counted(call.for_alice, Counter::Foreign, 2)?;
    stage.counted(call.for_alice, Counter::Packets, 2)
}

#[test]
fn r_m5_a_handover_wants_the_same_stream_and_happens_once() -> Result<()> {
    let mut stage = stage!(new);
    let call = Call::with(&mut stage, |leg| leg.flags |= LegFlags::HANDOVER)?;
    call.alice.send(call.for_alice, &rtp_of(0, 7, 100))?;
    call.bob.receive()?;
    let moved = Phone::new(&stage.net.a, "10.0.1.3:4300")?;
    moved.send(call.for_alice, &rtp_of(0, 8, 101))?; // another SSRC
    moved.send(call.for_alice, &rtp_of(0, 7, 100))?; // a copy
    moved.send(call.for_alice, &rtp_of(0, 7, 500))?; // a leap
    stage.counted(call.for_alice, Counter::Foreign, 3)?;
    moved.send(call.for_alice, &rtp_of(0, 7, 101))?;
    assert_eq!(call.bob.receive()?.data, rtp_of(0, 7, 101));
    passes(&call.bob, call.for_bob, &moved, call.for_alice)?;
    call.alice.send(call.for_alice, &rtp_of(0, 7, 102))?;
    stage.counted(call.for_alice, Counter::Foreign, 4)?;
    stage.event(|event| event.events.contains(Events::MOVED))?;
    Ok(())
}

#[test]
fn r_m5_an_unknown_peer_is_learned_and_then_sent_to() -> Result<()> {
    let mut stage = stage!(new);
    let call = Call::with(&mut stage, |leg| {
        leg.peer = None;
        leg.learn = learn(LONG_MS, 50);
    })?;
    call.bob.send(call.for_bob, &rtp(1))?;
    stage.counted(call.for_bob, Counter::NoPeer, 1)?;
    while !stage.report(call.for_alice).legs[0].locked {
        call.alice.stream(call.for_alice, &rtp(2))?;
    }
    passes(&call.bob, call.for_bob, &call.alice, call.for_alice)
}
