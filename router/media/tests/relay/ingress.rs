//! Devices whose packets the module takes at their ingress.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use nix::net::if_::if_nametoindex;
use viaduct_media::kernel::KernelRelay;
use viaduct_media::session::Session;
use viaduct_media::{Executor as _, ExecutorError};
use viaduct_tests::or_skip;

use crate::namespace::Net;
use crate::packets::rtp;
use crate::phone::Phone;
use crate::stage::{Call, OWNER};

const PACKETS: u16 = 10;

/// A call through the module, whose devices are the test's own business.
pub(crate) struct Bare {
    pub(crate) net: Net,
    pub(crate) relay: KernelRelay,
    pub(crate) call: Call,
}

impl Bare {
    pub(crate) fn up() -> Result<Self> {
        let net = Net::new()?;
        let mut relay = net.r.enter(|| Ok(KernelRelay::attach(OWNER)?))?;
        let call = Call {
            alice: Phone::new(&net.a, "10.0.1.1:4000")?,
            bob: Phone::new(&net.b, "10.0.2.1:5000")?,
            for_alice: "10.0.1.254:30000".parse()?,
            for_bob: "10.0.2.254:30002".parse()?,
        };
        relay.add(&[Session { id: 1, idle_s: 0, legs: call.legs() }])?;
        Ok(Self { net, relay, call })
    }

    pub(crate) fn index(&self, device: &'static str) -> Result<u32> {
        self.net.r.enter(move || Ok(if_nametoindex(device)?))
    }

    /// IP packets the relay's namespace has received.
    fn received(&self) -> Result<u64> {
        self.ip_counter("InReceives")
    }

    /// One of the counters of the IP layer in the relay's namespace.
    pub(crate) fn ip_counter(&self, counter: &str) -> Result<u64> {
        let snmp = self.net.r.enter(|| Ok(fs::read_to_string("/proc/thread-self/net/snmp")?))?;
        let mut lines = snmp.lines().filter_map(|line| line.strip_prefix("Ip: "));
        let (names, values) = (lines.next().context("names")?, lines.next().context("values")?);
        let at = names.split(' ').position(|name| name == counter).context("a counter")?;
        Ok(values.split(' ').nth(at).context("a value")?.parse()?)
    }

    /// How many of the packets of a phone the IP layer saw, all of which arrived.
    fn seen_of(&self, from_alice: bool) -> Result<u64> {
        let before = self.received()?;
        let call = &self.call;
        let (from, to, at) = if from_alice {
            (&call.alice, call.for_alice, &call.bob)
        } else {
            (&call.bob, call.for_bob, &call.alice)
        };
        for number in 0..PACKETS {
            from.send(to, &rtp(number))?;
            ensure!(at.receive()?.data == rtp(number), "another packet arrived");
        }
        Ok(self.received()? - before)
    }
}

pub(crate) fn module() -> Option<()> {
    std::env::var("VIADUCT_RELAY").is_ok_and(|subject| subject == "module").then_some(())
}

fn errno_of(result: Result<(), ExecutorError>) -> Option<i32> {
    match result {
        Err(ExecutorError::Refused { errno, .. }) => errno.raw_os_error(),
        _ => None,
    }
}

#[test]
fn r_m2_packets_of_a_device_are_relayed_before_the_ip_layer() -> Result<()> {
    or_skip!(module(), "only with the kernel module");
    let mut bare = Bare::up()?;
    ensure!(bare.seen_of(true)? == PACKETS.into(), "without a device all are seen");
    let to_a = bare.index("to-a")?;
    bare.relay.add_device(to_a)?;
    ensure!(bare.seen_of(true)? == 0, "at the device's ingress none is");
    ensure!(bare.seen_of(false)? == PACKETS.into(), "the other device is as before");
    bare.relay.remove_device(to_a)?;
    ensure!(bare.seen_of(true)? == PACKETS.into(), "and so is the first in the end");
    Ok(())
}

#[test]
fn r_m8_a_device_goes_with_its_owner() -> Result<()> {
    or_skip!(module(), "only with the kernel module");
    let mut bare = Bare::up()?;
    let to_a = bare.index("to-a")?;
    bare.relay.add_device(to_a)?;
    ensure!(errno_of(bare.relay.add_device(to_a)) == Some(nix::errno::Errno::EEXIST as i32));
    bare.relay.detach()?;
    bare.relay = bare.net.r.enter(|| Ok(KernelRelay::attach(OWNER)?))?;
    let gone = bare.relay.remove_device(to_a);
    ensure!(errno_of(gone) == Some(nix::errno::Errno::ENODEV as i32));
    bare.relay.add_device(to_a)?;
    Ok(())
}

#[test]
fn r_m8_a_device_that_is_taken_away_is_forgotten() -> Result<()> {
    or_skip!(module(), "only with the kernel module");
    let mut bare = Bare::up()?;
    let to_a = bare.index("to-a")?;
    bare.relay.add_device(to_a)?;
    bare.net.r.ip("link del to-a\n")?;
    let gone = bare.relay.remove_device(to_a);
    ensure!(errno_of(gone) == Some(nix::errno::Errno::ENODEV as i32));
    ensure!(errno_of(bare.relay.add_device(to_a)) == Some(nix::errno::Errno::ENODEV as i32));
    Ok(())
}
