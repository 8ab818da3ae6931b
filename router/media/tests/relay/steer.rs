//! What the router asks the module for besides sessions.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::net::if_::if_nametoindex;
use viaduct_media::Executor as _;
use viaduct_media::fallback::FallbackRelay;
use viaduct_media::kernel::{KernelRelay, Owner, Rule, RuleReport, Steering, Traffic};
use viaduct_media::session::Session;

use crate::fallback::spawn;
use crate::stage;
use crate::stage::{Call, OWNER, PATIENCE};

fn rule(traffic: Traffic) -> Result<Rule> {
    Ok(Rule { traffic, cpus: Some("0".parse()?), priority: None, queue: None })
}

fn sip(port: u16) -> Traffic {
    Traffic::Sip { udp: true, tcp: true, address: None, ports: port..=port }
}

/// As the module has them, whoever asks.
fn rules(relay: &mut FallbackRelay) -> Vec<RuleReport> {
    relay.carrying().rules
}

#[test]
fn a_router_has_its_rules_in_the_module_and_those_of_the_process_before_are_gone() -> Result<()> {
    let stage = stage!(module);
    let call = Call::new(&stage)?;
    let owner = Owner { id: OWNER.id + 7, ..OWNER };
    let session = Session { id: 3, idle_s: 0, legs: call.legs() };
    let before = stage.net.r.enter({
        let stale = rule(sip(5070))?;
        move || {
            let mut kernel = KernelRelay::attach(owner)?;
            for id in 0..32 {
                kernel.add_rule(1_000 + id, &stale)?;
            }
            let full = kernel.add_rule(5_000, &stale).is_err();
            Ok((kernel, full))
        }
    })?;
    assert!(before.1, "there is room for 32");
    drop(before);

    let wanted =
        Steering { rules: vec![rule(sip(5060))?, rule(Traffic::Rtp)?], ..Steering::default() };
    let mut relay = stage.net.r.enter(move || {
        let mut relay = FallbackRelay::start(spawn)?;
        relay.module().steer(wanted);
        relay.module().use_as(owner)?;
        relay.add(&[session])?;
        Ok(relay)
    })?;
    let places: Vec<u32> = rules(&mut relay).iter().map(|rule| rule.id).collect();
    assert_eq!(places, [0, 1]);
    // Until the module has the session its packets are no RTP to it.
    let deadline = Instant::now() + PATIENCE;
    while relay.carrying().kernel == 0 {
        ensure!(Instant::now() < deadline, "the module has no session");
        thread::sleep(Duration::from_millis(2));
    }
    call.alice_reaches_bob()?;
    // They are asked every few seconds.
    let deadline = Instant::now() + PATIENCE;
    while rules(&mut relay)[1].matched == 0 {
        ensure!(Instant::now() < deadline, "the packet fitted no rule: {:?}", rules(&mut relay));
        thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(rules(&mut relay)[0].matched, 0, "RTP is not SIP");
    relay.module().leave();
    assert!(rules(&mut relay).is_empty(), "they go when the module is left");
    Ok(())
}

#[test]
fn a_device_that_is_not_there_keeps_no_other_from_being_taken() -> Result<()> {
    let stage = stage!(module);
    let call = Call::new(&stage)?;
    let owner = Owner { id: OWNER.id + 8, ..OWNER };
    let session = Session { id: 3, idle_s: 0, legs: call.legs() };
    let wanted = Steering {
        ingress: vec!["nobody0".into(), "to-a".into(), "to-b".into()],
        ..Steering::default()
    };
    let mut relay = stage.net.r.enter(move || {
        let mut relay = FallbackRelay::start(spawn)?;
        relay.module().steer(wanted);
        relay.module().use_as(owner)?;
        relay.add(&[session])?;
        Ok(relay)
    })?;
    call.alice_reaches_bob()?;
    call.bob_reaches_alice()?;
    // It is ours, so nobody else can have it.
    let index = stage.net.r.enter(|| Ok(if_nametoindex("to-b")?))?;
    let other = Owner { id: OWNER.id + 9, ..OWNER };
    let refused = stage.net.r.enter(move || {
        let mut other = KernelRelay::attach(other)?;
        let refused = other.add_device(index).is_err();
        other.detach()?;
        Ok(refused)
    })?;
    assert!(refused);
    relay.remove(call.for_alice).context("the session")?;
    Ok(())
}
