//! What a connection still has to write.

use super::pool::Pool;
use std::collections::VecDeque;
use std::io::{self, Write};
use viaduct_engine::Token;

/// Messages in order, the first perhaps partly written. A message's bytes stay until the kernel has
/// taken all of them, so that it can be reported whole when the connection breaks.
#[derive(Default)]
pub(super) struct Outbox {
    bytes: Vec<u8>,
    written: usize,
    /// Where the first message that is not out begins.
    first: usize,
    messages: VecDeque<Waiting>,
    /// The kernel has refused more; wait for its writable event.
    blocked: bool,
}

struct Waiting {
    end: usize,
    /// `None` for keep-alives, which nobody counts or misses.
    token: Option<Token>,
}

impl Outbox {
    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Bytes not written yet.
    pub(super) fn waiting(&self) -> usize {
        self.bytes.len().saturating_sub(self.written)
    }

    pub(super) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    pub(super) fn unblock(&mut self) {
        self.blocked = false;
    }

    pub(super) fn push(&mut self, bytes: &[u8], token: Option<Token>, pool: &mut Pool) {
        pool.lend(&mut self.bytes);
        self.bytes.extend_from_slice(bytes);
        self.messages.push_back(Waiting { end: self.bytes.len(), token });
    }

    /// Writes as much as the kernel takes. Returns the bytes and messages that are out.
    pub(super) fn write(
        &mut self,
        stream: &mut impl Write,
        pool: &mut Pool,
    ) -> io::Result<Progress> {
        let mut progress = Progress::default();
        let mut result = Ok(());
        while !self.blocked && self.waiting() > 0 && result.is_ok() {
            match stream.write(self.bytes.get(self.written..).unwrap_or_default()) {
                Ok(0) => result = Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    self.written = self.written.saturating_add(count).min(self.bytes.len());
                    progress.bytes = progress.bytes.saturating_add(count);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.blocked = true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => result = Err(error),
            }
        }
        progress.messages = self.forget_written();
        pool.reclaim(&mut self.bytes);
        result.map(|()| progress)
    }

    fn forget_written(&mut self) -> u64 {
        let mut messages = 0;
        while let Some(front) = self.messages.front().filter(|front| front.end <= self.written) {
            self.first = front.end;
            messages += u64::from(front.token.is_some());
            self.messages.pop_front();
        }
        // Moving the rest only when it is the smaller part keeps the cost per byte constant.
        if self.first.saturating_mul(2) >= self.bytes.len() {
            let gone = std::mem::take(&mut self.first).min(self.bytes.len());
            self.bytes.drain(..gone);
            self.written = self.written.saturating_sub(gone);
            for message in &mut self.messages {
                message.end = message.end.saturating_sub(gone);
            }
        }
        messages
    }

    /// The messages that are not out entirely, keep-alives left away.
    pub(super) fn unsent(&self) -> impl Iterator<Item = (Token, &[u8])> {
        let mut start = self.first;
        self.messages.iter().filter_map(move |message| {
            let bytes = self.bytes.get(start..message.end).unwrap_or_default();
            start = message.end;
            message.token.map(|token| (token, bytes))
        })
    }

    pub(super) fn discard(&mut self, pool: &mut Pool) {
        self.messages.clear();
        self.bytes.clear();
        (self.written, self.first) = (0, 0);
        pool.reclaim(&mut self.bytes);
    }
}

/// What a write has achieved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) bytes: usize,
    pub(super) messages: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes `room` bytes, at most three a call, then refuses.
    struct Narrow {
        room: usize,
        taken: Vec<u8>,
    }

    impl Write for Narrow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = bytes.len().min(3).min(self.room);
            if count == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            self.room -= count;
            self.taken.extend_from_slice(&bytes[..count]);
            Ok(count)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn whatever_the_peer_takes_the_bytes_stay_in_order_and_unsent_messages_whole() {
        let texts = ["INVITE", "\r\n", "A", "REGISTER once more", "BYE"];
        let whole = texts.concat();
        for room in 0..=whole.len() {
            let (mut outbox, mut pool) = (Outbox::default(), Pool::default());
            for (number, text) in (1..).zip(texts) {
                let token = (text != "\r\n").then_some(Token(number));
                outbox.push(text.as_bytes(), token, &mut pool);
            }
            let mut peer = Narrow { room, taken: Vec::new() };
            let progress = outbox.write(&mut peer, &mut pool).unwrap();
            assert_eq!(progress.bytes, room);
            let mut end = 0;
            let mut left = Vec::new();
            for (number, text) in (1..).zip(texts) {
                end += text.len();
                if end > room && text != "\r\n" {
                    left.push((Token(number), text.as_bytes()));
                }
            }
            assert_eq!(outbox.unsent().collect::<Vec<_>>(), left, "after {room} bytes");
            assert_eq!(progress.messages as usize, 4 - left.len());
            assert_eq!(outbox.write(&mut peer, &mut pool).unwrap(), Progress::default());
            (peer.room, outbox.blocked) = (usize::MAX, false);
            outbox.write(&mut peer, &mut pool).unwrap();
            assert_eq!(String::from_utf8(peer.taken).unwrap(), whole);
            assert!(outbox.is_empty() && outbox.capacity() == 0 && outbox.waiting() == 0);
        }
    }
}
