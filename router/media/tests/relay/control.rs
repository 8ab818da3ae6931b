//! Orders, refusals, events, owners (R-M8, R-M9).

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::Result;
use viaduct_media::kernel::{KernelRelay, Owner};
use viaduct_media::session::{Budget, Classes, Counter, Events, Leg, Session};
use viaduct_media::{Executor, ExecutorError};

use crate::packets::{rtp, stun};
use crate::phone::Phone;
use crate::stage;
use crate::stage::{Call, OWNER};

fn pair(port: u16) -> [Leg; 2] {
    let at = |network: u8, port| SocketAddr::from(([10, 0, network, 254], port));
    let peer = |network: u8| Some(SocketAddr::from(([10, 0, network, 1], 4000)));
    [Leg::new(at(1, port), peer(1)), Leg::new(at(2, port), peer(2))]
}

pub(crate) fn sessions(ports: std::ops::Range<u16>) -> Vec<Session> {
    ports.map(|port| Session { id: u64::from(port), idle_s: 0, legs: pair(port) }).collect()
}

#[test]
fn r_m9_a_removed_session_leaves_its_final_counters() -> Result<()> {
    let mut stage = stage!(new);
    let call = Call::up(&mut stage)?;
    call.alice_reaches_bob()?;
    call.bob_reaches_alice()?;
    call.bob_reaches_alice()?;
    // By either leg; the order of the legs is that of the order.
    let last = stage.relay.remove(call.for_bob)?;
    assert_eq!(last.legs[0].local, call.for_alice);
    assert_eq!(last.legs[0].counters.get(Counter::Packets), 1);
    assert_eq!(last.legs[1].counters.get(Counter::Packets), 2);
    assert!(matches!(stage.relay.report(call.for_alice), Err(ExecutorError::Refused { .. })));
    assert!(stage.relay.remove(call.for_alice).is_err());
    Ok(())
}

#[test]
fn r_m2_a_local_address_belongs_to_one_session() -> Result<()> {
    let mut stage = stage!(new);
    let call = Call::up(&mut stage)?;
    let mut legs = pair(30_500);
    legs[1].local = call.for_alice;
    let error = stage.add(legs).unwrap_err();
    assert!(error.to_string().contains("in use"), "{error}");
    let mut same = pair(30_500);
    same[1].local = same[0].local;
    assert!(stage.add(same).is_err());
    // Nothing of the refused ones is left.
    stage.add(pair(30_500))?;
    call.alice_reaches_bob()
}

#[test]
fn r_m9_of_many_sessions_all_are_added_or_none() -> Result<()> {
    let mut stage = stage!(new);
    let many = sessions(31_000..31_600);
    stage.relay.add(&many)?;
    assert_eq!(stage.relay.reports()?.len(), 600);
    let mut overlapping = sessions(30_000..30_700);
    overlapping.extend(sessions(31_599..31_600));
    assert!(stage.relay.add(&overlapping).is_err());
    assert_eq!(stage.relay.reports()?.len(), 600);
    for session in &many {
        assert_eq!(stage.relay.remove(session.legs[0].local)?.id, session.id);
    }
    assert!(stage.relay.reports()?.is_empty());
    Ok(())
}

/// Packets find the one leg before the other is refused.
#[test]
fn r_m9_an_addition_refused_under_traffic_leaves_nothing() -> Result<()> {
    let mut stage = stage!(new);
    let call = Call::up(&mut stage)?;
    let first = Leg::new("10.0.1.254:30020".parse()?, Some(call.alice.address));
    let taken = Leg::new(call.for_bob, Some("10.0.2.1:5009".parse()?));
    let refused = Session { id: 9, idle_s: 0, legs: [first.clone(), taken] };
    let (over, alice) = (AtomicBool::new(false), &call.alice);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                alice.send(first.local, &rtp(1)).ok();
            }
        });
        let all_refused =
            (0..1_000).all(|_| stage.relay.add(std::slice::from_ref(&refused)).is_err());
        over.store(true, Ordering::Relaxed);
        assert!(all_refused);
    });
    assert_eq!(stage.relay.reports()?.len(), 1);
    call.alice_reaches_bob()?;
    call.bob_reaches_alice()
}

#[test]
fn r_m9_a_dump_shows_each_session_once() -> Result<()> {
    let mut stage = stage!(new);
    stage.relay.add(&sessions(31_000..31_300))?;
    let mut ids: Vec<_> = stage.relay.reports()?.iter().map(|report| report.id).collect();
    ids.sort_unstable();
    assert_eq!(ids, (31_000..31_300).collect::<Vec<u64>>());
    Ok(())
}

#[test]
fn r_m9_wrong_orders_are_refused_with_the_reason() -> Result<()> {
    let mut stage = stage!(new);
    type Spoil = fn(&mut [Leg; 2]);
    let wrong: [(&str, Spoil); 9] = [
        ("local port 0", |legs| legs[0].local.set_port(0)),
        ("multicast", |legs| legs[0].local = "224.1.1.1:4000".parse().unwrap()),
        ("unspecified", |legs| legs[1].peer = Some("0.0.0.0:4000".parse().unwrap())),
        ("two families", |legs| legs[0].peer = Some("[2001:db8::1]:4000".parse().unwrap())),
        ("loopback", |legs| legs[0].peer = Some("127.0.0.1:4000".parse().unwrap())),
        ("window", |legs| legs[0].learn.window_ms = 60_001),
        ("dscp", |legs| legs[0].dscp = Some(64)),
        ("both", |legs| legs[0].up = Classes::RTP),
        ("burst", |legs| legs[0].packets = Budget { per_s: 1, burst: 0 }),
    ];
    for (what, spoil) in wrong {
        let mut legs = pair(30_000);
        spoil(&mut legs);
        match stage.add(legs) {
            Err(ExecutorError::Refused { reason, .. }) => {
                println!("{what}: {reason}");
                assert!(!reason.contains("no reason"), "{what}");
            }
            other => panic!("{what}: {other:?}"),
        }
    }
    assert!(stage.relay.reports()?.is_empty());
    Ok(())
}

#[test]
fn r_m9_a_change_refused_changes_nothing() -> Result<()> {
    let mut stage = stage!(new);
    let call = Call::up(&mut stage)?;
    let [a, mut b] = call.legs();
    b.dscp = Some(200);
    let mut other = a.clone();
    other.peer = Some("10.0.1.4:9".parse()?);
    assert!(stage.relay.set(&[other.clone(), b]).is_err());
    let strange = Leg::new("10.0.2.254:39999".parse()?, None);
    assert!(stage.relay.set(&[other, strange.clone()]).is_err(), "legs of two sessions");
    assert!(stage.relay.set(&[strange]).is_err(), "no such leg");
    call.alice_reaches_bob()?;
    call.bob_reaches_alice()
}

#[test]
fn r_m9_the_first_packet_and_idleness_are_told() -> Result<()> {
    let mut stage = stage!(new);
    let call = Call::new(&stage)?;
    stage.relay.add(&[Session { id: 9, idle_s: 1, legs: call.legs() }])?;
    call.alice_reaches_bob()?;
    let first = stage.event(|event| event.events.contains(Events::FIRST))?;
    assert_eq!(first.session.unwrap().id, 9);
    let idle = stage.event(|event| event.events.contains(Events::IDLE))?;
    assert_eq!(idle.session.unwrap().id, 9);
    call.bob_reaches_alice()
}

#[test]
fn r_m9_an_exceeded_budget_is_told() -> Result<()> {
    let mut stage = stage!(new);
    let call = Call::with(&mut stage, |leg| leg.packets = Budget { per_s: 1, burst: 1 })?;
    for number in 0..50 {
        call.alice.send(call.for_alice, &rtp(number))?;
    }
    stage.event(|event| event.events.contains(Events::LIMITED))?;
    Ok(())
}

#[test]
fn r_m8_what_the_module_does_not_take_reaches_user_space() -> Result<()> {
    let mut stage = stage!(module);
    let call = Call::with(&mut stage, |leg| leg.up = Classes::STUN)?;
    let socket = Phone::new(&stage.net.r, "10.0.1.254:30000")?;
    call.alice.send(call.for_alice, &stun())?;
    assert_eq!(socket.receive()?.data, stun());
    stage.counted(call.for_alice, Counter::Up, 1)?;
    call.alice_reaches_bob()?;
    // An entry may vanish at any time: the packets are user space's again.
    stage.relay.remove(call.for_alice)?;
    call.alice.send(call.for_alice, &rtp(5))?;
    assert_eq!(socket.receive()?.data, rtp(5));
    Ok(())
}

#[test]
fn r_m4_what_goes_to_user_space_is_limited_by_prefix() -> Result<()> {
    let mut stage = stage!(module);
    let call = Call::with(&mut stage, |leg| leg.up = Classes::STUN)?;
    for _ in 0..4_600 {
        call.alice.send(call.for_alice, &stun())?;
    }
    let mut both = 0;
    while both < 4_600 {
        both = stage.count(call.for_alice, Counter::Up)
            + stage.count(call.for_alice, Counter::UpLimited);
    }
    assert!(stage.count(call.for_alice, Counter::Up) >= 4_000);
    call.alice_reaches_bob()
}

#[test]
fn r_m8_sessions_survive_their_owner_and_another_process_goes_on_with_them() -> Result<()> {
    let mut stage = stage!(module);
    let call = Call::up(&mut stage)?;
    call.alice_reaches_bob()?;
    // The socket of the owner is closed, as when its process is killed.
    let other = Owner { id: 78, grace_s: 30 };
    stage.relay = stage.net.r.enter(move || Ok(Box::new(KernelRelay::attach(other)?) as _))?;
    call.alice_reaches_bob()?;
    call.bob_reaches_alice()?;
    let stolen = stage.relay.remove(call.for_alice).unwrap_err();
    assert!(stolen.to_string().contains("not permitted"), "{stolen}");
    let again = stage.net.r.enter(move || Ok(KernelRelay::attach(OWNER)?))?;
    assert_eq!(again.sessions_found(), 1);
    stage.relay = Box::new(again);
    call.alice_reaches_bob()?;
    let last = stage.relay.remove(call.for_alice)?;
    assert_eq!(last.legs[0].counters.get(Counter::Packets), 3);
    Ok(())
}

#[test]
fn r_m8_an_owner_that_stays_away_loses_its_sessions() -> Result<()> {
    let mut stage = stage!(module);
    let short = Owner { id: 79, grace_s: 1 };
    let mut leaving = stage.net.r.enter(move || Ok(KernelRelay::attach(short)?))?;
    leaving.add(&sessions(30_000..30_010))?;
    drop(leaving);
    stage.event(|event| event.events == Events::OWNER_GONE && event.owner == Some(79))?;
    stage.event(|event| event.events == Events::EXPIRED && event.owner == Some(79))?;
    assert!(stage.relay.reports()?.is_empty());
    Ok(())
}

#[test]
fn r_m9_one_process_at_a_time_is_the_owner() -> Result<()> {
    let stage = stage!(module);
    let second = stage.net.r.enter(|| Ok(KernelRelay::attach(OWNER).map(drop)))?;
    let error = second.unwrap_err();
    assert!(error.to_string().contains("another socket is attached"), "{error}");
    Ok(())
}

#[test]
fn r_m9_namespaces_do_not_see_each_other() -> Result<()> {
    let mut stage = stage!(module);
    stage.add(pair(30_000))?;
    let mut elsewhere = stage.net.a.enter(|| Ok(KernelRelay::attach(OWNER)?))?;
    assert!(elsewhere.reports()?.is_empty());
    elsewhere.add(&sessions(30_000..30_001))?;
    assert!(stage.relay.remove(pair(30_000)[0].local).is_ok());
    assert_eq!(elsewhere.reports()?.len(), 1);
    elsewhere.detach()?;
    Ok(())
}
