//! SIP's bytes as the database's text.
//!
//! PostgreSQL's `text` is UTF-8 without NUL; SIP's texts nearly always are, too. What is not is
//! written as `\x` and hexadecimal digits, and so is what begins like that.

use std::borrow::Cow;
use std::fmt::Write as _;

const MARK: &str = "\\x";

/// The text for a column.
pub(crate) fn to_column(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.starts_with(MARK) && !text.contains('\0') => Cow::Borrowed(text),
        _ => {
            let mut text = String::with_capacity(MARK.len() + 2 * bytes.len());
            text.push_str(MARK);
            for byte in bytes {
                // Writing to a String cannot fail.
                let _ = write!(text, "{byte:02x}");
            }
            Cow::Owned(text)
        }
    }
}

/// The bytes of a column's text. What is no hexadecimal behind the mark is taken as it is.
pub(crate) fn from_column(text: &str) -> Cow<'_, [u8]> {
    let decoded = text.strip_prefix(MARK).and_then(|digits| {
        let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
        let byte = |pair: &[u8; 2]| {
            let digit = |byte: u8| char::from(byte).to_digit(16);
            u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).ok()
        };
        rest.is_empty().then(|| pairs.iter().map(byte).collect::<Option<Vec<u8>>>())?
    });
    decoded.map_or(Cow::Borrowed(text.as_bytes()), Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_come_back(bytes: Vec<u8>) {
            let text = to_column(&bytes);
            prop_assert!(!text.contains('\0'));
            prop_assert_eq!(&*from_column(&text), &*bytes);
        }

        #[test]
        fn text_stands_as_it_is_unless_it_looks_encoded(text in "[^\\\\\0]\\PC*") {
            prop_assert!(matches!(to_column(text.as_bytes()), Cow::Borrowed(_)));
        }

        #[test]
        fn any_column_is_read(text: String) {
            let _ = from_column(&text);
        }
    }

    #[test]
    fn what_begins_like_encoded_text_is_encoded() {
        assert_eq!(to_column(b"\\x41"), "\\x5c783431");
        assert_eq!(&*from_column("\\x5c783431"), b"\\x41");
        assert_eq!(&*from_column("\\xzz"), b"\\xzz");
        assert_eq!(to_column(b"a\xff"), "\\x61ff");
    }
}
