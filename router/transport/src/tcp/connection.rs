//! One connection: its phase, what it has half received, what it has to write, when it is over.

use super::outbox::Outbox;
use super::pool::Pool;
use super::{CloseReason, TcpConfig};
use std::io::{self, Read};
use viaduct_engine::{ConnId, Flow, Token};
use viaduct_message::framing::{Frame, StreamFramer};
use viaduct_message::{Fault, Limits};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// We have asked; the peer has not answered.
    Connecting,
    /// Both ways are open.
    Open,
    /// Nothing more is read as messages; what waits is written, then the connection ends.
    Closing(CloseReason),
    /// Our side is shut down. What the peer still sends is thrown away until it closes: closing
    /// with unread bytes would reset the connection and could destroy our last answer on its way.
    Lingering(CloseReason),
}

pub(super) struct Connection {
    pub(super) stream: mio::net::TcpStream,
    pub(super) flow: Flow,
    pub(super) outgoing: bool,
    pub(super) phase: Phase,
    pub(super) outbox: Outbox,
    framer: StreamFramer,
    /// The message that has come in part.
    inbox: Vec<u8>,
    /// When the phase began.
    phase_us: u64,
    /// When a frame came or bytes went out last.
    active_us: u64,
    /// When the message in `inbox` was begun.
    begun_us: Option<u64>,
    /// Since when nothing of what waits has gone out.
    stalled_us: Option<u64>,
    /// Has the peer ever sent a whole message or a ping?
    framed: bool,
    /// Requests of the peer that have had no final answer on it.
    owed: u32,
    /// The kernel may have bytes for us.
    pub(super) readable: bool,
    /// Stands in the queue of the turn.
    pub(super) queued: bool,
    /// Has something to write since the last flush.
    pub(super) dirty: bool,
    /// The deadline entered for it, never later than the true one.
    pub(super) armed_us: u64,
    /// Bytes of buffers last counted.
    pub(super) held: usize,
}

/// What came out of the stream.
pub(super) enum Piece<'a> {
    Message(&'a [u8]),
    Ping,
    Malformed(&'a [u8], Fault),
}

/// How a read ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadEnd {
    /// So many bytes came; more may be waiting.
    Some(usize),
    /// Nothing waits.
    Drained,
    /// The peer has shut down its side.
    Eof,
}

fn is_to_be_answered(message: &[u8]) -> bool {
    !message.starts_with(b"SIP/2.0 ") && !message.starts_with(b"ACK ")
}

fn is_final_answer(message: &[u8]) -> bool {
    message.strip_prefix(b"SIP/2.0 ").is_some_and(|status| !status.starts_with(b"1"))
}

impl Connection {
    pub(super) fn new(
        stream: mio::net::TcpStream,
        flow: Flow,
        outgoing: bool,
        now_us: u64,
    ) -> Connection {
        Connection {
            stream,
            flow,
            outgoing,
            phase: if outgoing { Phase::Connecting } else { Phase::Open },
            outbox: Outbox::default(),
            framer: StreamFramer::new(),
            inbox: Vec::new(),
            phase_us: now_us,
            active_us: now_us,
            begun_us: None,
            stalled_us: None,
            framed: false,
            owed: 0,
            readable: false,
            queued: false,
            dirty: false,
            armed_us: u64::MAX,
            held: 0,
        }
    }

    pub(super) fn id(&self) -> ConnId {
        self.flow.conn
    }

    pub(super) fn enter(&mut self, phase: Phase, now_us: u64) {
        self.phase = phase;
        self.phase_us = now_us;
        self.active_us = now_us;
    }

    /// Is a connection that we opened established? `None`: not yet.
    pub(super) fn connected(&self) -> io::Result<Option<()>> {
        if let Some(error) = self.stream.take_error()? {
            return Err(error);
        }
        match self.stream.peer_addr() {
            Ok(_) => Ok(Some(())),
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads once and hands out the pieces that are complete.
    pub(super) fn read(
        &mut self,
        scratch: &mut [u8],
        limits: &Limits,
        pool: &mut Pool,
        now_us: u64,
        sink: &mut dyn FnMut(Piece<'_>),
    ) -> io::Result<ReadEnd> {
        let count = match (&self.stream).read(scratch) {
            Ok(0) => return Ok(ReadEnd::Eof),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.readable = false;
                return Ok(ReadEnd::Drained);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                return Ok(ReadEnd::Some(0));
            }
            Err(error) => return Err(error),
        };
        let fresh = scratch.get(..count).unwrap_or_default();
        self.take(fresh, limits, pool, now_us, sink);
        Ok(ReadEnd::Some(count))
    }

    /// Adds bytes of the stream. What is complete at once is never copied.
    fn take(
        &mut self,
        fresh: &[u8],
        limits: &Limits,
        pool: &mut Pool,
        now_us: u64,
        sink: &mut dyn FnMut(Piece<'_>),
    ) {
        let mut inbox = std::mem::take(&mut self.inbox);
        let cut = if inbox.is_empty() {
            let cut = self.frames(fresh, limits, now_us, sink);
            let rest = fresh.get(cut..).unwrap_or_default();
            if !rest.is_empty() {
                pool.lend(&mut inbox);
                inbox.extend_from_slice(rest);
            }
            cut
        } else {
            inbox.extend_from_slice(fresh);
            let cut = self.frames(&inbox, limits, now_us, sink);
            inbox.drain(..cut.min(inbox.len()));
            cut
        };
        if inbox.is_empty() || self.phase != Phase::Open {
            inbox.clear();
            self.begun_us = None;
        } else if cut > 0 || self.begun_us.is_none() {
            self.begun_us = Some(now_us);
        }
        pool.reclaim(&mut inbox);
        self.inbox = inbox;
    }

    /// Hands out the frames at the start of `buffer` and returns how many bytes they cover.
    fn frames(
        &mut self,
        buffer: &[u8],
        limits: &Limits,
        now_us: u64,
        sink: &mut dyn FnMut(Piece<'_>),
    ) -> usize {
        let mut cut: usize = 0;
        loop {
            let rest = buffer.get(cut..).unwrap_or_default();
            if rest.is_empty() {
                return cut;
            }
            let span = match self.framer.next(rest, limits) {
                Ok(Frame::Message(span)) => {
                    self.framed = true;
                    self.owed =
                        self.owed.saturating_add(u32::from(is_to_be_answered(span.of(rest))));
                    sink(Piece::Message(span.of(rest)));
                    span
                }
                Ok(Frame::Ping(span)) => {
                    self.framed = true;
                    sink(Piece::Ping);
                    span
                }
                Ok(Frame::Blank(span)) => span,
                Ok(Frame::Partial) => return cut,
                Err(fault) => {
                    self.enter(Phase::Closing(CloseReason::Malformed), now_us);
                    sink(Piece::Malformed(rest, fault));
                    return buffer.len();
                }
            };
            self.active_us = now_us;
            let end = span.end as usize;
            if end == 0 {
                return cut;
            }
            cut = cut.saturating_add(end);
        }
    }

    /// Takes a message to write.
    pub(super) fn push(&mut self, bytes: &[u8], token: Token, pool: &mut Pool) {
        self.owed = self.owed.saturating_sub(u32::from(is_final_answer(bytes)));
        self.outbox.push(bytes, Some(token), pool);
    }

    /// Would a message there be read for nothing? Who has ended its side, or is being refused, still
    /// takes answers, but answers no request.
    pub(super) fn is_in_vain(&self, bytes: &[u8]) -> bool {
        matches!(self.phase, Phase::Closing(_)) && !bytes.starts_with(b"SIP/2.0 ")
    }

    /// May it end, as far as we are concerned? A peer that has ended its side alone still wants the
    /// answers to what it has asked: they may wait for a store.
    pub(super) fn is_done(&self) -> bool {
        self.outbox.is_empty()
            && (self.owed == 0 || self.phase != Phase::Closing(CloseReason::Peer))
    }

    /// Reads once and throws the bytes away.
    pub(super) fn drain(&mut self, scratch: &mut [u8]) -> io::Result<ReadEnd> {
        match (&self.stream).read(scratch) {
            Ok(0) => Ok(ReadEnd::Eof),
            Ok(count) => Ok(ReadEnd::Some(count)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.readable = false;
                Ok(ReadEnd::Drained)
            }
            Err(error) => Err(error),
        }
    }

    /// Writes what waits; returns the messages that are out.
    pub(super) fn write(&mut self, pool: &mut Pool, now_us: u64) -> io::Result<u64> {
        let progress = self.outbox.write(&mut &self.stream, pool)?;
        if progress.bytes > 0 {
            self.active_us = now_us;
        }
        if self.outbox.is_empty() {
            self.stalled_us = None;
        } else if progress.bytes > 0 || self.stalled_us.is_none() {
            self.stalled_us = Some(now_us);
        }
        Ok(progress.messages)
    }

    /// When the connection is over if nothing happens, and why.
    pub(super) fn deadline(&self, config: &TcpConfig) -> (u64, CloseReason) {
        let message = match (self.begun_us, self.framed || self.outgoing) {
            (Some(begun_us), _) => Some(begun_us),
            (None, false) => Some(self.phase_us),
            (None, true) => None,
        };
        match self.phase {
            Phase::Connecting => {
                (self.phase_us.saturating_add(config.connect_us), CloseReason::ConnectTimeout)
            }
            Phase::Closing(reason) | Phase::Lingering(reason) => {
                (self.phase_us.saturating_add(config.linger_us), reason)
            }
            Phase::Open => [
                (Some(self.active_us), config.idle_us, CloseReason::Idle),
                (message, config.message_us, CloseReason::MessageTimeout),
                (self.stalled_us, config.write_us, CloseReason::WriteTimeout),
            ]
            .into_iter()
            .filter_map(|(since, span, why)| Some((since?.saturating_add(span), why)))
            .min_by_key(|(at_us, _)| *at_us)
            .unwrap_or((u64::MAX, CloseReason::Idle)),
        }
    }

    /// Bytes of buffers it holds.
    pub(super) fn holds(&self) -> usize {
        self.inbox.capacity().saturating_add(self.outbox.capacity())
    }

    /// Gives its buffers back.
    pub(super) fn strip(&mut self, pool: &mut Pool) {
        self.inbox.clear();
        pool.reclaim(&mut self.inbox);
        self.outbox.discard(pool);
    }
}
