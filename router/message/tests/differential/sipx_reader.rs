//! The crate `sipx-sip`.

use bytes::Bytes;
use sipx_sip::headers::{self, Via};
use sipx_sip::uri::{Host, Uri};
use sipx_sip::{HeaderName, Limits, parse_datagram};

use crate::reading::{Address, Reading, text};

fn host(host: &Host) -> String {
    match host {
        Host::Ip(std::net::IpAddr::V6(ip)) => format!("[{ip}]"),
        other => text(&other.to_bytes()),
    }
}

fn address(uri: &Uri) -> Option<Address> {
    Some(Address {
        user: uri.user().map(text),
        host: host(uri.host()?),
        port: uri.port(),
        params: uri.params().map_or(0, |params| params.len()),
    })
}

/// `None` where sipx-sip refuses the message or one of the headers asked for.
pub(crate) fn read(bytes: &[u8]) -> Option<Reading> {
    let message = parse_datagram(Bytes::copy_from_slice(bytes), &Limits::datagram()).ok()?;
    let request = message.as_request()?;
    let headers = &request.headers;
    let via = headers.typed_all::<Via>().next()?.ok()?;
    let from = headers.typed::<headers::From>()?.ok()?;
    let to = headers.typed::<headers::To>()?.ok()?;
    let cseq = headers.typed::<headers::CSeq>()?.ok()?;
    let contacts = headers.value(&HeaderName::Contact)?;
    let contacts = headers::Address::parse_list(&contacts, "Contact").ok()?;
    Some(Reading {
        method: text(request.method.as_bytes()),
        request_uri: address(&request.uri)?,
        via_transport: text(&via.transport),
        branch: via.branch().map(text),
        via: Address { user: None, host: host(&via.host), port: via.port, params: 0 },
        from_tag: from.tag().map(text),
        from: address(&from.uri)?,
        to_tag: to.tag().map(text),
        to: address(&to.uri)?,
        call_id: text(&headers.value(&HeaderName::CallId)?),
        cseq: (cseq.sequence, text(cseq.method.as_bytes())),
        max_forwards: headers.typed::<headers::MaxForwards>()?.ok()?.0.into(),
        contact: address(&contacts.first()?.uri)?,
        header_lines: headers.len(),
        body: request.body().to_vec(),
    })
}
