//! The floor: one datagram in, the same one out, nothing else. By sockets without batching, by AF_XDP
//! as the router does it.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use mio::{Events, Poll};
use viaduct_engine::Token;
use viaduct_tests::support::wire::ROUTER;
use viaduct_transport::xdp::{Attachment, Plan, Rung, Watcher, XdpPorts, interfaces};
use viaduct_transport::{DatagramRx as _, DatagramTx as _, RecvBatch, SendBatch};

/// As many as the router has where its configuration does not say.
const FRAMES: u32 = 2048;

/// Echoes until killed.
pub(crate) fn serve(address: SocketAddr) -> Result<()> {
    let socket = UdpSocket::bind(address)?;
    let mut buffer = vec![0; 65_536];
    loop {
        let (length, from) = socket.recv_from(&mut buffer)?;
        if let Some(datagram) = buffer.get(..length) {
            socket.send_to(datagram, from)?;
        }
    }
}

/// The same at an address of the cable, by the router's own AF_XDP provider.
pub(crate) fn serve_by_xdp(address: SocketAddr) -> Result<()> {
    let all = interfaces().context("the interfaces")?;
    let interface = all.into_iter().find(|one| one.name == ROUTER).context(ROUTER)?;
    let (listeners, vlans) = (vec![(address, 0)], Vec::new());
    let plan = Plan { interface, listeners, vlans, workers: 1, frames: FRAMES, rate: (0, 0) };
    let mut watcher = Watcher::open()?;
    let (opened, refusals) = Attachment::open(&plan, &[Rung::Copy]);
    let Some((_attachment, ports)) = opened else { bail!("no AF_XDP: {refusals:?}") };
    let mut ports = XdpPorts::new(0, ports, Arc::clone(watcher.network()))?;
    let mut poll = Poll::new()?;
    ports.register(poll.registry(), 0)?;
    // For the first to a peer, whose hardware address is not known. Bound last: now it can serve.
    let socket = UdpSocket::bind(address)?;
    let mut events = Events::with_capacity(8);
    let (mut received, mut sent) = (RecvBatch::new(), SendBatch::new());
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            ports.ready(event.token().0);
        }
        while ports.has_unread() {
            ports.recv(&mut received)?;
            received.iter().for_each(|(flow, bytes)| sent.push(flow, bytes, Token(0)));
            ports.flush(&mut sent, &mut |_| {});
            for left in sent.iter() {
                socket.send_to(left.bytes, left.flow.remote)?;
                watcher.turn()?;
            }
            sent.sweep(|_| false);
        }
        ports.push();
    }
}
