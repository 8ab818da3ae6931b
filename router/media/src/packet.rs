//! What a packet is, and whether it may pass (R-M4, R-M6).

use crate::session::{Classes, Counter, Leg, LegFlags};

/// Octets of an RTP header without CSRCs and extension (RFC 3550 5.1).
const RTP_HEADER: usize = 12;
/// Octets of an RTCP packet's common header and its sender's SSRC.
const RTCP_HEADER: usize = 8;
/// Octets of SRTCP's E flag and index; the tag may be of any length (RFC 3711 3.4).
const SRTCP_TRAILER: usize = 4;

/// What was found in a packet that may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Its one class.
    pub class: Classes,
    /// SSRC and sequence number, of RTP.
    pub rtp: Option<(u32, u16)>,
    /// Timestamp, of RTP.
    pub timestamp: u32,
}

/// The class of a packet by its first octets (RFC 7983 section 7, RFC 5761 section 4).
#[must_use]
pub fn classify(data: &[u8]) -> Classes {
    match (data.first(), data.get(1)) {
        (Some(0..=3), _) => Classes::STUN,
        (Some(16..=19), _) => Classes::ZRTP,
        (Some(20..=63), _) => Classes::DTLS,
        (Some(64..=79), _) => Classes::TURN,
        (Some(128..=191), Some(192..=223)) => Classes::RTCP,
        (Some(128..=191), _) => Classes::RTP,
        _ => Classes::OTHER,
    }
}

/// Whether version, CSRCs, extension and padding of RTP fit the packet (RFC 3550 5.1). Of `srtp`
/// the padding is ciphertext and not looked at.
#[must_use]
pub fn rtp_is_valid(data: &[u8], srtp: bool) -> bool {
    let Some(&first) = data.first() else { return false };
    if first >> 6 != 2 {
        return false;
    }
    let mut header = RTP_HEADER + 4 * usize::from(first & 0x0f);
    if first & 0x10 != 0 {
        let Some(words) = be16(data, header + 2) else { return false };
        header += 4 + 4 * usize::from(words);
    }
    let Some(body) = data.get(header..) else { return false };
    if first & 0x20 == 0 || srtp {
        return true;
    }
    body.last().is_some_and(|&padding| padding != 0 && usize::from(padding) <= body.len())
}

/// Whether the packets of an RTCP compound fit it exactly (RFC 3550 A.2; one alone is enough, RFC
/// 5506). Of `srtp` all but the first eight octets is ciphertext.
#[must_use]
pub fn rtcp_is_valid(data: &[u8], srtp: bool) -> bool {
    if data.len() < RTCP_HEADER {
        return false;
    }
    if srtp {
        let is_rtcp = data.first().is_some_and(|first| first >> 6 == 2);
        return is_rtcp && data.len() >= RTCP_HEADER + SRTCP_TRAILER;
    }
    let mut rest = data;
    while let &[first, kind, ..] = rest {
        let Some(words) = be16(rest, 2) else { return false };
        let Some((packet, behind)) = rest.split_at_checked(4 * (usize::from(words) + 1)) else {
            return false;
        };
        if first >> 6 != 2 || !(192..=223).contains(&kind) {
            return false;
        }
        if first & 0x20 != 0 {
            // Padding is allowed in the last packet only, in fours.
            let padding = packet.last().copied().map_or(0, usize::from);
            let fits = padding != 0 && padding.is_multiple_of(4) && padding <= packet.len() - 4;
            if !behind.is_empty() || !fits {
                return false;
            }
        }
        rest = behind;
    }
    rest.is_empty()
}

/// Judges a packet by the rules of the leg it arrived at.
///
/// # Errors
/// The counter of what is wrong with it.
pub fn screen(leg: &Leg, data: &[u8]) -> Result<Facts, Counter> {
    let class = classify(data);
    let facts = Facts { class, rtp: None, timestamp: 0 };
    if !(leg.forward | leg.up).intersects(class) {
        return Err(Counter::Class);
    }
    if leg.max_size != 0 && data.len() > usize::from(leg.max_size) {
        return Err(Counter::Size);
    }
    if !leg.forward.intersects(class) {
        return Ok(facts); // whoever takes it judges it
    }
    let srtp = leg.flags.contains(LegFlags::SRTP);
    match class {
        Classes::RTP => screen_rtp(leg, data, srtp),
        Classes::RTCP if !rtcp_is_valid(data, srtp) => Err(Counter::Malformed),
        _ => Ok(facts),
    }
}

fn screen_rtp(leg: &Leg, data: &[u8], srtp: bool) -> Result<Facts, Counter> {
    let &[_, kind, s1, s2, t1, t2, t3, t4, a, b, c, d, ..] = data else {
        return Err(Counter::Malformed);
    };
    if !rtp_is_valid(data, srtp) {
        return Err(Counter::Malformed);
    }
    if leg.payload_types & (1 << (kind & 0x7f)) == 0 {
        return Err(Counter::PayloadType);
    }
    let rtp = Some((u32::from_be_bytes([a, b, c, d]), u16::from_be_bytes([s1, s2])));
    Ok(Facts { class: Classes::RTP, rtp, timestamp: u32::from_be_bytes([t1, t2, t3, t4]) })
}

fn be16(data: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(data.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn r_m4_the_classes_are_those_of_rfc_7983() {
        let ranges = [
            (0..=3, Classes::STUN),
            (4..=15, Classes::OTHER),
            (16..=19, Classes::ZRTP),
            (20..=63, Classes::DTLS),
            (64..=79, Classes::TURN),
            (80..=127, Classes::OTHER),
            (128..=191, Classes::RTP),
            (192..=255, Classes::OTHER),
        ];
        for (range, class) in ranges {
            for first in range {
                assert_eq!(classify(&[first, 0]), class);
                assert_eq!(classify(&[first]), class);
            }
        }
        assert_eq!(classify(&[]), Classes::OTHER);
        assert_eq!(classify(&[128, 200]), Classes::RTCP);
    }

    #[test]
    fn r_m6_padding_cannot_reach_into_the_header() {
        let mut packet = [0u8; 16];
        packet[0] = 0xa0;
        packet[15] = 4;
        assert!(rtp_is_valid(&packet, false));
        packet[15] = 5;
        assert!(!rtp_is_valid(&packet, false) && rtp_is_valid(&packet, true));
        assert!(!rtp_is_valid(&packet[..12], false));
    }

    #[test]
    fn r_m6_an_rtcp_compound_ends_where_the_packet_ends() {
        let two = [0x80, 201, 0, 1, 1, 2, 3, 4, 0x81, 202, 0, 1, 1, 2, 3, 4];
        assert!(rtcp_is_valid(&two, false) && rtcp_is_valid(&two[..8], false));
        for len in (0..8).chain(9..16) {
            assert!(!rtcp_is_valid(&two[..len], false), "{len}");
        }
    }

    proptest! {
        #[test]
        fn r_m6_whatever_passes_has_its_header(
            data in proptest::collection::vec(any::<u8>(), 0..200),
            first in 0x80u8..0xc0,
            srtp: bool,
        ) {
            let mut data = data;
            if let Some(octet) = data.first_mut() {
                *octet = first;
            }
            if rtp_is_valid(&data, srtp) {
                prop_assert!(data.len() >= 12 + 4 * usize::from(data[0] & 15));
            }
            if rtcp_is_valid(&data, srtp) {
                prop_assert!(data.len() >= 8 && (srtp || data.len() % 4 == 0));
            }
        }
    }
}
