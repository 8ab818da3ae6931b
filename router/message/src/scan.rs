//! One pass over a message's bytes: start line, header lines, where the body begins.
//!
//! The scan is lenient: it rejects only what cannot be cut into lines. Whether the fields mean
//! anything is asked later, by [`crate::check`] or by whoever needs a field.

use crate::{Fault, HeaderName, Method, Span, chars};

/// Bounds on what one message may hold.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Start line, headers and body together, in bytes.
    pub message_bytes: u32,
    /// Header lines.
    pub headers: u16,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { message_bytes: 65_535, headers: 256 }
    }
}

/// The start line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// `METHOD URI SIP/2.0`
    Request {
        /// The method, where we know it.
        method: Method,
        /// The method as written.
        token: Span,
        /// Request-URI as written.
        uri: Span,
    },
    /// `SIP/2.0 CODE REASON`
    Response {
        /// 100 to 699 (others are kept as read, up to 65535, and refused by `check`).
        status: u16,
        /// Reason phrase as written.
        reason: Span,
    },
}

impl Start {
    /// A first line that is neither. It counts as a request, so that its sender can be told.
    const UNREADABLE: Start = Start::Request {
        method: Method::Other,
        token: Span { start: 0, end: 0 },
        uri: Span { start: 0, end: 0 },
    };
}

/// One header field, folded lines included (RFC 3261 7.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// Which header.
    pub name: HeaderName,
    /// The name as written.
    pub label: Span,
    /// The value, without surrounding white space; folds are still in it.
    pub value: Span,
    /// From the first byte of the name to after the last CRLF: what to cut to remove it.
    pub whole: Span,
}

/// Result of a scan. One per worker, reused: a scan allocates nothing once it has grown.
#[derive(Clone, Debug)]
pub struct Head {
    pub(crate) start: Start,
    pub(crate) lines: Vec<Line>,
    pub(crate) body: Span,
    /// Where the empty line begins; after the last line where there is none.
    pub(crate) headers_end: u32,
    /// Index of the first line of each name, or `NONE`.
    first: [u16; HeaderName::COUNT],
    /// One bit a name: set where a second line of that name was seen.
    repeated: u32,
}

const NONE: u16 = u16::MAX;

const VERSION: &[u8] = b"SIP/2.0";

impl Default for Head {
    fn default() -> Self {
        Head::new()
    }
}

impl Head {
    /// An empty head with room for usual messages.
    pub fn new() -> Head {
        Head {
            start: Start::UNREADABLE,
            lines: Vec::with_capacity(64),
            body: Span::default(),
            headers_end: 0,
            first: [NONE; HeaderName::COUNT],
            repeated: 0,
        }
    }

    /// Cuts `bytes` into lines. On an error the head holds what was found so far (used to answer
    /// 400 where Via, From, To, Call-ID and CSeq can still be read): the scan goes on behind a line
    /// it cannot read and reports the first fault at the end.
    pub fn scan(&mut self, bytes: &[u8], limits: &Limits) -> Result<(), Fault> {
        self.reset();
        let limit = limits.message_bytes as usize;
        let mut fault = (bytes.len() > limit).then_some(Fault::TooLarge);
        let bytes = bytes.get(..limit).unwrap_or(bytes);
        let (start, mut at) = match start_line(bytes) {
            Some((line, next)) => (line, next),
            None => {
                self.end_at(0, bytes.len());
                return Err(fault.unwrap_or(Fault::Unfinished));
            }
        };
        if let Err(found) = start.and_then(|line| self.read_start(bytes, line)) {
            fault.get_or_insert(found);
        }
        let ended = loop {
            match cut(bytes, at) {
                Cut::Line(line) => {
                    if self.lines.len() >= usize::from(limits.headers.min(NONE - 1)) {
                        fault.get_or_insert(Fault::TooManyHeaders);
                        break false;
                    }
                    at = line.whole.end as usize;
                    self.push(line);
                }
                Cut::Bad { next } => {
                    fault.get_or_insert(Fault::HeaderLine);
                    at = next;
                }
                Cut::Empty => break true,
                Cut::Unfinished => {
                    fault.get_or_insert(Fault::Unfinished);
                    break false;
                }
            }
        };
        let body_start = if ended { at + 2 } else { bytes.len() };
        self.end_at(at, body_start);
        self.body.end = bytes.len() as u32;
        self.cut_body(bytes);
        fault.map_or(Ok(()), Err)
    }

    /// Index of the first line of that header.
    #[inline]
    pub(crate) fn first(&self, name: HeaderName) -> Option<usize> {
        self.first.get(name as usize).filter(|i| **i != NONE).map(|i| usize::from(*i))
    }

    /// Is there more than one line of that header?
    #[inline]
    pub(crate) fn is_repeated(&self, name: HeaderName) -> bool {
        self.repeated & (1 << name as u32) != 0
    }

    /// Is there more than one line of any header, but of those we do not know?
    #[inline]
    pub(crate) fn repeats_any(&self) -> bool {
        self.repeated & !(1 << HeaderName::Other as u32) != 0
    }

    fn reset(&mut self) {
        self.start = Start::UNREADABLE;
        self.lines.clear();
        self.first = [NONE; HeaderName::COUNT];
        self.repeated = 0;
    }

    fn end_at(&mut self, headers_end: usize, body: usize) {
        self.headers_end = headers_end as u32;
        self.body = Span { start: body as u32, end: body as u32 };
    }

    #[inline]
    fn push(&mut self, line: Line) {
        if let Some(first) = self.first.get_mut(line.name as usize) {
            if *first == NONE {
                *first = self.lines.len() as u16;
            } else {
                self.repeated |= 1 << line.name as u32;
            }
        }
        self.lines.push(line);
    }

    /// Ends the body where Content-Length says (RFC 3261 18.3: what follows in a datagram is
    /// noise). A length that is malformed or too large leaves all there is; `check` refuses it.
    fn cut_body(&mut self, bytes: &[u8]) {
        let Some(line) = self.first(HeaderName::ContentLength).and_then(|i| self.lines.get(i))
        else {
            return;
        };
        if let Some(end) =
            chars::decimal(line.value.of(bytes)).and_then(|len| self.body.start.checked_add(len))
        {
            self.body.end = self.body.end.min(end);
        }
    }

    fn read_start(&mut self, bytes: &[u8], line: Span) -> Result<(), Fault> {
        let text = line.of(bytes);
        // No method holds a `/`, so this is a status line.
        if text.get(..4).is_some_and(|t| t.eq_ignore_ascii_case(b"SIP/")) {
            return self.read_status_line(bytes, text);
        }
        let (token, rest) = chars::find_near(text, b' ')
            .and_then(|at| chars::split_around(text, at))
            .ok_or(Fault::StartLine)?;
        let method = Method::parse(token).ok_or(Fault::StartLine)?;
        let mut start =
            Start::Request { method, token: Span::locate(bytes, token), uri: Span::default() };
        self.start = start;
        // Blanks inside the URI stay in it and make it a bad one.
        let (text, version) = match rest.strip_suffix(b" SIP/2.0") {
            Some(text) => (text, VERSION),
            None => {
                let last = memchr::memrchr(b' ', rest).ok_or(Fault::StartLine)?;
                chars::split_around(rest, last).ok_or(Fault::StartLine)?
            }
        };
        if let Start::Request { uri, .. } = &mut start {
            *uri = Span::locate(bytes, text);
        }
        self.start = start;
        if text.is_empty() { Err(Fault::StartLine) } else { version_fault(version) }
    }

    fn read_status_line(&mut self, bytes: &[u8], text: &[u8]) -> Result<(), Fault> {
        self.start = Start::Response { status: u16::MAX, reason: Span::default() };
        let (version, rest) = chars::split_once(text, b' ').ok_or(Fault::StartLine)?;
        let (code, phrase) = chars::split_once(rest, b' ').unwrap_or((rest, &[]));
        let number = chars::saturating_decimal(code).ok_or(Fault::StartLine)?;
        let status = u16::try_from(number).unwrap_or(u16::MAX);
        self.start = Start::Response { status, reason: Span::locate(bytes, phrase) };
        // 0200 is not 200: another reader may see another code.
        if number <= 699 && code.len() != 3 {
            return Err(Fault::StatusCode);
        }
        version_fault(version)
    }
}

fn version_fault(version: &[u8]) -> Result<(), Fault> {
    // RFC 3261 7.1: the version is compared without case.
    if version == VERSION || version.eq_ignore_ascii_case(VERSION) {
        return Ok(());
    }
    match version.get(..4) {
        Some(sip) if sip.eq_ignore_ascii_case(b"SIP/") && version.len() > 4 => Err(Fault::Version),
        _ => Err(Fault::StartLine),
    }
}

/// The first line, and where the next begins. The start line cannot be folded.
fn start_line(bytes: &[u8]) -> Option<(Result<Span, Fault>, usize)> {
    let (end, clean) = line_end(bytes, 0)?;
    let span = Span { start: 0, end: end as u32 };
    Some((if clean { Ok(span) } else { Err(Fault::StartLine) }, end + 2))
}

/// Offset of the next CRLF, and whether no lone CR or LF stands before it.
#[inline]
fn line_end(bytes: &[u8], from: usize) -> Option<(usize, bool)> {
    let mut at = from;
    let mut clean = true;
    loop {
        let found = at + chars::line_break(bytes.get(at..)?)?;
        match bytes.get(found..found + 2) {
            Some(b"\r\n") => return Some((found, clean)),
            _ => clean = false,
        }
        at = found + 1;
    }
}

/// What stands at an offset between two header lines.
pub(crate) enum Cut {
    /// A header field with its folds.
    Line(Line),
    /// Something else that ends in CRLF.
    Bad { next: usize },
    /// The empty line: the head ends.
    Empty,
    /// No CRLF follows.
    Unfinished,
}

/// Cuts the header field at `at`.
///
/// Lines end in CRLF only (RFC 3261 7). A lone CR or LF makes the line a bad one, since a reader
/// who takes it for a line end would see a header there that our edits cannot find and remove.
/// For the same reason a label is a token, with blanks allowed before the colon (`HCOLON`):
/// `Route :` is Route, and a name with a NUL or another control byte in it is refused.
#[inline]
pub(crate) fn cut(bytes: &[u8], at: usize) -> Cut {
    let Some(rest) = bytes.get(at..) else {
        return Cut::Unfinished;
    };
    let Some((line, tail)) = chars::line_break(rest).and_then(|end| rest.split_at_checked(end))
    else {
        return Cut::Unfinished;
    };
    let line = match tail {
        [b'\r', b'\n', ..] if line.is_empty() => return Cut::Empty,
        // RFC 3261 7.3.1: a line that begins with a blank goes on with the one before.
        [b'\r', b'\n', after @ ..] if !matches!(after, [b' ' | b'\t', ..]) => line,
        _ => match folded(rest) {
            Folded::Line(line) => line,
            Folded::Bad { len } => return Cut::Bad { next: at + len },
            Folded::Unfinished => return Cut::Unfinished,
        },
    };
    let next = at + line.len() + 2;
    let Some((name, label_len, colon)) = label(rest) else {
        return Cut::Bad { next };
    };
    let Some(value) = line.get(colon + 1..).map(chars::skip_lws) else {
        return Cut::Bad { next };
    };
    let value_at = next - 2 - value.len();
    let value_end = value_at + chars::trim_lws_end(value).len();
    Cut::Line(Line {
        name,
        label: Span { start: at as u32, end: (at + label_len) as u32 },
        value: Span { start: value_at as u32, end: value_end as u32 },
        whole: Span { start: at as u32, end: next as u32 },
    })
}

/// What is not one line that ends in CRLF.
enum Folded<'a> {
    /// A line with its folds.
    Line(&'a [u8]),
    /// A lone CR or LF stands in it; its length with the last CRLF.
    Bad {
        len: usize,
    },
    Unfinished,
}

#[cold]
fn folded(rest: &[u8]) -> Folded<'_> {
    let mut from = 0;
    let mut clean = true;
    loop {
        let Some((end, clean_here)) = line_end(rest, from) else {
            return Folded::Unfinished;
        };
        clean &= clean_here;
        from = end + 2;
        if !matches!(rest.get(from), Some(b' ' | b'\t')) {
            let line = rest.get(..end).filter(|_| clean);
            return line.map_or(Folded::Bad { len: from }, Folded::Line);
        }
    }
}

/// The name a line begins with, its length as written, and where its colon is.
#[inline]
fn label(line: &[u8]) -> Option<(HeaderName, usize, usize)> {
    // A name we know is a token, and usually written without a blank behind.
    if let Some(block) = line.first_chunk()
        && let Some(colon) = chars::first_colon(block)
        && let Some(name) = HeaderName::usual(block, colon)
    {
        return Some((name, colon, colon));
    }
    unusual_label(line)
}

#[inline(never)] // rare, and the usual needs the registers
fn unusual_label(line: &[u8]) -> Option<(HeaderName, usize, usize)> {
    let (label, rest) = chars::span_of(line, chars::TOKEN);
    let mut tail = rest;
    while let [b' ' | b'\t', more @ ..] = tail {
        tail = more;
    }
    if label.is_empty() || tail.first() != Some(&b':') {
        return None;
    }
    Some((HeaderName::from_label(label), label.len(), line.len() - tail.len()))
}

#[cfg(test)]
mod tests;
