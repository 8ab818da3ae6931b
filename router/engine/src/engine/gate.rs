//! Under pressure most new requests are not let in, and to find that out must cost next to nothing:
//! who is sent away would otherwise take the time of those who are served. So the draw is made here,
//! before a datagram is scanned, from no more than its method and whether To has a tag.
//!
//! What is thrown away may be thrown away sooner still: the shell is told how much of it need be brought
//! here ([`Engine::wanted_new`]), and may have the kernel drop the rest by the same rule ([`begins_new`]).
//!
//! Streams are not looked at: what is not read from them slows their senders down.

use memchr::memchr;

use super::Engine;
use super::admission::Admitted;
use crate::flow::{Flow, Transport};
use crate::hook::Policy;

/// Requests that begin something outside a dialog. REGISTER is none of them: whether it refreshes a
/// binding shows only when it is read.
const NEW: [&[u8]; 6] = [b"INVITE", b"MESSAGE", b"OPTIONS", b"PUBLISH", b"REFER", b"SUBSCRIBE"];
/// Header lines that are looked at for To.
const MOST_LINES: usize = 32;

impl<P: Policy> Engine<P> {
    /// Is this datagram dropped unread? If not, what was drawn for it counts when it is read.
    pub(super) fn is_dropped_unread(&mut self, flow: Flow, bytes: &[u8]) -> bool {
        self.admission.drawn = None;
        if !self.admission.is_pressed() || flow.transport != Transport::Udp || !begins_new(bytes) {
            return false;
        }
        let drawn = self.draw();
        self.admission.drawn = Some(drawn);
        drawn == Admitted::Silent
    }

    /// Of datagrams that begin something new ([`begins_new`]) so many thousandths are worth bringing here;
    /// the shell may drop the others by chance. Changes at most every 20 ms.
    #[must_use]
    pub fn wanted_new(&self) -> u16 {
        self.admission.wanted_new()
    }

    /// The shell tells how many it brings from now on, in thousandths; all, as long as it has told nothing.
    pub fn note_brought(&mut self, thousandths: u16) {
        self.admission.note_brought(thousandths);
    }
}

/// Does it begin something new, as far as can be seen at a glance? Where in doubt, it does not.
#[must_use]
pub fn begins_new(bytes: &[u8]) -> bool {
    let Some(space) = bytes.iter().take(10).position(|octet| *octet == b' ') else { return false };
    let (method, mut rest) = bytes.split_at(space);
    if !NEW.contains(&method) {
        return false;
    }
    for _ in 0..MOST_LINES {
        let Some(end) = memchr(b'\n', rest) else { return false };
        rest = rest.get(end + 1..).unwrap_or_default();
        if rest.starts_with(b"\r\n") {
            return false; // the body begins
        }
        if let Some(value) = to_value(rest) {
            let line = memchr(b'\n', value).and_then(|end| value.split_at_checked(end + 1));
            let Some((line, next)) = line else { return false };
            let folded = next.first().is_some_and(|octet| matches!(octet, b' ' | b'\t'));
            return !folded && !line.windows(3).any(|part| part.eq_ignore_ascii_case(b"tag"));
        }
    }
    false
}

/// What follows the colon, where a line of To begins here (RFC 3261 7.3.1, 7.3.3).
fn to_value(line: &[u8]) -> Option<&[u8]> {
    let rest = match line {
        [b't' | b'T', b'o' | b'O', rest @ ..] | [b't' | b'T', rest @ ..] => rest,
        _ => return None,
    };
    let colon = rest.iter().position(|octet| !matches!(octet, b' ' | b'\t'))?;
    rest.get(colon..)?.strip_prefix(b":")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn invite(to: &str) -> Vec<u8> {
        format!("INVITE sip:a@b SIP/2.0\r\nVia: x\r\n{to}\r\nCSeq: 1 INVITE\r\n\r\n").into_bytes()
    }

    #[test]
    fn what_begins_outside_a_dialog_is_new_however_to_is_written() {
        for to in ["To: <sip:a@b>", "t:<sip:a@b>", "TO \t: sip:a@b", "to: \"A\" <sip:a@b>;x=1"] {
            assert!(begins_new(&invite(to)), "{to}");
        }
        let options = b"OPTIONS sip:b SIP/2.0\r\nTo: sip:b\r\n\r\n";
        assert!(begins_new(options));
    }

    #[test]
    fn a_request_of_a_dialog_and_what_is_doubtful_are_read() {
        for to in ["To: <sip:a@b>;tag=1", "t: <sip:a@b> ;\tTAG = 1", "To: <sip:a@b>\r\n ;tag=1"] {
            assert!(!begins_new(&invite(to)), "{to}");
        }
        for text in [
            "",
            "INVITE",
            "INVITE sip:a@b SIP/2.0",
            "INVITE sip:a@b SIP/2.0\r\nTo: <sip:a@b>",
            "INVITE sip:a@b SIP/2.0\r\nTopic: x\r\n\r\n",
            "ACK sip:a@b SIP/2.0\r\nTo: <sip:a@b>\r\n\r\n",
            "REGISTER sip:b SIP/2.0\r\nTo: <sip:a@b>\r\n\r\n",
            "CANCEL sip:a@b SIP/2.0\r\nTo: <sip:a@b>\r\n\r\n",
            "SIP/2.0 200 OK\r\nTo: <sip:a@b>\r\n\r\n",
            "INVITE sip:a@b SIP/2.0\r\nVia: x\r\n\r\nTo: in the body\r\n",
        ] {
            assert!(!begins_new(text.as_bytes()), "{text}");
        }
        let far = "X: y\r\n".repeat(MOST_LINES) + "To: <sip:a@b>";
        assert!(!begins_new(&invite(&far)));
    }
}
