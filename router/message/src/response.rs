//! Building a response from a request (RFC 3261 8.2.6).

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};

use crate::uri::Host;
use crate::{Edits, Essentials, HeaderName, Message, Span, Via, write_decimal};

/// What a response says beyond what it copies from the request.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reply<'a> {
    /// 100 to 699.
    pub status: u16,
    /// Reason phrase; bytes that cannot stand in one are dropped when written.
    pub reason: &'a [u8],
    /// Added to To where the request's To has none (RFC 3261 8.2.6.2); not for 100.
    pub to_tag: &'a [u8],
    /// Whole header lines with their CRLF, already legal.
    pub headers: &'a [u8],
    /// Value of the Server header; empty: none.
    pub server: &'a str,
    /// Body; its Content-Type must be among `headers`.
    pub body: &'a [u8],
}

/// What a response needs to know of its request's Via and To, worked out while they are at hand, so
/// that writing it parses nothing again.
#[derive(Clone, Copy, Debug)]
pub struct Copied {
    /// What is filled into the topmost Via value, and how long that is; `None` where it did not parse.
    via: Option<(Fill, u32)>,
    /// To has a tag.
    tagged: bool,
}

impl Copied {
    /// For a request that has been read.
    pub fn of(read: &Essentials<'_>, source: SocketAddr, force_rport: bool) -> Copied {
        let fill = Fill::new(&read.via, source, force_rport);
        let length = read.via.text.len() as u32;
        Copied { via: Some((fill, length)), tagged: read.to_tag.is_some() }
    }

    /// For a request of which not everything could be read.
    pub fn rough(request: Message<'_>, source: SocketAddr, force_rport: bool) -> Copied {
        let via = request.top_via().ok();
        let fill = |via: Via<'_>| (Fill::new(&via, source, force_rport), via.text.len() as u32);
        let tagged = match (request.to(), request.value(HeaderName::To)) {
            (Ok(to), _) => to.tag().is_some(),
            // One that does not parse gets our tag unless it may hold one.
            (Err(_), Some(value)) => value.windows(4).any(|w| w.eq_ignore_ascii_case(b"tag=")),
            (Err(_), None) => false,
        };
        Copied { via: via.map(fill), tagged }
    }
}

/// Appends a response: Via values copied in order (the topmost with `received` and `rport` of
/// `source` filled in as RFC 3261 18.2.1 and RFC 3581 4 demand; `force_rport` adds rport where the
/// client did not ask), From, To, Call-ID, CSeq, then `headers`, Content-Length and body.
/// Record-Route is copied for statuses 101 to 299 of dialog-forming methods only where the caller
/// puts it into `headers`.
///
/// Of a request with faults, what could be scanned is copied. An empty reason gives the registered
/// one; a status outside 100 to 699 gives 500.
pub fn write(
    request: Message<'_>,
    source: SocketAddr,
    force_rport: bool,
    reply: &Reply<'_>,
    out: &mut Vec<u8>,
) {
    write_copied(request, &Copied::rough(request, source, force_rport), reply, out);
}

/// As [`write()`], with what it copies worked out before.
pub fn write_copied(request: Message<'_>, copied: &Copied, reply: &Reply<'_>, out: &mut Vec<u8>) {
    let status = if (100..=699).contains(&reply.status) { reply.status } else { 500 };
    write_status_line(status, reply.reason, out);
    write_vias(request, copied.via, out);
    copy_line(request, HeaderName::From, b"From: ", out);
    if copy_line(request, HeaderName::To, b"To: ", out) && status != 100 && !copied.tagged {
        write_to_tag(reply.to_tag, out);
    }
    copy_line(request, HeaderName::CallId, b"Call-ID: ", out);
    copy_line(request, HeaderName::CSeq, b"CSeq: ", out);
    // RFC 3261 8.2.6.1: a 100 carries the request's Timestamp.
    if status == 100
        && let Some(value) = request.value_by_label(b"Timestamp")
    {
        write_line("Timestamp", value, out);
    }
    out.extend_from_slice(reply.headers);
    if !reply.server.is_empty() {
        write_line("Server", reply.server.as_bytes(), out);
    }
    out.extend_from_slice(b"Content-Length: ");
    write_decimal(reply.body.len() as u64, out);
    out.extend_from_slice(b"\r\n\r\n");
    out.extend_from_slice(reply.body);
}

fn write_status_line(status: u16, reason: &[u8], out: &mut Vec<u8>) {
    if status == 200 && reason.is_empty() {
        return out.extend_from_slice(b"SIP/2.0 200 OK\r\n");
    }
    out.extend_from_slice(b"SIP/2.0 ");
    write_decimal(status.into(), out);
    out.push(b' ');
    if reason.is_empty() {
        out.extend_from_slice(reason_phrase(status).as_bytes());
    } else {
        out.extend(reason.iter().filter(|b| **b == b'\t' || !b.is_ascii_control()));
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends a header of the request, if it is there, with its usual name. Where it stands there as we
/// would write it, which is nearly always, one copy does.
#[inline]
fn copy_line<const N: usize>(
    request: Message<'_>,
    name: HeaderName,
    begin: &[u8; N],
    out: &mut Vec<u8>,
) -> bool {
    let Some(line) = request.line(name) else {
        return false;
    };
    let whole = line.whole.of(request.bytes());
    if whole.len() == N + line.value.len() + 2 && whole.starts_with(begin) {
        out.extend_from_slice(whole);
    } else {
        out.extend_from_slice(begin);
        out.extend_from_slice(line.value.of(request.bytes()));
        out.extend_from_slice(b"\r\n");
    }
    true
}

/// Appends `name: value` and CRLF.
fn write_line(name: &str, value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Puts the tag before the CRLF just written.
fn write_to_tag(tag: &[u8], out: &mut Vec<u8>) {
    if !tag.is_empty() {
        out.truncate(out.len().saturating_sub(2));
        out.extend_from_slice(b";tag=");
        out.extend_from_slice(tag);
        out.extend_from_slice(b"\r\n");
    }
}

fn write_vias(request: Message<'_>, mut fill: Option<(Fill, u32)>, out: &mut Vec<u8>) {
    for line in request.lines_of(HeaderName::Via) {
        let value = line.value.of(request.bytes());
        if value.is_empty() {
            continue;
        }
        out.extend_from_slice(b"Via: ");
        match fill.take() {
            // The topmost value is the first of the first line; others may follow it there.
            Some((fill, length)) => {
                let (via, others) = value.split_at_checked(length as usize).unwrap_or((value, b""));
                fill.write(via, out);
                out.extend_from_slice(others);
            }
            None => out.extend_from_slice(value),
        }
        out.extend_from_slice(b"\r\n");
    }
}

/// Adds the edits that fill `received` and `rport` into the top Via of a request to be forwarded:
/// what [`write()`] does to the Via of a response (RFC 3261 18.2.1, RFC 3581 4). Without a top Via
/// that parses it adds none.
pub fn via_source_edits(
    request: Message<'_>,
    source: SocketAddr,
    force_rport: bool,
    edits: &mut Edits,
) {
    let Ok(via) = request.top_via() else { return };
    let base = Span::locate(request.bytes(), via.text).start;
    for (span, text) in Fill::new(&via, source, force_rport).0.into_iter().flatten() {
        let span =
            Span { start: base.saturating_add(span.start), end: base.saturating_add(span.end) };
        edits.remove(span);
        edits.insert_with(span.start, |out| text.write(span.is_empty(), out));
    }
}

/// What to put where in the top Via's text, in order. An empty range is the end of the text.
#[derive(Clone, Copy, Debug)]
struct Fill([Option<(Span, FillText)>; 2]);

#[derive(Clone, Copy, Debug)]
enum FillText {
    Received(IpAddr),
    Rport(u16),
}

impl Fill {
    fn new(via: &Via<'_>, source: SocketAddr, force_rport: bool) -> Fill {
        let ip = source.ip().to_canonical();
        let rport = via.rport_text();
        let received = via.received_text();
        // RFC 3581 4: a client that asked for rport gets `received` in any case, so that it sees
        // the address its port belongs to. What the client itself wrote there is not believed.
        let fill_rport = force_rport || rport.is_some();
        let fill_received = fill_rport || received.is_some() || !is_host(via, ip);
        let end = via.text.len() as u32;
        let place = |text: Option<&[u8]>| {
            text.map_or(Span { start: end, end }, |text| Span::locate(via.text, text))
        };
        let received = fill_received.then(|| (place(received), FillText::Received(ip)));
        let rport = fill_rport.then(|| (place(rport), FillText::Rport(source.port())));
        match (&received, &rport) {
            (Some((r, _)), Some((p, _))) if p.start < r.start => Fill([rport, received]),
            _ => Fill([received, rport]),
        }
    }

    fn write(&self, via: &[u8], out: &mut Vec<u8>) {
        let mut at = 0;
        for (span, text) in self.0.iter().flatten() {
            out.extend_from_slice(Span { start: at, end: span.start }.of(via));
            text.write(span.is_empty(), out);
            at = span.end;
        }
        out.extend_from_slice(via.get(at as usize..).unwrap_or_default());
    }
}

impl FillText {
    fn write(self, appended: bool, out: &mut Vec<u8>) {
        if appended {
            out.push(b';');
        }
        // Writing to a Vec cannot fail. `received` has no brackets round IPv6 (RFC 3261 25.1).
        match self {
            FillText::Received(IpAddr::V4(ip)) => {
                out.extend_from_slice(b"received=");
                for (i, octet) in ip.octets().into_iter().enumerate() {
                    if i > 0 {
                        out.push(b'.');
                    }
                    write_decimal(octet.into(), out);
                }
            }
            FillText::Received(IpAddr::V6(ip)) => drop(write!(out, "received={ip}")),
            FillText::Rport(port) => {
                out.extend_from_slice(b"rport=");
                write_decimal(port.into(), out);
            }
        }
    }
}

/// Is the sent-by host that address, as a number?
fn is_host(via: &Via<'_>, ip: IpAddr) -> bool {
    matches!(via.host, Host::Ip(host) if host.to_canonical() == ip)
}

/// The registered reason phrase of a status code, or a generic one of its class.
pub fn reason_phrase(status: u16) -> &'static str {
    match status {
        100 => "Trying",
        180 => "Ringing",
        181 => "Call Is Being Forwarded",
        182 => "Queued",
        183 => "Session Progress",
        199 => "Early Dialog Terminated",
        200 => "OK",
        202 => "Accepted",
        204 => "No Notification",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Moved Temporarily",
        305 => "Use Proxy",
        380 => "Alternative Service",
        400..=499 => client_reason(status),
        500 => "Server Internal Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Server Time-out",
        505 => "Version Not Supported",
        513 => "Message Too Large",
        555 => "Push Notification Service Not Supported",
        580 => "Precondition Failure",
        600 => "Busy Everywhere",
        603 => "Decline",
        604 => "Does Not Exist Anywhere",
        606 => "Not Acceptable",
        607 => "Unwanted",
        608 => "Rejected",
        101..=199 => "Session Progress",
        201..=299 => "OK",
        303..=399 => "Redirected",
        506..=599 => "Server Error",
        _ => "Global Failure",
    }
}

fn client_reason(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        410 => "Gone",
        412 => "Conditional Request Failed",
        413 => "Request Entity Too Large",
        414 => "Request-URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Unsupported URI Scheme",
        417 => "Unknown Resource-Priority",
        420 => "Bad Extension",
        421 => "Extension Required",
        422 => "Session Interval Too Small",
        423 => "Interval Too Brief",
        424 => "Bad Location Information",
        425 => "Bad Alert Message",
        428 => "Use Identity Header",
        429 => "Provide Referrer Identity",
        430 => "Flow Failed",
        433 => "Anonymity Disallowed",
        436 => "Bad Identity Info",
        437 => "Unsupported Credential",
        438 => "Invalid Identity Header",
        439 => "First Hop Lacks Outbound Support",
        440 => "Max-Breadth Exceeded",
        469 => "Bad Info Package",
        470 => "Consent Needed",
        480 => "Temporarily Unavailable",
        481 => "Call/Transaction Does Not Exist",
        482 => "Loop Detected",
        483 => "Too Many Hops",
        484 => "Address Incomplete",
        485 => "Ambiguous",
        486 => "Busy Here",
        487 => "Request Terminated",
        488 => "Not Acceptable Here",
        489 => "Bad Event",
        491 => "Request Pending",
        493 => "Undecipherable",
        494 => "Security Agreement Required",
        _ => "Bad Request",
    }
}

#[cfg(test)]
mod tests;
