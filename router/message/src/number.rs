//! Decimal numbers as text, without the formatting machinery: a message has a dozen of them.

use std::net::IpAddr;

/// Appends the number in decimal digits, without leading zeros.
pub fn write_decimal(number: u64, out: &mut Vec<u8>) {
    // Octets of addresses, ports and lengths are nearly all there is, and need no loop.
    let digit = |place: u32| b'0' + (number as u32 / place % 10) as u8;
    match number {
        0..10 => return out.push(digit(1)),
        10..100 => return out.extend_from_slice(&[digit(10), digit(1)]),
        100..1000 => return out.extend_from_slice(&[digit(100), digit(10), digit(1)]),
        1000..10_000 => {
            return out.extend_from_slice(&[digit(1000), digit(100), digit(10), digit(1)]);
        }
        _ => {}
    }
    let mut digits = [0u8; 20];
    let mut start = digits.len();
    let mut rest = number;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
        start -= 1;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(start..).unwrap_or_default());
}

/// An address as its `Display` writes it.
#[must_use]
pub fn ip_text(ip: IpAddr) -> String {
    let IpAddr::V4(ip) = ip else { return ip.to_string() };
    let mut text = Vec::with_capacity("255.255.255.255".len());
    for (at, octet) in ip.octets().into_iter().enumerate() {
        if at > 0 {
            text.push(b'.');
        }
        write_decimal(octet.into(), &mut text);
    }
    String::from_utf8(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{ip_text, write_decimal};
    use proptest::prelude::*;
    use std::net::IpAddr;

    proptest! {
        #[test]
        fn numbers_are_written_as_the_standard_library_does(number: u64, shift in 0u32..64) {
            for number in [number >> shift, 0, 9, 10, 99, 100, 999, 1000, 9999, 10_000, u64::MAX] {
                let mut out = b"x".to_vec();
                write_decimal(number, &mut out);
                prop_assert_eq!(out, format!("x{number}").into_bytes());
            }
        }

        #[test]
        fn addresses_are_written_as_the_standard_library_does(ip: IpAddr) {
            prop_assert_eq!(ip_text(ip), ip.to_string());
        }
    }
}
