//! Two AF_XDP providers at the ends of a veth pair: what one sends the other receives, frames are
//! accounted for exactly, and what cannot go that way is left to the kernel's sockets.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/detach.rs"]
mod detach;
#[path = "support/namespace.rs"]
mod namespace;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use namespace::Namespace;
use viaduct_engine::{ConnId, Flow, Token, Transport};
use viaduct_transport::xdp::{Attachment, Plan, Rung, Watcher, XdpPorts, interfaces};
use viaduct_transport::{DatagramRx, DatagramTx, RecvBatch, SendBatch};

const FRAMES: u32 = 1024;

/// One end: the interface `end` of a namespace.
struct End {
    namespace: Namespace,
    attachment: Attachment,
    ports: XdpPorts,
    watcher: Watcher,
    addr: SocketAddr,
    peer: SocketAddr,
}

/// The two ends of a wire, or `None` with the reason printed.
fn wire(addrs: [&str; 2], rungs: &[Rung]) -> Option<[End; 2]> {
    wire_on("end", addrs, rungs)
}

/// The same with the addresses on interface `on`: where that is not `end`, it stands for VLAN 100
/// on it. A pair of veth to nowhere plays that part, as many kernels have no 8021q.
fn wire_on(on: &'static str, addrs: [&str; 2], rungs: &[Rung]) -> Option<[End; 2]> {
    let spaces = match (Namespace::new(), Namespace::new()) {
        (Ok(a), Ok(b)) => [a, b],
        (Err(reason), _) | (_, Err(reason)) => {
            eprintln!("skipped: no network namespaces here: {reason}");
            return None;
        }
    };
    let path = spaces[1].path();
    spaces[0].ip(&format!("link add end type veth peer name end netns {path}"));
    let macs = ["02:00:00:00:00:0a", "02:00:00:00:00:0b"];
    let bits = if addrs[0].contains(':') { "64 nodad dev" } else { "24 dev" };
    for (space, (addr, mac)) in spaces.iter().zip(addrs.iter().zip(macs)) {
        space.ip(&format!("link set end address {mac}"));
        if on != "end" {
            space.ip(&format!("link add {on} type veth peer name nowhere"));
            space.ip(&format!("link set {on} address {mac}"));
            space.ip(&format!("link set {on} up"));
            space.ip("link set nowhere up");
        }
        space.ip(&format!("addr add {addr}/{bits} {on}"));
        space.ip("link set end up");
    }
    let ends = spaces.into_iter().zip([(0, 1), (1, 0)]).map(|(namespace, (own, other))| {
        namespace.ip(&format!("neigh replace {} lladdr {} dev {on}", addrs[other], macs[other]));
        let of = |n: usize| SocketAddr::new(addrs[n].parse().unwrap(), 5060);
        End::open(namespace, on, of(own), of(other), rungs)
    });
    ends.collect::<Option<Vec<End>>>()?.try_into().ok()
}

impl End {
    fn open(
        namespace: Namespace,
        on: &str,
        addr: SocketAddr,
        peer: SocketAddr,
        rungs: &[Rung],
    ) -> Option<End> {
        let opened = namespace.within(|| {
            let all = interfaces().unwrap();
            let named = |name: &str| all.iter().find(|i| i.name == name).unwrap().clone();
            let tag = if on == "end" { 0 } else { 100 };
            let vlans = if tag == 0 { Vec::new() } else { vec![(named(on), tag)] };
            let plan = Plan {
                interface: named("end"),
                listeners: vec![(addr, tag)],
                vlans,
                workers: 1,
                frames: FRAMES,
                rate: (0, 0),
            };
            let watcher = Watcher::open().unwrap();
            let (opened, refusals) = Attachment::open(&plan, rungs);
            let Some((attachment, ports)) = opened else {
                eprintln!("skipped: no AF_XDP here: {refusals:?}");
                return None;
            };
            let ports = XdpPorts::new(0, ports, watcher.network().clone()).unwrap();
            Some((attachment, ports, watcher))
        });
        let (attachment, ports, watcher) = opened?;
        Some(End { namespace, attachment, ports, watcher, addr, peer })
    }

    fn flow(&self) -> Flow {
        let (local, remote) = (self.addr, self.peer);
        Flow { transport: Transport::Udp, local, remote, conn: ConnId::NONE }
    }

    /// Sends; returns how many were left to the kernel's sockets.
    fn send<'a>(&mut self, messages: impl Iterator<Item = &'a [u8]>) -> usize {
        let (flow, mut batch) = (self.flow(), SendBatch::new());
        messages.for_each(|bytes| batch.push(flow, bytes, Token(0)));
        self.ports.flush(&mut batch, &mut |_| {});
        batch.len()
    }

    /// Reads what is there now.
    fn receive(&mut self, batch: &mut RecvBatch, each: &mut dyn FnMut(Flow, &[u8])) -> usize {
        self.ports.ready(0);
        let mut count = 0;
        while self.ports.has_unread() {
            count += self.ports.recv(batch).unwrap();
            batch.iter().for_each(|(flow, bytes)| each(flow, bytes));
        }
        count
    }

    fn check_frames(&self) {
        for frames in self.attachment.frames() {
            assert_eq!(frames.total(), FRAMES as usize, "{frames:?}");
        }
    }
}

fn is_due(start: Instant) -> bool {
    start.elapsed() > Duration::from_secs(20)
}

fn what_one_sends_the_other_receives(on: &'static str, addrs: [&str; 2], rung: Rung) {
    let Some([mut a, mut b]) = wire_on(on, addrs, &[rung]) else { return };
    assert_eq!((a.attachment.rung(), a.attachment.queues()), (rung, 1));
    let texts: Vec<Vec<u8>> = (1..=100).map(|n| vec![n as u8; n * 14]).collect();
    assert_eq!(a.send(texts.iter().map(Vec::as_slice)), 0);
    let (mut got, mut batch, start) = (Vec::new(), RecvBatch::new(), Instant::now());
    while got.len() < texts.len() && !is_due(start) {
        b.receive(&mut batch, &mut |flow, bytes| got.push((flow, bytes.to_vec())));
    }
    assert!(got.iter().map(|(_, bytes)| bytes).eq(&texts), "{} arrived", got.len());
    assert!(got.iter().all(|(flow, _)| *flow == b.flow()));
    a.check_frames();
    b.check_frames();
}

#[test]
fn ipv4_in_copy_mode() {
    what_one_sends_the_other_receives("end", ["10.78.0.1", "10.78.0.2"], Rung::Copy);
}

#[test]
fn ipv6_in_copy_mode() {
    what_one_sends_the_other_receives("end", ["fd78::1", "fd78::2"], Rung::Copy);
}

#[test]
fn ipv4_and_ipv6_in_a_vlan() {
    what_one_sends_the_other_receives("vlan", ["10.78.0.1", "10.78.0.2"], Rung::Copy);
    what_one_sends_the_other_receives("vlan", ["fd78::1", "fd78::2"], Rung::Copy);
}

#[test]
fn what_happens_to_interface_and_program_is_noticed() {
    let Some([a, b]) = wire(["10.78.0.1", "10.78.0.2"], &[Rung::Copy]) else { return };
    let fault = |end: &End| end.attachment.fault(&end.namespace.within(|| interfaces().unwrap()));
    assert_eq!(fault(&a), None);
    b.namespace.ip("link set end down");
    assert_eq!(fault(&a), Some("the link is down"));
    b.namespace.ip("link set end up");
    a.namespace.ip("link set end mtu 1400");
    assert_eq!(fault(&a), Some("the interface was changed"));
    a.namespace.ip("link set end mtu 1500");
    assert_eq!(fault(&a), None);
    detach::detach(a.attachment.program_id(), a.attachment.plan().interface.index);
    assert_eq!(fault(&a), Some("the program was detached"));
    b.namespace.ip("link del end");
    assert_eq!(fault(&a), Some("the interface is gone"));
}

#[test]
fn ipv4_in_generic_mode() {
    what_one_sends_the_other_receives("end", ["10.78.0.1", "10.78.0.2"], Rung::Generic);
}

#[test]
fn zero_copy_is_refused_by_veth_with_a_reason_and_the_next_rung_serves() {
    let Some([a, _b]) = wire(["10.78.0.1", "10.78.0.2"], &Rung::ALL) else { return };
    assert_eq!(a.attachment.rung(), Rung::Copy);
    let plan = a.attachment.plan().clone();
    drop(a.ports);
    drop(a.attachment);
    let refused = a.namespace.within(|| {
        let (opened, refusals) = Attachment::open(&plan, &[Rung::ZeroCopy]);
        assert!(opened.is_none());
        refusals
    });
    assert!(refused[0].reason.contains("AF_XDP socket"), "{refused:?}");
}

#[test]
fn what_needs_fragments_or_has_no_neighbour_is_left_to_the_kernel() {
    let Some([mut a, _b]) = wire(["10.78.0.1", "10.78.0.2"], &[Rung::Copy]) else { return };
    let (fits, long) = (vec![b'x'; 1_472], vec![b'x'; 1_473]);
    assert_eq!(a.send([&fits[..], &long].into_iter()), 1);
    assert_eq!(a.send([&long[..], &fits].into_iter()), 2, "nothing overtakes what is left");
    a.peer.set_ip("10.78.0.9".parse().unwrap());
    assert_eq!(a.send([&fits[..]].into_iter()), 1, "nobody there");
    a.peer.set_ip("192.0.2.1".parse().unwrap());
    assert_eq!(a.send([&fits[..]].into_iter()), 1, "no route there");
    let counters = a.ports.counters();
    assert_eq!((counters.sent, counters.too_long, counters.no_way), (1, 2, 2));
}

#[test]
fn a_neighbour_is_followed_to_its_new_hardware_address() {
    let Some([mut a, mut b]) = wire(["10.78.0.1", "10.78.0.2"], &[Rung::Copy]) else { return };
    let (mut batch, start) = (RecvBatch::new(), Instant::now());
    assert_eq!(a.send([&b"one"[..]].into_iter()), 0);
    while b.receive(&mut batch, &mut |_, _| {}) == 0 && !is_due(start) {}
    a.namespace.ip("neigh replace 10.78.0.2 lladdr 02:00:00:00:00:77 dev end");
    a.watcher.turn().unwrap();
    assert_eq!(a.send([&b"two"[..]].into_iter()), 0);
    a.namespace.ip("neigh replace 10.78.0.2 lladdr 02:00:00:00:00:0b dev end");
    a.watcher.turn().unwrap();
    assert_eq!(a.send([&b"three"[..]].into_iter()), 0);
    let mut got = Vec::new();
    while got.is_empty() && !is_due(start) {
        b.receive(&mut batch, &mut |_, bytes| got.push(bytes.to_vec()));
    }
    assert_eq!(got, [b"three".to_vec()], "the second went to another station");
    a.namespace.ip("neigh del 10.78.0.2 dev end");
    a.watcher.turn().unwrap();
    assert_eq!(a.send([&b"four"[..]].into_iter()), 1, "left to the kernel, which asks for it");
}

/// How many packets; `VIADUCT_XDP_PACKETS=10000000` takes minutes.
fn packets() -> u64 {
    let asked = std::env::var("VIADUCT_XDP_PACKETS").ok();
    asked.and_then(|text| text.parse().ok()).unwrap_or(40_000)
}

#[test]
fn no_frame_is_lost_whatever_becomes_of_the_packets() {
    let Some([mut a, mut b]) = wire(["10.78.0.1", "10.78.0.2"], &[Rung::Copy]) else { return };
    let (text, mut batch) = (vec![b'x'; 300], RecvBatch::new());
    let (mut sent, mut refused, mut arrived, mut round) = (0u64, 0u64, 0u64, 0u64);
    while sent < packets() {
        round += 1;
        // Injected failures: the peer's end goes down for a while, or nobody reads there.
        match round % 400 {
            100 => b.namespace.ip("link set end down"),
            120 => {
                b.namespace.ip("link set end up");
                a.namespace.ip("neigh replace 10.78.0.2 lladdr 02:00:00:00:00:0b dev end");
                a.watcher.turn().unwrap();
            }
            _ => {}
        }
        let burst = 1 + (round % 64) as usize;
        let left = a.send(std::iter::repeat_n(text.as_slice(), burst)) as u64;
        refused += left;
        sent += burst as u64 - left;
        if round % 400 > 40 {
            arrived += b.receive(&mut batch, &mut |_, _| {}) as u64;
        }
        a.check_frames();
        b.check_frames();
        assert!(round < 1_000_000, "it goes nowhere: {sent} sent, {refused} refused");
    }
    arrived += b.receive(&mut batch, &mut |_, _| {}) as u64;
    let start = Instant::now();
    while a.attachment.frames()[0].sending > 0 && !is_due(start) {
        a.ports.push();
    }
    let frames = a.attachment.frames()[0];
    assert_eq!(frames.sending, 0, "{frames:?}");
    assert!(arrived > sent / 4, "{arrived} of {sent} arrived");
    drop(a.ports);
    let frames = a.attachment.frames()[0];
    assert_eq!((frames.held, frames.free + frames.filled), (0, FRAMES as usize), "{frames:?}");
}
