//! The crate `rsip`.

use rsip::headers::UntypedHeader as _;
use rsip::message::HeadersExt as _;
use rsip::prelude::ToTypedHeader as _;

use crate::reading::{Address, Reading};

/// `None` where rsip refuses the message or one of the headers asked for.
pub(crate) fn read(bytes: &[u8]) -> Option<Reading> {
    let request = rsip::Request::try_from(bytes).ok()?;
    let address = |uri: &rsip::Uri| Address {
        user: uri.user().map(str::to_owned),
        host: uri.host().to_string(),
        port: uri.port().map(|port| *port.value()),
        params: uri.params.len(),
    };
    let via = request.via_header().ok()?.typed().ok()?;
    let from = request.from_header().ok()?.typed().ok()?;
    let to = request.to_header().ok()?.typed().ok()?;
    let cseq = request.cseq_header().ok()?.typed().ok()?;
    let contact = request.contact_header().ok()?.typed().ok()?;
    Some(Reading {
        method: request.method.to_string(),
        request_uri: address(&request.uri),
        via_transport: via.transport.to_string(),
        branch: via.branch().map(|branch| branch.value().to_owned()),
        via: address(&via.uri),
        from_tag: from.tag().map(|tag| tag.value().to_owned()),
        from: address(&from.uri),
        to_tag: to.tag().map(|tag| tag.value().to_owned()),
        to: address(&to.uri),
        call_id: request.call_id_header().ok()?.value().to_owned(),
        cseq: (cseq.seq, cseq.method.to_string()),
        max_forwards: request.max_forwards_header().ok()?.num().ok()?,
        contact: address(&contact.uri),
        header_lines: request.headers.iter().count(),
        body: request.body,
    })
}
