//! The AF_XDP ports of a worker: one set for each interface, given and taken away by mail. Whatever
//! they leave goes by the kernel's sockets.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mio::{Registry, Token as PollToken};
use viaduct_transport::xdp::XdpPorts;
use viaduct_transport::{DatagramRx, DatagramTx, RecvBatch};

use super::core::Core;

/// Ports, and where it is told that their device refuses to send.
pub(crate) type Given = (Box<XdpPorts>, Arc<AtomicBool>);

/// Poll tokens of ports; far above those of sockets and connections.
const FIRST: usize = 1 << 48;
/// Poll tokens of one interface: more than it has queues.
const OF_ONE: usize = 1 << 16;
/// Batches taken from one interface in one turn.
const BATCHES_PER_TURN: usize = 8;

/// All ports of a worker.
#[derive(Default)]
pub(super) struct FastPath {
    slots: Vec<Option<Given>>,
    /// What ports that are gone have done.
    received_before: u64,
    sent_before: u64,
}

impl FastPath {
    /// Is a poll token one of a port? Then its port is read in the next turn.
    pub(super) fn ready(&mut self, token: PollToken) -> bool {
        let Some(place) = token.0.checked_sub(FIRST) else { return false };
        if let Some(Some((ports, _))) = self.slots.get_mut(place / OF_ONE) {
            ports.ready(place % OF_ONE);
        }
        true
    }

    /// Takes the ports of an interface, or gives them up after reading what is in them.
    pub(super) fn install(
        &mut self,
        slot: usize,
        given: Option<Given>,
        registry: &Registry,
        recv: &mut RecvBatch,
        core: &mut Core,
    ) {
        self.give_up(slot, recv, core);
        if self.slots.len() <= slot {
            self.slots.resize_with(slot.saturating_add(1), || None);
        }
        let first = FIRST.saturating_add(slot.saturating_mul(OF_ONE));
        if let Some((ports, failed)) = &given
            && let Err(error) = ports.register(registry, first)
        {
            tracing::warn!(target: "viaduct::packets", %error, "ports cannot be waited for");
            failed.store(true, Ordering::Relaxed);
        }
        if let Some(place) = self.slots.get_mut(slot) {
            *place = given;
        }
    }

    fn give_up(&mut self, slot: usize, recv: &mut RecvBatch, core: &mut Core) {
        let old = self.slots.get_mut(slot).and_then(Option::take);
        let Some((mut ports, _)) = old else { return };
        // Nothing comes in any more; a ring holds so many at most.
        for index in 0..ports.len() {
            ports.ready(index);
        }
        while ports.has_unread() {
            if ports.recv(recv).is_err() {
                break;
            }
            recv.iter().for_each(|(flow, bytes)| core.datagram(flow, bytes));
        }
        let counters = ports.counters();
        self.received_before = self.received_before.wrapping_add(counters.received);
        self.sent_before = self.sent_before.wrapping_add(counters.sent);
    }

    /// May something be received or sent without further events?
    pub(super) fn has_work(&self) -> bool {
        self.slots.iter().flatten().any(|(ports, _)| ports.has_work())
    }

    /// Reads what has come; `flush` is called whenever something is to be sent.
    pub(super) fn receive(
        &mut self,
        recv: &mut RecvBatch,
        core: &mut Core,
        flush: &mut dyn FnMut(&mut FastPath, &mut Core),
    ) {
        for slot in 0..self.slots.len() {
            for _ in 0..BATCHES_PER_TURN {
                let Some(Some((ports, _))) = self.slots.get_mut(slot) else { break };
                if !ports.has_unread() {
                    break;
                }
                // Receiving from shared memory has no errors.
                let _ = ports.recv(recv);
                for (flow, bytes) in recv.iter() {
                    core.datagram(flow, bytes);
                    if core.send.is_full() {
                        flush(self, core);
                    }
                }
                flush(self, core);
            }
        }
    }

    /// Sends what it can of the batch.
    pub(super) fn flush(&mut self, core: &mut Core) {
        for (ports, failed) in self.slots.iter_mut().flatten() {
            ports.flush(&mut core.send, &mut |_| {});
            note(ports.take_fault(), failed);
        }
    }

    /// Has the kernel send what it could not take before.
    pub(super) fn push(&mut self) {
        for (ports, failed) in
            self.slots.iter_mut().flatten().filter(|(ports, _)| ports.is_unsent())
        {
            ports.push();
            note(ports.take_fault(), failed);
        }
    }

    /// Is there no port?
    pub(super) fn is_empty(&self) -> bool {
        self.slots.iter().all(Option::is_none)
    }

    /// Peers whose way is known.
    pub(super) fn ways(&self) -> u64 {
        let ports = self.slots.iter().flatten();
        ports.fold(0, |sum, (ports, _)| sum.saturating_add(ports.ways() as u64))
    }

    /// Datagrams received and sent.
    pub(super) fn counts(&self) -> (u64, u64) {
        let mut counts = (self.received_before, self.sent_before);
        for (ports, _) in self.slots.iter().flatten() {
            let counters = ports.counters();
            counts.0 = counts.0.wrapping_add(counters.received);
            counts.1 = counts.1.wrapping_add(counters.sent);
        }
        counts
    }
}

fn note(fault: Option<io::Error>, failed: &AtomicBool) {
    if let Some(error) = fault {
        tracing::warn!(target: "viaduct::packets", %error, "the device does not send");
        failed.store(true, Ordering::Relaxed);
    }
}
