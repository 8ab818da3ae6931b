//! A SIP message as octets, cut into start line, header fields and body, with nothing understood.
//!
//! Not built on the router's parser: a fault there must not hide itself here. Folded header fields
//! stay in one piece, as the judge compares them octet by octet.

use anyhow::{Context, Result};
use memchr::memmem;

/// A message cut into pieces; every piece is a part of what came.
#[derive(Clone, Debug)]
pub(crate) struct Pieces<'a> {
    /// Without its line end.
    pub(crate) start: &'a [u8],
    /// Header fields, folds and all, without the last line end of each.
    pub(crate) fields: Vec<&'a [u8]>,
    /// Everything behind the empty line.
    pub(crate) rest: &'a [u8],
}

impl<'a> Pieces<'a> {
    /// Cuts at CRLFs. A message whose header section does not end has an empty rest.
    pub(crate) fn cut(message: &'a [u8]) -> Self {
        let (head, rest) = match memmem::find(message, b"\r\n\r\n") {
            Some(at) => {
                let (head, rest) = message.split_at(at + 2);
                (head, rest.get(2..).unwrap_or_default())
            }
            None => (message, &[][..]),
        };
        let mut pieces = Vec::new();
        let (mut from, mut looked) = (0, 0);
        while let Some(at) = memmem::find(head.get(looked..).unwrap_or_default(), b"\r\n") {
            looked += at + 2;
            // RFC 3261 7.3.1: a line that begins with a blank goes on with the one before.
            if !matches!(head.get(looked), Some(b' ' | b'\t')) {
                pieces.push(head.get(from..looked - 2).unwrap_or_default());
                from = looked;
            }
        }
        if from < head.len() {
            pieces.push(head.get(from..).unwrap_or_default());
        }
        let mut pieces = pieces.into_iter();
        Self { start: pieces.next().unwrap_or_default(), fields: pieces.collect(), rest }
    }

    /// The body: what Content-Length says, or all there is.
    pub(crate) fn body(&self) -> &'a [u8] {
        let length = self.value("content-length").and_then(|value| value.parse::<usize>().ok());
        self.rest.get(..length.unwrap_or(self.rest.len())).unwrap_or(self.rest)
    }

    /// The status code, if this is a response.
    pub(crate) fn status(&self) -> Option<u16> {
        let code = self.start.strip_prefix(b"SIP/2.0 ")?.get(..3)?;
        std::str::from_utf8(code).ok()?.parse().ok()
    }

    /// The method as written, if this is a request.
    pub(crate) fn method(&self) -> Option<&'a [u8]> {
        if self.start.starts_with(b"SIP/") {
            return None;
        }
        self.start.split(|octet| *octet == b' ').next()
    }

    /// Header fields of that name (long form, lower case).
    pub(crate) fn all(&self, wanted: &str) -> impl Iterator<Item = &'a [u8]> {
        self.fields.iter().copied().filter(move |field| name(field) == wanted)
    }

    /// The first value of that name, as text.
    pub(crate) fn value(&self, wanted: &str) -> Option<String> {
        self.all(wanted).next().map(|field| text(value(field)).trim().to_owned())
    }
}

/// A header field's name in its long form, lower case.
pub(crate) fn name(field: &[u8]) -> String {
    let label = field.split(|octet| *octet == b':').next().unwrap_or_default();
    let label = text(label).trim().to_ascii_lowercase();
    match label.as_str() {
        "v" => "via".to_owned(),
        "f" => "from".to_owned(),
        "t" => "to".to_owned(),
        "i" => "call-id".to_owned(),
        "m" => "contact".to_owned(),
        "l" => "content-length".to_owned(),
        _ => label,
    }
}

/// What stands behind the colon.
pub(crate) fn value(field: &[u8]) -> &[u8] {
    let colon = memchr::memchr(b':', field);
    colon.and_then(|at| field.get(at + 1..)).unwrap_or_default()
}

/// Octets for reading: those that are not UTF-8 are replaced.
pub(crate) fn text(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}

/// Takes one whole message off the front of a stream.
pub(crate) fn take_framed(stream: &mut Vec<u8>) -> Result<Option<Vec<u8>>> {
    let blank = stream.iter().take_while(|octet| matches!(octet, b'\r' | b'\n')).count();
    stream.drain(..blank);
    let Some(head) = memmem::find(stream, b"\r\n\r\n") else { return Ok(None) };
    let length = Pieces::cut(stream).value("content-length");
    let length = length.context("a stream message without Content-Length")?;
    let length: usize = length.parse().with_context(|| format!("Content-Length '{length}'"))?;
    let end = head + 4 + length;
    Ok((stream.len() >= end).then(|| stream.drain(..end).collect()))
}

/// `user@host` of the first SIP URI in a text, and its host without port; parameters and what else
/// is odd about it are left out. No user: `None`.
pub(crate) fn user_and_host(uri: &[u8]) -> Option<(String, String)> {
    let all = text(uri);
    let (_, rest) = all.split_once("sip:")?;
    let (user, rest) = rest.rsplit_once('@')?;
    Some((user.to_owned(), host(rest)))
}

/// The host at the beginning of a text, IPv6 with its brackets.
pub(crate) fn host(rest: &str) -> String {
    let end = match rest.find(']') {
        Some(bracket) if rest.starts_with('[') => bracket + 1,
        _ => rest.find([':', ';', '?', '>', ' ']).unwrap_or(rest.len()),
    };
    rest.get(..end).unwrap_or(rest).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folds_stay_with_their_field_and_the_body_is_cut_by_its_length() {
        let message = b"A b SIP/2.0\r\nV : x\r\n y\r\nl: 2\r\n\r\n\0bcd";
        let pieces = Pieces::cut(message);
        assert_eq!(pieces.start, b"A b SIP/2.0");
        assert_eq!(pieces.fields, [&b"V : x\r\n y"[..], b"l: 2"]);
        assert_eq!(name(b"V : x\r\n y"), "via");
        assert_eq!(pieces.body(), b"\0b");
        assert_eq!(Pieces::cut(b"A b SIP/2.0\r\nl: 0\r\n").fields, [b"l: 0"]);
    }

    #[test]
    fn users_may_hold_nearly_everything() {
        let found = user_and_host(b"<sip:a;b=?c,d(@[2001:db8::1]:5060;lr>").unwrap();
        assert_eq!(found, ("a;b=?c,d(".to_owned(), "[2001:db8::1]".to_owned()));
        assert_eq!(user_and_host(b"sip:example.com"), None);
    }
}
