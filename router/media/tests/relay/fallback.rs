//! A call moves between the module and user space, and goes on (R-M8).

use anyhow::Result;
use viaduct_media::Executor as _;
use viaduct_media::fallback::FallbackRelay;
use viaduct_media::kernel::Owner;
use viaduct_media::session::{Counter, Session};

use crate::packets::rtp;
use crate::phone::Phone;
use crate::stage;
use crate::stage::{Call, OWNER, learn, passes, passes_after};

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
        let mut relay = FallbackRelay::start()?;
        relay.take_up(other)?;
        relay.add(&[session])?;
        Ok(relay)
    })?;
    while !relay.report(call.for_alice)?.legs[0].locked {
        nat.send(call.for_alice, &rtp(1))?;
    }
    passes_after(&rtp(1), (&nat, call.for_alice), (&call.bob, call.for_bob))?;
    let in_module = relay.report(call.for_alice)?.legs[0].counters.get(Counter::Packets);
    assert!(in_module > 0);

    relay.leave_kernel();
    passes(&nat, call.for_alice, &call.bob, call.for_bob)?;
    passes(&call.bob, call.for_bob, &nat, call.for_alice)?;
    call.alice.send(call.for_alice, &rtp(2))?;
    while relay.report(call.for_alice)?.legs[0].counters.get(Counter::Foreign) == 0 {}

    let taken = stage.net.r.enter(|| Ok(relay.take_up(other)?))?;
    assert_eq!(taken, 1);
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
        let mut relay = FallbackRelay::start()?;
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
