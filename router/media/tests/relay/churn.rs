//! The module is loaded and unloaded again and again while packets flow and sessions are up.
//! `VIADUCT_MODULE` names the file; the module must not be loaded at the beginning.

use std::env;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use viaduct_media::Executor as _;
use viaduct_media::fallback::FallbackRelay;
use viaduct_media::kernel::KernelRelay;
use viaduct_media::session::{Counter, Leg, Session};
use viaduct_tests::or_skip;

use crate::fallback::spawn;
use crate::namespace::Net;
use crate::packets::rtp;
use crate::phone::Phone;
use crate::stage::{Call, OWNER};

/// Sessions besides the one that talks: more than what an ordinary buffer has room to tell of.
const OTHERS: u16 = 300;

#[test]
fn r_m8_the_module_comes_and_goes_under_traffic() -> Result<()> {
    let module = or_skip!(env::var("VIADUCT_MODULE").ok(), "no file of the module is named");
    let rounds = env::var("VIADUCT_ROUNDS").ok().and_then(|rounds| rounds.parse().ok());
    let net = Net::new()?;
    let call = call(&net)?;
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let traffic = [(&call.alice, call.for_alice), (&call.bob, call.for_bob)];
        for (phone, to) in traffic {
            let stop = &stop;
            scope.spawn(move || {
                let mut number = 0;
                while !stop.load(Ordering::Relaxed) {
                    // Without the module there is nobody on the port, and the system says so.
                    phone.send(to, &rtp(number)).ok();
                    number = number.wrapping_add(1);
                }
            });
        }
        let result = (0..rounds.unwrap_or(20)).try_for_each(|_| round(&net, &call, &module));
        stop.store(true, Ordering::Relaxed);
        result
    })
}

/// What it has counted last it tells as it goes; packet by packet, while it is unloaded.
#[test]
fn r_m8_every_packet_is_counted_when_the_module_is_unloaded() -> Result<()> {
    let module = or_skip!(env::var("VIADUCT_MODULE").ok(), "no file of the module is named");
    let net = Net::new()?;
    let call = call(&net)?;
    let other = |n: u16| {
        let port = 31_000 + 4 * n;
        let legs = [(call.for_alice, port), (call.for_bob, port + 2)]
            .map(|(local, port)| Leg::new((local.ip(), port).into(), Some(call.bob.address)));
        Session { id: u64::from(n) + 2, idle_s: 0, legs }
    };
    let mut sessions: Vec<Session> = (0..OTHERS).map(other).collect();
    // The last to be told of.
    sessions.push(Session { id: 1, idle_s: 0, legs: call.legs() });
    run("insmod", &module)?;
    let mut relay = net.r.enter(move || {
        let mut relay = FallbackRelay::start(spawn)?;
        relay.add(&sessions)?;
        relay.module().use_as(OWNER)?;
        Ok(relay)
    })?;
    ensure!(relay.carrying().kernel == usize::from(OTHERS) + 1, "{:?}", relay.carrying());
    let mut sent = 0;
    while sent < 200 {
        call.alice_reaches_bob()?;
        sent += 1;
    }
    let unloading = thread::spawn(|| run("rmmod", "viaduct"));
    let mut after = 0;
    while after < 200 {
        after += u32::from(unloading.is_finished() && !relay.carrying().has_kernel);
        call.alice_reaches_bob()?;
        sent += 1;
    }
    unloading.join().map_err(|_| anyhow!("no rmmod"))??;
    // User space counts what it has relayed after it was sent.
    let deadline = Instant::now() + Duration::from_secs(30);
    let counted = |relay: &mut FallbackRelay| {
        Ok::<_, anyhow::Error>(relay.report(call.for_alice)?.legs[0].counters.get(Counter::Packets))
    };
    while counted(&mut relay)? < sent && Instant::now() < deadline {}
    ensure!(counted(&mut relay)? == sent, "{sent} packets: {:?}", relay.report(call.for_alice)?);
    Ok(())
}

fn call(net: &Net) -> Result<Call> {
    Ok(Call {
        alice: Phone::new(&net.a, "10.0.1.1:4000")?,
        bob: Phone::new(&net.b, "10.0.2.1:5000")?,
        for_alice: "10.0.1.254:30000".parse()?,
        for_bob: "10.0.2.254:30002".parse()?,
    })
}

/// Loads, relays, unloads while sessions are up and packets flow.
fn round(net: &Net, call: &Call, module: &str) -> Result<()> {
    run("insmod", module)?;
    let mut relay = net.r.enter(|| Ok(KernelRelay::attach(OWNER)?))?;
    let session = Session { id: 1, idle_s: 1, legs: call.legs() };
    relay.add(std::slice::from_ref(&session))?;
    for (phone, local) in [(&call.bob, call.for_bob), (&call.alice, call.for_alice)] {
        phone.drain();
        ensure!(phone.receive()?.from == local, "somebody else sent it");
    }
    // Removing and adding while packets are in it.
    let report = relay.remove(call.for_alice)?;
    ensure!(report.legs.iter().all(|leg| leg.counters.get(Counter::Packets) > 0), "{report:?}");
    relay.add(&[session])?;
    run("rmmod", "viaduct")
}

fn run(program: &str, argument: &str) -> Result<()> {
    let output = Command::new(program).arg(argument).output().context(program.to_owned())?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} {argument}: {said}");
    Ok(())
}
