//! Legal messages that another reader gets wrong: what is replaced in [`BASE`], and why it differs
//! from us. Each must still differ, or it does not belong here.

/// A message all read alike.
pub(crate) const BASE: &str = "INVITE sip:b@example.com SIP/2.0\r\n\
    Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKa\r\nMax-Forwards: 70\r\n\
    From: <sip:a@example.com>;tag=1\r\nTo: <sip:b@example.com>\r\nCall-ID: c\r\n\
    CSeq: 1 INVITE\r\nContact: <sip:a@192.0.2.1>\r\nContent-Length: 0\r\n\r\n";

/// Where rsip 0.4.0 errs.
pub(crate) const RSIP: &[(&str, &str, &str)] = &[
    ("Call-ID: c", "Subject: a\r\n b\r\nCall-ID: c", "folded headers are refused"),
    ("Via: SIP", "v: SIP", "compact v is not Via"),
    ("192.0.2.1;branch", "[2001:db8::1];branch", "no IPv6 reference in Via"),
    (
        "<sip:a@192.0.2.1>",
        "<sip:a@192.0.2.1>;+sip.instance=\"<urn:uuid:0>\"",
        "a quoted parameter with angle brackets is refused",
    ),
    (
        "INVITE sip:b@example.com",
        "INVITE sip:b.c@example.com",
        "a user part with a dot is taken for the host",
    ),
    (
        "<sip:a@192.0.2.1>",
        "<sip:a@192.0.2.1>, <sip:c@192.0.2.2>",
        "two Contacts in a line are one to it",
    ),
];

/// Where sipx-sip 1.0.1 errs: nowhere yet, in what is generated and in what is listed above.
pub(crate) const SIPX: &[(&str, &str, &str)] = &[];
