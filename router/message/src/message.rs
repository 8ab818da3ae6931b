//! The view of a scanned message that everybody works with.

use crate::header::{CSeq, Contacts, NameAddr, Values, Via};
use crate::{Fault, Head, HeaderName, Line, Method, Span, Start, Uri, chars, name};

/// A scanned message. Copying it copies two references.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    bytes: &'a [u8],
    head: &'a Head,
}

impl<'a> Message<'a> {
    /// `head` must come from a scan of `bytes`; with another head, fields come out empty or wrong
    /// but nothing panics.
    pub fn new(bytes: &'a [u8], head: &'a Head) -> Self {
        // RFC 3261 18.3: octets behind the body of a datagram are not part of the message, so
        // nobody who works with it can send them on.
        let bytes = bytes.get(..head.body.end as usize).unwrap_or(bytes);
        Message { bytes, head }
    }
    /// The message as received, without what follows the body that Content-Length announces.
    pub fn bytes(self) -> &'a [u8] {
        self.bytes
    }
    /// Start line.
    pub fn start(self) -> Start {
        self.head.start
    }
    /// Is this a request?
    pub fn is_request(self) -> bool {
        matches!(self.head.start, Start::Request { .. })
    }
    /// The request's method; for a response, the method in CSeq.
    pub fn method(self) -> Method {
        match self.head.start {
            Start::Request { method, .. } => method,
            Start::Response { .. } => self.cseq().map_or(Method::Other, |cseq| cseq.method),
        }
    }
    /// The method as written (request line, or CSeq for a response).
    pub fn method_token(self) -> &'a [u8] {
        match self.head.start {
            Start::Request { token, .. } => token.of(self.bytes),
            Start::Response { .. } => self.cseq().map_or(&[], |cseq| cseq.token),
        }
    }
    /// Request-URI as written; empty for a response.
    pub fn request_uri(self) -> &'a [u8] {
        self.request_uri_span().of(self.bytes)
    }
    /// Span of the Request-URI.
    pub fn request_uri_span(self) -> Span {
        match self.head.start {
            Start::Request { uri, .. } => uri,
            Start::Response { .. } => Span::default(),
        }
    }
    /// Request-URI, parsed.
    pub fn parse_request_uri(self) -> Result<Uri<'a>, Fault> {
        Uri::parse(self.request_uri()).map_err(|_| Fault::RequestUri)
    }
    /// Status code; 0 for a request.
    pub fn status(self) -> u16 {
        match self.head.start {
            Start::Response { status, .. } => status,
            Start::Request { .. } => 0,
        }
    }
    /// Reason phrase of a response as written.
    pub fn reason(self) -> &'a [u8] {
        match self.head.start {
            Start::Response { reason, .. } => reason.of(self.bytes),
            Start::Request { .. } => &[],
        }
    }
    /// All header lines in order.
    pub fn lines(self) -> &'a [Line] {
        &self.head.lines
    }
    /// The first line of that header.
    pub fn line(self, name: HeaderName) -> Option<Line> {
        self.head.lines.get(self.head.first(name)?).copied()
    }
    /// Raw value of the first line of that header.
    pub fn value(self, name: HeaderName) -> Option<&'a [u8]> {
        self.line(name).map(|line| line.value.of(self.bytes))
    }
    /// All lines of that header, in order.
    pub fn lines_of(self, name: HeaderName) -> impl Iterator<Item = Line> + 'a {
        self.lines_from(name).iter().copied().filter(move |line| line.name == name)
    }
    /// First value of a header by any label, case-insensitive; compact and full form are the same.
    pub fn value_by_label(self, label: &[u8]) -> Option<&'a [u8]> {
        let name = HeaderName::from_label(label);
        if name != HeaderName::Other {
            return self.value(name);
        }
        let wanted = name::expand(label);
        self.lines_of(HeaderName::Other)
            .find(|line| name::expand(line.label.of(self.bytes)).eq_ignore_ascii_case(wanted))
            .map(|line| line.value.of(self.bytes))
    }
    /// All lines of the header a label names, in any spelling.
    pub fn lines_by_label<'l>(self, label: &'l [u8]) -> impl Iterator<Item = Line> + use<'a, 'l> {
        let same = move |line: &Line| name::same_label(line.label.of(self.bytes), label);
        self.head.lines.iter().copied().filter(same)
    }
    /// The comma-separated values of all lines of that header, in order (RFC 3261 7.3.1).
    pub fn values(self, name: HeaderName) -> Values<'a> {
        Values::new(self.bytes, name, self.lines_from(name))
    }
    /// The same for headers whose values are tokens (Supported, Require, Allow, ...): nothing in
    /// them can hide a comma, so this is cheaper. Between two commas stands an empty token.
    pub fn tokens(self, name: HeaderName) -> impl Iterator<Item = &'a [u8]> {
        let bytes = self.bytes;
        let pieces = move |line: Line| line.value.of(bytes).split(|byte| *byte == b',');
        self.lines_of(name).flat_map(pieces).map(chars::trim_lws)
    }
    /// Does a list header (Supported, Require, ...) name this option tag?
    pub fn has_option(self, name: HeaderName, tag: &[u8]) -> bool {
        self.tokens(name).any(|token| token.eq_ignore_ascii_case(tag))
    }
    /// Topmost Via.
    pub fn top_via(self) -> Result<Via<'a>, Fault> {
        match self.values(HeaderName::Via).next() {
            Some(value) => Via::parse(value.bytes),
            None => Err(self.absent(HeaderName::Via)),
        }
    }
    /// From.
    pub fn from(self) -> Result<NameAddr<'a>, Fault> {
        self.name_addr(HeaderName::From)
    }
    /// To.
    pub fn to(self) -> Result<NameAddr<'a>, Fault> {
        self.name_addr(HeaderName::To)
    }
    /// CSeq.
    pub fn cseq(self) -> Result<CSeq<'a>, Fault> {
        CSeq::parse(self.required(HeaderName::CSeq)?)
    }
    /// Call-ID.
    pub fn call_id(self) -> Result<&'a [u8], Fault> {
        let value = self.required(HeaderName::CallId)?;
        // The grammar's `word` leaves out a few visible characters that devices use all the same.
        let good = !value.is_empty() && chars::all_visible(value);
        if good { Ok(value) } else { Err(Fault::Header(HeaderName::CallId)) }
    }
    /// Max-Forwards, 0 to 255; `None` where absent.
    pub fn max_forwards(self) -> Result<Option<u8>, Fault> {
        let name = HeaderName::MaxForwards;
        let parse = |value| chars::decimal(value).and_then(|n| u8::try_from(n).ok());
        self.value(name).map(|value| parse(value).ok_or(Fault::Header(name))).transpose()
    }
    /// Expires in seconds, capped at 2^32-1; `None` where absent, an error where malformed.
    pub fn expires_s(self) -> Result<Option<u32>, Fault> {
        let name = HeaderName::Expires;
        let parse = |value| {
            let seconds = chars::saturating_decimal(value)?;
            Some(u32::try_from(seconds).unwrap_or(u32::MAX))
        };
        self.value(name).map(|value| parse(value).ok_or(Fault::Header(name))).transpose()
    }
    /// Content-Length as written; `None` where absent.
    pub fn content_length(self) -> Result<Option<u32>, Fault> {
        let name = HeaderName::ContentLength;
        let parse = |value| chars::decimal(value).ok_or(Fault::Header(name));
        self.value(name).map(parse).transpose()
    }
    /// Contact values: `*`, or a list.
    pub fn contacts(self) -> Contacts<'a> {
        let name = HeaderName::Contact;
        match self.value(name) {
            None => Contacts::None,
            Some(b"*") if !self.head.is_repeated(name) => Contacts::Star,
            Some(_) => Contacts::List(self.values(name)),
        }
    }
    /// The body: what Content-Length says, or all that follows the head of a datagram.
    pub fn body(self) -> &'a [u8] {
        self.head.body.of(self.bytes)
    }
    /// Span of the body.
    pub fn body_span(self) -> Span {
        self.head.body
    }
    /// Offset of the first byte after the last header line (where the empty line begins).
    pub fn headers_end(self) -> u32 {
        self.head.headers_end
    }

    /// The value of a header's line, where there is one line of it.
    #[inline]
    pub(crate) fn only_line(self, name: HeaderName) -> Option<&'a [u8]> {
        if self.head.is_repeated(name) { None } else { self.value(name) }
    }

    /// Is there a line of that header?
    #[inline]
    pub(crate) fn has(self, name: HeaderName) -> bool {
        self.head.first(name).is_some()
    }

    /// Is there more than one line of that header?
    pub fn is_repeated(self, name: HeaderName) -> bool {
        self.head.is_repeated(name)
    }

    /// Is there a header with more than one line?
    pub(crate) fn repeats_any(self) -> bool {
        self.head.repeats_any()
    }

    /// The lines that can be of that name: one, where there is only one.
    fn lines_from(self, name: HeaderName) -> &'a [Line] {
        let Some(first) = self.head.first(name) else {
            return &[];
        };
        let rest = self.head.lines.get(first..).unwrap_or_default();
        if self.head.is_repeated(name) { rest } else { rest.get(..1).unwrap_or_default() }
    }

    fn required(self, name: HeaderName) -> Result<&'a [u8], Fault> {
        self.value(name).ok_or(Fault::Missing(name))
    }

    fn name_addr(self, name: HeaderName) -> Result<NameAddr<'a>, Fault> {
        NameAddr::parse(self.required(name)?).map_err(|_| Fault::Header(name))
    }

    /// Why a header has no value: not there, or there and empty.
    fn absent(self, name: HeaderName) -> Fault {
        if self.line(name).is_some() { Fault::Header(name) } else { Fault::Missing(name) }
    }
}

#[cfg(test)]
mod tests;
