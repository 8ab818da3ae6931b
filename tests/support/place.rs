//! Where the routers of a test are. On loopback, unless the environment variable `VIADUCT_OVER` says
//! `af_xdp`: then each is in a network namespace of its own, gets its packets by AF_XDP alone or does
//! not start, and phones are on the other side of a switch ([`Wire`]). `af_xdp_vlan`: all of them in a
//! VLAN; either with `_ipv6` behind it: with IPv6 addresses. So the same tests run over each.
//!
//! That is for one test in a process, as nextest runs them: the switch belongs to the thread.
#![allow(clippy::expect_used)] // who asks for an address could do nothing else without one

use std::cell::{Cell, RefCell};
use std::env;
use std::net::SocketAddr;

use anyhow::{Result, anyhow};

use super::net;
use super::skip::skipped;
use super::wire::Wire;

/// The variable.
const OVER: &str = "VIADUCT_OVER";
/// Cables a switch has.
const MOST_ROUTERS: usize = 9;

thread_local! {
    static SETTLED: Cell<bool> = const { Cell::new(false) };
    static WIRES: RefCell<Vec<Wire>> = const { RefCell::new(Vec::new()) };
    /// Cables that have a router's address given away.
    static TAKEN: Cell<usize> = const { Cell::new(0) };
}

/// Are routers asked for in namespaces of their own, where no phone can have their address?
#[must_use]
pub fn are_routers_apart() -> bool {
    env::var(OVER).is_ok_and(|over| !over.is_empty())
}

/// Does `VIADUCT_OVER` ask for IPv6?
fn is_v6() -> bool {
    env::var(OVER).is_ok_and(|over| over.ends_with("_ipv6"))
}

/// Lays the switch where one is asked for. Where it cannot be had this says so, and the test runs
/// on loopback.
///
/// # Panics
/// When `VIADUCT_OVER` is something else, or `ip` fails.
pub(super) fn settle() {
    let over = env::var(OVER).unwrap_or_default();
    if SETTLED.replace(true) || over.is_empty() {
        return;
    }
    let way = over.strip_suffix("_ipv6").unwrap_or(&over);
    assert!(matches!(way, "af_xdp" | "af_xdp_vlan"), "{OVER}={over}");
    let wire = if way == "af_xdp_vlan" { Wire::lay_in_vlan(1) } else { Wire::lay(1) };
    match wire.expect("a switch") {
        Ok(wire) => {
            if is_v6() {
                net::use_addresses(wire.peer_v6(0).ip());
            }
            WIRES.with_borrow_mut(|wires| wires.push(wire));
        }
        Err(reason) => skipped(&format!("over AF_XDP: {reason}; over loopback instead")),
    }
}

/// An address for one more router.
///
/// # Panics
/// When a test wants more than nine, or `ip` fails.
#[must_use]
pub fn router_address() -> SocketAddr {
    settle();
    WIRES.with_borrow_mut(|wires| {
        let Some(first) = wires.first() else { return (net::own_address(), 5060).into() };
        let number = TAKEN.replace(TAKEN.get() + 1);
        assert!(number < MOST_ROUTERS, "a test has more than {MOST_ROUTERS} routers");
        if number >= wires.len() {
            let wire = first.beside(number as u8 + 1).expect("one more cable");
            wires.push(wire);
        }
        wires.get(number).map(address).expect("the cable just laid")
    })
}

fn address(wire: &Wire) -> SocketAddr {
    if is_v6() { wire.router_v6() } else { wire.router_v4() }
}

/// Is a router with this address on a switch?
pub(super) fn is_wired(listen: SocketAddr) -> bool {
    WIRES.with_borrow(|wires| wires.iter().any(|wire| address(wire).ip() == listen.ip()))
}

/// Does something where the router with this address is.
pub(super) fn at<T: Send>(listen: SocketAddr, work: impl FnOnce() -> T + Send) -> Result<T> {
    WIRES.with_borrow(|wires| match wires.iter().find(|wire| address(wire).ip() == listen.ip()) {
        Some(wire) => wire.in_router(work),
        None if wires.is_empty() => Ok(work()),
        None => Err(anyhow!("{listen} is not an address of `router_address`")),
    })
}
