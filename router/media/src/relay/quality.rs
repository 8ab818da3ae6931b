//! How well the RTP of a peer arrives: loss by sequence numbers and jitter, as a receiver would
//! report them (RFC 3550 6.4.1, A.1, A.3, A.8).

use crate::session::Quality;

/// A jump ahead that is believed to be loss; a larger one, or one back by more than
/// [`MISORDER_MAX`], begins the stream anew (RFC 3550 A.1).
const DROPOUT_MAX: u16 = 3_000;
/// A packet late by no more is out of order.
const MISORDER_MAX: u16 = 100;

/// What has been heard.
#[derive(Clone, Debug, Default)]
pub(super) struct Heard {
    /// Of streams that came before this one.
    past: Quality,
    now: Option<Stream>,
    jitter_us: u32,
}

#[derive(Clone, Copy, Debug)]
struct Stream {
    ssrc: u32,
    highest: u16,
    /// From the first to the highest sequence number.
    expected: u64,
    received: u64,
    /// Timestamp and arrival of the last packet with a new timestamp.
    last: (u32, u64),
    /// In microseconds, times 16.
    jitter_16us: u64,
}

/// Of an RTP packet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamp {
    pub(super) ssrc: u32,
    pub(super) sequence: u16,
    pub(super) timestamp: u32,
}

impl Heard {
    /// A relayed packet. `clock_hz`: of its timestamps; 0: not known.
    pub(super) fn note(&mut self, now_ns: u64, stamp: Stamp, clock_hz: u32) {
        match &mut self.now {
            Some(stream) if stream.continues(stamp) => {
                stream.note(now_ns, stamp, clock_hz);
                self.jitter_us = u32::try_from(stream.jitter_16us / 16).unwrap_or(u32::MAX);
            }
            _ => {
                self.past = self.quality();
                self.now = Some(Stream {
                    ssrc: stamp.ssrc,
                    highest: stamp.sequence,
                    expected: 1,
                    received: 1,
                    last: (stamp.timestamp, now_ns),
                    jitter_16us: 0,
                });
            }
        }
    }

    /// What was heard before, by somebody else.
    pub(super) fn adopt(&mut self, before: Quality) {
        self.past.expected = self.past.expected.saturating_add(before.expected);
        self.past.lost = self.past.lost.saturating_add(before.lost);
        self.jitter_us = self.jitter_us.max(before.jitter_us);
    }

    /// So many packets of the stream went elsewhere unheard: none of them is lost. What comes is heard
    /// as a stream that begins; where the first of it has come already, all that were carried look lost.
    pub(super) fn skip(&mut self, carried: u64) {
        if carried == 0 {
            return;
        }
        let mut so_far = self.quality();
        let looks_lost = self.now.map_or(0, |now| now.expected.saturating_sub(now.received));
        if looks_lost >= carried {
            so_far.lost = so_far.lost.saturating_sub(carried);
            so_far.expected = so_far.expected.saturating_sub(carried);
        }
        (self.past, self.now) = (so_far, None);
    }

    pub(super) fn quality(&self) -> Quality {
        let (expected, received) = self.now.map_or((0, 0), |now| (now.expected, now.received));
        Quality {
            expected: self.past.expected.saturating_add(expected),
            // Duplicates make more of what was received than there was (RFC 3550 A.3).
            lost: self.past.lost.saturating_add(expected.saturating_sub(received)),
            jitter_us: self.jitter_us,
        }
    }
}

impl Stream {
    fn continues(&self, stamp: Stamp) -> bool {
        let ahead = stamp.sequence.wrapping_sub(self.highest);
        let out_of_reach = DROPOUT_MAX..=u16::MAX - MISORDER_MAX;
        self.ssrc == stamp.ssrc && !out_of_reach.contains(&ahead)
    }

    fn note(&mut self, now_ns: u64, stamp: Stamp, clock_hz: u32) {
        let ahead = stamp.sequence.wrapping_sub(self.highest);
        self.received = self.received.saturating_add(1);
        if ahead >= DROPOUT_MAX {
            return; // late
        }
        self.expected = self.expected.saturating_add(u64::from(ahead));
        self.highest = stamp.sequence;
        let (timestamp, arrived_ns) = self.last;
        let ticks = stamp.timestamp.wrapping_sub(timestamp);
        // Packets of one picture, and of one digit (RFC 4733), have one timestamp; a leap is a pause.
        if ticks == 0 || clock_hz == 0 || ticks > clock_hz {
            self.last = (stamp.timestamp, if ticks == 0 { arrived_ns } else { now_ns });
            return;
        }
        self.last = (stamp.timestamp, now_ns);
        let sent_us = u64::from(ticks) * 1_000_000 / u64::from(clock_hz);
        let difference_us = (now_ns.saturating_sub(arrived_ns) / 1_000).abs_diff(sent_us);
        let jitter = self.jitter_16us.saturating_add(difference_us);
        self.jitter_16us = jitter.saturating_sub(self.jitter_16us / 16);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: u64 = 1_000_000;

    fn stamp(number: u64) -> Stamp {
        Stamp { ssrc: 7, sequence: number as u16, timestamp: (number as u32).wrapping_mul(160) }
    }

    fn heard(packets: impl IntoIterator<Item = (u64, u64)>) -> Quality {
        let mut heard = Heard::default();
        for (number, at_ms) in packets {
            heard.note(at_ms * MS, stamp(number), 8_000);
        }
        heard.quality()
    }

    #[test]
    fn rfc_3550_a_3_what_is_missing_is_lost_also_across_the_end_of_the_numbers() {
        let all = 65_500u64..65_600;
        let quality = heard(all.filter(|n| n % 10 != 5).map(|n| (n, n * 20)));
        assert_eq!(quality, Quality { expected: 100, lost: 10, jitter_us: 0 });
    }

    #[test]
    fn what_was_carried_elsewhere_is_not_lost_whenever_that_is_told() {
        // Of a thousand 200 were carried by somebody else; one is lost before, two are after that.
        let is_ours = |n: &u64| !(300..500).contains(n) && ![100, 600, 700].contains(n);
        for told_at in [500, 501, 550] {
            let mut heard = Heard::default();
            for number in (0..1_000).filter(is_ours) {
                if number == told_at {
                    heard.skip(200);
                }
                heard.note(number * 20 * MS, stamp(number), 8_000);
            }
            let quality = heard.quality();
            assert_eq!((quality.expected, quality.lost), (800, 3), "told before {told_at}");
        }
    }

    #[test]
    fn packets_out_of_order_are_not_lost_and_duplicates_hide_no_more_than_they_are() {
        let quality = heard([(1, 20), (3, 60), (2, 61), (4, 80), (4, 80)]);
        assert_eq!((quality.expected, quality.lost), (4, 0));
    }

    #[test]
    fn rfc_3550_a_8_jitter_comes_near_the_mean_deviation() {
        // Every other packet is 4 ms late: each difference is 4 ms.
        let quality = heard((0..1_000).map(|n| (n, n * 20 + (n % 2) * 4)));
        assert!((3_900..=4_000).contains(&quality.jitter_us), "{quality:?}");
    }

    #[test]
    fn another_stream_begins_anew_and_keeps_what_was() {
        let mut heard = Heard::default();
        for number in [1, 2, 4] {
            heard.note(number * 20 * MS, stamp(number), 8_000);
        }
        heard.note(100 * MS, Stamp { ssrc: 8, ..stamp(40_000) }, 8_000);
        heard.note(120 * MS, Stamp { ssrc: 8, ..stamp(50_000) }, 8_000);
        assert_eq!((heard.quality().expected, heard.quality().lost), (6, 1));
    }

    proptest! {
        #[test]
        fn whatever_arrives_no_more_is_lost_than_was_expected(
            packets in proptest::collection::vec(
                (any::<u16>(), any::<u32>(), 0u64..1 << 40, 0u32..3, any::<u32>()), 0..200),
        ) {
            let mut heard = Heard::default();
            for (sequence, timestamp, now_ns, ssrc, clock_hz) in packets {
                heard.note(now_ns, Stamp { ssrc, sequence, timestamp }, clock_hz);
                let quality = heard.quality();
                prop_assert!(quality.lost <= quality.expected);
            }
        }
    }
}
