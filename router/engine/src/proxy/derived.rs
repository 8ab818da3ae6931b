//! Requests a client transaction derives from the INVITE it sent: ACK to a failure (RFC 3261
//! 17.1.1.3) and CANCEL (RFC 3261 9.1).

use viaduct_message::{HeaderName, Message};

/// Appends the ACK to a 300-699 response: Request-URI, topmost Via, Route, From, Call-ID and CSeq
/// number of the INVITE, To of the response.
pub(crate) fn write_ack(invite: Message<'_>, response: Message<'_>, out: &mut Vec<u8>) {
    write(invite, "ACK", response.value(HeaderName::To), out);
}

/// Appends the CANCEL of an INVITE we have sent.
pub(crate) fn write_cancel(invite: Message<'_>, out: &mut Vec<u8>) {
    write(invite, "CANCEL", invite.value(HeaderName::To), out);
}

fn write(invite: Message<'_>, method: &str, to: Option<&[u8]>, out: &mut Vec<u8>) {
    let bytes = invite.bytes();
    out.extend_from_slice(method.as_bytes());
    out.push(b' ');
    out.extend_from_slice(invite.request_uri());
    out.extend_from_slice(b" SIP/2.0\r\n");
    // The first Via line is ours and holds one value.
    header(out, b"Via", invite.value(HeaderName::Via));
    for route in invite.lines_of(HeaderName::Route) {
        out.extend_from_slice(route.whole.of(bytes));
    }
    out.extend_from_slice(b"Max-Forwards: 70\r\n");
    header(out, b"From", invite.value(HeaderName::From));
    header(out, b"To", to);
    header(out, b"Call-ID", invite.value(HeaderName::CallId));
    let number = invite.cseq().map(|cseq| cseq.number).unwrap_or_default();
    out.extend_from_slice(format!("CSeq: {number} {method}\r\n").as_bytes());
    out.extend_from_slice(b"Content-Length: 0\r\n\r\n");
}

fn header(out: &mut Vec<u8>, name: &[u8], value: Option<&[u8]>) {
    for part in [name, b": ", value.unwrap_or_default(), b"\r\n"] {
        out.extend_from_slice(part);
    }
}
