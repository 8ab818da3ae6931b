//! A worker: one thread with its own engine, sockets and policy instances. Its loop takes bounded
//! turns over mail, datagrams, streams and timers, and sleeps when there is nothing to do.
//!
//! Start reading at [`Worker::run`]; [`core`] is the engine and its outputs, [`mail`] what other
//! threads say, [`fast`] the AF_XDP ports, [`pings`] keep-alives.

pub(crate) mod bound;
pub(crate) mod core;
pub(crate) mod fast;
pub(crate) mod mail;
pub(crate) mod pings;
mod relief;

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mio::{Events, Poll, Token as PollToken};
use viaduct_engine::{Input, Listener, Token, Transport};
use viaduct_transport::{
    CloseReason, DatagramRx, RecvBatch, SendBatch, TcpConfig, TcpEvent, TcpProvider, UdpConfig,
    UdpSockets,
};

use self::core::{Clock, Core};
use fast::FastPath;
use mail::{Address, Mail, Mailbox, mailbox};
use relief::Relief;

use crate::metrics::{Counter, Gauge};

/// Poll token of the mailbox; UDP sockets follow, then TCP.
const WAKE: PollToken = PollToken(0);
const UDP_FIRST: usize = 1;
/// Mail taken in one turn.
const MAIL_PER_TURN: usize = 1024;
/// Looks at the mail after the sockets, so that neither starves the other.
const MAIL_ROUNDS: usize = 4;
/// Batches taken from one UDP socket in one turn.
const BATCHES_PER_TURN: usize = 4;
/// All new requests, in thousandths.
const ALL_NEW: u16 = 1000;
/// Longest sleep: the watchdog wants to see the loop turn.
const LONGEST_SLEEP_US: u64 = 1_000_000;

/// Sockets of a worker, opened before its thread starts so that a refusal is known at once.
pub(crate) struct Sockets {
    poll: Poll,
    udp: UdpSockets,
    relief: Relief,
    tcp: TcpProvider,
    mailbox: Mailbox,
    address: Address,
}

impl Sockets {
    /// Opens all listeners of worker `index`.
    pub(crate) fn open(
        index: u8,
        listeners: &[Listener],
        udp: UdpConfig,
        tcp: TcpConfig,
    ) -> io::Result<Sockets> {
        let poll = Poll::new()?;
        let of =
            |transport| listeners.iter().filter(move |l| l.transport == transport).map(|l| l.addr);
        let udp_addrs: Vec<SocketAddr> = of(Transport::Udp).collect();
        let mut udp = UdpSockets::open(&udp_addrs, udp)?;
        udp.register(poll.registry(), UDP_FIRST)?;
        let tcp_first = UDP_FIRST.saturating_add(udp.len());
        let mut tcp = TcpProvider::new(index, tcp, poll.registry(), tcp_first)?;
        for addr in of(Transport::Tcp) {
            tcp.listen(addr)?;
        }
        let waker = mio::Waker::new(poll.registry(), WAKE)?;
        let (mailbox, address) = mailbox(waker);
        Ok(Sockets { poll, udp, relief: Relief::load(), tcp, mailbox, address })
    }

    /// The UDP sockets.
    pub(crate) fn udp(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.udp.iter().map(AsFd::as_fd)
    }

    /// Where mail to this worker goes.
    pub(crate) fn address(&self) -> Address {
        self.address.clone()
    }
}

/// What others may see of a running worker.
#[derive(Default)]
pub(crate) struct Pulse {
    /// Turns of the loop.
    pub(crate) turns: AtomicU64,
    /// Requests not finally answered yet.
    pub(crate) unanswered: AtomicU64,
}

/// One worker thread's all.
pub(crate) struct Worker {
    poll: Poll,
    udp: UdpSockets,
    relief: Relief,
    fast: FastPath,
    tcp: TcpProvider,
    mailbox: Mailbox,
    address: Address,
    core: Core,
    recv: RecvBatch,
    /// Takes the send batch's place while that is being written to streams.
    spare: SendBatch,
    /// Which UDP sockets may have more.
    readable: Vec<bool>,
    clock: Arc<Clock>,
    pulse: Arc<Pulse>,
    draining: bool,
    stopped: bool,
}

impl Worker {
    /// A worker from its sockets and its engine.
    pub(crate) fn new(
        sockets: Sockets,
        core: Core,
        clock: Arc<Clock>,
        pulse: Arc<Pulse>,
    ) -> Worker {
        let readable = vec![true; sockets.udp.len()];
        Worker {
            poll: sockets.poll,
            udp: sockets.udp,
            relief: sockets.relief,
            fast: FastPath::default(),
            tcp: sockets.tcp,
            mailbox: sockets.mailbox,
            address: sockets.address,
            core,
            recv: RecvBatch::new(),
            spare: SendBatch::new(),
            readable,
            clock,
            pulse,
            draining: false,
            stopped: false,
        }
    }

    /// Serves until it is told to stop.
    pub(crate) fn run(mut self) -> io::Result<()> {
        self.address.own();
        let mut events = Events::with_capacity(256);
        while !self.stopped {
            self.wait(&mut events)?;
            self.core.now = self.clock.now();
            for event in &events {
                let token = event.token();
                if self.fast.ready(token) {
                    continue;
                }
                if self.tcp.owns(token) {
                    self.tcp.ready(event);
                } else if let Some(index) = token.0.checked_sub(UDP_FIRST)
                    && let Some(readable) = self.readable.get_mut(index)
                {
                    *readable = true;
                    if event.is_error() {
                        self.take_returned(index);
                    }
                }
            }
            self.turn();
        }
        Ok(())
    }

    /// Sleeps until something happens or a timer is due.
    fn wait(&mut self, events: &mut Events) -> io::Result<()> {
        let now_us = self.clock.now().mono_us;
        let (pings_us, probes_us) = (self.core.pings_due_us(), self.core.probes_due_us());
        let deadlines = [self.core.deadline_us, self.tcp.next_deadline_us(), pings_us, probes_us];
        let deadline_us = deadlines.into_iter().flatten().min();
        let sleep_us = deadline_us
            .map_or(LONGEST_SLEEP_US, |at| at.saturating_sub(now_us))
            .min(LONGEST_SLEEP_US);
        self.mailbox.fall_asleep();
        let busy = self.tcp.has_work()
            || self.readable.contains(&true)
            || self.fast.has_work()
            || !self.mailbox.receiver.is_empty()
            || !self.core.send.is_empty();
        let timeout = if busy { Duration::ZERO } else { Duration::from_micros(sleep_us) };
        let polled = self.poll.poll(events, Some(timeout));
        self.mailbox.wake_up();
        match polled {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
            _ => Ok(()),
        }
    }

    /// One bounded turn over everything.
    fn turn(&mut self) {
        self.take_mail();
        self.take_datagrams();
        self.take_streams();
        self.core.tick();
        self.core.ping();
        self.core.probe();
        self.flush();
        // Commits that were made at once have come back as mail; their answers belong to this turn.
        for _ in 0..MAIL_ROUNDS {
            if self.stopped || self.mailbox.receiver.is_empty() {
                break;
            }
            self.take_mail();
            self.flush();
        }
        self.count();
    }

    fn take_mail(&mut self) {
        for _ in 0..MAIL_PER_TURN {
            let Ok(mail) = self.mailbox.receiver.try_recv() else { return };
            match mail {
                Mail::Committed { token, result, since_us } => {
                    let us = self.core.now.mono_us.saturating_sub(since_us);
                    self.core.around.stats.committed(&result, us);
                    self.core.input(Input::Committed { token, result });
                }
                Mail::Resolved { token, hops } => {
                    let found =
                        if hops.is_empty() { Counter::ResolveFailed } else { Counter::Resolved };
                    self.core.around.stats.add(found, 1);
                    self.core.input(Input::Resolved { token, hops });
                }
                Mail::Answered { token, result } => {
                    self.core.input(Input::Answered { token, result });
                }
                Mail::Message { flow, bytes } => self.core.own_message(flow, &bytes),
                Mail::Send { flow, bytes, token, from } => self.send_for(flow, &bytes, token, from),
                Mail::SendFailed { token } => self.core.send_failed(token),
                Mail::Undelivered { flow, bytes } => {
                    self.core.input(Input::Undelivered { flow, bytes: &bytes });
                }
                Mail::Ports { slot, ports } => {
                    let Worker { fast, poll, recv, core, .. } = self;
                    fast.install(slot, ports, poll.registry(), recv, core);
                }
                Mail::Reconfigure(settings) => self.core.engine.reconfigure(settings),
                Mail::Tap(tap) => self.core.tap = tap,
                Mail::Probe(prober) => self.core.prober = prober,
                Mail::Drain => {
                    self.draining = true;
                    self.tcp.stop_listening();
                }
                Mail::Stop => self.stopped = true,
            }
            if self.core.send.is_full() {
                self.flush();
            }
        }
    }

    /// Sends for another worker over a connection of this one.
    fn send_for(&mut self, flow: viaduct_engine::Flow, bytes: &[u8], token: Token, from: u8) {
        if self.tcp.is_open(flow.conn) {
            // The token is the other worker's: a later failure cannot be told to it, and its timers
            // deal with that as with any loss.
            self.core.send.push(flow, bytes, Token::default());
        } else if let Some(asker) = self.core.around.workers.get(usize::from(from)) {
            asker.post(Mail::SendFailed { token });
        }
    }

    /// Datagrams that came back as undeliverable.
    fn take_returned(&mut self, index: usize) {
        let Worker { udp, core, .. } = self;
        if let Some(socket) = udp.get_mut(index) {
            socket.returned(&mut |flow, bytes| core.undelivered(flow, bytes));
        }
    }

    fn take_datagrams(&mut self) {
        let Worker { udp, fast, recv, core, readable, .. } = self;
        fast.receive(recv, core, &mut |fast, core| flush_udp(udp, fast, core));
        for (index, readable) in readable.iter_mut().enumerate() {
            for _ in 0..BATCHES_PER_TURN {
                if !*readable {
                    break;
                }
                let Some(socket) = udp.get_mut(index) else { break };
                let received = socket.recv(recv);
                *readable = received.is_ok() && !recv.is_drained();
                for (flow, bytes) in recv.iter() {
                    core.datagram(flow, bytes);
                    if core.send.is_full() {
                        flush_udp(udp, fast, core);
                    }
                }
                flush_udp(udp, fast, core);
            }
        }
    }

    fn take_streams(&mut self) {
        let Worker { tcp, core, .. } = self;
        let now_us = core.now.mono_us;
        tcp.turn(now_us, &mut |event| stream_event(core, event));
        if tcp.next_deadline_us().is_some_and(|at| at <= now_us) {
            tcp.on_tick(now_us, &mut |event| stream_event(core, event));
        }
    }

    fn flush(&mut self) {
        let Worker { tcp, udp, fast, core, spare, .. } = self;
        flush_udp(udp, fast, core);
        fast.push();
        if core.send.is_empty() && !tcp.has_work() {
            return;
        }
        let now_us = core.now.mono_us;
        // The provider works on the batch while its events may cause new messages: those gather in
        // the other batch, and follow.
        std::mem::swap(&mut core.send, spare);
        tcp.flush(now_us, spare, &mut |event| stream_event(core, event));
        for message in core.send.iter() {
            spare.push(message.flow, message.bytes, message.token);
        }
        core.send.sweep(|_| false);
        std::mem::swap(&mut core.send, spare);
        // What is neither UDP nor TCP has no provider yet.
        let mut refused = Vec::new();
        if core.send.iter().any(|m| !matches!(m.flow.transport, Transport::Udp | Transport::Tcp)) {
            core.send.sweep(|message| {
                let known = matches!(message.flow.transport, Transport::Udp | Transport::Tcp);
                if !known {
                    refused.push(message.token);
                }
                known
            });
        }
        refused.into_iter().for_each(|token| core.send_failed(token));
    }

    fn count(&mut self) {
        let (mut received, mut sent, mut lost) = (0u64, 0u64, 0u64);
        for socket in self.udp.iter() {
            let counters = socket.counters();
            received = received.wrapping_add(counters.received);
            sent = sent.wrapping_add(counters.sent);
            lost = lost.wrapping_add(counters.dropped).wrapping_add(counters.lost);
        }
        let (xdp_received, xdp_sent) = self.fast.counts();
        let stats = &self.core.around.stats;
        // A part before the whole, so that who reads between them sees no part that is missing.
        stats.put(Counter::XdpReceived, xdp_received);
        stats.put(Counter::XdpSent, xdp_sent);
        stats.put(Counter::UdpReceived, received.wrapping_add(xdp_received));
        stats.put(Counter::UdpSent, sent.wrapping_add(xdp_sent));
        stats.put(Counter::UdpDropped, lost);
        stats.put(Counter::UdpSieved, self.relief.dropped);
        stats.set(Gauge::Ways, self.fast.ways());
        let behind = self.readable.contains(&true) || self.fast.has_work();
        if behind {
            stats.add(Counter::TurnsCut, 1);
        }
        self.core.engine.note_backlog(behind, self.core.now.mono_us);
        self.relieve();
        self.core.publish(self.tcp.len());
        self.pulse.turns.fetch_add(1, Ordering::Relaxed);
        if self.draining {
            let unanswered = self.core.engine.unanswered() as u64;
            self.pulse.unanswered.store(unanswered, Ordering::Relaxed);
        }
    }
}

impl Worker {
    /// Under pressure the kernel keeps from us what would be thrown away. What comes by AF_XDP it does not
    /// see, so that there the engine alone draws.
    fn relieve(&mut self) {
        let engine = &mut self.core.engine;
        let wanted = if self.fast.is_empty() { engine.wanted_new() } else { ALL_NEW };
        let brought = self.relief.bring(wanted, &self.udp);
        engine.note_brought(brought);
    }
}

/// Sends datagrams: by AF_XDP what can go that way, the rest by the kernel's sockets.
fn flush_udp(udp: &mut UdpSockets, fast: &mut FastPath, core: &mut Core) {
    if core.send.is_empty() {
        return;
    }
    fast.flush(core);
    let mut failed = Vec::new();
    udp.flush(&mut core.send, &mut |failure| failed.push(failure.token));
    for token in failed {
        core.send_failed(token);
    }
}

fn stream_event(core: &mut Core, event: TcpEvent<'_>) {
    match event {
        TcpEvent::Opened { flow, .. } => {
            core.around.stats.add(Counter::TcpOpened, 1);
            core.around.streams.opened(&flow);
        }
        TcpEvent::Message { flow, bytes } => core.message(flow, bytes),
        TcpEvent::Malformed { flow, bytes, fault } => {
            core.around.stats.bad_framing();
            let source = flow.remote.ip();
            tracing::debug!(target: "viaduct::malformed", %source, %fault, "bad framing");
            // The engine answers 400 where the head says whom to tell; then the connection closes.
            core.broken_stream(flow, bytes, fault);
        }
        TcpEvent::SendFailed { token, .. } => core.send_failed(token),
        TcpEvent::Closed { flow, reason } => {
            if reason == CloseReason::WriteQueueFull {
                core.around.stats.add(Counter::TcpSlow, 1);
            }
            let location = &core.around.location;
            for key in core.around.streams.closed(&flow) {
                // RFC 5626 7: a binding does not outlive its flow.
                viaduct_location::drop_bindings(location, &key, |b| b.fields().conn == flow.conn);
            }
        }
    }
}
