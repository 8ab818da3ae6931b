//! A call moves between the module and user space, and goes on (R-M8).

use std::io;
use std::thread::{self, JoinHandle};

use anyhow::Result;
use viaduct_media::Executor as _;
use viaduct_media::fallback::{FallbackRelay, Work};
use viaduct_media::kernel::{KernelRelay, Owner};
use viaduct_media::session::{Carrier, Counter, Leg, Session};

use crate::packets::rtp;
use crate::phone::Phone;
use crate::stage;
use crate::stage::{Call, OWNER, learn, passes, passes_after};

/// In the namespace of the thread that calls it.
pub(crate) fn spawn(work: Work) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().spawn(work)
}

#[test]
fn r_m8_a_call_goes_on_in_user_space_with_the_peer_the_module_learned() -> Result<()> {
    let stage = stage!(module);
    let call = Call::new(&stage)?;
    let nat = Phone::new(&stage.net.a, "10.0.1.2:7777")?;
    let mut legs = call.legs();
    legs[0].learn = learn(60_000, 100);
    let session = Session { id: 3, idle_s: 0, legs };
    // The stage's own executor has its own owner.
    let other = Owner { id: OWNER.id + 1, ..OWNER };
    let mut relay = stage.net.r.enter(move || {
        let mut relay = FallbackRelay::start(spawn)?;
        relay.module().use_as(other)?;
        relay.add(&[session])?;
        Ok(relay)
    })?;
    while !relay.report(call.for_alice)?.legs[0].locked {
        nat.stream(call.for_alice, &rtp(1))?;
    }
    passes_after(&rtp(1), (&nat, call.for_alice), (&call.bob, call.for_bob))?;
    let in_module = relay.report(call.for_alice)?.legs[0].counters.get(Counter::Packets);
    assert!(in_module > 0);

    relay.module().leave();
    assert_eq!(relay.carrying().userspace, 1);
    passes(&nat, call.for_alice, &call.bob, call.for_bob)?;
    passes(&call.bob, call.for_bob, &nat, call.for_alice)?;
    call.alice.send(call.for_alice, &rtp(2))?;
    while relay.report(call.for_alice)?.legs[0].counters.get(Counter::Foreign) == 0 {}

    relay.module().use_as(other)?;
    let report = relay.report(call.for_alice)?;
    assert_eq!((relay.carrying().kernel, report.carrier), (1, Carrier::Kernel));
    assert_eq!(report.legs[0].learned, Some(nat.address), "what was learned is still known");
    passes(&nat, call.for_alice, &call.bob, call.for_bob)?;
    passes(&call.bob, call.for_bob, &nat, call.for_alice)?;
    Ok(())
}

#[test]
fn r_m8_without_a_module_all_of_it_happens_in_user_space() -> Result<()> {
    let stage = stage!(new);
    let call = Call::new(&stage)?;
    let session = Session { id: 3, idle_s: 0, legs: call.legs() };
    let mut relay = stage.net.r.enter(move || {
        let mut relay = FallbackRelay::start(spawn)?;
        relay.add(&[session])?;
        Ok(relay)
    })?;
    call.alice_reaches_bob()?;
    call.bob_reaches_alice()?;
    // What was relayed is counted after it was sent.
    while relay.report(call.for_bob)?.legs[1].counters.get(Counter::Packets) == 0 {}
    assert_eq!(relay.remove(call.for_bob)?.legs[0].counters.get(Counter::Packets), 1);
    assert!(relay.reports()?.is_empty());
    Ok(())
}

/// The thread keeps looking, and the call never notices.
#[test]
fn r_m8_a_module_that_is_not_there_is_told_and_no_loss() -> Result<()> {
    let stage = stage!(new);
    let call = Call::new(&stage)?;
    let session = Session { id: 3, idle_s: 0, legs: call.legs() };
    let mut relay = stage.net.r.enter(move || {
        let mut relay = FallbackRelay::start(spawn)?;
        relay.add(&[session])?;
        Ok(relay)
    })?;
    if relay.module().use_as(Owner { id: OWNER.id + 1, ..OWNER }).is_ok() {
        assert_eq!(relay.carrying().kernel, 1);
    } else {
        let carrying = relay.carrying();
        assert!(carrying.why.contains("not loaded"), "{carrying:?}");
        assert_eq!((carrying.kernel, carrying.userspace), (0, 1));
    }
    call.alice_reaches_bob()?;
    call.bob_reaches_alice()?;
    relay.module().leave();
    call.alice_reaches_bob()
}

/// A new process goes on with the sessions of the one before, those it knows of; exact to a packet.
#[test]
fn r_m8_a_new_process_takes_up_the_sessions_of_the_one_before() -> Result<()> {
    let mut stage = stage!(module);
    let call = Call::new(&stage)?;
    let owner = Owner { id: OWNER.id + 2, ..OWNER };
    let known = Session { id: 3, idle_s: 0, legs: call.legs() };
    let unknown = Session {
        id: 4,
        idle_s: 0,
        legs: [30_010, 30_012]
            .map(|port| Leg::new((call.for_alice.ip(), port).into(), Some(call.alice.address))),
    };
    let both = [known.clone(), unknown.clone()];
    let before = stage.net.r.enter(move || {
        let mut kernel = KernelRelay::attach(owner)?;
        kernel.add(&both)?;
        Ok(kernel)
    })?;
    call.alice_reaches_bob()?;
    drop(before);
    call.alice_reaches_bob()?;
    let mut relay = stage.net.r.enter(move || {
        let mut relay = FallbackRelay::start(spawn)?;
        relay.restore(&known, None)?;
        relay.module().use_as(owner)?;
        Ok(relay)
    })?;
    call.bob_reaches_alice()?;
    let reports = relay.reports()?;
    assert_eq!(reports.len(), 1);
    let nobody = stage.relay.report(unknown.legs[0].local);
    assert!(nobody.is_err(), "what nobody knows is cleaned up");
    let ended = relay.remove(call.for_alice)?;
    let packets = ended.legs.map(|leg| leg.counters.get(Counter::Packets));
    assert_eq!(packets, [2, 1]);
    Ok(())
}
