//! Hosts and ports, as they stand in URIs and in Via.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::chars;

/// A host: a number or a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host<'a> {
    /// IPv4, or IPv6 from brackets.
    Ip(IpAddr),
    /// A host name as written.
    Name(&'a [u8]),
}

impl Host<'_> {
    /// Same host: names without case, numbers by value.
    pub fn same(&self, other: &Host<'_>) -> bool {
        match (self, other) {
            (Host::Ip(a), Host::Ip(b)) => a == b,
            (Host::Name(a), Host::Name(b)) => a.eq_ignore_ascii_case(b),
            _ => false,
        }
    }
}

/// A host as written and parsed, and its port.
pub(crate) struct HostPort<'a> {
    pub(crate) text: &'a [u8],
    pub(crate) host: Host<'a>,
    pub(crate) port: Option<u16>,
}

/// Parses `host [":" port]` at the beginning of a text, as nearly every Via has it: no white space, and
/// the end or a `;` behind. Gives what follows.
#[inline]
pub(crate) fn plain_sent_by(text: &[u8]) -> Option<(HostPort<'_>, &[u8])> {
    let (host_text, mut rest) = leading(text)?;
    let mut port = None;
    if let Some(after) = rest.strip_prefix(b":") {
        let (number, after) = leading_port(after)?;
        port = Some(number);
        rest = after;
    }
    if !matches!(rest.first(), None | Some(b';')) {
        return None;
    }
    Some((HostPort { text: host_text, host: parse_led(host_text)?, port }, rest))
}

/// Parses `host [COLON port]` as Via has it: white space may stand around the colon.
pub(crate) fn sent_by(text: &[u8]) -> Option<HostPort<'_>> {
    match split_port(text) {
        Some((host, digits)) => {
            let host = chars::trim_lws(host);
            let port = Some(port(chars::skip_lws(digits))?);
            Some(HostPort { text: host, host: parse(host)?, port })
        }
        None => Some(HostPort { text, host: parse(text)?, port: None }),
    }
}

/// Splits at the colon before a port; the colons of an IPv6 reference are inside its brackets.
#[inline]
fn split_port(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let from = if text.first() == Some(&b'[') { memchr::memchr(b']', text)? } else { 0 };
    let colon = text.get(from..)?.iter().position(|b| *b == b':')?;
    chars::split_around(text, from + colon)
}

/// What can be a host at the beginning of a text, and what follows.
#[inline]
pub(crate) fn leading(text: &[u8]) -> Option<(&[u8], &[u8])> {
    match text.first() {
        Some(b'[') => text.split_at_checked(memchr::memchr(b']', text)? + 1),
        _ => Some(chars::span_of(text, chars::HOST)),
    }
}

/// The port that a text begins with, and what follows.
#[inline]
pub(crate) fn leading_port(text: &[u8]) -> Option<(u16, &[u8])> {
    let (number, rest) = chars::leading_decimal(text)?;
    Some((good_port(number)?, rest))
}

/// 1 to 65535: nothing can be sent to port 0.
#[inline]
fn port(digits: &[u8]) -> Option<u16> {
    good_port(chars::decimal(digits)?)
}

#[inline]
fn good_port(number: u32) -> Option<u16> {
    u16::try_from(number).ok().filter(|port| *port != 0)
}

/// Parses a host: IPv4, IPv6 in brackets, or a name.
#[inline]
pub(crate) fn parse(text: &[u8]) -> Option<Host<'_>> {
    match text {
        [b'[', ..] => parse_led(text),
        _ if chars::all(text, chars::HOST) => parse_led(text),
        _ => None,
    }
}

/// The same of what [`leading`] gave, whose bytes have been looked at.
#[inline]
pub(crate) fn parse_led(text: &[u8]) -> Option<Host<'_>> {
    let ip = match text {
        [b'[', inner @ .., b']'] => IpAddr::V6(ipv6(inner)?),
        [b'[', ..] => return None,
        [b'0'..=b'9', ..] => match ipv4(text) {
            Some(ip) => IpAddr::V4(ip),
            None => return name(text),
        },
        _ => return name(text),
    };
    Some(Host::Ip(ip))
}

/// Host names: labels of letters, digits, hyphens. The last label may begin with a digit, as
/// container names do, but digits alone would be a mistyped address.
#[inline]
fn name(text: &[u8]) -> Option<Host<'_>> {
    let bare = text.strip_suffix(b".").unwrap_or(text);
    // The name begins as a label does behind a dot.
    let good = text.len() <= 255 && bare.first() != Some(&b'.') && !has_empty_label(bare);
    (good && !ends_in_number(bare)).then_some(Host::Name(text))
}

/// Do two dots stand side by side? Asks eight bytes at a time.
#[inline]
fn has_empty_label(text: &[u8]) -> bool {
    const LOW: u64 = u64::from_le_bytes([0x7f; 8]);
    let two_dots = |bytes: &[u8; 8]| {
        // Dots become 0, and only what is not 0 gets its high bit set.
        let bytes = u64::from_le_bytes(*bytes) ^ u64::from_le_bytes([b'.'; 8]);
        let dots = !(((bytes & LOW) + LOW) | bytes | LOW);
        dots & (dots >> 8) != 0
    };
    let Some(last) = text.last_chunk() else {
        return text.array_windows().any(|pair| pair == b"..");
    };
    let mut rest = text;
    while let Some(bytes) = rest.first_chunk() {
        if two_dots(bytes) {
            return true;
        }
        // Two that stand on either side of a step's end are in the next.
        rest = rest.get(7..).unwrap_or_default();
    }
    two_dots(last)
}

/// Is the last label digits only? An empty label counts as a number.
#[inline]
fn ends_in_number(name: &[u8]) -> bool {
    match name.last() {
        Some(byte) if byte.is_ascii_alphabetic() => false,
        _ => name.iter().rev().take_while(|byte| **byte != b'.').all(u8::is_ascii_digit),
    }
}

/// Dotted decimal. Leading zeros are refused: some readers take them for octal.
#[inline]
pub(crate) fn ipv4(text: &[u8]) -> Option<Ipv4Addr> {
    let (mut bits, mut rest) = (0, text);
    for _ in 0..3 {
        let (octet, after) = match rest {
            [a, b'.', after @ ..] => (octet(&[*a]), after),
            [a, b, b'.', after @ ..] => (octet(&[*a, *b]), after),
            [a, b, c, b'.', after @ ..] => (octet(&[*a, *b, *c]), after),
            _ => return None,
        };
        bits = bits << 8 | octet?;
        rest = after;
    }
    Some(Ipv4Addr::from(bits << 8 | octet(rest)?))
}

#[inline]
fn octet(digits: &[u8]) -> Option<u32> {
    let value = |digit: u8| u32::from(digit - b'0');
    match *digits {
        [a @ b'0'..=b'9'] => Some(value(a)),
        [a @ b'1'..=b'9', b @ b'0'..=b'9'] => Some(value(a) * 10 + value(b)),
        [a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9'] => {
            Some(value(a) * 100 + value(b) * 10 + value(c)).filter(|octet| *octet <= 255)
        }
        _ => None,
    }
}

/// IPv6 without brackets.
pub(crate) fn ipv6(text: &[u8]) -> Option<Ipv6Addr> {
    if text.len() > 64 {
        return None;
    }
    let parse = |text: &[u8]| std::str::from_utf8(text).ok()?.parse().ok();
    if let Some(ip) = parse(text) {
        return Some(ip);
    }
    // RFC 5118 4.10: by a slip of the 2002 grammar, a third colon may stand before an IPv4 part.
    let (before, after) = text.split_at_checked(memchr::memmem::find(text, b":::")?)?;
    ipv4(after.get(3..)?)?;
    let mut fixed = [0u8; 64];
    let after = after.get(1..)?;
    fixed.get_mut(..before.len())?.copy_from_slice(before);
    fixed.get_mut(before.len()..before.len() + after.len())?.copy_from_slice(after);
    parse(fixed.get(..before.len() + after.len())?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn dotted_decimal_is_what_the_standard_library_takes(
            text in "(0|[0-9]{1,4}|1[0-9]{2}|2[0-5]{2})(\\.(0|[0-9]{1,3}|25[0-9])){2,4}[.x]?",
        ) {
            prop_assert_eq!(ipv4(text.as_bytes()), text.parse().ok());
        }

        #[test]
        fn names_are_labels_of_which_none_is_empty_and_the_last_no_number(
            text in "[a-c0-9._-]{0,5}([a-z0-9._-]{0,40}|(\\.{1,2}[a-z]{1,9}){1,4})[a-c0-9._-]{0,3}",
        ) {
            let bare = text.strip_suffix('.').unwrap_or(&text);
            let labels: Vec<_> = bare.split('.').collect();
            let number = |label: &&str| label.bytes().all(|b| b.is_ascii_digit());
            let good = !labels.contains(&"") && !labels.last().is_some_and(number);
            let expected = good.then_some(Host::Name(text.as_bytes()));
            prop_assert_eq!(name(text.as_bytes()), expected);
        }
    }

    fn ip(text: &str) -> Option<IpAddr> {
        match parse(text.as_bytes()) {
            Some(Host::Ip(ip)) => Some(ip),
            _ => None,
        }
    }

    #[test]
    fn addresses_are_read_by_value() {
        assert_eq!(ip("192.0.2.1"), Some([192, 0, 2, 1].into()));
        assert_eq!(ip("[2001:DB8::1]"), "2001:db8::1".parse().ok());
        assert_eq!(ip("[2001:db8:::192.0.2.1]"), "2001:db8::192.0.2.1".parse().ok());
        assert_eq!(ip("[::ffff:192.0.2.10]"), "::ffff:192.0.2.10".parse().ok());
    }

    #[test]
    fn mistyped_addresses_are_no_names() {
        for bad in [
            "192.0.2.300",
            "192.0.2",
            "1.2.3.4.5",
            "010.0.0.1",
            "5070",
            "[::1",
            "::1",
            "[]",
            "[:::]",
            "[fe80::1%25eth0]",
            "a..b",
            ".a",
            "",
            ".",
            "a b",
            "a\0",
            "[2001:db8:::1]",
            "ex@mple",
        ] {
            assert_eq!(parse(bad.as_bytes()), None, "{bad}");
        }
        for good in ["example.com", "example.com.", "a_b.local", "3f2a", "x-1", "host"] {
            assert_eq!(parse(good.as_bytes()), Some(Host::Name(good.as_bytes())), "{good}");
        }
    }

    #[test]
    fn ports_are_one_to_65535() {
        assert_eq!(sent_by(b"[2001:db8::10:5070]").and_then(|h| h.port), None);
        assert_eq!(sent_by(b"[2001:db8::10]:5070").and_then(|h| h.port), Some(5070));
        assert_eq!(sent_by(b"a : 5070").and_then(|h| h.port), Some(5070));
        for bad in ["a:", "a:0", "a:65536", "a:-1", "a:5 0", "2001:db8::10", "[::1]5060", "[::1]x"]
        {
            assert!(sent_by(bad.as_bytes()).is_none(), "{bad}");
        }
    }
}
