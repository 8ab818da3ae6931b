//! The AF_XDP provider of one worker: all its sockets, and what is received and sent by them.

use std::io;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::sync::Arc;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token as PollToken};
use viaduct_engine::Transport;

use super::attachment::WorkerPorts;
use super::frames::Port;
use super::hops::{Exit, Hops, Network};
use super::interface::Interface;
use super::packet::{Headers, Unfit, ip_headers, parse};
use crate::provider::{
    BATCH, Datagram, DatagramRx, DatagramTx, RecvBatch, STRIDE_BYTES, SendBatch, SendFailure,
    udp_flow,
};

/// What a worker's ports have done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct XdpCounters {
    /// Datagrams received.
    pub received: u64,
    /// Packets thrown away for a wrong checksum.
    pub damaged: u64,
    /// Datagrams sent.
    pub sent: u64,
    /// Datagrams left to the kernel's sockets: no neighbour known, or not by an interface of ours.
    pub no_way: u64,
    /// Datagrams left to the kernel's sockets: they need fragments.
    pub too_long: u64,
    /// Datagrams left to the kernel's sockets: no frame free, or no room in the ring.
    pub no_room: u64,
}

/// All AF_XDP sockets of one worker.
pub struct XdpPorts {
    ports: Vec<Port>,
    /// Of each interface (a slot), the port that sends.
    senders: Vec<usize>,
    readable: Vec<bool>,
    listeners: Vec<SocketAddr>,
    hops: Hops,
    /// Identification of the next IPv4 packet.
    id: u16,
    counters: XdpCounters,
    fault: Option<io::Error>,
    /// Peers of whom this batch has left a message to the kernel's sockets.
    left: Vec<SocketAddr>,
}

impl XdpPorts {
    /// Joins the ports of worker `worker` on all interfaces. Fails where the kernel gives no
    /// socket for questions about routes.
    pub fn new(
        worker: u8,
        interfaces: Vec<WorkerPorts>,
        network: Arc<Network>,
    ) -> io::Result<XdpPorts> {
        let (mut ports, mut senders) = (Vec::new(), Vec::new());
        let (mut listeners, mut exits) = (Vec::new(), Vec::new());
        for (slot, of) in interfaces.into_iter().enumerate() {
            let (plan, queues) = (of.plan, of.ports.len().max(1));
            // Workers spread their sending over the queues.
            senders.push(ports.len().saturating_add(usize::from(worker) % queues));
            ports.extend(of.ports);
            listeners.extend(plan.listeners.iter().map(|(addr, _)| *addr));
            let (mac, mtu) = (plan.interface.mac, plan.interface.mtu);
            exits.push(Exit { index: plan.interface.index, slot, vlan: 0, mac, mtu });
            exits.extend(plan.vlans.iter().map(|(interface, vlan)| {
                let Interface { index, mac, mtu, .. } = interface;
                Exit { index: *index, slot, vlan: *vlan, mac: *mac, mtu: *mtu }
            }));
        }
        Ok(XdpPorts {
            readable: vec![true; ports.len()],
            ports,
            senders,
            listeners,
            hops: Hops::new(network, exits)?,
            id: u16::from(worker) << 10,
            counters: XdpCounters::default(),
            fault: None,
            left: Vec::new(),
        })
    }

    /// Registers port `i` for reading under the poll token `first + i`. Events are edge-triggered.
    pub fn register(&self, registry: &Registry, first: usize) -> io::Result<()> {
        for (token, port) in (first..).zip(&self.ports) {
            let fd = port.fd();
            registry.register(&mut SourceFd(&fd), PollToken(token), Interest::READABLE)?;
        }
        Ok(())
    }

    /// Descriptors, in the order of the poll tokens.
    pub fn fds(&self) -> impl Iterator<Item = RawFd> {
        self.ports.iter().map(Port::fd)
    }

    /// Number of ports.
    pub fn len(&self) -> usize {
        self.ports.len()
    }

    /// Is there no port?
    pub fn is_empty(&self) -> bool {
        self.ports.is_empty()
    }

    /// Something has arrived at port `index`.
    pub fn ready(&mut self, index: usize) {
        if let Some(readable) = self.readable.get_mut(index) {
            *readable = true;
        }
    }

    /// May something be received or sent without further events?
    pub fn has_work(&self) -> bool {
        self.has_unread() || self.is_unsent()
    }

    /// May something be received without a further event?
    pub fn has_unread(&self) -> bool {
        self.readable.contains(&true)
    }

    /// Is there something that the kernel has not taken yet?
    pub fn is_unsent(&self) -> bool {
        self.ports.iter().any(Port::has_work)
    }

    /// What has been done so far.
    pub fn counters(&self) -> XdpCounters {
        self.counters
    }

    /// Peers whose way is known.
    pub fn ways(&self) -> usize {
        self.hops.len()
    }

    /// Packets the kernel dropped before they were received; a system call for each port.
    pub fn dropped(&self) -> u64 {
        self.ports.iter().map(Port::dropped).fold(0, u64::wrapping_add)
    }

    /// What the device said when it was told to send, once.
    pub fn take_fault(&mut self) -> Option<io::Error> {
        self.fault.take()
    }

    /// Tells the kernel to send what it has not taken yet.
    pub fn push(&mut self) {
        for port in &mut self.ports {
            if let Err(error) = port.send() {
                self.fault = Some(error);
            }
        }
    }

    /// As [`Self::write`]; but what follows a message that is left to the kernel, to the same peer, is
    /// left to it too: it would overtake.
    fn take(&mut self, message: &Datagram<'_>) -> bool {
        let peer = message.flow.remote;
        if self.left.contains(&peer) {
            return false;
        }
        let taken = self.write(message);
        if !taken {
            self.left.push(peer);
        }
        taken
    }

    /// Writes a message into a frame; false: it is left to the kernel's sockets.
    fn write(&mut self, message: &Datagram<'_>) -> bool {
        let flow = &message.flow;
        if flow.transport != Transport::Udp || !self.listeners.contains(&flow.local) {
            return false;
        }
        let Some((slot, hop)) = self.hops.find(flow.local.ip(), flow.remote.ip()) else {
            self.counters.no_way += 1;
            return false;
        };
        if message.bytes.len().saturating_add(ip_headers(flow.remote.ip())) > hop.mtu {
            self.counters.too_long += 1;
            return false;
        }
        let id = self.id.max(1);
        let Some(headers) = Headers::new(&hop, flow.local, flow.remote, message.bytes, id) else {
            return false;
        };
        let port = self.senders.get(slot).and_then(|port| self.ports.get_mut(*port));
        if !port.is_some_and(|port| port.write([headers.as_slice(), message.bytes])) {
            self.counters.no_room += 1;
            return false;
        }
        self.id = id.wrapping_add(1);
        self.counters.sent += 1;
        true
    }
}

impl DatagramRx for XdpPorts {
    fn recv(&mut self, batch: &mut RecvBatch) -> io::Result<usize> {
        batch.clear();
        let next = self.readable.iter().position(|readable| *readable);
        let Some((index, port)) = next.and_then(|i| Some((i, self.ports.get_mut(i)?))) else {
            return Ok(0);
        };
        let (counters, listeners) = (&mut self.counters, &self.listeners);
        let mut slot = 0usize;
        let count = port.receive(&mut |frame| match parse(frame) {
            Ok(parsed) if listeners.contains(&parsed.target) => {
                let bytes = frame.get(parsed.payload).unwrap_or_default();
                let start = slot.saturating_mul(STRIDE_BYTES);
                let end = start.saturating_add(bytes.len());
                if let Some(room) = batch.arena_mut().get_mut(start..end) {
                    room.copy_from_slice(bytes);
                    batch.record(udp_flow(parsed.target, parsed.source), start..end);
                    slot = slot.saturating_add(1);
                }
            }
            Err(Unfit::Checksum) => counters.damaged += 1,
            // The program lets nothing else through.
            Ok(_) | Err(Unfit::Shape) => {}
        });
        self.counters.received += batch.len() as u64;
        if count < BATCH
            && let Some(readable) = self.readable.get_mut(index)
        {
            *readable = false;
        }
        batch.set_drained(!self.readable.contains(&true));
        Ok(batch.len())
    }
}

impl DatagramTx for XdpPorts {
    /// Takes what it can; the rest stays in the batch for the kernel's sockets.
    fn flush(&mut self, batch: &mut SendBatch, _: &mut dyn FnMut(SendFailure<'_>)) -> usize {
        let before = self.counters.sent;
        self.left.clear();
        batch.sweep(|message| !self.take(&message));
        self.push();
        usize::try_from(self.counters.sent.wrapping_sub(before)).unwrap_or(usize::MAX)
    }
}
