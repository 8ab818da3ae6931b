//! Byte classes of the SIP grammar (RFC 3261 25.1), and the few cuts all parsers share.

use wide::u8x16;

/// `token`.
pub(crate) const TOKEN: u8 = 1;
/// User part of a URI, escapes apart.
pub(crate) const USER: u8 = 1 << 1;
/// Password of a URI, escapes apart.
pub(crate) const PASSWORD: u8 = 1 << 2;
/// `paramchar` of a URI parameter, escapes apart.
pub(crate) const PARAM: u8 = 1 << 3;
/// Names and values behind `?` in a URI, escapes apart.
pub(crate) const HEADER: u8 = 1 << 4;
/// Host name.
pub(crate) const HOST: u8 = 1 << 5;
/// What follows the scheme of a URI we do not take apart (RFC 2396 `uric`), escapes apart.
pub(crate) const OPAQUE: u8 = 1 << 6;

const MARK: &[u8] = b"-_.!~*'()";

/// Header parameter value without quotes. By the grammar it is a token or a host. Devices put
/// base64, `=` and `@` there as well; only what could end the value early, or hide, is refused.
/// Octets above ASCII cannot be mistaken for a separator.
pub(crate) const VALUE: u8 = 1 << 7;

static CLASS: [u8; 256] = classes();

#[allow(clippy::indexing_slicing)] // runs at compile time, where a bad index does not build
const fn classes() -> [u8; 256] {
    let mut class = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        if (byte as u8).is_ascii_alphanumeric() {
            class[byte] = TOKEN | USER | PASSWORD | PARAM | HEADER | HOST | OPAQUE;
        }
        if byte > 0x20 && byte != 0x7f && !matches!(byte as u8, b'"' | b';' | b',' | b'<'..=b'>') {
            class[byte] |= VALUE;
        }
        byte += 1;
    }
    class[b'=' as usize] |= VALUE;
    class[b'\\' as usize] &= !VALUE;
    class = add(class, b"-.!%*_+`'~", TOKEN);
    class = add(class, MARK, USER | PASSWORD | PARAM | HEADER | OPAQUE);
    // `#` should be escaped in a user part, but phones send service codes (`*21#`) as dialled.
    class = add(class, b"&=+$,;?/#", USER);
    class = add(class, b"&=+$,", PASSWORD);
    class = add(class, b"[]/:&+$", PARAM);
    class = add(class, b"[]/?:+$", HEADER);
    // `_` is no host name character, but private networks are full of it.
    class = add(class, b"-._", HOST);
    add(class, b";/?:@&=+$,#[]", OPAQUE)
}

#[allow(clippy::indexing_slicing)] // runs at compile time
const fn add(mut class: [u8; 256], bytes: &[u8], bit: u8) -> [u8; 256] {
    let mut i = 0;
    while i < bytes.len() {
        class[bytes[i] as usize] |= bit;
        i += 1;
    }
    class
}

/// Is the byte of that class?
#[inline]
pub(crate) fn is(byte: u8, class: u8) -> bool {
    class_of(byte) & class != 0
}

#[inline]
fn class_of(byte: u8) -> u8 {
    CLASS.get(usize::from(byte)).copied().unwrap_or_default()
}

/// Are all bytes of that class? True for none.
#[inline]
pub(crate) fn all(text: &[u8], class: u8) -> bool {
    text.iter().all(|b| is(*b, class))
}

/// At least one byte, and all are token bytes?
#[inline]
pub(crate) fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && all(text, TOKEN)
}

/// Splits behind the leading bytes of that class, which is one bit.
#[inline]
pub(crate) fn span_of(text: &[u8], class: u8) -> (&[u8], &[u8]) {
    let mut rest = text;
    while let Some((four, more)) = rest.split_first_chunk::<4>() {
        let common = four.iter().fold(class, |common, b| common & class_of(*b));
        if common == 0 {
            break;
        }
        rest = more;
    }
    while let [first, more @ ..] = rest
        && is(*first, class)
    {
        rest = more;
    }
    split(text, text.len() - rest.len())
}

/// Bytes of that class and whole `%` escapes only?
#[inline]
pub(crate) fn all_or_escaped(text: &[u8], class: u8) -> bool {
    span_or_escaped(text, class).1.is_empty()
}

/// Splits behind the leading bytes of that class and whole `%` escapes.
#[inline]
pub(crate) fn span_or_escaped(text: &[u8], class: u8) -> (&[u8], &[u8]) {
    let mut rest = text;
    loop {
        rest = span_of(rest, class).1;
        match rest {
            [b'%', high, low, tail @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                rest = tail;
            }
            _ => return (split(text, text.len() - rest.len()).0, rest),
        }
    }
}

/// The value of an escape's two hex digits.
pub(crate) fn hex_pair(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| (byte as char).to_digit(16).and_then(|d| u8::try_from(d).ok());
    Some(digit(high)? << 4 | digit(low)?)
}

/// White space of the grammar, line ends of folds included.
#[inline]
pub(crate) fn is_lws(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// Without leading white space.
#[inline]
pub(crate) fn skip_lws(mut text: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = text {
        if !is_lws(*first) {
            break;
        }
        text = rest;
    }
    text
}

/// Without leading and trailing white space.
#[inline]
pub(crate) fn trim_lws(text: &[u8]) -> &[u8] {
    trim_lws_end(skip_lws(text))
}

/// Without trailing white space.
#[inline]
pub(crate) fn trim_lws_end(mut text: &[u8]) -> &[u8] {
    while let [rest @ .., last] = text {
        if !is_lws(*last) {
            break;
        }
        text = rest;
    }
    text
}

/// Splits before `at`; all of it where `at` is out of range.
#[inline]
pub(crate) fn split(text: &[u8], at: usize) -> (&[u8], &[u8]) {
    text.split_at_checked(at).unwrap_or((text, &[]))
}

/// Splits around the first `byte`, which is in neither part.
#[inline]
pub(crate) fn split_once(text: &[u8], byte: u8) -> Option<(&[u8], &[u8])> {
    split_around(text, memchr::memchr(byte, text)?)
}

/// Splits around the byte at `at`.
#[inline]
pub(crate) fn split_around(text: &[u8], at: usize) -> Option<(&[u8], &[u8])> {
    let (before, rest) = text.split_at_checked(at)?;
    Some((before, rest.get(1..)?))
}

/// Length of the quoted string that `text` begins with, both quotes included.
pub(crate) fn quoted_len(text: &[u8]) -> Option<usize> {
    if text.first() != Some(&b'"') {
        return None;
    }
    let mut at = 1;
    loop {
        let found = at + memchr::memchr2(b'"', b'\\', text.get(at..)?)?;
        match text.get(found) {
            Some(b'"') => return Some(found + 1),
            _ => at = found + 2, // the backslash and what it escapes, a quote or not
        }
    }
}

/// Offset of the first `wanted` outside quoted strings. An open quote runs to the end.
pub(crate) fn find_unquoted(text: &[u8], wanted: u8) -> Option<usize> {
    let mut at = 0;
    loop {
        let rest = text.get(at..)?;
        let found = memchr::memchr2(wanted, b'"', rest)?;
        if rest.get(found) == Some(&wanted) {
            return Some(at + found);
        }
        at += found + quoted_len(rest.get(found..)?)?;
    }
}

/// Offset of the first CR or LF. Header lines are short: 32 bytes a step find their end before a call
/// into a search for long texts has chosen its way, which serves what is longer.
#[inline]
pub(crate) fn line_break(text: &[u8]) -> Option<usize> {
    let mut done = 0;
    let mut rest = text;
    while done < 128 {
        let Some((block, more)) = rest.split_first_chunk() else {
            return last_line_break(rest).map(|at| done + at);
        };
        let found = breaks(block);
        if found != 0 {
            return Some(done + found.trailing_zeros() as usize);
        }
        done += block.len();
        rest = more;
    }
    memchr::memchr2(b'\r', b'\n', rest).map(|at| done + at)
}

/// The same of less than a step.
#[inline(never)] // one or two lines of a message
fn last_line_break(text: &[u8]) -> Option<usize> {
    let (Some(first), Some(last)) = (text.first_chunk(), text.last_chunk()) else {
        return text.iter().position(|b| matches!(b, b'\r' | b'\n'));
    };
    // The two overlap. What both find, the first has found.
    let found = breaks_16(first) | breaks_16(last) << (text.len() - 16);
    (found != 0).then(|| found.trailing_zeros() as usize)
}

/// One bit for each byte, the first the lowest: set where a CR or LF stands.
#[inline]
fn breaks(text: &[u8; 32]) -> u32 {
    match text.as_chunks::<16>().0 {
        [low, high] => breaks_16(low) | breaks_16(high) << 16,
        _ => 0,
    }
}

#[inline]
fn breaks_16(text: &[u8; 16]) -> u32 {
    let text = u8x16::new(*text);
    (text.simd_eq(u8x16::splat(b'\r')) | text.simd_eq(u8x16::splat(b'\n'))).to_bitmask()
}

/// Offset of the first such byte in a text that is short as a rule: 16 bytes a step find it before a
/// call into a search for long texts has chosen its way.
#[inline]
pub(crate) fn find_near(text: &[u8], byte: u8) -> Option<usize> {
    let mut done = 0;
    let mut rest = text;
    while done < 64 {
        let Some((block, more)) = rest.split_first_chunk() else {
            return find_in_last(text, done, byte);
        };
        if let Some(at) = find_in(block, byte) {
            return Some(done + at);
        }
        done += block.len();
        rest = more;
    }
    memchr::memchr(byte, rest).map(|at| done + at)
}

/// The same where less than a step has not been searched.
#[inline]
fn find_in_last(text: &[u8], done: usize, byte: u8) -> Option<usize> {
    match text.last_chunk::<16>() {
        // What has been searched already does not have it.
        Some(block) => Some(text.len() - block.len() + find_in(block, byte)?),
        None => Some(done + text.get(done..)?.iter().position(|b| *b == byte)?),
    }
}

#[inline]
fn find_in(block: &[u8; 16], byte: u8) -> Option<usize> {
    let found = u8x16::new(*block).simd_eq(u8x16::splat(byte)).to_bitmask();
    (found != 0).then(|| found.trailing_zeros() as usize)
}

/// Offset of the first colon.
#[inline]
pub(crate) fn first_colon(block: &[u8; 16]) -> Option<usize> {
    find_in(block, b':')
}

/// How many leading bytes are the same in both.
#[inline]
pub(crate) fn same_prefix(a: &[u8; 16], b: &[u8; 16]) -> usize {
    let same = u8x16::new(*a).simd_eq(u8x16::new(*b)).to_bitmask();
    same.trailing_ones() as usize
}

/// Visible ASCII only? True for no bytes at all.
#[inline]
pub(crate) fn all_visible(text: &[u8]) -> bool {
    let good = |block: &[u8; 16]| {
        let block = u8x16::new(*block);
        let capped = block.max(u8x16::splat(b'!')).min(u8x16::splat(b'~'));
        block.simd_eq(capped).to_bitmask() == 0xffff
    };
    let (blocks, _) = text.as_chunks();
    match text.last_chunk() {
        // The last 16 bytes again, with those that fill no block.
        Some(last) => blocks.iter().all(good) && good(last),
        None => text.iter().all(u8::is_ascii_graphic),
    }
}

/// The decimal number a text begins with, and what follows: at least one digit, fits.
#[inline]
pub(crate) fn leading_decimal(text: &[u8]) -> Option<(u32, &[u8])> {
    let (mut number, mut length) = (0u32, 0);
    for byte in text {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            break;
        }
        if length == 9 {
            let digits = text.iter().take_while(|b| b.is_ascii_digit()).count();
            let (digits, rest) = split(text, digits);
            return Some((decimal(digits)?, rest));
        }
        number = number * 10 + u32::from(digit); // nine digits fit
        length += 1;
    }
    if length == 0 { None } else { text.split_at_checked(length).map(|(_, rest)| (number, rest)) }
}

/// A decimal number: digits only, at least one, fits.
#[inline]
pub(crate) fn decimal(text: &[u8]) -> Option<u32> {
    if text.is_empty() || text.len() > 9 {
        return saturating_decimal(text).and_then(|number| u32::try_from(number).ok());
    }
    text.iter().try_fold(0u32, |number, byte| {
        byte.is_ascii_digit().then(|| number * 10 + u32::from(byte - b'0')) // nine digits fit
    })
}

/// Digits only, at least one; `u64::MAX` where there are too many.
pub(crate) fn saturating_decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0u64, |number, byte| {
        byte.is_ascii_digit()
            .then(|| number.saturating_mul(10).saturating_add(u64::from(byte - b'0')))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_break_is_found_wherever_it_stands() {
        for length in 0..200 {
            let mut text = vec![b'\x0b'; length];
            assert_eq!(line_break(&text), None, "{length}");
            assert_eq!(find_near(&text, b'\r'), None, "{length}");
            for at in 0..length {
                for byte in [b'\r', b'\n'] {
                    text[at] = byte;
                    assert_eq!(line_break(&text), Some(at), "{length}");
                    assert_eq!(find_near(&text, byte), Some(at), "{length}");
                    if let Some(later) = text.get_mut(at + 1) {
                        *later = b'\n';
                        assert_eq!(line_break(&text), Some(at), "{length}");
                        text[at + 1] = b'\x0b';
                    }
                    text[at] = b'\x0b';
                }
            }
        }
    }

    #[test]
    fn a_span_ends_where_the_first_byte_of_no_such_class_stands() {
        for length in 0..20 {
            let mut text = vec![b'a'; length];
            assert_eq!(span_of(&text, TOKEN), (&text[..], &[][..]));
            for at in 0..length {
                text[at] = b'@';
                assert_eq!(span_of(&text, TOKEN), text.split_at(at), "{length}");
                text[at] = b'a';
            }
        }
    }

    #[test]
    fn quotes_hide_separators_and_escapes_hide_quotes() {
        assert_eq!(quoted_len(br#""a\"b" x"#), Some(6));
        assert_eq!(quoted_len(br#""open"#), None);
        assert_eq!(quoted_len(br#""open\"#), None);
        assert_eq!(find_unquoted(br#"a="x;y";b"#, b';'), Some(7));
        assert_eq!(find_unquoted(br#"a="x;y;b"#, b';'), None);
    }

    #[test]
    fn numbers_are_digits_only_and_never_wrap() {
        assert_eq!(decimal(b"0068"), Some(68));
        assert_eq!(decimal(b"4294967295"), Some(u32::MAX));
        for bad in ["", "-1", "+1", " 1", "1 ", "4294967296", "18446744073709551616", "0x10"] {
            assert_eq!(decimal(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(saturating_decimal(&[b'9'; 100]), Some(u64::MAX));
    }

    #[test]
    fn a_leading_number_is_the_number_of_its_digits() {
        for digits in ["", "0", "5060", "123456789", "1234567890", "4294967296", "00000000000017"] {
            for behind in ["", " x", "x", "/", ":"] {
                let text = format!("{digits}{behind}");
                let expected = decimal(digits.as_bytes()).map(|number| (number, behind.as_bytes()));
                assert_eq!(leading_decimal(text.as_bytes()), expected, "{text}");
            }
        }
    }

    #[test]
    fn one_byte_that_is_not_visible_is_found_wherever_it_stands() {
        for length in 0..70 {
            let mut text = vec![b'a'; length];
            assert!(all_visible(&text));
            for at in 0..length {
                for byte in 0..=255u8 {
                    text[at] = byte;
                    assert_eq!(all_visible(&text), byte.is_ascii_graphic(), "{byte} {at} {length}");
                }
                text[at] = b'a';
            }
        }
    }

    #[test]
    fn escapes_are_whole_or_refused() {
        assert!(all_or_escaped(b"a%00b%fF", USER));
        for bad in ["%", "%4", "%4g", "a%zz", "a b", "a@b", "a\0"] {
            assert!(!all_or_escaped(bad.as_bytes(), USER), "{bad}");
        }
    }
}
