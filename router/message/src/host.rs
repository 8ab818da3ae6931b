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
    let mut good = text.len() <= 255 && bare.first() != Some(&b'.');
    for [byte, next] in bare.array_windows() {
        good &= (*byte, *next) != (b'.', b'.');
    }
    // An empty label counts as a number.
    let mut last = bare.iter().rev().take_while(|byte| **byte != b'.');
    (good && !last.all(u8::is_ascii_digit)).then_some(Host::Name(text))
}

/// Dotted decimal. Leading zeros are refused: some readers take them for octal.
#[inline]
pub(crate) fn ipv4(text: &[u8]) -> Option<Ipv4Addr> {
    let (mut bits, mut rest) = (0u32, text);
    for place in 0..4 {
        if place > 0 {
            rest = rest.strip_prefix(b".")?;
        }
        let digit = |at: usize| rest.get(at).filter(|b| b.is_ascii_digit()).map(|b| b - b'0');
        let (octet, length) = match (digit(0)?, digit(1), digit(2)) {
            (high @ 1..=9, Some(middle), Some(low)) => {
                (u32::from(high) * 100 + u32::from(middle) * 10 + u32::from(low), 3)
            }
            (high @ 1..=9, Some(low), None) => (u32::from(high * 10 + low), 2),
            (only, None, _) => (u32::from(only), 1),
            _ => return None,
        };
        if octet > 255 {
            return None;
        }
        bits = bits << 8 | octet;
        rest = rest.get(length..)?;
    }
    rest.is_empty().then(|| Ipv4Addr::from(bits))
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
    use super::*;

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
