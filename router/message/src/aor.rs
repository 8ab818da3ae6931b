//! The canonical address-of-record, key of the location service.

use std::io::Write as _;

use crate::host::Host;
use crate::{Uri, chars};

/// Appends the canonical AoR of a URI (RFC 3261 10.3 step 5): `user@host`, user unescaped once and
/// in its own case unless `fold_user`, host folded; no port, parameters or password. Without a
/// user: `host`. Escapes of bytes that would be ambiguous (`@`, `%`, controls, NUL, blanks, octets
/// above ASCII) stay escaped with upper-case hex digits, so the AoR is visible ASCII and two users
/// never share one. IPv6 hosts are in brackets, in their shortest form.
///
/// A URI that is neither `sip` nor `sips` gives its folded scheme, `:` and the rest, with `@`
/// escaped: never the AoR of a SIP URI.
pub fn write_aor(uri: &Uri<'_>, fold_user: bool, out: &mut Vec<u8>) {
    if !uri.is_sip() {
        out.extend(uri.scheme_text.iter().map(u8::to_ascii_lowercase));
        out.push(b':');
        write_user(uri.user.unwrap_or_default(), false, out);
        return;
    }
    if let Some(user) = uri.user {
        write_user(user, fold_user, out);
        out.push(b'@');
    }
    match uri.host {
        Host::Name(name) => out.extend(name.iter().map(u8::to_ascii_lowercase)),
        // Writing to a Vec cannot fail.
        Host::Ip(std::net::IpAddr::V4(ip)) => drop(write!(out, "{ip}")),
        Host::Ip(std::net::IpAddr::V6(ip)) => drop(write!(out, "[{ip}]")),
    }
}

/// Appends the user part of a canonical AoR, see [`write_aor`].
pub fn write_user(user: &[u8], fold: bool, out: &mut Vec<u8>) {
    if !fold && user.iter().all(is_kept) {
        return out.extend_from_slice(user); // as nearly all are
    }
    decode(user, |byte| write_user_byte(byte, fold, out));
}

/// As [`write_user`], for a name that is no part of a URI: a `%` in it begins no escape.
pub fn write_plain_user(name: &[u8], fold: bool, out: &mut Vec<u8>) {
    name.iter().for_each(|byte| write_user_byte(*byte, fold, out));
}

/// May the byte stand in an AoR as it is?
fn is_kept(byte: &u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'@' | b'%')
}

fn write_user_byte(byte: u8, fold: bool, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let digit = |nibble: u8| HEX.get(usize::from(nibble)).copied().unwrap_or(b'0');
    if is_kept(&byte) {
        out.push(if fold { byte.to_ascii_lowercase() } else { byte });
    } else {
        out.extend_from_slice(&[b'%', digit(byte >> 4), digit(byte & 15)]);
    }
}

/// Appends `text` with percent escapes decoded once; a bad escape is kept as written.
pub fn unescape(text: &[u8], out: &mut Vec<u8>) {
    decode(text, |byte| out.push(byte));
}

fn decode(text: &[u8], mut emit: impl FnMut(u8)) {
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        rest = tail;
        match tail {
            [high, low, after @ ..] if *first == b'%' => match chars::hex_pair(*high, *low) {
                Some(byte) => {
                    emit(byte);
                    rest = after;
                }
                None => emit(b'%'),
            },
            _ => emit(*first),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aor(text: &str, fold: bool) -> String {
        let mut out = Vec::new();
        write_aor(&Uri::parse(text.as_bytes()).expect(text), fold, &mut out);
        String::from_utf8(out).expect("ASCII")
    }

    #[test]
    fn everything_but_user_and_host_is_dropped() {
        assert_eq!(
            aor("sip:Al%69ce:pw@EXAMPLE.com:5070;transport=tcp?a=b", false),
            "Alice@example.com"
        );
        assert_eq!(aor("sips:Alice@example.com", true), "alice@example.com");
        assert_eq!(aor("sip:Example.COM", false), "example.com");
        assert_eq!(aor("sip:a@[2001:DB8:0::1]", false), "a@[2001:db8::1]");
        assert_eq!(aor("tel:+1-2", false), "tel:+1-2");
    }

    #[test]
    fn ambiguous_bytes_stay_escaped_so_users_stay_distinct() {
        assert_eq!(aor("sip:%00@h", false), "%00@h");
        assert_eq!(aor("sip:%00%00@h", false), "%00%00@h");
        assert_eq!(
            aor("sip:sips%3auser%40example.com@example.net", false),
            "sips:user%40example.com@example.net"
        );
        assert_eq!(aor("sip:a%2541@h", false), "a%2541@h"); // once only: not aA
        assert_eq!(aor("sip:I%20have@h", false), "I%20have@h");
        assert_eq!(aor("sip:%c3%a9@h", true), "%C3%A9@h");
        assert_ne!(aor("mailto:a@h", false), aor("sip:mailto%3Aa@h", false));
    }

    #[test]
    fn unescape_decodes_once_and_keeps_bad_escapes() {
        let mut out = Vec::new();
        unescape(b"%2541%zz%4%", &mut out);
        assert_eq!(out, b"%41%zz%4%");
    }
}
