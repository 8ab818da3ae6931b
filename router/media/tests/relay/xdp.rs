//! What the program in front of the stack takes off user space, and what it leaves there.

use std::time::Instant;

use anyhow::{Result, ensure};
use viaduct_media::session::{Budget, Counter, LegFlags};
use viaduct_media::xdp::Mode;

use crate::packets::rtp;
use crate::phone::Phone;
use crate::stage;
use crate::stage::{Call, PATIENCE, Stage, learn, passes, passes_after};

const PACKETS: u16 = 200;

/// Both ways, each packet as the next that arrives.
fn talk(call: &Call) -> Result<()> {
    for number in 0..PACKETS {
        for (from, to, at, via) in [
            (&call.alice, call.for_alice, &call.bob, call.for_bob),
            (&call.bob, call.for_bob, &call.alice, call.for_alice),
        ] {
            from.send(to, &rtp(number))?;
            let arrived = at.receive()?;
            ensure!(arrived.data == rtp(number) && arrived.from == via, "{arrived:?}");
        }
    }
    Ok(())
}

/// What both legs have relayed.
fn both(stage: &mut Stage, call: &Call) -> u64 {
    stage.count(call.for_alice, Counter::Packets) + stage.count(call.for_bob, Counter::Packets)
}

#[test]
fn r_m8_settled_calls_never_reach_the_stack() -> Result<()> {
    let mut stage = stage!(xdp);
    let call = Call::up(&mut stage)?;
    talk(&call)?;
    let all = 2 * u64::from(PACKETS);
    assert_eq!((stage.outcome("media_relayed"), both(&mut stage, &call)), (all, all));
    let report = stage.report(call.for_alice);
    for leg in &report.legs {
        let quality = leg.quality.unwrap();
        assert_eq!((quality.expected, quality.lost), (PACKETS.into(), 0), "{report:?}");
        assert!(leg.seen_ms.is_some());
    }
    Ok(())
}

#[test]
fn it_runs_in_the_drivers_only_where_they_can_send_to_each_other() -> Result<()> {
    let mut stage = stage!(xdp);
    for native in [true, false] {
        stage.net.ready_for_xdp(native)?;
        let program = stage.program.as_mut().unwrap();
        let wanted = if native { Mode::Native } else { Mode::Generic };
        assert_eq!(stage.net.attach(program)?, [wanted; 2]);
        let before = stage.outcome("media_relayed");
        let call = Call::up(&mut stage)?;
        talk(&call)?;
        assert_eq!(stage.outcome("media_relayed") - before, 2 * u64::from(PACKETS));
        stage.relay.remove(call.for_alice)?;
    }
    Ok(())
}

#[test]
fn a_driver_that_cannot_send_any_more_is_noticed() -> Result<()> {
    let mut stage = stage!(xdp);
    stage.net.ready_for_xdp(true)?;
    stage.net.attach(stage.program.as_mut().unwrap())?;
    let call = Call::up(&mut stage)?;
    call.alice_reaches_bob()?;
    stage.net.ready_for_xdp(false)?;
    let program = stage.program.as_mut().unwrap();
    stage.net.r.enter(|| {
        let served: Vec<_> = program.served().collect();
        served.into_iter().try_for_each(|(index, _)| Ok(program.look_again(index)?))
    })?;
    assert!(program.served().all(|(_, mode)| mode == Mode::Generic), "{program:?}");
    talk(&call)
}

#[test]
fn r_m8_a_call_goes_on_when_the_program_is_detached_and_when_it_comes_back() -> Result<()> {
    let mut stage = stage!(xdp);
    let call = Call::up(&mut stage)?;
    talk(&call)?;
    let mut program = stage.program.take().unwrap();
    stage.net.detach(&mut program);
    talk(&call)?;
    stage.net.attach(&mut program)?;
    talk(&call)?;
    stage.program = Some(program);
    // A third of them by user space, which counts what it relayed after it was sent.
    let third = 2 * u64::from(PACKETS);
    stage.counted(call.for_alice, Counter::Packets, third * 3 / 2)?;
    stage.counted(call.for_bob, Counter::Packets, third * 3 / 2)?;
    assert_eq!(stage.outcome("media_relayed"), 2 * third);
    let quality = stage.report(call.for_alice).legs[0].quality.unwrap();
    // The numbers begin again with each talk: three streams, one of them heard in user space.
    assert_eq!((quality.expected, quality.lost), (u64::from(PACKETS) * 3, 0));
    let last = stage.relay.remove(call.for_bob)?;
    assert_eq!(last.legs[0].counters.get(Counter::Packets), third * 3 / 2);
    Ok(())
}

#[test]
fn r_m5_a_peer_is_learned_in_user_space_and_then_relayed_in_front_of_it() -> Result<()> {
    let mut stage = stage!(xdp);
    let call = Call::with(&mut stage, |leg| leg.learn = learn(60_000, 50))?;
    let nat = Phone::new(&stage.net.a, "10.0.1.2:7777")?;
    while !stage.report(call.for_alice).legs[0].locked {
        nat.stream(call.for_alice, &rtp(1))?;
    }
    assert_eq!(stage.outcome("media_relayed"), 0, "nobody is learned in the program");
    passes_after(&rtp(1), (&nat, call.for_alice), (&call.bob, call.for_bob))?;
    stage.relay.events()?;
    let before = stage.outcome("media_relayed");
    passes(&nat, call.for_alice, &call.bob, call.for_bob)?;
    passes(&call.bob, call.for_bob, &nat, call.for_alice)?;
    assert_eq!(stage.outcome("media_relayed") - before, 2);
    // Locked is locked, to the signalled address too; and signalling opens it anew.
    call.alice.send(call.for_alice, &rtp(2))?;
    stage.counted(call.for_alice, Counter::Foreign, 1)?;
    stage.relay.set(&call.legs())?;
    call.alice_reaches_bob()?;
    call.bob_reaches_alice()?;
    nat.send(call.for_alice, &rtp(3))?;
    stage.counted(call.for_alice, Counter::Foreign, 2)
}

#[test]
fn r_m8_what_it_cannot_do_is_relayed_in_user_space() -> Result<()> {
    let mut stage = stage!(xdp);
    let call = Call::up(&mut stage)?;
    // Two fragments.
    let mut large = rtp(1);
    large.resize(1_700, 7);
    call.alice.send(call.for_alice, &large)?;
    assert_eq!(call.bob.receive()?.data, large);
    // A neighbour that is not known yet, and is after the first packet.
    stage.net.r.ip("neigh del 10.0.2.1 dev to-b\n")?;
    call.alice_reaches_bob()?;
    assert_eq!(stage.outcome("media_no_neighbour"), 1);
    assert_eq!(stage.outcome("media_relayed"), 0);
    call.alice_reaches_bob()?;
    assert_eq!(stage.outcome("media_relayed"), 1);
    stage.counted(call.for_alice, Counter::Packets, 3)
}

#[test]
fn without_leave_to_ask_for_routes_user_space_relays() -> Result<()> {
    let mut stage = stage!(xdp);
    let call = Call::up(&mut stage)?;
    stage.net.r.enter(|| Ok(std::fs::write("/proc/sys/net/ipv4/conf/lo/forwarding", "0")?))?;
    call.alice_reaches_bob()?;
    call.bob_reaches_alice()?;
    assert_eq!(stage.outcome("media_not_forwarding"), 2);
    Ok(())
}

#[test]
fn unfinished_checksums_are_left_to_the_stack() -> Result<()> {
    let mut stage = stage!(xdp);
    let call = Call::up(&mut stage)?;
    stage.net.a.ethtool(&["-K", "phone", "tx", "on"])?;
    call.alice_reaches_bob()?;
    assert_eq!((stage.outcome("media_checksum"), stage.outcome("media_relayed")), (1, 0));
    Ok(())
}

#[test]
fn r_m2_sessions_it_is_not_fit_for_stay_with_user_space() -> Result<()> {
    let mut stage = stage!(xdp);
    let call = Call::with(&mut stage, |leg| leg.flags |= LegFlags::HANDOVER)?;
    talk(&call)?;
    let mut legs = call.legs();
    legs[1].priority = 6;
    stage.relay.set(&legs)?;
    talk(&call)?;
    assert_eq!(stage.outcome("media_relayed"), 0);
    legs[1].priority = 0;
    stage.relay.set(&legs)?;
    talk(&call)?;
    assert_eq!(stage.outcome("media_relayed"), 2 * u64::from(PACKETS));
    Ok(())
}

#[test]
fn r_m8_a_full_table_leaves_the_rest_to_user_space() -> Result<()> {
    let mut stage = stage!(xdp);
    let many = crate::control::sessions(32_000..33_024);
    stage.relay.add(&many)?;
    // The kernel may have been out of memory for an entry or two.
    let deadline = Instant::now() + PATIENCE;
    while stage.relay.carrying().xdp < many.len() {
        ensure!(Instant::now() < deadline, "{:?}", stage.relay.carrying());
        stage.relay.events()?;
    }
    let call = Call::up(&mut stage)?;
    talk(&call)?;
    assert_eq!(stage.outcome("media_relayed"), 0);
    stage.counted(call.for_alice, Counter::Packets, PACKETS.into())?;
    // There is room again.
    stage.relay.remove(many[0].legs[0].local)?;
    stage.relay.set(&call.legs())?;
    call.alice_reaches_bob()?;
    assert_eq!(stage.outcome("media_relayed"), 1);
    Ok(())
}

#[test]
fn r_m3_one_budget_holds_in_the_program() -> Result<()> {
    let mut stage = stage!(xdp);
    let call = Call::with(&mut stage, |leg| leg.packets = Budget { per_s: 1, burst: 10 })?;
    for number in 0..100 {
        call.alice.send(call.for_alice, &rtp(number))?;
    }
    let (mut relayed, mut limited) = (0, 0);
    while relayed + limited < 100 {
        relayed = stage.count(call.for_alice, Counter::Packets);
        limited = stage.count(call.for_alice, Counter::Limited);
    }
    assert_eq!(stage.outcome("media_relayed"), relayed);
    assert_eq!(stage.outcome("media_dropped"), limited);
    assert!(limited > 0 && relayed >= 10);
    Ok(())
}
