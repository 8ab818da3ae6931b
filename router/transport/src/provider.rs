//! What every datagram provider does: receive a batch, send a batch.
//!
//! Kernel UDP sockets, AF_XDP queues and test doubles are siblings behind [`DatagramRx`] and
//! [`DatagramTx`]. Buffers belong to the batches, are allocated once and reused; a provider holds
//! no message between two calls.

use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use viaduct_engine::{ConnId, Flow, Token, Transport};

/// Datagrams asked from the kernel, or given to it, in one system call.
pub const BATCH: usize = 64;

/// Room for one datagram. UDP carries at most 65,527 bytes (IPv6), so nothing is ever cut off.
pub const SLOT_BYTES: usize = 65_536;

/// Distance between two slots. With a distance of 64 KiB the first lines of all slots would fall
/// into the same sets of the processor's caches and evict each other.
pub(crate) const STRIDE_BYTES: usize = SLOT_BYTES + 1024;

/// Receives datagrams in batches.
pub trait DatagramRx {
    /// Replaces the content of `batch` by what has arrived and returns how many datagrams that is;
    /// 0 when nothing is waiting. Never blocks. Where [`RecvBatch::is_drained`] is false
    /// afterwards, more may be waiting although no further readiness event will come.
    fn recv(&mut self, batch: &mut RecvBatch) -> io::Result<usize>;
}

/// Sends datagrams in batches.
pub trait DatagramTx {
    /// Sends the datagrams of `batch` that are this provider's (by transport and local address) in
    /// order and takes them out of it. What the kernel cannot take now stays in the batch, up to
    /// the provider's bound. A datagram that cannot be sent is reported and does not keep the
    /// others. Returns how many were sent.
    fn flush(&mut self, batch: &mut SendBatch, failed: &mut dyn FnMut(SendFailure<'_>)) -> usize;
}

/// A message that could not be sent.
#[derive(Debug)]
pub struct SendFailure<'a> {
    /// Where it was to go.
    pub flow: Flow,
    /// What the sender called it; `Token(0)`: nobody asks.
    pub token: Token,
    /// The message.
    pub bytes: &'a [u8],
    /// Why.
    pub error: io::ErrorKind,
}

/// Received datagrams, in one reused arena.
pub struct RecvBatch {
    arena: Box<[u8]>,
    entries: Vec<Received>,
    drained: bool,
}

struct Received {
    flow: Flow,
    bytes: Range<usize>,
}

impl RecvBatch {
    /// An empty batch of [`BATCH`] slots. The arena of 4 MiB costs memory only as far as datagrams
    /// have reached into it.
    pub fn new() -> RecvBatch {
        RecvBatch {
            arena: vec![0; BATCH * STRIDE_BYTES].into_boxed_slice(),
            entries: Vec::with_capacity(BATCH),
            drained: true,
        }
    }

    /// Number of datagrams.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// No datagram at all.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Was everything taken that had arrived? If not, receive again before waiting.
    pub fn is_drained(&self) -> bool {
        self.drained
    }

    /// The datagrams with the flow each came by, in the order of arrival.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (Flow, &[u8])> {
        self.entries
            .iter()
            .map(|entry| (entry.flow, self.arena.get(entry.bytes.clone()).unwrap_or_default()))
    }

    /// Forgets all datagrams.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.drained = true;
    }

    /// For providers: the arena to receive into.
    pub fn arena_mut(&mut self) -> &mut [u8] {
        &mut self.arena
    }

    /// For providers: records a datagram at `bytes` of the arena.
    pub fn record(&mut self, flow: Flow, bytes: Range<usize>) {
        self.entries.push(Received { flow, bytes });
    }

    /// For providers: says whether more may be waiting.
    pub fn set_drained(&mut self, drained: bool) {
        self.drained = drained;
    }

    /// For wrappers: keeps only the datagrams for which `keep` is true.
    pub fn retain(&mut self, mut keep: impl FnMut(&Flow, &[u8]) -> bool) {
        let arena = &self.arena;
        self.entries
            .retain(|entry| keep(&entry.flow, arena.get(entry.bytes.clone()).unwrap_or_default()));
    }
}

impl Default for RecvBatch {
    fn default() -> RecvBatch {
        RecvBatch::new()
    }
}

/// Builds the flow of a datagram.
pub(crate) fn udp_flow(local: SocketAddr, remote: SocketAddr) -> Flow {
    Flow { transport: Transport::Udp, local, remote, conn: ConnId::NONE }
}

/// A message waiting in a [`SendBatch`].
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// Where it goes.
    pub flow: Flow,
    /// What to call it when it fails.
    pub token: Token,
    /// The message.
    pub bytes: &'a [u8],
}

/// Messages to send, of any transport, in one reused arena.
///
/// The engine writes into [`buffer`](Self::buffer); [`commit`](Self::commit) makes what it has
/// appended a message. So a message is written once, where the kernel reads it.
pub struct SendBatch {
    arena: Vec<u8>,
    entries: Vec<Outgoing>,
    committed: usize,
}

#[derive(Clone)]
pub(crate) struct Outgoing {
    pub(crate) flow: Flow,
    pub(crate) token: Token,
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) done: bool,
}

/// Bytes above which [`SendBatch::is_full`] asks for a flush.
const FULL_BYTES: usize = 512 * 1024;
/// Messages above which [`SendBatch::is_full`] asks for a flush.
const FULL_MESSAGES: usize = 4 * BATCH;
/// An empty arena larger than this is given back.
const KEEP_BYTES: usize = 4 * 1024 * 1024;

impl SendBatch {
    /// An empty batch.
    pub fn new() -> SendBatch {
        SendBatch {
            arena: Vec::with_capacity(FULL_BYTES),
            entries: Vec::with_capacity(FULL_MESSAGES),
            committed: 0,
        }
    }

    /// Where the next message is appended. Bytes already committed must be left as they are.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.arena
    }

    /// What has been appended since the last commit.
    pub fn uncommitted(&self) -> &[u8] {
        self.arena.get(self.committed..).unwrap_or_default()
    }

    /// Makes the uncommitted bytes one message for `flow`.
    pub fn commit(&mut self, flow: Flow, token: Token) {
        let (start, end) = (self.committed.min(self.arena.len()), self.arena.len());
        self.entries.push(Outgoing { flow, token, start, end, done: false });
        self.committed = end;
    }

    /// Throws the uncommitted bytes away.
    pub fn abandon(&mut self) {
        self.arena.truncate(self.committed);
    }

    /// Appends a message that lies elsewhere. Uncommitted bytes are thrown away.
    pub fn push(&mut self, flow: Flow, bytes: &[u8], token: Token) {
        self.abandon();
        self.arena.extend_from_slice(bytes);
        self.commit(flow, token);
    }

    /// Number of messages waiting.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Nothing waits.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes of the messages waiting.
    pub fn bytes(&self) -> usize {
        self.committed
    }

    /// Is it time to flush before more is asked from the engine?
    pub fn is_full(&self) -> bool {
        self.entries.len() >= FULL_MESSAGES || self.committed >= FULL_BYTES
    }

    /// The messages that wait, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = Datagram<'_>> {
        self.entries.iter().filter(|entry| !entry.done).map(|entry| self.view(entry))
    }

    /// For providers: calls `keep` with every message in order; those for which it says false are
    /// taken out.
    pub fn sweep(&mut self, mut keep: impl FnMut(Datagram<'_>) -> bool) {
        let arena = &self.arena;
        for entry in &mut self.entries {
            let bytes = arena.get(entry.start..entry.end).unwrap_or_default();
            entry.done |= !keep(Datagram { flow: entry.flow, token: entry.token, bytes });
        }
        self.compact();
    }

    /// Reports all messages that are left as failed. For what no provider has taken: a local
    /// address without a listener.
    pub fn refuse_rest(&mut self, failed: &mut dyn FnMut(SendFailure<'_>)) {
        self.sweep(|message| {
            failed(SendFailure {
                flow: message.flow,
                token: message.token,
                bytes: message.bytes,
                error: io::ErrorKind::AddrNotAvailable,
            });
            false
        });
    }

    pub(crate) fn view(&self, entry: &Outgoing) -> Datagram<'_> {
        Datagram {
            flow: entry.flow,
            token: entry.token,
            bytes: self.arena.get(entry.start..entry.end).unwrap_or_default(),
        }
    }

    pub(crate) fn parts(&mut self) -> (&[u8], &mut [Outgoing]) {
        (&self.arena, &mut self.entries)
    }

    /// Removes messages marked done and moves the others to the front.
    pub(crate) fn compact(&mut self) {
        let arena = &mut self.arena;
        let length_now = arena.len();
        let tail = self.committed.min(length_now)..length_now;
        let mut free = 0;
        self.entries.retain_mut(|entry| {
            if entry.done {
                return false;
            }
            // Clamped: a caller may have cut into what it had committed.
            let (start, end) = (entry.start.min(length_now), entry.end.min(length_now));
            let length = end.saturating_sub(start);
            if start != free && length > 0 {
                arena.copy_within(start..end, free);
            }
            (entry.start, entry.end) = (free, free.saturating_add(length));
            free = entry.end;
            true
        });
        let uncommitted = tail.len();
        if uncommitted > 0 {
            arena.copy_within(tail, free);
        }
        arena.truncate(free.saturating_add(uncommitted));
        self.committed = free;
        if arena.is_empty() && arena.capacity() > KEEP_BYTES {
            *arena = Vec::with_capacity(FULL_BYTES);
        }
    }
}

impl Default for SendBatch {
    fn default() -> SendBatch {
        SendBatch::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(port: u16) -> Flow {
        udp_flow(([127, 0, 0, 1], 5060).into(), ([127, 0, 0, 1], port).into())
    }

    fn content(batch: &SendBatch) -> Vec<(u16, Vec<u8>)> {
        batch.iter().map(|m| (m.flow.remote.port(), m.bytes.to_vec())).collect()
    }

    #[test]
    fn a_message_is_what_was_appended_since_the_last_commit() {
        let mut batch = SendBatch::new();
        batch.buffer().extend_from_slice(b"one");
        batch.commit(flow(1), Token(1));
        batch.buffer().extend_from_slice(b"rubbish");
        assert_eq!(batch.uncommitted(), b"rubbish");
        batch.abandon();
        batch.buffer().extend_from_slice(b"two");
        batch.commit(flow(2), Token(2));
        assert_eq!(content(&batch), [(1, b"one".to_vec()), (2, b"two".to_vec())]);
    }

    #[test]
    fn sweeping_keeps_order_and_what_is_not_committed_yet() {
        let mut batch = SendBatch::new();
        for (port, text) in [(1, "a"), (2, "bb"), (3, "ccc"), (4, "dddd"), (5, "")] {
            batch.push(flow(port), text.as_bytes(), Token(0));
        }
        batch.buffer().extend_from_slice(b"half");
        batch.sweep(|message| message.flow.remote.port() % 2 == 1);
        let expected = [(1, b"a".to_vec()), (3, b"ccc".to_vec()), (5, Vec::new())];
        assert_eq!(content(&batch), expected);
        assert_eq!((batch.uncommitted(), batch.bytes()), (&b"half"[..], 4));
        batch.sweep(|_| false);
        assert!(batch.is_empty());
        assert_eq!(batch.uncommitted(), b"half");
    }

    #[test]
    fn a_caller_that_cuts_into_committed_bytes_gets_short_messages_and_no_panic() {
        let mut batch = SendBatch::new();
        batch.push(flow(1), b"first", Token(0));
        batch.buffer().clear();
        batch.commit(flow(2), Token(0));
        assert_eq!(content(&batch), [(1, Vec::new()), (2, Vec::new())]);
        batch.sweep(|_| true);
    }

    #[test]
    fn what_nobody_takes_is_reported() {
        let mut batch = SendBatch::new();
        batch.push(flow(9), b"lost", Token(7));
        let mut seen = Vec::new();
        batch.refuse_rest(&mut |failure| seen.push((failure.token, failure.bytes.to_vec())));
        assert_eq!(seen, [(Token(7), b"lost".to_vec())]);
        assert!(batch.is_empty());
    }
}
