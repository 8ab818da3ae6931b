//! The module is loaded and unloaded again and again while packets flow and sessions are up.
//! `VIADUCT_MODULE` names the file; the module must not be loaded at the beginning.

use std::env;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Context as _, Result, ensure};
use viaduct_media::Executor as _;
use viaduct_media::kernel::KernelRelay;
use viaduct_media::session::{Counter, Session};
use viaduct_tests::or_skip;

use crate::namespace::Net;
use crate::packets::rtp;
use crate::phone::Phone;
use crate::stage::{Call, OWNER};

#[test]
fn r_m8_the_module_comes_and_goes_under_traffic() -> Result<()> {
    let module = or_skip!(env::var("VIADUCT_MODULE").ok(), "no file of the module is named");
    let rounds = env::var("VIADUCT_ROUNDS").ok().and_then(|rounds| rounds.parse().ok());
    let net = Net::new()?;
    let call = Call {
        alice: Phone::new(&net.a, "10.0.1.1:4000")?,
        bob: Phone::new(&net.b, "10.0.2.1:5000")?,
        for_alice: "10.0.1.254:30000".parse()?,
        for_bob: "10.0.2.254:30002".parse()?,
    };
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
