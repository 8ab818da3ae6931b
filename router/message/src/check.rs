//! The syntax a proxy or registrar needs before it acts on a message (RFC 3261 16.3 item 1).
//!
//! Unknown headers, and known ones we do not use, are not looked at.

use crate::{ContactPlace, Essentials, Fault, HeaderName, Message, Method, NameAddr, Start, Via};

/// Headers that may be there once. The same value again is harmless; two values are two messages.
const SINGLE: [HeaderName; 9] = [
    HeaderName::From,
    HeaderName::To,
    HeaderName::CallId,
    HeaderName::CSeq,
    HeaderName::MaxForwards,
    HeaderName::ContentLength,
    HeaderName::Expires,
    HeaderName::MinExpires,
    HeaderName::MaxBreadth,
];

/// Checks a request: version, Request-URI, Via, From, To, Call-ID, CSeq (with the same method),
/// Max-Forwards, Content-Length against the datagram, single-value headers not repeated with
/// another value. Route and Record-Route values must parse; REGISTER's Contact and Path too.
///
/// The version is checked by the scan. An unknown scheme, an unknown method, a missing
/// Max-Forwards, From tag or branch (RFC 2543) are no faults of syntax. What was parsed on the way
/// is given back.
pub fn request(message: Message<'_>) -> Result<Essentials<'_>, Fault> {
    // One variable from end to end: what was read is large, and is not moved on its way out.
    let mut result = match single_headers(message) {
        Ok(()) => Essentials::read(message),
        Err(fault) => Err(fault),
    };
    if let Ok(read) = &mut result
        && let Err(fault) = beyond_essentials(message, read)
    {
        result = Err(fault);
    }
    result
}

/// What of a request must be right besides its essentials.
fn beyond_essentials<'a>(message: Message<'a>, read: &mut Essentials<'a>) -> Result<(), Fault> {
    // RFC 3261 19.1.1: no headers in a Request-URI. Sent on, they could become real ones.
    if read.uri.headers.is_some() {
        return Err(Fault::RequestUri);
    }
    if read.more_vias || message.is_repeated(HeaderName::Via) {
        other_vias(message)?;
    }
    whole_body(message)?;
    if read.cseq.token != message.method_token() {
        return Err(Fault::CSeqMethod);
    }
    routes(message, HeaderName::Route)?;
    routes(message, HeaderName::RecordRoute)?;
    if message.method() == Method::Register {
        routes(message, HeaderName::Path)?;
        contacts(message, read)?;
    }
    Ok(())
}

/// Checks a response: status code, Via, From, To, Call-ID, CSeq, Content-Length against the
/// datagram. Gives the topmost Via, by which a response is matched.
pub fn response(message: Message<'_>) -> Result<Via<'_>, Fault> {
    match message.start() {
        Start::Response { status: 100..=699, .. } => common(message),
        Start::Response { .. } => Err(Fault::StatusCode),
        Start::Request { .. } => Err(Fault::StartLine),
    }
}

fn common(message: Message<'_>) -> Result<Via<'_>, Fault> {
    single_headers(message)?;
    let via = message.top_via()?;
    other_vias(message)?;
    message.from()?.parse_uri().map_err(|_| Fault::Header(HeaderName::From))?;
    message.to()?.parse_uri().map_err(|_| Fault::Header(HeaderName::To))?;
    message.call_id()?;
    message.cseq()?;
    whole_body(message)?;
    Ok(via)
}

fn single_headers(message: Message<'_>) -> Result<(), Fault> {
    if !message.repeats_any() {
        return Ok(());
    }
    for name in SINGLE {
        if message.is_repeated(name) {
            let mut values = message.lines_of(name).map(|line| line.value.of(message.bytes()));
            let first = values.next();
            if values.any(|value| Some(value) != first) {
                return Err(Fault::Repeated(name));
            }
        }
    }
    Ok(())
}

/// RFC 3261 18.3: a datagram that ends before its body does is an error.
fn whole_body(message: Message<'_>) -> Result<(), Fault> {
    match message.content_length()? {
        Some(length) if (length as usize) > message.body().len() => Err(Fault::BodyShort),
        _ => Ok(()),
    }
}

/// All Via values must parse, not the topmost only, which is read anyway: loop detection reads them
/// (RFC 3261 16.3 item 4), and the response goes by them. An unknown transport in one of them is no
/// fault.
fn other_vias(message: Message<'_>) -> Result<(), Fault> {
    if message.lines_of(HeaderName::Via).any(|line| line.value.is_empty()) {
        return Err(Fault::Header(HeaderName::Via));
    }
    let mut below = message.values(HeaderName::Via).skip(1);
    below.try_for_each(|value| Via::parse(value.bytes).map(|_| ()))
}

/// Route, Record-Route and Path values: `<...>` always (R-P2).
fn routes(message: Message<'_>, name: HeaderName) -> Result<(), Fault> {
    if !message.has(name) {
        return Ok(());
    }
    each(message, name, |value| {
        let route = NameAddr::parse(value).and_then(|r| r.parse_uri().map(|_| r.bracketed));
        if route == Ok(true) { Ok(()) } else { Err(Fault::Header(name)) }
    })
}

/// Contact values; what is read of the first is kept.
fn contacts<'a>(message: Message<'a>, read: &mut Essentials<'a>) -> Result<(), Fault> {
    if message.only_line(HeaderName::Contact) == Some(b"*") {
        return Ok(());
    }
    let mut seen = 0u32;
    each(message, HeaderName::Contact, |value| {
        let fault = |_| Fault::Header(HeaderName::Contact);
        let contact = NameAddr::parse(value).map_err(fault)?;
        let uri = contact.parse_uri().map_err(fault)?;
        read.contact_host = read.contact_host.or(Some(uri.host));
        seen = seen.saturating_add(1);
        read.contact = (seen == 1).then(|| ContactPlace::locate(message.bytes(), &contact));
        Ok(())
    })
}

/// Checks each value of a header whose grammar wants at least one on every line. `check` takes none
/// in which a comma separates, and does nothing with one it refuses.
#[inline]
fn each<'a>(
    message: Message<'a>,
    name: HeaderName,
    mut check: impl FnMut(&'a [u8]) -> Result<(), Fault>,
) -> Result<(), Fault> {
    // Most have one line with one value, and need no commas looked for.
    if message.only_line(name).is_some_and(|value| check(value).is_ok()) {
        return Ok(());
    }
    if message.lines_of(name).any(|line| line.value.is_empty()) {
        return Err(Fault::Header(name));
    }
    message.values(name).try_for_each(|value| check(value.bytes))
}
