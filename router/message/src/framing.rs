//! Where a message ends: datagrams and streams (RFC 3261 18.3).

use crate::scan::{Cut, cut};
use crate::{Fault, HeaderName, Limits, Span, chars};

/// What a datagram is, before it is scanned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Datagram<'a> {
    /// A SIP message (leading CRLFs cut, RFC 3261 7.5).
    Message(&'a [u8]),
    /// Empty, CRLF only, or zero bytes: a keep-alive to ignore.
    KeepAlive,
    /// First byte 0 or 1: STUN (RFC 5626 5.4).
    Stun(&'a [u8]),
}

/// Sorts a datagram. Never fails: what is no keep-alive and no STUN is a message to scan.
pub fn datagram(bytes: &[u8]) -> Datagram<'_> {
    if bytes.iter().all(|b| *b == 0) {
        return Datagram::KeepAlive;
    }
    if let Some(0 | 1) = bytes.first() {
        return Datagram::Stun(bytes);
    }
    let mut rest = bytes;
    while let Some(after) = rest.strip_prefix(b"\r\n") {
        rest = after;
    }
    if rest.is_empty() { Datagram::KeepAlive } else { Datagram::Message(rest) }
}

/// What a stream yields next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    /// The message at this range of the buffer is complete.
    Message(Span),
    /// The second CRLF of a CRLF CRLF between messages: answer CRLF (RFC 5626 3.5.1); consume the
    /// range.
    Ping(Span),
    /// A CRLF between messages that completes no ping (a pong, padding, or a ping's first half):
    /// consume the range.
    Blank(Span),
    /// More bytes are needed.
    Partial,
}

/// Finds message boundaries in a stream by Content-Length alone. Keeps its place, so that every
/// byte is looked at once however slowly the peer sends, and the frames do not depend on how the
/// stream was chopped.
///
/// A head that cannot be cut into lines ends the stream too: where we and the peer disagree about
/// a line, we may disagree about the length, and what follows could be a message of its own to one
/// of us (request smuggling).
#[derive(Clone, Debug, Default)]
pub struct StreamFramer {
    /// No head ends before this offset of the buffer.
    searched: usize,
    /// Length of the whole message, once its head is there.
    announced: Option<usize>,
    /// The stream's last two bytes were a CRLF between messages that belongs to no ping.
    blank: bool,
}

impl StreamFramer {
    /// A framer at a message boundary.
    pub fn new() -> StreamFramer {
        StreamFramer::default()
    }
    /// Looks at all bytes not yet consumed; the caller removes what a frame covers before the next
    /// call. An error (missing or malformed Content-Length, two that differ, too large, head too
    /// long, a line that is none) means: answer 400 where the head can be read, and close.
    pub fn next(&mut self, buffer: &[u8], limits: &Limits) -> Result<Frame, Fault> {
        if self.searched == 0
            && let Some(frame) = self.between(buffer)
        {
            return Ok(frame);
        }
        let total = match self.announced {
            Some(total) => total,
            None => match self.head_end(buffer, limits)? {
                Some(end) => {
                    let total = message_len(buffer.get(..end).unwrap_or_default(), limits)?;
                    *self.announced.insert(total)
                }
                None => return Ok(Frame::Partial),
            },
        };
        if buffer.len() < total {
            return Ok(Frame::Partial);
        }
        *self = StreamFramer::new();
        Ok(Frame::Message(Span { start: 0, end: total as u32 }))
    }

    /// CRLFs between messages (RFC 3261 7.5).
    fn between(&mut self, buffer: &[u8]) -> Option<Frame> {
        let span = Span { start: 0, end: 2 };
        match buffer {
            [] | [b'\r'] => Some(Frame::Partial),
            [b'\r', b'\n', ..] if self.blank => {
                self.blank = false;
                Some(Frame::Ping(span))
            }
            [b'\r', b'\n', ..] => {
                self.blank = true;
                Some(Frame::Blank(span))
            }
            _ => None,
        }
    }

    /// Where the body begins.
    fn head_end(&mut self, buffer: &[u8], limits: &Limits) -> Result<Option<usize>, Fault> {
        let limit = limits.message_bytes as usize;
        let head = buffer.get(..limit).unwrap_or(buffer);
        let found =
            memchr::memmem::find(head.get(self.searched..).unwrap_or_default(), b"\r\n\r\n");
        match found {
            Some(at) => Ok(Some(self.searched + at + 4)),
            None if buffer.len() >= limit => Err(Fault::TooLarge),
            None => {
                // The last three bytes may be the beginning of it. At least one byte counts as
                // searched, so that a message begun is not taken for the space between two.
                self.searched = head.len().saturating_sub(3).max(1);
                Ok(None)
            }
        }
    }
}

/// Length of the message with that head, empty line included.
fn message_len(head: &[u8], limits: &Limits) -> Result<usize, Fault> {
    const NAME: HeaderName = HeaderName::ContentLength;
    // The start line is the scan's business; it cannot hold a length.
    let start = memchr::memmem::find(head, b"\r\n").ok_or(Fault::Unfinished)?;
    let mut at = start + 2;
    let mut length = None;
    loop {
        match cut(head, at) {
            Cut::Line(line) => {
                at = line.whole.end as usize;
                if line.name == NAME {
                    let value = chars::decimal(line.value.of(head)).ok_or(Fault::Header(NAME))?;
                    if length.is_some_and(|length| length != value) {
                        return Err(Fault::Repeated(NAME));
                    }
                    length = Some(value);
                }
            }
            Cut::Bad { .. } => return Err(Fault::HeaderLine),
            Cut::Empty => break,
            Cut::Unfinished => return Err(Fault::Unfinished),
        }
    }
    let body = length.ok_or(Fault::Missing(NAME))? as usize;
    let total = head.len().checked_add(body).ok_or(Fault::TooLarge)?;
    if total > limits.message_bytes as usize { Err(Fault::TooLarge) } else { Ok(total) }
}

#[cfg(test)]
mod tests;
