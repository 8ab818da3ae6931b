//! What all readers are asked for, and our own answers.

use viaduct_message::{Head, HeaderName, Limits, Message, NameAddr, Uri, check};

/// What readers are asked for. Everything is text, so that no type of theirs decides.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Reading {
    pub(crate) method: String,
    pub(crate) request_uri: Address,
    pub(crate) via_transport: String,
    pub(crate) via: Address,
    pub(crate) branch: Option<String>,
    pub(crate) from: Address,
    pub(crate) from_tag: Option<String>,
    pub(crate) to: Address,
    pub(crate) to_tag: Option<String>,
    pub(crate) call_id: String,
    pub(crate) cseq: (u32, String),
    pub(crate) max_forwards: u32,
    pub(crate) contact: Address,
    pub(crate) header_lines: usize,
    pub(crate) body: Vec<u8>,
}

#[derive(Debug, Default, PartialEq)]
pub(crate) struct Address {
    pub(crate) user: Option<String>,
    pub(crate) host: String,
    pub(crate) port: Option<u16>,
    pub(crate) params: usize,
}

/// Generated octets as text.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("generated as text")
}

/// Our reading; panics where we cannot read it.
pub(crate) fn ours(bytes: &[u8]) -> Reading {
    let mut head = Head::new();
    head.scan(bytes, &Limits::default()).expect("scan");
    let m = Message::new(bytes, &head);
    check::request(m).expect("check");
    let address = |uri: Uri<'_>| Address {
        user: uri.user.map(text),
        host: text(uri.host_text),
        port: uri.port,
        params: uri.params.all().count(),
    };
    let named = |a: NameAddr<'_>| address(a.parse_uri().expect("URI"));
    let via = m.top_via().expect("Via");
    let (from, to, cseq) = (m.from().expect("From"), m.to().expect("To"), m.cseq().expect("CSeq"));
    let contact = m.values(HeaderName::Contact).next().expect("Contact");
    Reading {
        method: text(m.method_token()),
        request_uri: address(m.parse_request_uri().expect("Request-URI")),
        via_transport: text(via.transport),
        via: Address { user: None, host: text(via.host_text), port: via.port, params: 0 },
        branch: via.branch().map(text),
        from_tag: from.tag().map(text),
        from: named(from),
        to_tag: to.tag().map(text),
        to: named(to),
        call_id: text(m.call_id().expect("Call-ID")),
        cseq: (cseq.number, text(cseq.token)),
        max_forwards: m.max_forwards().expect("Max-Forwards").expect("there").into(),
        contact: named(NameAddr::parse(contact.bytes).expect("Contact")),
        header_lines: m.lines().len(),
        body: m.body().to_vec(),
    }
}
