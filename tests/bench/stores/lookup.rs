//! A MESSAGE to somebody of many: looked up, relayed to the generator's other side, answered there.

use std::fmt::Write as _;
use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use viaduct_tests::support::kamailio::DOMAIN;

use crate::drive::Load;
use crate::single::next_sequence;
use crate::wire::{Side, Wire, headers, slot_and_sequence, status};
use crate::work::OUTSTANDING;

/// Stands before slot and sequence number in our Call-IDs.
const MARKER: &[u8] = b"Call-ID: look";

/// Look-ups in all slots.
pub(super) struct Lookups {
    caller: SocketAddr,
    aors: usize,
    slots: Vec<(u32, String)>,
    /// Where the walk over the AoRs is.
    state: u64,
}

impl Lookups {
    /// From `caller` to any of the first `aors` users.
    pub(super) fn new(caller: SocketAddr, aors: usize) -> Self {
        Self { caller, aors, slots: vec![(0, String::new()); OUTSTANDING], state: 1 }
    }

    /// Users in no order that a cache could like, the same in each run.
    fn next_aor(&mut self) -> u64 {
        // The constants of Knuth's MMIX; the upper half of the state is the random one.
        self.state = self
            .state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.state >> 32) % self.aors as u64
    }
}

impl Load for Lookups {
    fn begin(&mut self, slot: usize, wire: &Wire) -> Result<()> {
        let (aor, caller, n) = (self.next_aor(), self.caller, next_sequence());
        let (sequence, text) = self.slots.get_mut(slot).context("no such slot")?;
        *sequence = n;
        text.clear();
        write!(
            text,
            "MESSAGE sip:c{aor}@{DOMAIN} SIP/2.0\r\n\
             Via: SIP/2.0/UDP {caller};branch=z9hG4bKb{slot}-{n};rport\r\n\
             Max-Forwards: 70\r\n\
             From: \"Load\" <sip:load{slot}@{DOMAIN}>;tag=f{n}\r\n\
             To: <sip:c{aor}@{DOMAIN}>\r\n\
             Call-ID: look{slot}-{n}@generator.{DOMAIN}\r\n\
             CSeq: 1 MESSAGE\r\n\
             User-Agent: load generator\r\n\
             Content-Type: text/plain\r\n\
             Content-Length: 2\r\n\r\nhi"
        )?;
        wire.send(Side::Caller, text.as_bytes())
    }

    fn receive(&mut self, side: Side, datagram: &[u8], wire: &Wire) -> Result<Option<usize>> {
        let Some((slot, sequence)) = slot_and_sequence(datagram, MARKER) else { return Ok(None) };
        let (expected, _) = self.slots.get_mut(slot).context("a message of nobody")?;
        if *expected != sequence {
            return Ok(None); // a late retransmission
        }
        let text = || String::from_utf8_lossy(datagram).into_owned();
        match (side, status(datagram)) {
            (Side::Callee, None) => {
                wire.send(Side::Callee, &answer(datagram))?;
                Ok(None)
            }
            (Side::Caller, Some(100)) => Ok(None),
            (Side::Caller, code) => {
                ensure!(code == Some(200), "a wrong answer:\n{}", text());
                *expected = 0; // a second answer does not count
                Ok(Some(slot))
            }
            (Side::Callee, Some(_)) => anyhow::bail!("the callee was answered:\n{}", text()),
        }
    }

    fn resend(&mut self, slot: usize, wire: &Wire) -> Result<()> {
        let (_, text) = self.slots.get(slot).context("no such slot")?;
        wire.send(Side::Caller, text.as_bytes())
    }
}

/// A 200 (RFC 3261 8.2.6).
fn answer(request: &[u8]) -> Vec<u8> {
    let mut text = b"SIP/2.0 200 OK\r\n".to_vec();
    for name in ["Via: ", "From: ", "To: ", "Call-ID: ", "CSeq: "] {
        for value in headers(request, name) {
            text.extend_from_slice(name.as_bytes());
            text.extend_from_slice(value);
            if name == "To: " {
                text.extend_from_slice(b";tag=t");
            }
            text.extend_from_slice(b"\r\n");
        }
    }
    text.extend_from_slice(b"Content-Length: 0\r\n\r\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_callee_answers_with_what_identifies_the_request() {
        let request = b"MESSAGE sip:a SIP/2.0\r\nVia: 1\r\nVia: 2\r\nFrom: f\r\nTo: t\r\n\
            Call-ID: c\r\nCSeq: 1 MESSAGE\r\nContent-Length: 0\r\n\r\n";
        let expected = "SIP/2.0 200 OK\r\nVia: 1\r\nVia: 2\r\nFrom: f\r\nTo: t;tag=t\r\n\
            Call-ID: c\r\nCSeq: 1 MESSAGE\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(String::from_utf8(answer(request)).unwrap(), expected);
    }

    #[test]
    fn users_asked_for_are_among_those_there_are_and_many() {
        let mut lookups = Lookups::new("127.0.0.1:5060".parse().unwrap(), 1_000);
        let asked: std::collections::BTreeSet<u64> =
            (0..5_000).map(|_| lookups.next_aor()).collect();
        assert!(asked.iter().all(|aor| *aor < 1_000));
        assert!(asked.len() > 950, "{}", asked.len());
    }
}
