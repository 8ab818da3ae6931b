//! How long each timer runs (RFC 3261 table 4, RFC 6026, RFC 4320).

use crate::settings::TimerValues;
use crate::timer::Letter;

/// `attempt` of timer E once a provisional response has come: the interval is T2 from then on
/// (RFC 3261 17.1.2.2).
pub const AT_T2: u32 = u32::MAX;

/// Timer D is at least 32 s whatever T1 is here: it covers the peer's timer H, made of the peer's
/// T1, which we do not know (RFC 3261 17.1.1.2).
const D_MIN_US: u64 = 32_000_000;

/// A server transaction of an INVITE owes a 100 after this (RFC 3261 17.2.1).
const INVITE_TRYING_US: u64 = 200_000;

/// Length of a timer in microseconds.
///
/// `attempt` counts the armings of the same letter in the transaction from 0 and matters for A, E
/// and G only, which double; it may be [`AT_T2`]. `reliable` makes D, I, J and K zero; the tables
/// do not arm those then, nor A, E and G ever. The value for `Watch` is the time after which the
/// peer has given up, so that no answer is of use any more; a shorter one is the owner's choice.
pub fn duration_us(letter: Letter, attempt: u32, reliable: bool, values: &TimerValues) -> u64 {
    let t1 = values.t1_us;
    let give_up = t1.saturating_mul(64);
    let only_unreliable = |us: u64| if reliable { 0 } else { us };
    match letter {
        // 17.1.1.2: doubles without a cap but timer B, which is also where it stops being useful.
        Letter::A => doubled(t1, attempt).min(give_up),
        // 17.1.2.2 and 17.2.1: MIN(2 * interval, T2).
        Letter::E | Letter::G => doubled(t1, attempt).min(values.t2_us),
        Letter::B | Letter::F | Letter::H | Letter::L | Letter::M | Letter::Watch => give_up,
        Letter::C => values.c_us,
        Letter::D => only_unreliable(give_up.max(D_MIN_US)),
        Letter::I | Letter::K => only_unreliable(values.t4_us),
        Letter::J => only_unreliable(give_up),
        Letter::Trying => INVITE_TRYING_US,
        Letter::LateTrying => late_trying_us(values),
    }
}

fn doubled(t1_us: u64, attempt: u32) -> u64 {
    2u64.checked_pow(attempt).map_or(u64::MAX, |factor| t1_us.saturating_mul(factor))
}

/// RFC 4320 4.1: the time after which a client's timer E is reset to T2, counted from its first
/// sending: 3.5 s with the default values. No 100 before it over unreliable transports, and a 100
/// at this moment if nothing has been sent.
fn late_trying_us(values: &TimerValues) -> u64 {
    let mut total = 0u64;
    for attempt in 0..u64::BITS {
        let interval = doubled(values.t1_us, attempt);
        total = total.saturating_add(interval);
        if interval.saturating_mul(2) >= values.t2_us {
            break;
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(letter: Letter, attempt: u32, reliable: bool) -> u64 {
        duration_us(letter, attempt, reliable, &TimerValues::default()) / 1_000
    }

    #[test]
    fn table_4_with_default_values() {
        use Letter::*;
        let unreliable: Vec<u64> = Letter::ALL.iter().map(|l| ms(*l, 0, false)).collect();
        assert_eq!(
            unreliable,
            [
                500, 32_000, 181_000, 32_000, 500, 32_000, 500, 32_000, 5_000, 32_000, 5_000,
                32_000, 32_000, 200, 3_500, 32_000
            ]
        );
        for letter in Letter::ALL {
            let expected = if matches!(letter, D | I | J | K) { 0 } else { ms(letter, 0, false) };
            assert_eq!(ms(letter, 0, true), expected, "{letter:?}");
        }
    }

    #[test]
    fn a_doubles_until_b_and_e_and_g_double_until_t2() {
        let a: Vec<u64> = (0..8).map(|n| ms(Letter::A, n, false)).collect();
        assert_eq!(a, [500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 32_000]);
        for letter in [Letter::E, Letter::G] {
            let intervals: Vec<u64> = (0..6).map(|n| ms(letter, n, false)).collect();
            assert_eq!(intervals, [500, 1_000, 2_000, 4_000, 4_000, 4_000], "{letter:?}");
            assert_eq!(ms(letter, AT_T2, false), 4_000);
        }
    }

    #[test]
    fn an_invite_is_sent_seven_times_and_a_register_eleven_times_before_the_timeout() {
        // RFC 3261 17.1.1.2: 7 packets until timer B; 17.1.2.2: 11 (E at 500, 1000, 2000, 4000...).
        for (letter, sent) in [(Letter::A, 7), (Letter::E, 11)] {
            let mut at = 0;
            let count = (0..).take_while(|n| {
                at += ms(letter, *n, false);
                at < 32_000
            });
            assert_eq!(count.count() + 1, sent, "{letter:?}");
        }
    }

    #[test]
    fn rfc_4320_4_1_late_100_comes_when_timer_e_reaches_t2() {
        let values = |t1_us, t2_us| TimerValues { t1_us, t2_us, ..TimerValues::default() };
        let late = |v: TimerValues| duration_us(Letter::LateTrying, 0, false, &v);
        assert_eq!(late(values(500_000, 4_000_000)), 3_500_000);
        assert_eq!(late(values(100_000, 400_000)), 300_000);
        assert_eq!(late(values(500_000, 500_000)), 500_000);
        assert_eq!(late(values(0, 4_000_000)), 0);
    }

    #[test]
    fn timer_d_covers_a_peer_with_larger_t1_and_huge_values_do_not_overflow() {
        let small = TimerValues { t1_us: 10_000, ..TimerValues::default() };
        assert_eq!(duration_us(Letter::D, 0, false, &small), 32_000_000);
        let huge =
            TimerValues { t1_us: u64::MAX, t2_us: u64::MAX, t4_us: u64::MAX, c_us: u64::MAX };
        for letter in Letter::ALL {
            for attempt in [0, 1, 63, 64, AT_T2] {
                let us = duration_us(letter, attempt, false, &huge);
                assert!(us == u64::MAX || letter == Letter::Trying, "{letter:?} {attempt}");
            }
        }
    }
}
