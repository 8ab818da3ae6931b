//! Kernel UDP sockets: one per listener and worker, batches both ways.
//!
//! Receiving is `recvmmsg` (optionally with UDP_GRO), sending `sendmmsg` with UDP_SEGMENT for runs
//! of equal datagrams; [`flush`] holds the rules of sending.

mod flush;
mod returned;
mod sieve;

pub use self::sieve::Sieve;
use crate::mmsg::{Arrived, Headers, Payload};
use crate::provider::{
    BATCH, DatagramRx, DatagramTx, RecvBatch, STRIDE_BYTES, SendBatch, SendFailure, udp_flow,
};
use crate::sockets::{BufferSizes, bind_shared, size_buffers};
use flush::{Flusher, Kernel};
use mio::{Interest, Registry, Token as PollToken, event::Source};
use nix::sys::socket::{setsockopt, sockopt};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use viaduct_engine::{Flow, Transport};

/// How UDP sockets are opened and used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UdpConfig {
    /// Bytes asked for SO_RCVBUF and SO_SNDBUF each; the kernel may grant less.
    pub buffer_bytes: usize,
    /// Send runs of equal datagrams to one peer as one (UDP_SEGMENT)? Turns itself off where the
    /// kernel refuses.
    pub segment: bool,
    /// Let the kernel join datagrams of one peer on receive (UDP_GRO)? Off by default: on loopback
    /// it saves something only where the peer segments on the same machine, and phones send
    /// datagrams one by one, of many lengths.
    pub join: bool,
    /// Bytes that may wait for room in the socket's send buffer. Beyond them the oldest datagrams
    /// are dropped: their senders retransmit, and the youngest are the ones still waited for.
    pub backlog_bytes: usize,
}

impl Default for UdpConfig {
    fn default() -> UdpConfig {
        UdpConfig {
            buffer_bytes: 4 * 1024 * 1024,
            segment: true,
            join: false,
            backlog_bytes: 1024 * 1024,
        }
    }
}

/// What a socket has done since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UdpCounters {
    /// Datagrams received.
    pub received: u64,
    /// Receive calls.
    pub recv_calls: u64,
    /// Datagrams the kernel cut off or without a usable source; not delivered.
    pub unusable: u64,
    /// Errors the kernel reported on receive.
    pub recv_errors: u64,
    /// Datagrams the kernel took.
    pub sent: u64,
    /// Send calls.
    pub send_calls: u64,
    /// Datagrams that went out as part of a segmented run.
    pub segmented: u64,
    /// Datagrams refused by the kernel and reported.
    pub failed: u64,
    /// Datagrams lost because the kernel had no memory; not reported, like loss on the wire.
    pub lost: u64,
    /// Datagrams dropped because too many waited.
    pub dropped: u64,
    /// Flushes that ended because the send buffer was full.
    pub blocked: u64,
    /// Datagrams that came back as undeliverable.
    pub returned: u64,
}

/// One UDP socket of one worker.
pub struct UdpSocket {
    socket: mio::net::UdpSocket,
    local: SocketAddr,
    granted: BufferSizes,
    headers: Headers,
    flusher: Flusher,
    counters: UdpCounters,
}

impl UdpSocket {
    /// Opens a socket on a concrete address (port 0: any), shared with the other workers by
    /// SO_REUSEPORT. See [`ensure_unused`](crate::ensure_unused).
    pub fn open(addr: SocketAddr, config: UdpConfig) -> io::Result<UdpSocket> {
        let socket = bind_shared(addr, false)?;
        let granted = size_buffers(&socket, config.buffer_bytes)?;
        if config.join
            && let Err(error) = setsockopt(&socket, sockopt::UdpGroSegment, &true)
        {
            tracing::info!(%addr, %error, "UDP_GRO not available");
        }
        let socket = mio::net::UdpSocket::from_std(socket.into());
        let local = socket.local_addr()?;
        if let Err(error) = returned::switch_on(&socket, local) {
            tracing::info!(%addr, %error, "ICMP errors are not told");
        }
        Ok(UdpSocket {
            socket,
            local,
            granted,
            headers: Headers::new(),
            flusher: Flusher::new(local, config),
            counters: UdpCounters::default(),
        })
    }

    /// The address the socket is bound to, with the port chosen.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Buffer sizes granted by the kernel.
    pub fn buffer_sizes(&self) -> BufferSizes {
        self.granted
    }

    /// What has been done so far.
    pub fn counters(&self) -> UdpCounters {
        self.counters
    }

    /// Takes what came back since the last call, at most [`BATCH`]: how each datagram was sent, and
    /// as much of it as the other side has shown. Call after an error event of the poll.
    pub fn returned(&mut self, sink: &mut dyn FnMut(Flow, &[u8])) {
        let mut room = returned::room();
        for _ in 0..BATCH {
            match returned::take(&self.socket, &mut room) {
                Ok(Some((remote, bytes))) => {
                    self.counters.returned += 1;
                    sink(udp_flow(self.local, remote), bytes);
                }
                Ok(None) => {}
                Err(_) => return,
            }
        }
    }

    fn record(&mut self, slot: usize, arrived: Arrived, batch: &mut RecvBatch) -> usize {
        let flow = udp_flow(self.local, arrived.remote);
        let start = slot.saturating_mul(STRIDE_BYTES);
        let end = start.saturating_add(arrived.length);
        let Some(segment) = arrived.segment.filter(|segment| *segment < arrived.length) else {
            batch.record(flow, start..end);
            return 1;
        };
        let before = batch.len();
        for from in (start..end).step_by(segment) {
            batch.record(flow, from..from.saturating_add(segment).min(end));
        }
        batch.len().saturating_sub(before)
    }
}

impl DatagramRx for UdpSocket {
    fn recv(&mut self, batch: &mut RecvBatch) -> io::Result<usize> {
        batch.clear();
        self.counters.recv_calls += 1;
        let filled = match self.headers.recv(self.socket.as_fd(), batch.arena_mut()) {
            Ok(filled) => filled,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(0),
            Err(error) if is_passing(&error) => {
                self.counters.recv_errors += 1;
                batch.set_drained(false);
                return Ok(0);
            }
            Err(error) => return Err(error),
        };
        let mut total = 0_usize;
        for slot in 0..filled {
            match self.headers.arrived(slot) {
                Some(arrived) if !arrived.truncated => total += self.record(slot, arrived, batch),
                _ => self.counters.unusable += 1,
            }
        }
        self.counters.received += total as u64;
        batch.set_drained(filled < BATCH);
        Ok(total)
    }
}

/// Is it the news of some earlier datagram's fate, not of the socket's?
fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, HostUnreachable, Interrupted, NetworkUnreachable};
    matches!(error.kind(), ConnectionRefused | HostUnreachable | Interrupted | NetworkUnreachable)
}

/// The send side of the socket, apart from the rules of sending.
struct Calls<'a> {
    socket: &'a mio::net::UdpSocket,
    headers: &'a mut Headers,
}

impl Kernel for Calls<'_> {
    fn send<'a>(&mut self, payloads: &mut dyn Iterator<Item = Payload<'a>>) -> io::Result<usize> {
        self.headers.send(self.socket.as_fd(), payloads)
    }
}

impl DatagramTx for UdpSocket {
    fn flush(&mut self, batch: &mut SendBatch, failed: &mut dyn FnMut(SendFailure<'_>)) -> usize {
        let mut calls = Calls { socket: &self.socket, headers: &mut self.headers };
        self.flusher.flush(&mut calls, batch, &mut self.counters, failed)
    }
}

impl AsFd for UdpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Source for UdpSocket {
    fn register(&mut self, r: &Registry, token: PollToken, interest: Interest) -> io::Result<()> {
        self.socket.register(r, token, interest)
    }
    fn reregister(&mut self, r: &Registry, token: PollToken, i: Interest) -> io::Result<()> {
        self.socket.reregister(r, token, i)
    }
    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.socket.deregister(registry)
    }
}

/// All UDP sockets of one worker.
#[derive(Default)]
pub struct UdpSockets {
    sockets: Vec<UdpSocket>,
}

impl UdpSockets {
    /// Opens one socket for each address.
    pub fn open(addrs: &[SocketAddr], config: UdpConfig) -> io::Result<UdpSockets> {
        let sockets = addrs.iter().map(|addr| UdpSocket::open(*addr, config));
        Ok(UdpSockets { sockets: sockets.collect::<io::Result<_>>()? })
    }

    /// Registers socket `i` for reading and writing under the poll token `first + i`. Events are
    /// edge-triggered: after one, receive until the batch says it is drained.
    pub fn register(&mut self, registry: &Registry, first: usize) -> io::Result<()> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        for (token, socket) in (first..).zip(&mut self.sockets) {
            registry.register(socket, PollToken(token), interest)?;
        }
        Ok(())
    }

    /// The socket whose poll token is `first + index`.
    pub fn get_mut(&mut self, index: usize) -> Option<&mut UdpSocket> {
        self.sockets.get_mut(index)
    }

    /// All sockets.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &UdpSocket> {
        self.sockets.iter()
    }

    /// Number of sockets.
    pub fn len(&self) -> usize {
        self.sockets.len()
    }

    /// Is there no socket?
    pub fn is_empty(&self) -> bool {
        self.sockets.is_empty()
    }

    /// Sends all UDP datagrams of the batch, each through the socket bound to its local address;
    /// those without one are reported with `AddrNotAvailable`.
    pub fn flush(
        &mut self,
        batch: &mut SendBatch,
        failed: &mut dyn FnMut(SendFailure<'_>),
    ) -> usize {
        if batch.is_empty() {
            return 0;
        }
        let sent = self.sockets.iter_mut().map(|socket| socket.flush(batch, failed)).sum();
        if !batch.is_empty() {
            self.refuse_strangers(batch, failed);
        }
        sent
    }

    fn refuse_strangers(&self, batch: &mut SendBatch, failed: &mut dyn FnMut(SendFailure<'_>)) {
        batch.sweep(|message| {
            let flow = message.flow;
            let known = flow.transport != Transport::Udp
                || self.sockets.iter().any(|socket| socket.local == flow.local);
            if !known {
                let error = io::ErrorKind::AddrNotAvailable;
                failed(SendFailure { flow, token: message.token, bytes: message.bytes, error });
            }
            known
        });
    }
}
