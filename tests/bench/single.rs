//! Work of one request and one answer: echo, OPTIONS, REGISTER.

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, ensure};
use viaduct_tests::support::kamailio::DOMAIN;

use crate::drive::Load;
use crate::wire::{Side, Wire, header, number, slot_and_sequence, status};
use crate::work::{AORS, OUTSTANDING, Work};

/// Length of each request, octets, without the line ends it ends with.
const LENGTH: usize = 440;
/// Stands before slot and sequence number in our branches.
const MARKER: &[u8] = b"z9hG4bKb";

/// Sequence numbers rise over all runs, so that a REGISTER is never older than the binding it
/// refreshes. They begin high to have the same width throughout.
static SEQUENCE: AtomicU32 = AtomicU32::new(100_000_000);

/// The next sequence number; never used twice.
pub(crate) fn next_sequence() -> u32 {
    SEQUENCE.fetch_add(1, Ordering::Relaxed)
}

/// One kind of single-answer work in all slots.
pub(crate) struct Single {
    kind: Kind,
    local: SocketAddr,
    slots: Vec<(u32, Vec<u8>)>,
    /// AoRs that are registered in turn.
    aors: usize,
    next_aor: usize,
}

enum Kind {
    Echo,
    Options,
    /// AoRs with this letter before their number. The binding's contact is the same number at `at`.
    Register {
        letter: char,
        at: SocketAddr,
        side: Side,
    },
}

impl Single {
    /// For echo, OPTIONS and REGISTER.
    pub(crate) fn new(work: Work, local: SocketAddr) -> Self {
        let kind = match work {
            Work::Options => Kind::Options,
            Work::Register => Kind::Register { letter: 'r', at: local, side: Side::Caller },
            Work::Echo | Work::Call => Kind::Echo,
        };
        Self::with(kind, local, OUTSTANDING, AORS)
    }

    /// Registers `aors` users in turn, `outstanding` at a time.
    pub(crate) fn registrations(local: SocketAddr, outstanding: usize, aors: usize) -> Self {
        let kind = Kind::Register { letter: 's', at: local, side: Side::Caller };
        Self::with(kind, local, outstanding, aors)
    }

    /// Registers the users who will be called at `callee`.
    pub(crate) fn callees(callee: SocketAddr) -> Self {
        let kind = Kind::Register { letter: 'c', at: callee, side: Side::Callee };
        Self::with(kind, callee, OUTSTANDING, AORS)
    }

    fn with(kind: Kind, local: SocketAddr, outstanding: usize, aors: usize) -> Self {
        let slots = vec![(0, Vec::new()); outstanding];
        Self { kind, local, slots, aors, next_aor: 0 }
    }

    fn side(&self) -> Side {
        match self.kind {
            Kind::Register { side, .. } => side,
            Kind::Echo | Kind::Options => Side::Caller,
        }
    }

    fn write(&mut self, slot: usize) -> Result<()> {
        let Self { kind, local, aors, next_aor, .. } = self;
        let (sequence, text) = self.slots.get_mut(slot).context("no such slot")?;
        *sequence = next_sequence();
        let n = *sequence;
        text.clear();
        match kind {
            Kind::Echo | Kind::Options => write!(
                text,
                "OPTIONS sip:{DOMAIN} SIP/2.0\r\n\
                 Via: SIP/2.0/UDP {local};branch=z9hG4bKb{slot}-{n};rport\r\n\
                 Max-Forwards: 70\r\n\
                 From: \"Load\" <sip:load{slot}@{DOMAIN}>;tag=f{n}\r\n\
                 To: <sip:{DOMAIN}>\r\n\
                 Call-ID: {n}-options@generator.{DOMAIN}\r\n\
                 CSeq: {n} OPTIONS\r\n\
                 Contact: <sip:load{slot}@{local}>\r\n\
                 Accept: application/sdp\r\n\
                 Content-Length: 0\r\n"
            )?,
            Kind::Register { letter, at, .. } => {
                // The AoRs go round, so those outstanding are never the same one twice.
                let aor = *next_aor % *aors;
                *next_aor += 1;
                write!(
                    text,
                    "REGISTER sip:{DOMAIN} SIP/2.0\r\n\
                     Via: SIP/2.0/UDP {local};branch=z9hG4bKb{slot}-{n};rport\r\n\
                     Max-Forwards: 70\r\n\
                     From: <sip:{letter}{aor}@{DOMAIN}>;tag=f{n}\r\n\
                     To: <sip:{letter}{aor}@{DOMAIN}>\r\n\
                     Call-ID: {letter}{aor}-phone@generator.{DOMAIN}\r\n\
                     CSeq: {n} REGISTER\r\n\
                     Contact: <sip:{letter}{aor}@{at}>\r\n\
                     Expires: 3600\r\n\
                     Content-Length: 0\r\n"
                )?;
            }
        }
        // Messages of one length leave together, whatever numbers are in them.
        text.extend_from_slice(b"User-Agent: load generator ");
        text.resize(text.len().max(LENGTH), b'.');
        text.extend_from_slice(b"\r\n\r\n");
        Ok(())
    }

    /// Whether `datagram` is the right answer to what the slot has sent.
    fn check(&self, sent: &[u8], sequence: u32, datagram: &[u8]) -> Result<()> {
        let method: &[u8] = match self.kind {
            Kind::Echo => {
                ensure!(sent == datagram, "the echo differs from what was sent");
                return Ok(());
            }
            Kind::Options => b" OPTIONS",
            Kind::Register { .. } => b" REGISTER",
        };
        let text = || String::from_utf8_lossy(datagram).into_owned();
        ensure!(status(datagram) == Some(200), "a wrong answer:\n{}", text());
        let cseq = header(datagram, "CSeq:").and_then(number);
        ensure!(cseq == Some((sequence, method)), "a wrong CSeq in\n{}", text());
        if matches!(self.kind, Kind::Register { .. }) {
            ensure!(header(datagram, "Contact:").is_some(), "no binding in\n{}", text());
        }
        Ok(())
    }
}

impl Load for Single {
    fn begin(&mut self, slot: usize, wire: &Wire) -> Result<()> {
        self.write(slot)?;
        self.resend(slot, wire)
    }

    fn receive(&mut self, _: Side, datagram: &[u8], _: &Wire) -> Result<Option<usize>> {
        let Some((slot, sequence)) = slot_and_sequence(datagram, MARKER) else {
            return Ok(None);
        };
        let (expected, sent) = self.slots.get(slot).context("an answer to nobody")?;
        if sequence != *expected || status(datagram).is_some_and(|code| code < 200) {
            return Ok(None); // a duplicate of an earlier answer, or a provisional one
        }
        self.check(sent, sequence, datagram)?;
        if let Some((expected, _)) = self.slots.get_mut(slot) {
            *expected = 0; // a second answer to the same request does not count
        }
        Ok(Some(slot))
    }

    fn resend(&mut self, slot: usize, wire: &Wire) -> Result<()> {
        let (_, text) = self.slots.get(slot).context("no such slot")?;
        wire.send(self.side(), text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at() -> SocketAddr {
        "127.0.0.1:5060".parse().unwrap()
    }

    #[test]
    fn wrong_answers_are_errors() {
        let mut options = Single::new(Work::Options, at());
        options.write(0).unwrap();
        let (n, sent) = options.slots[0].clone();
        let good = format!("SIP/2.0 200 OK\r\nCSeq: {n} OPTIONS\r\n\r\n");
        options.check(&sent, n, good.as_bytes()).unwrap();
        options.check(&sent, n, good.replace("200", "503").as_bytes()).unwrap_err();
        options.check(&sent, n, good.replace("OPTIONS", "REGISTER").as_bytes()).unwrap_err();
        options.check(&sent, n + 1, good.as_bytes()).unwrap_err();
    }

    #[test]
    fn a_registration_without_its_binding_is_an_error() {
        let mut register = Single::new(Work::Register, at());
        register.write(3).unwrap();
        let (n, sent) = register.slots[3].clone();
        let bare = format!("SIP/2.0 200 OK\r\nCSeq: {n} REGISTER\r\n\r\n");
        register.check(&sent, n, bare.as_bytes()).unwrap_err();
        let full = bare.replace("CSeq", "Contact: <sip:r0@x>;expires=5\r\nCSeq");
        register.check(&sent, n, full.as_bytes()).unwrap();
    }

    #[test]
    fn an_echo_must_be_exact() {
        let echo = Single::new(Work::Echo, at());
        echo.check(b"abc", 0, b"abc").unwrap();
        echo.check(b"abc", 0, b"abd").unwrap_err();
    }
}
