//! Whether an order makes sense; the same rules as the kernel module's.

use std::io::ErrorKind::InvalidInput;
use std::net::SocketAddr;

use super::refused;
use crate::executor::ExecutorError;
use crate::latch::{Scope, scope};
use crate::session::{Leg, LegFlags};

const LEARN_MS_MAX: u32 = 60_000;
const PACKETS_BURST_MAX: u32 = 1 << 20;
/// A bucket smaller than a packet would never let it by.
const OCTETS_BURST_MIN: u32 = 2_048;
const OCTETS_BURST_MAX: u32 = 1 << 26;

pub(super) fn leg(leg: &Leg) -> Result<(), ExecutorError> {
    let refuse = |reason: &str| Err(refused(reason, InvalidInput));
    one_host(leg.local)?;
    if let Some(peer) = leg.peer {
        one_host(peer)?;
        if peer.is_ipv4() != leg.local.is_ipv4() {
            return refuse("peer and local address: two families");
        }
        if scope(peer) == Scope::Loopback && !leg.flags.contains(LegFlags::LOOPBACK) {
            return refuse("a loopback peer wants the flag LOOPBACK");
        }
    }
    if leg.learn.window_ms > LEARN_MS_MAX || leg.learn.settle_ms > LEARN_MS_MAX {
        return refuse("learning takes 60,000 ms at most");
    }
    if leg.forward.intersects(leg.up) {
        return refuse("a class is relayed and handed up");
    }
    if leg.dscp.is_some_and(|dscp| dscp > 63) {
        return refuse("DSCP is 0 to 63");
    }
    let packets = 1..=PACKETS_BURST_MAX;
    let octets = OCTETS_BURST_MIN..=OCTETS_BURST_MAX;
    if !packets.contains(&leg.packets.burst) || !octets.contains(&leg.octets.burst) {
        return refuse("a burst out of range");
    }
    Ok(())
}

fn one_host(address: SocketAddr) -> Result<(), ExecutorError> {
    if scope(address) == Scope::Unusable {
        return Err(refused(&format!("{address} is not the address of one host"), InvalidInput));
    }
    Ok(())
}
