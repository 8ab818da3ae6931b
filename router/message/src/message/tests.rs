use super::*;
use crate::{Limits, check};

const GOOD: &str = "REGISTER sip:example.com SIP/2.0\r\n\
    Via: SIP/2.0/UDP 192.0.2.4:5060;branch=z9hG4bKa;rport, SIP/2.0/TCP b.example\r\n\
    v: SIP/2.0/SCTP [2001:db8::1]\r\n\
    From: <sip:a@example.com>;tag=1\r\n\
    To: sip:a@example.com\r\n\
    Call-ID: c/=1@x\r\n\
    CSeq: 7 REGISTER\r\n\
    Max-Forwards: 70\r\n\
    Expires: 99999999999999999999999\r\n\
    Supported: path, gruu\r\n\
    k: Outbound\r\n\
    Contact: \"x, y\" <sip:a,b@192.0.2.4;p=1:2>;q=0.5, <sip:b@192.0.2.4>\r\n\
    Content-Length: 4\r\n\
    \r\nbody and noise";

fn with<T>(text: &str, look: impl FnOnce(Message<'_>, Result<(), Fault>) -> T) -> T {
    let mut head = Head::new();
    let scanned = head.scan(text.as_bytes(), &Limits::default());
    look(Message::new(text.as_bytes(), &head), scanned)
}

/// `check::request` after replacing one piece of the good message.
fn checked(from: &str, to: &str) -> Result<(), Fault> {
    assert!(GOOD.contains(from), "{from}");
    let text = GOOD.replacen(from, to, 1);
    with(&text, |message, scanned| scanned.and_then(|()| check::request(message)).map(|_| ()))
}

#[test]
fn every_field_is_read() {
    with(GOOD, |m, scanned| {
        assert_eq!(scanned, Ok(()));
        assert!(m.is_request());
        assert_eq!((m.method(), m.method_token()), (Method::Register, &b"REGISTER"[..]));
        assert_eq!((m.request_uri(), m.status()), (&b"sip:example.com"[..], 0));
        assert_eq!(m.values(HeaderName::Via).count(), 3);
        assert_eq!(m.top_via().map(|via| via.port), Ok(Some(5060)));
        assert_eq!(m.from().map(|f| f.tag()), Ok(Some(&b"1"[..])));
        assert_eq!(m.to().map(|t| t.uri), Ok(&b"sip:a@example.com"[..]));
        assert_eq!(m.call_id(), Ok(&b"c/=1@x"[..]));
        assert_eq!(m.max_forwards(), Ok(Some(70)));
        assert_eq!(m.expires_s(), Ok(Some(u32::MAX)));
        assert!(m.has_option(HeaderName::Supported, b"PATH"));
        assert!(m.has_option(HeaderName::Supported, b"outbound"));
        assert!(!m.has_option(HeaderName::Require, b"path"));
        assert_eq!(m.body(), b"body");
        let Contacts::List(contacts) = m.contacts() else { panic!("a list") };
        let found: Vec<_> = contacts.map(|c| NameAddr::parse(c.bytes).map(|c| c.uri)).collect();
        assert_eq!(found, [Ok(&b"sip:a,b@192.0.2.4;p=1:2"[..]), Ok(b"sip:b@192.0.2.4")]);
        assert!(check::request(m).is_ok());
    });
}

#[test]
fn a_response_has_the_method_of_its_cseq() {
    let text = "SIP/2.0 180 Rin ging\r\nCSeq: 1 INVITE\r\nContact: *\r\n\r\n";
    with(text, |m, scanned| {
        assert_eq!(scanned, Ok(()));
        assert_eq!((m.method(), m.method_token()), (Method::Invite, &b"INVITE"[..]));
        assert_eq!((m.status(), m.reason()), (180, &b"Rin ging"[..]));
        assert!(m.request_uri().is_empty());
        assert!(matches!(m.contacts(), Contacts::Star));
        assert_eq!(check::response(m), Err(Fault::Missing(HeaderName::Via)));
        assert_eq!(check::request(m), Err(Fault::RequestUri));
    });
}

#[test]
fn each_fault_of_a_request_is_named() {
    use HeaderName::*;
    for (from, to, fault) in [
        ("sip:example.com", "sip:exam ple.com", Fault::RequestUri),
        ("sip:example.com", "<sip:example.com>", Fault::RequestUri),
        ("sip:example.com", "sip:example.com?Route=%3Csip:x%3E", Fault::RequestUri),
        ("From: <sip:a@example.com>;tag=1\r\n", "", Fault::Missing(From)),
        ("tag=1", "tag=1;tag=2", Fault::Header(From)),
        ("To: sip:a@example.com\r\n", "", Fault::Missing(To)),
        ("To: sip:a@example.com", "To: \"a <sip:a@example.com>", Fault::Header(To)),
        ("To: sip:a@example.com", "To: < sip:a@example.com >", Fault::Header(To)),
        ("To: sip:a@example.com", "To: sip:a@b\r\nt: sip:c@d", Fault::Repeated(To)),
        ("Call-ID: c/=1@x\r\n", "", Fault::Missing(CallId)),
        ("Call-ID: c/=1@x", "Call-ID:", Fault::Header(CallId)),
        ("Call-ID: c/=1@x", "Call-ID: c d", Fault::Header(CallId)),
        ("Call-ID: c/=1@x", "Call-ID: c\r\ni: d", Fault::Repeated(CallId)),
        ("CSeq: 7 REGISTER\r\n", "", Fault::Missing(CSeq)),
        ("CSeq: 7 REGISTER", "CSeq: 7 register", Fault::CSeqMethod),
        ("CSeq: 7 REGISTER", "CSeq: 2147483648 REGISTER", Fault::Header(CSeq)),
        ("Max-Forwards: 70", "Max-Forwards: 256", Fault::Header(MaxForwards)),
        ("Max-Forwards: 70", "Max-Forwards: 7 0", Fault::Header(MaxForwards)),
        ("Content-Length: 4", "Content-Length: 99", Fault::BodyShort),
        ("Content-Length: 4", "Content-Length: -4", Fault::Header(ContentLength)),
        ("Content-Length: 4", "l: 4\r\nContent-Length: 3", Fault::Repeated(ContentLength)),
        ("SIP/2.0/SCTP", "SIP/2.0 SCTP", Fault::Header(Via)),
        ("SIP/2.0/TCP b.example", "", Fault::Header(Via)),
        ("Max-Forwards: 70", "Via:\r\nMax-Forwards: 70", Fault::Header(Via)),
        ("Max-Forwards: 70", "Route: sip:x;lr\r\nMax-Forwards: 70", Fault::Header(Route)),
        ("Max-Forwards: 70", "Path: <sip:x y>\r\nMax-Forwards: 70", Fault::Header(Path)),
        ("<sip:b@192.0.2.4>", "*", Fault::Header(Contact)),
        ("<sip:b@192.0.2.4>", "sip:b@x?Route=y", Fault::Header(Contact)),
    ] {
        assert_eq!(checked(from, to), Err(fault), "{to}");
        assert_eq!(fault.status(), 400);
        assert!(fault.reason().bytes().all(|b| b == b' ' || b.is_ascii_graphic()));
    }
}

#[test]
fn what_is_no_syntax_fault_passes() {
    for (from, to) in [
        ("Max-Forwards: 70\r\n", ""),
        ("Max-Forwards: 70", "Max-Forwards: 0"),
        (";tag=1", ""),
        (";branch=z9hG4bKa", ""),
        ("sip:example.com", "unknown:x"),
        ("To: sip:a@example.com", "To: isbn:2983792873"),
        ("Content-Length: 4\r\n", ""),
        ("Call-ID: c/=1@x", "Call-ID: c\r\ni: c"),
        ("SIP/2.0/SCTP", "SIP/2.0/UNKNOWN"),
        ("Max-Forwards: 70", "Date: never\r\nSupported:\r\nMax-Forwards: 70"),
    ] {
        assert_eq!(checked(from, to), Ok(()), "{to}");
    }
}

#[test]
fn responses_outside_100_to_699_are_refused() {
    let good = "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP a\r\nFrom: <sip:a@b>;tag=1\r\n\
        To: <sip:a@b>;tag=2\r\nCall-ID: 1\r\nCSeq: 1 INVITE\r\n\r\n";
    let checked =
        |text: &str| with(text, |m, scanned| scanned.and_then(|()| check::response(m).map(|_| ())));
    assert_eq!(checked(good), Ok(()));
    for code in ["700", "999", "1000", "65536", "4294967301", "099"] {
        let text = good.replacen("200", code, 1);
        assert_eq!(checked(&text), Err(Fault::StatusCode), "{code}");
    }
}

#[test]
fn a_foreign_head_gives_wrong_fields_but_no_panic() {
    let mut head = Head::new();
    assert_eq!(head.scan(GOOD.as_bytes(), &Limits::default()), Ok(()));
    for bytes in [&b""[..], b"x", &GOOD.as_bytes()[..100]] {
        let message = Message::new(bytes, &head);
        assert!(check::request(message).is_err());
        assert!(message.body().is_empty());
    }
}
