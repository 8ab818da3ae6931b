//! Bytes as what a guest does: each call is a byte, its function's number above `A`, and behind it the
//! arguments: a text is a word of one byte, or stands there up to a unit separator (1F) or the end; a
//! number; for what need not be there a record separator (1E) where it is not. `.` in place of a call:
//! the verdict follows.

use viaduct_policy::testing::{Arguments, Script};

/// Texts that mean something: each is one byte from 80 on, so that one change of the input finds it.
#[rustfmt::skip]
const WORDS: [&str; 64] = [
    "Via", "v", "From", "f", "To", "t", "Call-ID", "i", "CSeq", "Content-Length", "l", "Max-Forwards",
    "Route", "Record-Route", "Path", "Contact", "m", "Content-Type", "c", "Subject", "Require",
    "Proxy-Require", "Supported", "k", "Allow", "Date", "Expires", "Authorization",
    "Proxy-Authorization", "Content-Encoding", "Server", "X-Own", "location", "read", "gateways",
    "none", "a", "b", "viaduct.dispatch", "example.com", "sip:bob@example.com",
    "sip:carol@192.0.2.13:5066", "sips:bob@example.net", "tel:+15550100", "sip:bob@example.net;lr",
    "<sip:192.0.2.13;lr>", "https://api.example.com/v1", "http://api.example.com/", "p2v", "rport",
    "replace-origin", "TOS=184", "0", "-9223372036854775808", "99999999999999999999", "192.0.2.11",
    "SIP/2.0 200 OK\r\n\r\n", "a\r\nInjected: yes", "\r\n\r\n", "\u{0}", "é\u{202e}", "\"", "<>", "",
];

/// Longest text made by repetition: more than a guest may pass.
const MOST_BYTES: usize = 70_000;

/// Bytes to be used up.
#[derive(Clone, Default)]
pub struct Bytes(std::collections::VecDeque<u8>);

impl Bytes {
    pub fn new(bytes: &[u8]) -> Bytes {
        Bytes(bytes.iter().copied().collect())
    }

    /// All that is left.
    pub fn rest(self) -> Vec<u8> {
        self.0.into()
    }

    /// The next one; 0 where there is none.
    pub fn byte(&mut self) -> u8 {
        self.0.pop_front().unwrap_or(0)
    }
}

impl Arguments for Bytes {
    /// A word, or as it is written. `*N` in front says how often it is repeated, thousands at a time where it can be.
    fn text(&mut self) -> String {
        if let Some(word) = self.0.pop_front_if(|byte| *byte >= 0x80) {
            return WORDS[usize::from(word) % WORDS.len()].to_owned();
        }
        let end = self.0.iter().position(|byte| *byte == 0x1f).unwrap_or(self.0.len());
        let bytes: Vec<u8> = self.0.drain(..end).collect();
        self.0.pop_front();
        match bytes.as_slice() {
            [b'*', times, part @ ..] => {
                let part = String::from_utf8_lossy(part);
                let times = usize::from(*times) * 64;
                part.repeat(times.min(MOST_BYTES / part.len().max(1)))
            }
            _ => String::from_utf8_lossy(&bytes).into_owned(),
        }
    }

    /// A digit is itself, `+` and `-` are far away, behind `#` it is written out as a text; any other
    /// byte is its number.
    fn number(&mut self) -> u64 {
        match self.byte() {
            digit @ b'0'..=b'9' => u64::from(digit - b'0'),
            b'+' => i64::MAX.cast_unsigned(),
            b'-' => u64::MAX,
            b'#' => self.text().parse().unwrap_or(0),
            other => u64::from(other),
        }
    }

    fn is_there(&mut self) -> bool {
        let is_none = self.0.front().is_none_or(|byte| *byte == 0x1e);
        if is_none {
            self.0.pop_front();
        }
        !is_none
    }
}

impl Script for Bytes {
    fn next_call(&mut self) -> Option<usize> {
        let call = self.0.pop_front().filter(|call| *call != b'.')?;
        Some(usize::from(call.wrapping_sub(b'A')))
    }
}
