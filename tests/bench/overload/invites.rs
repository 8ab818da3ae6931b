//! INVITEs by the hundred thousand: one text, in which only numbers differ, so that a batch of them
//! is a copy with digits written into it.

use std::io::Write as _;
use std::net::SocketAddr;

use anyhow::{Context, Result};
use viaduct_tests::support::kamailio::DOMAIN;

use crate::call::SDP;
use crate::work::AORS;

/// Stands where the call's number goes: as many characters as it has digits.
const NUMBER: &str = "#########";
/// Stands where the callee's number goes.
const CALLEE: &str = "@@@";

/// The INVITEs of one source.
pub(super) struct Invites {
    text: Vec<u8>,
    numbers: Vec<usize>,
    callees: Vec<usize>,
    batch: Vec<u8>,
}

impl Invites {
    /// Of a batch: what the kernel cuts up at a time, and 64 KiB.
    pub(super) const MOST: usize = 48;
    /// Stands before source and number in our Call-IDs.
    pub(super) const MARKER: &'static [u8] = b"Call-ID: over";

    /// Those of the source at `local`, one of ten at most.
    pub(super) fn new(local: SocketAddr) -> Result<Self> {
        let mut text = Vec::new();
        write!(
            text,
            "INVITE sip:c{CALLEE}@{DOMAIN} SIP/2.0\r\n\
             Via: SIP/2.0/UDP {local};branch=z9hG4bKo{NUMBER};rport\r\n\
             Max-Forwards: 70\r\n\
             From: \"Load\" <sip:load@{DOMAIN}>;tag=f{NUMBER}\r\n\
             To: <sip:c{CALLEE}@{DOMAIN}>\r\n\
             Call-ID: over0-{NUMBER}@generator.{DOMAIN}\r\n\
             CSeq: 1 INVITE\r\n\
             Contact: <sip:load@{local}>\r\n\
             User-Agent: load generator\r\n\
             Content-Type: application/sdp\r\n\
             Content-Length: {}\r\n\r\n{SDP}",
            SDP.len()
        )?;
        let places =
            |mark: &str| memchr::memmem::find_iter(&text, mark.as_bytes()).collect::<Vec<_>>();
        let (numbers, callees) = (places(NUMBER), places(CALLEE));
        (numbers.len() == 3 && callees.len() == 2).then_some(()).context("a wrong template")?;
        Ok(Self { text, numbers, callees, batch: Vec::new() })
    }

    /// Octets of each.
    pub(super) fn length(&self) -> usize {
        self.text.len()
    }

    /// One for each number, one behind the other.
    pub(super) fn batch(&mut self, source: usize, numbers: &[u32]) -> &[u8] {
        let Self { text, numbers: places, callees, batch } = self;
        batch.clear();
        let marker = memchr::memmem::find(text, Self::MARKER).map(|at| at + Self::MARKER.len());
        for number in numbers {
            let start = batch.len();
            batch.extend_from_slice(text);
            let mut put = |at: usize, value: usize, width: usize| {
                if let Some(place) = batch.get_mut(start + at..start + at + width) {
                    digits(place, value);
                }
            };
            places.iter().for_each(|at| put(*at, *number as usize, NUMBER.len()));
            // Those with three digits: all must be of one length.
            let callee = AORS / 10 + *number as usize % (AORS - AORS / 10);
            callees.iter().for_each(|at| put(*at, callee, CALLEE.len()));
            marker.into_iter().for_each(|at| put(at, source, 1));
        }
        batch
    }
}

fn digits(place: &mut [u8], mut value: usize) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{header, slot_and_sequence};

    #[test]
    fn invites_differ_in_their_numbers_and_not_in_length() {
        let mut invites = Invites::new("127.0.0.1:5060".parse().unwrap()).unwrap();
        let length = invites.length();
        let batch = invites.batch(3, &[100_000_007, 100_000_908]).to_vec();
        assert_eq!(batch.len(), 2 * length);
        let (one, two) = batch.split_at(length);
        assert_eq!(slot_and_sequence(one, Invites::MARKER), Some((3, 100_000_007)));
        assert_eq!(slot_and_sequence(two, Invites::MARKER), Some((3, 100_000_908)));
        assert!(header(one, "Via:").unwrap().ends_with(b"z9hG4bKo100000007;rport"));
        assert!(one.starts_with(format!("INVITE sip:c207@{DOMAIN} ").as_bytes()));
        assert_eq!(header(one, "To:").unwrap(), format!("<sip:c207@{DOMAIN}>").as_bytes());
    }
}
