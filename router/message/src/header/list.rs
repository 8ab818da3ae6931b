//! Comma-separated header values (RFC 3261 7.3.1) and Contact.

use crate::{HeaderName, Line, Span, chars};

/// One value of a list header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value<'a> {
    /// The value without surrounding white space.
    pub bytes: &'a [u8],
    /// Where it stands in the message.
    pub span: Span,
    /// The header line it stands in.
    pub line: Line,
}

/// Iterator over the values of all lines of one header. Commas in quotes and in `<...>` do not
/// separate. A line without any value yields none; between two commas stands an empty value.
#[derive(Clone, Debug)]
pub struct Values<'a> {
    pub(crate) bytes: &'a [u8],
    name: HeaderName,
    lines: &'a [Line],
    /// The line begun, and where in the message its next value begins.
    current: Option<(Line, u32)>,
}

impl<'a> Values<'a> {
    /// Values of those of `lines` that have this name.
    pub(crate) fn new(bytes: &'a [u8], name: HeaderName, lines: &'a [Line]) -> Values<'a> {
        Values { bytes, name, lines, current: None }
    }

    /// Values of one line.
    pub(crate) fn of_line(bytes: &'a [u8], line: Line) -> Values<'a> {
        let current = Some((line, line.value.start));
        Values { bytes, name: line.name, lines: &[], current }
    }
}

impl<'a> Iterator for Values<'a> {
    type Item = Value<'a>;

    #[inline]
    fn next(&mut self) -> Option<Value<'a>> {
        while self.current.is_none() {
            let (line, rest) = self.lines.split_first()?;
            self.lines = rest;
            if line.name == self.name && !line.value.is_empty() {
                self.current = Some((*line, line.value.start));
            }
        }
        let (line, start) = self.current.take()?;
        let rest = Span { start, end: line.value.end }.of(self.bytes);
        let piece = match comma(rest).and_then(|at| chars::split_around(rest, at)) {
            Some((piece, rest)) => {
                self.current = Some((line, Span::locate(self.bytes, rest).start));
                piece
            }
            None => rest,
        };
        let bytes = chars::trim_lws(piece);
        Some(Value { bytes, span: Span::locate(self.bytes, bytes), line })
    }
}

/// Offset of the first comma that separates. What is opened and not closed runs to the end.
#[inline]
fn comma(text: &[u8]) -> Option<usize> {
    // Most lines have one value, and then quotes and brackets need no looking for.
    memchr::memchr(b',', text)?;
    let mut at = 0;
    loop {
        let rest = text.get(at..)?;
        let found = memchr::memchr3(b',', b'"', b'<', rest)?;
        let tail = rest.get(found..)?;
        at += found;
        at += match tail.first()? {
            b',' => return Some(at),
            b'"' => chars::quoted_len(tail)?,
            _ => memchr::memchr(b'>', tail)?,
        };
    }
}

/// What the Contact headers of a message say.
#[derive(Clone, Debug)]
pub enum Contacts<'a> {
    /// No Contact at all.
    None,
    /// A single `*`.
    Star,
    /// One or more values; parse each with [`crate::NameAddr::parse`]. `*` among them is a fault
    /// that `NameAddr::parse` reports.
    List(Values<'a>),
}
