//! Header field names we have a rule for.

use crate::chars;

/// `prefix` and the full name in one static text.
macro_rules! header_name_text {
    ($name:expr, $prefix:literal) => {
        header_name_text!($name, $prefix,
            Via "Via", From "From", To "To", CallId "Call-ID", CSeq "CSeq",
            MaxForwards "Max-Forwards", Contact "Contact", Route "Route",
            RecordRoute "Record-Route", Path "Path", ServiceRoute "Service-Route",
            Expires "Expires", MinExpires "Min-Expires", ContentLength "Content-Length",
            ContentType "Content-Type", Require "Require", ProxyRequire "Proxy-Require",
            Supported "Supported", Unsupported "Unsupported", Authorization "Authorization",
            ProxyAuthorization "Proxy-Authorization", WwwAuthenticate "WWW-Authenticate",
            ProxyAuthenticate "Proxy-Authenticate", Allow "Allow", UserAgent "User-Agent",
            Date "Date", RetryAfter "Retry-After", Reason "Reason", Event "Event",
            MaxBreadth "Max-Breadth", Other "header")
    };
    ($name:expr, $prefix:literal, $($variant:ident $text:literal),*) => {
        match $name {
            $($crate::HeaderName::$variant => concat!($prefix, $text),)*
        }
    };
}
pub(crate) use header_name_text;

/// The type, and all of its values.
macro_rules! header_names {
    ($(#[$attribute:meta])* $($name:ident)*) => {
        $(#[$attribute])*
        pub enum HeaderName {
            $($name,)*
        }

        impl HeaderName {
            /// All, in order of their numbers.
            pub(crate) const ALL: [HeaderName; HeaderName::COUNT] = [$(HeaderName::$name,)*];
        }
    };
}

header_names! {
    /// A header field by its meaning; compact and full forms are the same header (RFC 3261 7.3.3).
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
    #[repr(u8)]
    #[allow(missing_docs)] // each variant is the header of that name
    Via From To CallId CSeq MaxForwards Contact Route RecordRoute Path ServiceRoute Expires
    MinExpires ContentLength ContentType Require ProxyRequire Supported Unsupported Authorization
    ProxyAuthorization WwwAuthenticate ProxyAuthenticate Allow UserAgent Date RetryAfter Reason
    Event MaxBreadth Other
}

impl HeaderName {
    /// How many names there are, `Other` included.
    pub const COUNT: usize = HeaderName::Other as usize + 1;

    /// The header a label names, in any case, in the full or the compact form.
    #[inline]
    pub fn from_label(label: &[u8]) -> HeaderName {
        use HeaderName::*;
        let Some(first) = label.first() else {
            return Other;
        };
        // Length and first letter leave one or two candidates.
        match (label.len(), first | 0x20) {
            (1, letter) => compact(letter),
            (2, b't') => one(label, b"To", To),
            (3, b'v') => one(label, b"Via", Via),
            (4, b'f') => one(label, b"From", From),
            (4, b'c') => one(label, b"CSeq", CSeq),
            (4, b'p') => one(label, b"Path", Path),
            (4, b'd') => one(label, b"Date", Date),
            (5, b'r') => one(label, b"Route", Route),
            (5, b'a') => one(label, b"Allow", Allow),
            (5, b'e') => one(label, b"Event", Event),
            (6, b'r') => one(label, b"Reason", Reason),
            (7, b'c') => two(label, (b"Call-ID", CallId), (b"Contact", Contact)),
            (7, b'e') => one(label, b"Expires", Expires),
            (7, b'r') => one(label, b"Require", Require),
            (9, b's') => one(label, b"Supported", Supported),
            (10, b'u') => one(label, b"User-Agent", UserAgent),
            (11, b'm') => two(label, (b"Min-Expires", MinExpires), (b"Max-Breadth", MaxBreadth)),
            (11, b'u') => one(label, b"Unsupported", Unsupported),
            (11, b'r') => one(label, b"Retry-After", RetryAfter),
            (12, b'm') => one(label, b"Max-Forwards", MaxForwards),
            (12, b'r') => one(label, b"Record-Route", RecordRoute),
            (12, b'c') => one(label, b"Content-Type", ContentType),
            (13, b's') => one(label, b"Service-Route", ServiceRoute),
            (13, b'a') => one(label, b"Authorization", Authorization),
            (13, b'p') => one(label, b"Proxy-Require", ProxyRequire),
            (14, b'c') => one(label, b"Content-Length", ContentLength),
            (16, b'w') => one(label, b"WWW-Authenticate", WwwAuthenticate),
            (18, b'p') => one(label, b"Proxy-Authenticate", ProxyAuthenticate),
            (19, b'p') => one(label, b"Proxy-Authorization", ProxyAuthorization),
            _ => Other,
        }
    }

    /// The header a line begins with, where that is a full name in its usual spelling and the line's
    /// first colon, at `colon`, is behind it: one place to look at and one compare.
    #[inline]
    pub(crate) fn usual(line: &[u8; LINE], colon: usize) -> Option<HeaderName> {
        let [first, second, ..] = line;
        let usual = USUAL.get(place(colon as u8, *first, *second))?;
        // The colon is compared as well: there is one in the name's text, so the lengths agree.
        (chars::same_prefix(line, &usual.text) > colon).then_some(usual.name)
    }

    /// The full name in its usual spelling; `header` for `Other`.
    pub const fn as_str(self) -> &'static str {
        header_name_text!(self, "")
    }
}

/// How much of a line is looked at for its name; the three longest names do not fit.
const LINE: usize = 16;

/// A name as it stands at the beginning of a line, with its colon.
#[derive(Clone, Copy)]
struct Usual {
    text: [u8; LINE],
    name: HeaderName,
}

/// The names that fit, each at its [`place`].
static USUAL: [Usual; 64] = usual_names();

/// Where a name is in [`USUAL`]: no two share a place.
#[inline]
const fn place(length: u8, first: u8, second: u8) -> usize {
    (length.wrapping_add(second).wrapping_mul(12).wrapping_add(first) & 63) as usize
}

#[allow(clippy::indexing_slicing, clippy::panic)] // runs at compile time
const fn usual_names() -> [Usual; 64] {
    let mut table = [Usual { text: [0; LINE], name: HeaderName::Other }; 64];
    let mut number = 0;
    while number < HeaderName::Other as usize {
        let name = HeaderName::ALL[number];
        let text = name.as_str().as_bytes();
        if text.len() < LINE {
            let entry = &mut table[place(text.len() as u8, text[0], text[1])];
            assert!(entry.text[0] == 0, "two names share a place");
            let mut at = 0;
            while at < text.len() {
                entry.text[at] = text[at];
                at += 1;
            }
            entry.text[at] = b':';
            entry.name = name;
        }
        number += 1;
    }
    table
}

#[inline]
fn one<const N: usize>(label: &[u8], usual: &[u8; N], name: HeaderName) -> HeaderName {
    if same(label, usual) { name } else { HeaderName::Other }
}

#[inline]
fn two<const N: usize>(
    label: &[u8],
    first: (&[u8; N], HeaderName),
    second: (&[u8; N], HeaderName),
) -> HeaderName {
    if same(label, first.0) { first.1 } else { one(label, second.0, second.1) }
}

/// Compares without case (RFC 3261 7.3.1), the usual spelling first: the length is known when
/// compiled, so that takes a few instructions.
#[inline]
fn same<const N: usize>(label: &[u8], usual: &[u8; N]) -> bool {
    label == usual || label.eq_ignore_ascii_case(usual)
}

/// Compact forms (RFC 3261 7.3.3; RFC 6665 for `o`).
fn compact(letter: u8) -> HeaderName {
    match letter {
        b'v' => HeaderName::Via,
        b'f' => HeaderName::From,
        b't' => HeaderName::To,
        b'i' => HeaderName::CallId,
        b'm' => HeaderName::Contact,
        b'l' => HeaderName::ContentLength,
        b'c' => HeaderName::ContentType,
        b'k' => HeaderName::Supported,
        b'o' => HeaderName::Event,
        _ => HeaderName::Other,
    }
}

/// The full name behind a registered compact form we have no rule for; other labels unchanged.
pub(crate) fn expand(label: &[u8]) -> &[u8] {
    let [letter] = label else { return label };
    match letter.to_ascii_lowercase() {
        b'a' => b"Accept-Contact",
        b'b' => b"Referred-By",
        b'd' => b"Request-Disposition",
        b'e' => b"Content-Encoding",
        b'j' => b"Reject-Contact",
        b'n' => b"Identity-Info",
        b'r' => b"Refer-To",
        b's' => b"Subject",
        b'u' => b"Allow-Events",
        b'x' => b"Session-Expires",
        b'y' => b"Identity",
        _ => label,
    }
}

/// Do two labels name the same header, in any case, full or compact form? Whoever removes a header
/// must mean all its spellings, or one of them gets through.
pub fn same_label(a: &[u8], b: &[u8]) -> bool {
    match (HeaderName::from_label(a), HeaderName::from_label(b)) {
        (HeaderName::Other, HeaderName::Other) => expand(a).eq_ignore_ascii_case(expand(b)),
        (a, b) => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_the_same_in_all_its_spellings() {
        for (a, b) in
            [("v", "VIA"), ("x", "Session-Expires"), ("X-Own", "x-own"), ("r", "refer-to")]
        {
            assert!(same_label(a.as_bytes(), b.as_bytes()), "{a} {b}");
        }
        for (a, b) in [("x", "X-Own"), ("Via", "X-Via"), ("t", "From")] {
            assert!(!same_label(a.as_bytes(), b.as_bytes()), "{a} {b}");
        }
    }

    #[test]
    fn every_name_is_found_by_its_text_in_any_case() {
        for (number, name) in HeaderName::ALL.into_iter().enumerate() {
            assert_eq!(name as usize, number);
            let text = name.as_str();
            for label in [text.to_owned(), text.to_lowercase(), text.to_uppercase()] {
                assert_eq!(HeaderName::from_label(label.as_bytes()), name, "{label}");
            }
        }
    }

    #[test]
    fn compact_forms_are_the_same_header() {
        for (letter, name) in [
            (b"v", HeaderName::Via),
            (b"F", HeaderName::From),
            (b"t", HeaderName::To),
            (b"I", HeaderName::CallId),
            (b"m", HeaderName::Contact),
            (b"L", HeaderName::ContentLength),
            (b"c", HeaderName::ContentType),
            (b"K", HeaderName::Supported),
            (b"o", HeaderName::Event),
            (b"s", HeaderName::Other),
        ] {
            assert_eq!(HeaderName::from_label(letter), name);
        }
        assert_eq!(expand(b"S"), b"Subject");
    }

    #[test]
    fn near_misses_are_other_headers() {
        for label in ["", "vi", "Via ", "C%6Fntact", "Call\rID", "Contact-", "Rout\0", "\u{16}"] {
            assert_eq!(HeaderName::from_label(label.as_bytes()), HeaderName::Other, "{label:?}");
        }
    }
}
