//! Header lines of the 200 (RFC 3261 10.3 step 8).

use std::io::Write as _;

use viaduct_message::{HeaderName, write_decimal};

use super::apply::{Entries, Outcome};
use super::outbound::is_first_hop;
use super::request::Request;
use super::{OutboundMode, SaveInput};
use crate::registrar::gruu;

/// Contact lines with what is left of each binding, Path where due, Date.
pub(super) fn headers(
    input: &SaveInput<'_>,
    request: &Request<'_>,
    (outcome, entries): (&Outcome, &Entries<'_>),
) -> Vec<u8> {
    let only_named = input.flags.only_request_contacts;
    let listed = || entries.iter().filter(|(_, named)| *named || !only_named);
    let contacts: usize = listed()
        .map(|(binding, _)| binding.contact().len() + binding.contact_params().len() + 48)
        .sum();
    let mut out = Vec::with_capacity(contacts + request.path.len() + 64);
    let now_ms = input.now.unix_ms;
    let (mut gruu, mut outbound) = (false, false);
    for option in input.message.tokens(HeaderName::Supported) {
        gruu |= input.registrar.gruu && option.eq_ignore_ascii_case(b"gruu");
        outbound |= option.eq_ignore_ascii_case(b"outbound");
    }
    for (binding, _) in listed() {
        out.extend_from_slice(b"Contact: <");
        out.extend_from_slice(binding.contact());
        out.push(b'>');
        if !binding.contact_params().is_empty() {
            out.push(b';');
            out.extend_from_slice(binding.contact_params());
        }
        if input.registrar.show_received && !binding.received().is_empty() {
            for part in [&b";received=\""[..], binding.received(), b"\""] {
                out.extend_from_slice(part);
            }
        }
        if gruu {
            gruu::write_params(&binding.fields(), input, &mut out);
        }
        // Writing to a Vec cannot fail.
        if let Some(q) = binding.q_milli() {
            let _ = write!(out, ";q={}.{:03}", q / 1000, q % 1000);
        }
        // Rounded up: a binding that is listed is not yet gone.
        let left_s = binding.expires_ms().saturating_sub(now_ms).div_ceil(1000);
        out.extend_from_slice(b";expires=");
        write_decimal(left_s, &mut out);
        out.extend_from_slice(b"\r\n");
    }
    if request.path_in_answer && !request.path.is_empty() {
        // R-P16: the values as received, in one header field.
        out.extend_from_slice(b"Path: ");
        out.extend_from_slice(&request.path);
        out.extend_from_slice(b"\r\n");
    }
    if input.registrar.outbound != OutboundMode::Off && outbound {
        write_outbound(input, outcome.by_flow, &mut out);
    }
    if !input.registrar.service_route.is_empty() {
        out.extend_from_slice(b"Service-Route: ");
        out.extend_from_slice(input.registrar.service_route.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    write_date(now_ms / 1000, &mut out);
    out
}

/// RFC 5626 6: `Require: outbound` says that the flow was taken; Flow-Timer is the first hop's to
/// write (5.4).
fn write_outbound(input: &SaveInput<'_>, by_flow: bool, out: &mut Vec<u8>) {
    out.extend_from_slice(b"Supported: outbound\r\n");
    if !by_flow {
        return;
    }
    out.extend_from_slice(b"Require: outbound\r\n");
    let flow_timer_s = input.registrar.flow_timer_s;
    if flow_timer_s > 0 && is_first_hop(input.message) {
        out.extend_from_slice(b"Flow-Timer: ");
        write_decimal(flow_timer_s.into(), out);
        out.extend_from_slice(b"\r\n");
    }
}

/// Appends a Date line in GMT, the only zone SIP has (RFC 3261 20.17); right until the year 9999.
fn write_date(unix_s: u64, out: &mut Vec<u8>) {
    const DAYS: [[u8; 3]; 7] = [*b"Thu", *b"Fri", *b"Sat", *b"Sun", *b"Mon", *b"Tue", *b"Wed"];
    const MONTHS: [[u8; 3]; 12] = [
        *b"Jan", *b"Feb", *b"Mar", *b"Apr", *b"May", *b"Jun", *b"Jul", *b"Aug", *b"Sep", *b"Oct",
        *b"Nov", *b"Dec",
    ];
    let (days, second) = (unix_s / 86_400, unix_s % 86_400);
    let (year, month, day) = civil(days);
    let name = |names: &[[u8; 3]], index: u64| {
        usize::try_from(index).ok().and_then(|index| names.get(index).copied()).unwrap_or_default()
    };
    // 1970-01-01 was a Thursday.
    let ([w, e, k], [m, o, n]) = (name(&DAYS, days % 7), name(&MONTHS, month - 1));
    let ([c, v], [y, z]) = (two(year / 100), two(year));
    let [d, f] = two(day);
    let ([g, h], [i, j], [s, t]) = (two(second / 3600), two(second / 60 % 60), two(second % 60));
    // In one piece: appended part by part it costs three times as much.
    out.extend_from_slice(&[
        b'D', b'a', b't', b'e', b':', b' ', w, e, k, b',', b' ', d, f, b' ', m, o, n, b' ', c, v,
        y, z, b' ', g, h, b':', i, j, b':', s, t, b' ', b'G', b'M', b'T', b'\r', b'\n',
    ]);
}

/// The last two decimal digits.
fn two(number: u64) -> [u8; 2] {
    [b'0' + (number / 10 % 10) as u8, b'0' + (number % 10) as u8]
}

/// Year, month (1 to 12) and day (1 to 31) of a day counted from 1970-01-01, by the Gregorian rule:
/// years are counted from March, so that the leap day is a year's last.
fn civil(days: u64) -> (u64, u64, u64) {
    const DAYS_OF_400_YEARS: u64 = 146_097;
    // 719,468 days lie between 0000-03-01 and 1970-01-01.
    let days = days.saturating_add(719_468);
    let (era, day_of_era) = (days / DAYS_OF_400_YEARS, days % DAYS_OF_400_YEARS);
    let leap_days_skipped = day_of_era / 1460 + day_of_era / 146_096;
    let year_of_era = (day_of_era + day_of_era / 36_524 - leap_days_skipped) / 365;
    let first = year_of_era * 365 + year_of_era / 4 - year_of_era / 100;
    let day_of_year = day_of_era - first;
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let (month, carry) = match month_from_march {
        0..=9 => (month_from_march + 3, 0),
        _ => (month_from_march - 9, 1),
    };
    (era * 400 + year_of_era + carry, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn date(unix_s: u64) -> String {
        let mut out = Vec::new();
        write_date(unix_s, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn dates_are_gmt_and_know_leap_years() {
        assert_eq!(date(0), "Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n");
        assert_eq!(date(951_782_400), "Date: Tue, 29 Feb 2000 00:00:00 GMT\r\n");
        assert_eq!(date(1_289_690_940), "Date: Sat, 13 Nov 2010 23:29:00 GMT\r\n");
        assert_eq!(date(1_735_689_599), "Date: Tue, 31 Dec 2024 23:59:59 GMT\r\n");
        assert_eq!(date(4_107_542_400), "Date: Mon, 01 Mar 2100 00:00:00 GMT\r\n");
    }

    #[test]
    fn each_day_follows_the_one_before() {
        let mut last = civil(0);
        for day in 1..150_000 {
            let next = civil(day);
            let following = next == (last.0, last.1, last.2 + 1)
                || next == (last.0, last.1 + 1, 1)
                || next == (last.0 + 1, 1, 1);
            assert!(following, "{last:?} {next:?}");
            last = next;
        }
    }
}
