//! What waits to be polled: outputs in order, and the bytes of those that are to be sent.

use std::collections::VecDeque;

use crate::flow::Flow;
use crate::io::{Output, Token};

/// A queued output. Bytes lie in one arena that is emptied when the queue is, so a batch of
/// messages costs no allocation once the arena has grown. The copy into the caller's buffer is the
/// price of answering without state: the request's bytes are gone when the caller polls.
enum Queued {
    Transmit { flow: Flow, token: Token, may_open: bool, start: usize, end: usize },
    Other(Output),
}

#[derive(Default)]
pub(crate) struct Outbox {
    queue: VecDeque<Queued>,
    arena: Vec<u8>,
    /// Most outputs of one input so far.
    most: usize,
}

impl Outbox {
    /// Queues what `write` appends.
    pub(crate) fn transmit(
        &mut self,
        flow: Flow,
        token: Token,
        may_open: bool,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        let start = self.arena.len();
        write(&mut self.arena);
        let end = self.arena.len();
        self.queue.push_back(Queued::Transmit { flow, token, may_open, start, end });
        self.most = self.most.max(self.queue.len());
    }

    /// Most outputs of one input so far.
    pub(crate) fn most(&self) -> usize {
        self.most
    }

    pub(crate) fn push(&mut self, output: Output) {
        self.queue.push_back(Queued::Other(output));
        self.most = self.most.max(self.queue.len());
    }

    /// The next output; bytes to send are appended to `buffer`.
    pub(crate) fn pop(&mut self, buffer: &mut Vec<u8>) -> Option<Output> {
        match self.queue.pop_front() {
            Some(Queued::Transmit { flow, token, may_open, start, end }) => {
                buffer.extend_from_slice(self.arena.get(start..end).unwrap_or_default());
                Some(Output::Transmit { flow, token, may_open })
            }
            Some(Queued::Other(output)) => Some(output),
            None => {
                self.arena.clear();
                None
            }
        }
    }
}
