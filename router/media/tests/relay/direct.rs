//! Packets the module takes at a device's ingress and sends past the IP layer, and those it must not.

use std::net::IpAddr;
use std::time::{Duration, Instant};
use std::{fs, thread};

use anyhow::{Context as _, Result, ensure};
use viaduct_media::Executor as _;
use viaduct_media::kernel::KernelRelay;
use viaduct_media::session::{Counter, Session};
use viaduct_tests::or_skip;

use crate::ingress::{Bare, module};
use crate::packets::rtp;
use crate::phone::Phone;
use crate::stage::{Call, PATIENCE};

const PACKETS: u16 = 10;

/// What fits into the way out of the tests that make it narrow, and what does not.
const NARROW_MTU: usize = 1280;
const LARGE: usize = 1399;

/// With the packets of both devices taken at their ingress, and a call over IPv6 besides.
fn at_ingress() -> Result<(Bare, Call)> {
    let mut bare = Bare::up()?;
    for device in ["to-a", "to-b"] {
        let index = bare.index(device)?;
        bare.relay.add_device(index)?;
    }
    let v6 = Call {
        alice: Phone::new(&bare.net.a, "[fd00:1::1]:4000")?,
        bob: Phone::new(&bare.net.b, "[fd00:2::1]:5000")?,
        for_alice: "[fd00:1::fe]:30000".parse()?,
        for_bob: "[fd00:2::fe]:30002".parse()?,
    };
    bare.relay.add(&[Session { id: 2, idle_s: 0, legs: v6.legs() }])?;
    Ok((bare, v6))
}

/// How many of the packets from alice to bob the IP layer sent, all of which arrived.
fn sent_by_ip(bare: &Bare) -> Result<u64> {
    let before = bare.ip_counter("OutRequests")?;
    many_reach_bob(&bare.call)?;
    Ok(bare.ip_counter("OutRequests")? - before)
}

fn many_reach_bob(call: &Call) -> Result<()> {
    (0..PACKETS).try_for_each(|_| call.alice_reaches_bob())
}

/// Packets of IPv6 the IP layer has sent in the relay's namespace.
fn sent_v6(bare: &Bare) -> Result<u64> {
    let snmp = bare.net.r.enter(|| Ok(fs::read_to_string("/proc/thread-self/net/snmp6")?))?;
    let line = snmp.lines().find_map(|line| line.strip_prefix("Ip6OutRequests"));
    Ok(line.context("Ip6OutRequests")?.trim().parse()?)
}

/// What alice sends has no way to bob.
fn none_leaves(relay: &mut KernelRelay, call: &Call) -> Result<()> {
    for _ in 0..PACKETS {
        call.alice.send(call.for_alice, &rtp(1))?;
    }
    let deadline = Instant::now() + PATIENCE;
    while relay.report(call.for_alice)?.legs[0].counters.get(Counter::NoRoute) < PACKETS.into() {
        ensure!(Instant::now() < deadline, "they were sent all the same");
        thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

/// What forbids the way to bob is obeyed with the next packet, in both families, and so is its end.
/// `orders`: to forbid, and to allow again.
fn is_obeyed(mut bare: Bare, v6: &Call, orders: impl Fn(IpAddr) -> [String; 2]) -> Result<()> {
    for is_v6 in [false, true] {
        let call = if is_v6 { v6 } else { &bare.call };
        let [forbid, allow] = orders(call.bob.address.ip());
        call.alice_reaches_bob()?;
        bare.net.r.ip(&forbid)?;
        none_leaves(&mut bare.relay, call)?;
        bare.net.r.ip(&allow)?;
        call.alice_reaches_bob()?;
    }
    Ok(())
}

#[test]
fn r_m2_what_is_taken_at_ingress_leaves_past_the_ip_layer() -> Result<()> {
    or_skip!(module(), "only with the kernel module");
    let (mut bare, v6) = at_ingress()?;
    // The first packet has the neighbour's link header kept.
    bare.call.alice_reaches_bob()?;
    ensure!(sent_by_ip(&bare)? == 0, "at the device's ingress");
    v6.alice_reaches_bob()?;
    let before = sent_v6(&bare)?;
    many_reach_bob(&v6)?;
    // The namespace has a few of its own to send, such as for groups it is in.
    ensure!(sent_v6(&bare)? - before < u64::from(PACKETS) / 2, "IPv6 at the device's ingress");
    let to_a = bare.index("to-a")?;
    bare.relay.remove_device(to_a)?;
    ensure!(sent_by_ip(&bare)? == PACKETS.into(), "at PRE_ROUTING, where output has its rules");
    Ok(())
}

#[test]
fn r_m2_a_neighbour_that_is_not_known_yet_is_found() -> Result<()> {
    or_skip!(module(), "only with the kernel module");
    let (bare, v6) = at_ingress()?;
    for call in [&bare.call, &v6] {
        call.alice_reaches_bob()?;
        bare.net.r.ip(&format!("neigh del {} dev to-b\n", call.bob.address.ip()))?;
        for number in 0..PACKETS {
            call.alice.send(call.for_alice, &rtp(number))?;
            let arrived = call.bob.receive()?.data;
            ensure!(arrived == rtp(number), "another packet arrived");
        }
    }
    Ok(())
}

#[test]
fn r_m2_a_neighbour_with_another_address_is_followed() -> Result<()> {
    or_skip!(module(), "only with the kernel module");
    let (bare, v6) = at_ingress()?;
    let calls = [&bare.call, &v6];
    calls.into_iter().try_for_each(Call::alice_reaches_bob)?;
    let address = "02:00:00:00:02:77";
    bare.net.b.ip(&format!("link set phone address {address}\n"))?;
    for call in calls {
        bare.net.r.ip(&format!(
            "neigh replace {} lladdr {address} nud permanent dev to-b\n",
            call.bob.address.ip()
        ))?;
        many_reach_bob(call)?;
    }
    Ok(())
}

#[test]
fn r_m2_a_route_that_changes_is_followed() -> Result<()> {
    or_skip!(module(), "only with the kernel module");
    let (bare, v6) = at_ingress()?;
    is_obeyed(bare, &v6, |bob| {
        [format!("route add unreachable {bob}\n"), format!("route del unreachable {bob}\n")]
    })
}

#[test]
fn r_m1_policies_of_ipsec_are_obeyed() -> Result<()> {
    or_skip!(module(), "only with the kernel module");
    let (bare, v6) = at_ingress()?;
    or_skip!(bare.net.r.ip("xfrm policy show\n").ok(), "this kernel has no IPsec");
    is_obeyed(bare, &v6, |bob| {
        let policy = format!("dir out dst {bob}/{}", if bob.is_ipv4() { 32 } else { 128 });
        [
            format!("xfrm policy add {policy} action block\n"),
            format!("xfrm policy delete {policy}\n"),
        ]
    })
}

/// The phone's end takes no more than a device of the way out would.
#[test]
fn r_m2_what_is_too_large_for_the_way_out_arrives_in_fragments() -> Result<()> {
    or_skip!(module(), "only with the kernel module");
    let (bare, v6) = at_ingress()?;
    bare.net.r.ip(&format!("link set to-b mtu {NARROW_MTU}\n"))?;
    bare.net.b.ip(&format!("link set phone mtu {NARROW_MTU}\n"))?;
    let before = bare.ip_counter("FragOKs")?;
    for call in [&bare.call, &v6] {
        call.alice_reaches_bob()?;
        let mut packet = rtp(1);
        packet.resize(LARGE, 0xa5);
        for _ in 0..PACKETS {
            call.alice.send(call.for_alice, &packet)?;
            ensure!(call.bob.receive()?.data == packet, "another packet arrived");
        }
        call.alice_reaches_bob()?;
    }
    ensure!(bare.ip_counter("FragOKs")? - before == PACKETS.into(), "fragments of IPv4");
    Ok(())
}
