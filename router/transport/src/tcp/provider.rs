//! All streams of one worker.

use super::admission::{Admission, Admissions};
use super::connection::{Connection, Phase, Piece, ReadEnd};
use super::listener::Listener;
use super::pool::Pool;
use super::{CloseReason, TcpConfig, TcpCounters, TcpEvent};
use crate::provider::{Datagram, SendBatch};
use crate::sockets::new_socket;
use mio::event::{Event, Source};
use mio::{Interest, Registry, Token as PollToken};
use nix::sys::socket::{setsockopt, sockopt};
use slab::Slab;
use socket2::{SockRef, TcpKeepalive};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;
use viaduct_engine::{ConnId, Flow, Transport};

/// Poll tokens set aside for listeners.
const LISTENERS: usize = 64;
/// Bytes read at once.
const READ_BYTES: usize = 32 * 1024;
/// Pause after accepting has failed for want of something, microseconds.
const ACCEPT_PAUSE_US: u64 = 100_000;
/// A peer that has vanished without a word is noticed after two minutes of silence by the kernel.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(90), Duration::from_secs(10), 3);

/// Receives events; called while the provider works, so it must not need the provider.
type Sink<'a> = &'a mut dyn FnMut(TcpEvent<'_>);

/// All streams of one worker.
///
/// Events of the poll mark what is to be done ([`ready`](Self::ready)); [`turn`](Self::turn) does a
/// bounded part of it, in the order of marking, so no peer starves the others;
/// [`has_work`](Self::has_work) says whether to come back without waiting. After every turn, and
/// whenever the engine has put messages into the batch, call [`flush`](Self::flush).
pub struct TcpProvider {
    worker: u8,
    config: TcpConfig,
    registry: Registry,
    first_token: usize,
    listeners: Vec<Listener>,
    connections: Slab<Connection>,
    /// Number of the connection opened last.
    serial: u64,
    by_id: HashMap<ConnId, usize>,
    /// Connections we opened, by our listener's address and the peer's.
    outgoing: HashMap<(SocketAddr, SocketAddr), usize>,
    admissions: Admissions,
    /// What `turn` is to look at; a connection is in it at most once.
    queue: VecDeque<ConnId>,
    /// Connections with something to write since the last flush.
    dirty: Vec<ConnId>,
    /// Connections in phase closing that a flush has not seen.
    closing: Vec<ConnId>,
    /// One entry a connection, at its `armed_us`.
    deadlines: BTreeSet<(u64, ConnId)>,
    accept_again_us: Option<u64>,
    held: usize,
    pool: Pool,
    scratch: Box<[u8]>,
    counters: TcpCounters,
}

impl TcpProvider {
    /// The streams of `worker`. Poll tokens from `first_token` on belong to it, see
    /// [`owns`](Self::owns).
    pub fn new(
        worker: u8,
        config: TcpConfig,
        registry: &Registry,
        first_token: usize,
    ) -> io::Result<TcpProvider> {
        Ok(TcpProvider {
            worker,
            config,
            registry: registry.try_clone()?,
            first_token,
            listeners: Vec::new(),
            connections: Slab::new(),
            serial: 0,
            by_id: HashMap::new(),
            outgoing: HashMap::new(),
            admissions: Admissions::new(config.connections_per_source),
            queue: VecDeque::new(),
            dirty: Vec::new(),
            closing: Vec::new(),
            deadlines: BTreeSet::new(),
            accept_again_us: None,
            held: 0,
            pool: Pool::default(),
            scratch: vec![0; READ_BYTES].into_boxed_slice(),
            counters: TcpCounters::default(),
        })
    }

    /// Listens on a concrete address (port 0: any), shared with the other workers; returns the
    /// address bound. At most 64 listeners.
    pub fn listen(&mut self, addr: SocketAddr) -> io::Result<SocketAddr> {
        let index = self.listeners.len();
        if index >= LISTENERS {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "more than 64 TCP listeners"));
        }
        let token = PollToken(self.first_token.saturating_add(index));
        let listener = Listener::open(addr, &self.registry, token)?;
        let local = listener.local;
        self.listeners.push(listener);
        Ok(local)
    }

    /// Accepts no more connections; those that are open stay.
    pub fn stop_listening(&mut self) {
        self.listeners.clear();
        self.accept_again_us = None;
    }

    /// Is the token of a poll event one of this provider's?
    pub fn owns(&self, token: PollToken) -> bool {
        token.0 >= self.first_token
    }

    /// Notes that something can be done; [`turn`](Self::turn) does it.
    pub fn ready(&mut self, event: &Event) {
        let Some(index) = event.token().0.checked_sub(self.first_token) else { return };
        let Some(slot) = index.checked_sub(LISTENERS) else {
            if let Some(listener) = self.listeners.get_mut(index) {
                listener.pending = true;
            }
            return;
        };
        // An event of a connection closed meanwhile may hit the slot's next one: a read too many.
        let Some(connection) = self.connections.get_mut(slot) else { return };
        connection.readable |= event.is_readable() || event.is_read_closed() || event.is_error();
        if event.is_writable() || event.is_error() {
            connection.outbox.unblock();
        }
        enqueue(connection, &mut self.queue);
    }

    /// Is there work that no poll event will announce?
    pub fn has_work(&self) -> bool {
        let accepting = self.accept_again_us.is_none();
        !self.queue.is_empty()
            || !self.dirty.is_empty()
            || !self.closing.is_empty()
            || (accepting && self.listeners.iter().any(|listener| listener.pending))
    }

    /// Accepts, connects, reads and writes a bounded amount.
    pub fn turn(&mut self, now_us: u64, sink: Sink<'_>) {
        self.accept(now_us, sink);
        let mut budget = self.config.bytes_per_turn;
        for _ in 0..self.queue.len() {
            let Some(id) = self.queue.pop_front() else { break };
            let Some(slot) = self.by_id.get(&id).copied() else { continue };
            let Some(connection) = self.connections.get_mut(slot) else { continue };
            connection.queued = false;
            match self.serve(slot, now_us, sink) {
                Ok(read) => budget = budget.saturating_sub(read),
                Err(reason) => {
                    self.close_slot(slot, reason, sink);
                    continue;
                }
            }
            self.settle(slot, sink);
            if budget == 0 {
                break;
            }
        }
    }

    /// Sends the TCP messages of the batch and takes them out of it, each over the connection its
    /// flow names; with [`ConnId::NONE`] over one that we opened to the same address, else over a
    /// new one. Messages that cannot go out are reported, now or when the connection breaks.
    pub fn flush(&mut self, now_us: u64, batch: &mut SendBatch, sink: Sink<'_>) {
        if !batch.is_empty() {
            batch.sweep(|message| {
                let ours = message.flow.transport == Transport::Tcp;
                if ours {
                    self.enqueue_message(&message, now_us, sink);
                }
                !ours
            });
        }
        while let Some(id) = self.dirty.pop() {
            let Some(slot) = self.by_id.get(&id).copied() else { continue };
            if let Some(connection) = self.connections.get_mut(slot) {
                connection.dirty = false;
            }
            match self.write(slot, now_us) {
                Ok(()) => self.settle(slot, sink),
                Err(reason) => self.close_slot(slot, reason, sink),
            }
        }
        while let Some(id) = self.closing.pop() {
            if let Some(slot) = self.by_id.get(&id).copied() {
                self.finish_closing(slot, now_us, sink);
            }
        }
    }

    /// Closes connections whose time is over. Call when
    /// [`next_deadline_us`](Self::next_deadline_us) has come; earlier does no harm.
    pub fn on_tick(&mut self, now_us: u64, sink: Sink<'_>) {
        if self.accept_again_us.is_some_and(|at_us| at_us <= now_us) {
            self.accept_again_us = None;
        }
        while let Some((_, id)) = self.deadlines.first().copied().filter(|(at, _)| *at <= now_us) {
            let Some(slot) = self.by_id.get(&id).copied() else {
                self.deadlines.pop_first();
                continue;
            };
            let Some(connection) = self.connections.get_mut(slot) else { break };
            let (at_us, reason) = connection.deadline(&self.config);
            if at_us > now_us {
                self.deadlines.pop_first();
                connection.armed_us = at_us;
                self.deadlines.insert((at_us, id));
            } else {
                self.close_slot(slot, reason, sink);
            }
        }
    }

    /// When [`on_tick`](Self::on_tick) is to be called next.
    pub fn next_deadline_us(&self) -> Option<u64> {
        let first = self.deadlines.first().map(|(at_us, _)| *at_us);
        [first, self.accept_again_us].into_iter().flatten().min()
    }

    /// Closes one connection at once; what waits on it is reported as failed.
    pub fn close(&mut self, conn: ConnId, sink: Sink<'_>) {
        if let Some(slot) = self.by_id.get(&conn).copied() {
            self.close_slot(slot, CloseReason::Local, sink);
        }
    }

    /// Is this connection established and may be sent over?
    pub fn is_open(&self, conn: ConnId) -> bool {
        let slot = self.by_id.get(&conn).and_then(|slot| self.connections.get(*slot));
        slot.is_some_and(|connection| connection.phase == Phase::Open)
    }

    /// Connections, accepted and opened, those being established or closed included.
    pub fn len(&self) -> usize {
        self.connections.len()
    }

    /// Is there no connection?
    pub fn is_empty(&self) -> bool {
        self.connections.is_empty()
    }

    /// Bytes in all connections' buffers.
    pub fn memory_bytes(&self) -> usize {
        self.held
    }

    /// What has been done so far.
    pub fn counters(&self) -> TcpCounters {
        self.counters
    }

    fn accept(&mut self, now_us: u64, sink: Sink<'_>) {
        if self.accept_again_us.is_some() {
            return;
        }
        let mut left = self.config.accepts_per_turn;
        for index in 0..self.listeners.len() {
            while let Some(listener) = self.listeners.get_mut(index).filter(|l| l.pending) {
                if left == 0 {
                    return;
                }
                left -= 1;
                let local = listener.local;
                match listener.accept() {
                    Ok(None) => break,
                    Ok(Some((stream, peer))) => self.admit(stream, local, peer, now_us, sink),
                    Err(error) => {
                        // Out of descriptors: the connection stays in the kernel's queue, and no
                        // further event will come for it.
                        self.counters.accept_errors += 1;
                        self.accept_again_us = Some(now_us.saturating_add(ACCEPT_PAUSE_US));
                        tracing::warn!(%local, %error, "accepting connections failed, pausing");
                        return;
                    }
                }
            }
        }
    }

    fn admit(
        &mut self,
        stream: mio::net::TcpStream,
        local: SocketAddr,
        remote: SocketAddr,
        now_us: u64,
        sink: Sink<'_>,
    ) {
        let room = self.connections.len() < self.config.connections;
        match self.admissions.enter(remote.ip(), room) {
            Admission::Welcome => {}
            Admission::TooMany => {
                self.counters.refused_total += 1;
                return;
            }
            Admission::TooManyFromSource => {
                self.counters.refused_source += 1;
                return;
            }
        }
        let flow = Flow { transport: Transport::Tcp, local, remote, conn: self.next_id() };
        match self.insert(Connection::new(stream, flow, false, now_us)) {
            Ok(_) => {
                self.counters.accepted += 1;
                sink(TcpEvent::Opened { flow, outgoing: false });
            }
            Err(error) => {
                self.admissions.leave(remote.ip());
                self.counters.accept_errors += 1;
                tracing::debug!(%remote, %error, "accepted connection not usable");
            }
        }
    }

    fn next_id(&mut self) -> ConnId {
        self.serial = self.serial.saturating_add(1);
        ConnId::new(self.worker, self.serial)
    }

    fn insert(&mut self, mut connection: Connection) -> io::Result<usize> {
        // A SIP message is written whole; waiting for more to send only adds delay.
        connection.stream.set_nodelay(true)?;
        let (idle, interval, retries) = KEEPALIVE;
        let keepalive =
            TcpKeepalive::new().with_time(idle).with_interval(interval).with_retries(retries);
        SockRef::from(&connection.stream).set_tcp_keepalive(&keepalive)?;
        let entry = self.connections.vacant_entry();
        let slot = entry.key();
        let token = PollToken(self.first_token.saturating_add(LISTENERS).saturating_add(slot));
        let interest = Interest::READABLE | Interest::WRITABLE;
        connection.stream.register(&self.registry, token, interest)?;
        let id = connection.id();
        let (at_us, _) = connection.deadline(&self.config);
        connection.armed_us = at_us;
        entry.insert(connection);
        self.deadlines.insert((at_us, id));
        self.by_id.insert(id, slot);
        Ok(slot)
    }

    /// Does what one connection is ready for; returns the bytes read.
    fn serve(&mut self, slot: usize, now_us: u64, sink: Sink<'_>) -> Result<usize, CloseReason> {
        let Some(connection) = self.connections.get_mut(slot) else { return Ok(0) };
        if connection.phase == Phase::Connecting {
            match connection.connected() {
                Ok(None) => return Ok(0),
                Ok(Some(())) => {
                    connection.enter(Phase::Open, now_us);
                    self.counters.opened += 1;
                    sink(TcpEvent::Opened { flow: connection.flow, outgoing: true });
                }
                Err(error) => return Err(CloseReason::ConnectFailed(error.kind())),
            }
        }
        self.write(slot, now_us)?;
        let mut total = 0_usize;
        for _ in 0..self.config.reads_per_turn {
            let Some(connection) = self.connections.get(slot) else { break };
            if !connection.readable {
                break;
            }
            let end = match connection.phase {
                Phase::Open => self.read(slot, now_us, sink)?,
                Phase::Lingering(reason) => self.discard(slot, reason)?,
                Phase::Connecting | Phase::Closing(_) => break,
            };
            match end {
                ReadEnd::Some(count) => total = total.saturating_add(count),
                ReadEnd::Drained => break,
                ReadEnd::Eof => {
                    self.begin_closing(slot, CloseReason::Peer, now_us);
                    break;
                }
            }
        }
        Ok(total)
    }

    fn read(&mut self, slot: usize, now_us: u64, sink: Sink<'_>) -> Result<ReadEnd, CloseReason> {
        let Some(connection) = self.connections.get_mut(slot) else { return Ok(ReadEnd::Drained) };
        let flow = connection.flow;
        let counters = &mut self.counters;
        let mut pings = 0_u32;
        let mut pieces = |piece: Piece<'_>| match piece {
            Piece::Message(bytes) => {
                counters.received += 1;
                sink(TcpEvent::Message { flow, bytes });
            }
            Piece::Ping => pings = pings.saturating_add(1),
            Piece::Malformed(bytes, fault) => {
                counters.malformed += 1;
                sink(TcpEvent::Malformed { flow, bytes, fault });
            }
        };
        let limits = &self.config.limits;
        let end = connection
            .read(&mut self.scratch, limits, &mut self.pool, now_us, &mut pieces)
            .map_err(|error| CloseReason::Io(error.kind()))?;
        if matches!(connection.phase, Phase::Closing(_)) {
            self.closing.push(flow.conn);
        }
        self.counters.pings += u64::from(pings);
        for _ in 0..pings {
            // RFC 5626 3.5.1: a ping is answered with one CRLF.
            connection.outbox.push(b"\r\n", None, &mut self.pool);
        }
        if connection.outbox.waiting() > self.config.write_queue_bytes {
            return Err(CloseReason::WriteQueueFull);
        }
        if pings > 0 {
            mark_dirty(connection, &mut self.dirty);
        }
        Ok(end)
    }

    fn discard(&mut self, slot: usize, reason: CloseReason) -> Result<ReadEnd, CloseReason> {
        let Some(connection) = self.connections.get_mut(slot) else { return Ok(ReadEnd::Drained) };
        match connection.drain(&mut self.scratch) {
            Ok(ReadEnd::Eof) | Err(_) => Err(reason),
            Ok(end) => Ok(end),
        }
    }

    fn write(&mut self, slot: usize, now_us: u64) -> Result<(), CloseReason> {
        let Some(connection) = self.connections.get_mut(slot) else { return Ok(()) };
        if connection.outbox.is_empty()
            || matches!(connection.phase, Phase::Connecting | Phase::Lingering(_))
        {
            return Ok(());
        }
        match connection.write(&mut self.pool, now_us) {
            Ok(messages) => self.counters.sent += messages,
            Err(error) => return Err(CloseReason::Io(error.kind())),
        }
        if matches!(connection.phase, Phase::Closing(_)) && connection.outbox.is_empty() {
            self.closing.push(connection.id());
        }
        Ok(())
    }

    /// After a connection was touched: memory, deadline, its place in the queue.
    fn settle(&mut self, slot: usize, sink: Sink<'_>) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        let holds = connection.holds();
        let grown = holds > connection.held;
        self.held = self.held.saturating_sub(connection.held).saturating_add(holds);
        connection.held = holds;
        if grown && self.held > self.config.memory_bytes {
            return self.close_slot(slot, CloseReason::Memory, sink);
        }
        let (at_us, _) = connection.deadline(&self.config);
        if at_us < connection.armed_us {
            let id = connection.id();
            self.deadlines.remove(&(connection.armed_us, id));
            connection.armed_us = at_us;
            self.deadlines.insert((at_us, id));
        }
        let reads = matches!(connection.phase, Phase::Open | Phase::Lingering(_));
        if connection.readable && reads {
            enqueue(connection, &mut self.queue);
        }
    }

    fn enqueue_message(&mut self, message: &Datagram<'_>, now_us: u64, sink: Sink<'_>) {
        let slot = match self.find_or_connect(message.flow, now_us) {
            Ok(slot) => slot,
            Err(error) => return self.refuse(message, message.flow, error, sink),
        };
        let Some(connection) = self.connections.get_mut(slot) else { return };
        let flow = connection.flow;
        if connection.is_in_vain(message.bytes) {
            return self.refuse(message, flow, io::ErrorKind::NotConnected, sink);
        }
        let room = |connection: &Connection, config: &TcpConfig| {
            let waiting = connection.outbox.waiting().saturating_add(message.bytes.len());
            waiting <= config.write_queue_bytes
        };
        let mut full = !room(connection, &self.config);
        if full && self.write(slot, now_us).is_ok() {
            let connection = self.connections.get(slot);
            full = !connection.is_some_and(|connection| room(connection, &self.config));
        }
        let Some(connection) = self.connections.get_mut(slot) else { return };
        if full {
            let connecting = connection.phase == Phase::Connecting;
            self.refuse(message, flow, io::ErrorKind::WouldBlock, sink);
            // A peer that has not answered yet is not slow: what waits for it may still go out.
            if !connecting {
                self.close_slot(slot, CloseReason::WriteQueueFull, sink);
            }
            return;
        }
        connection.push(message.bytes, message.token, &mut self.pool);
        mark_dirty(connection, &mut self.dirty);
    }

    fn refuse(&mut self, message: &Datagram<'_>, flow: Flow, error: io::ErrorKind, sink: Sink<'_>) {
        self.counters.failed += 1;
        let (token, bytes) = (message.token, message.bytes);
        sink(TcpEvent::SendFailed { flow, token, bytes, error });
    }

    fn find_or_connect(&mut self, flow: Flow, now_us: u64) -> Result<usize, io::ErrorKind> {
        let slot = if flow.conn == ConnId::NONE {
            self.outgoing.get(&(flow.local, flow.remote)).copied()
        } else {
            let slot = self.by_id.get(&flow.conn).copied();
            Some(slot.ok_or(io::ErrorKind::NotConnected)?)
        };
        let named = flow.conn != ConnId::NONE;
        let usable = |slot: &usize| match self.connections.get(*slot).map(|c| c.phase) {
            Some(Phase::Connecting | Phase::Open) => true,
            // The peer has ended its side, or is being refused: it still reads an answer, but a
            // request there would never be answered.
            Some(Phase::Closing(_)) => named,
            Some(Phase::Lingering(_)) | None => false,
        };
        match slot.filter(usable) {
            Some(slot) => Ok(slot),
            None if !named => self.connect(flow, now_us),
            None => Err(io::ErrorKind::NotConnected),
        }
    }

    fn connect(&mut self, flow: Flow, now_us: u64) -> Result<usize, io::ErrorKind> {
        if self.connections.len() >= self.config.connections {
            return Err(io::ErrorKind::QuotaExceeded);
        }
        let flow = Flow { conn: self.next_id(), ..flow };
        let opened = start_connect(flow)
            .and_then(|stream| self.insert(Connection::new(stream, flow, true, now_us)));
        match opened {
            Ok(slot) => {
                self.outgoing.insert((flow.local, flow.remote), slot);
                Ok(slot)
            }
            Err(error) => {
                self.counters.connect_failed += 1;
                Err(error.kind())
            }
        }
    }

    /// Stops reading; the next flush writes what the engine has to say to this, then it ends.
    fn begin_closing(&mut self, slot: usize, reason: CloseReason, now_us: u64) {
        if let Some(connection) = self.connections.get_mut(slot) {
            connection.enter(Phase::Closing(reason), now_us);
            self.closing.push(connection.id());
        }
    }

    /// Ends a closing connection that has written everything.
    fn finish_closing(&mut self, slot: usize, now_us: u64, sink: Sink<'_>) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        let Phase::Closing(reason) = connection.phase else { return };
        if !connection.is_done() {
            return self.settle(slot, sink);
        }
        if reason == CloseReason::Peer || connection.stream.shutdown(Shutdown::Write).is_err() {
            return self.close_slot(slot, reason, sink);
        }
        connection.enter(Phase::Lingering(reason), now_us);
        connection.readable = true;
        self.settle(slot, sink);
    }

    fn close_slot(&mut self, slot: usize, reason: CloseReason, sink: Sink<'_>) {
        let Some(mut connection) = self.connections.try_remove(slot) else { return };
        let (flow, id) = (connection.flow, connection.id());
        self.by_id.remove(&id);
        self.deadlines.remove(&(connection.armed_us, id));
        self.held = self.held.saturating_sub(connection.held);
        let key = (flow.local, flow.remote);
        if !connection.outgoing {
            self.admissions.leave(flow.remote.ip());
        } else if self.outgoing.get(&key) == Some(&slot) {
            self.outgoing.remove(&key);
        }
        self.counters.closed += 1;
        if connection.phase == Phase::Connecting {
            self.counters.connect_failed += 1;
        }
        for (token, bytes) in connection.outbox.unsent() {
            self.counters.failed += 1;
            sink(TcpEvent::SendFailed { flow, token, bytes, error: error_kind(reason) });
        }
        connection.strip(&mut self.pool);
        sink(TcpEvent::Closed { flow, reason });
    }
}

fn enqueue(connection: &mut Connection, queue: &mut VecDeque<ConnId>) {
    if !connection.queued {
        connection.queued = true;
        queue.push_back(connection.id());
    }
}

fn mark_dirty(connection: &mut Connection, dirty: &mut Vec<ConnId>) {
    if !connection.dirty {
        connection.dirty = true;
        dirty.push(connection.id());
    }
}

/// What a message that was lost with its connection is told.
fn error_kind(reason: CloseReason) -> io::ErrorKind {
    match reason {
        CloseReason::Io(kind) | CloseReason::ConnectFailed(kind) => kind,
        CloseReason::ConnectTimeout | CloseReason::WriteTimeout => io::ErrorKind::TimedOut,
        _ => io::ErrorKind::ConnectionAborted,
    }
}

/// Begins to connect from the listener's address (any port) to the peer.
fn start_connect(flow: Flow) -> io::Result<mio::net::TcpStream> {
    let socket = new_socket(flow.remote, true)?;
    // Lets the kernel choose the port when it knows the peer, so that ports do not run out at
    // 28,000 connections; without it they only run out sooner.
    let _ = setsockopt(&socket, sockopt::IpBindAddressNoPort, &true);
    socket.bind(&SocketAddr::new(flow.local.ip(), 0).into())?;
    match socket.connect(&flow.remote.into()) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
        Err(error) => return Err(error),
    }
    Ok(mio::net::TcpStream::from_std(socket.into()))
}
