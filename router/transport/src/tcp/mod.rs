//! SIP over TCP: listeners, connections, framing, limits, deadlines.
//!
//! Every stream is framed by Content-Length (RFC 3261 18.3) by `viaduct_message::framing`; what
//! cannot be framed closes the connection. A connection belongs to the worker that accepted or
//! opened it and is named by a [`ConnId`](viaduct_engine::ConnId) that never comes back. Requests
//! are sent only over connections we opened ourselves, or over the one a flow names: an accepted
//! connection is no way to its peer's address (RFC 5923 aliases need an identity that plain TCP
//! does not prove).
//!
//! [`provider`] is the worker's view; [`connection`] is one connection, [`outbox`] what it still
//! has to write, [`admission`] who may connect.

mod admission;
mod connection;
mod listener;
mod outbox;
mod pool;
mod provider;

pub use provider::TcpProvider;

use std::io;
use viaduct_engine::{Flow, Token};
use viaduct_message::{Fault, Limits};

/// Limits and times of one worker's TCP. Times are microseconds.
#[derive(Clone, Copy, Debug)]
pub struct TcpConfig {
    /// Size of a message.
    pub limits: Limits,
    /// Connections in all, accepted and opened.
    pub connections: usize,
    /// Accepted connections from one IPv4 address or one IPv6 /64 network.
    pub connections_per_source: u32,
    /// Bytes held in all connections' buffers together.
    pub memory_bytes: usize,
    /// Bytes that may wait to be written to one connection; one above is closed.
    pub write_queue_bytes: usize,
    /// Connections accepted in one turn.
    pub accepts_per_turn: usize,
    /// Reads from one connection in one turn; the rest waits for its next place in the queue.
    pub reads_per_turn: usize,
    /// Bytes read in one turn from all connections, before outputs are to be flushed.
    pub bytes_per_turn: usize,
    /// A connection without a message or keep-alive for so long is closed. RFC 3261 18 asks for at
    /// least 64*T1 = 32 s; the default outlives an hour's registration, because a phone behind a
    /// NAT cannot be called once its connection is gone.
    pub idle_us: u64,
    /// A message must be complete so long after its first byte, and the first one so long after
    /// the connection was accepted.
    pub message_us: u64,
    /// A connection must be established in this time.
    pub connect_us: u64,
    /// A peer that takes nothing of what waits for so long is given up.
    pub write_us: u64,
    /// How long a refused peer is given to read our last answer.
    pub linger_us: u64,
}

impl Default for TcpConfig {
    fn default() -> TcpConfig {
        const SECOND_US: u64 = 1_000_000;
        TcpConfig {
            limits: Limits::default(),
            connections: 65_536,
            connections_per_source: 1_024,
            memory_bytes: 256 * 1024 * 1024,
            write_queue_bytes: 256 * 1024,
            accepts_per_turn: 64,
            reads_per_turn: 4,
            bytes_per_turn: 256 * 1024,
            idle_us: 3_900 * SECOND_US,
            message_us: 20 * SECOND_US,
            connect_us: 5 * SECOND_US,
            write_us: 32 * SECOND_US,
            linger_us: 2 * SECOND_US,
        }
    }
}

/// What has happened on the streams.
#[derive(Debug)]
pub enum TcpEvent<'a> {
    /// A connection is established.
    Opened {
        /// Its name and addresses.
        flow: Flow,
        /// Did we open it?
        outgoing: bool,
    },
    /// One whole message.
    Message {
        /// The connection it came by.
        flow: Flow,
        /// Start line to the end of the body.
        bytes: &'a [u8],
    },
    /// The stream cannot be framed any more. An answer committed before the next
    /// [`TcpProvider::flush`] is still delivered; then the connection closes.
    Malformed {
        /// The connection.
        flow: Flow,
        /// The broken message as far as it has come.
        bytes: &'a [u8],
        /// What is wrong.
        fault: Fault,
    },
    /// A message was not, or not entirely, handed to the kernel.
    SendFailed {
        /// Where it was to go; `conn` names the connection that failed, if there was one.
        flow: Flow,
        /// What the sender called it.
        token: Token,
        /// The message, so that a response can be sent another way (RFC 3261 18.2.2).
        bytes: &'a [u8],
        /// Why.
        error: io::ErrorKind,
    },
    /// A connection is gone. The last event that names it.
    Closed {
        /// Which.
        flow: Flow,
        /// Why.
        reason: CloseReason,
    },
}

/// Why a connection was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The peer closed it.
    Peer,
    /// Reading or writing failed.
    Io(io::ErrorKind),
    /// It could not be established.
    ConnectFailed(io::ErrorKind),
    /// It was not established in time.
    ConnectTimeout,
    /// Nothing was exchanged for too long.
    Idle,
    /// A message was begun and not finished in time, or none was sent at all.
    MessageTimeout,
    /// The peer took nothing of what was to be written for too long.
    WriteTimeout,
    /// More was to be written than may wait.
    WriteQueueFull,
    /// All connections together hold too much.
    Memory,
    /// The stream could not be framed.
    Malformed,
    /// We wanted it closed.
    Local,
}

/// What the worker's TCP has done since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpCounters {
    /// Connections accepted.
    pub accepted: u64,
    /// Connections refused because there are too many in all.
    pub refused_total: u64,
    /// Connections refused because there are too many from one source.
    pub refused_source: u64,
    /// Times that accepting failed for want of file descriptors or memory.
    pub accept_errors: u64,
    /// Connections we opened and the peer accepted.
    pub opened: u64,
    /// Connections we tried to open in vain.
    pub connect_failed: u64,
    /// Connections that are gone, of either kind.
    pub closed: u64,
    /// Messages received.
    pub received: u64,
    /// Messages handed to the kernel entirely.
    pub sent: u64,
    /// Messages reported as failed.
    pub failed: u64,
    /// Keep-alives answered (RFC 5626 3.5.1).
    pub pings: u64,
    /// Streams closed because of bad framing.
    pub malformed: u64,
}
