//! Matching requests to server transactions (RFC 3261 17.2.3, 9.2), on whole messages.
#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests may fail loudly

use std::collections::HashSet;

use proptest::prelude::*;
use viaduct_engine::transaction::ServerKey;
use viaduct_message::{Fault, Head, Limits, Message};

const SECRET: [u8; 16] = *b"sixteen bytes ok";

/// A request whose parts can be varied one at a time.
#[derive(Clone)]
struct Request {
    method: &'static str,
    cseq_method: &'static str,
    uri: String,
    via: String,
    from: String,
    to: String,
    call_id: String,
    cseq: u32,
}

impl Request {
    fn new(method: &'static str, via: &str) -> Request {
        Request {
            method,
            cseq_method: method,
            uri: "sip:bob@example.com".into(),
            via: via.into(),
            from: "<sip:alice@example.com>;tag=1928".into(),
            to: "<sip:bob@example.com>".into(),
            call_id: "a84b4c76e66710".into(),
            cseq: 7,
        }
    }

    fn bytes(&self) -> Vec<u8> {
        format!(
            "{} {} SIP/2.0\r\nVia: {}\r\nFrom: {}\r\nTo: {}\r\nCall-ID: {}\r\nCSeq: {} {}\r\n\
             Max-Forwards: 70\r\nContent-Length: 0\r\n\r\n",
            self.method,
            self.uri,
            self.via,
            self.from,
            self.to,
            self.call_id,
            self.cseq,
            self.cseq_method
        )
        .into_bytes()
    }

    fn key(&self) -> ServerKey {
        key_of(&self.bytes(), &SECRET).expect("a key")
    }
}

fn key_of(bytes: &[u8], secret: &[u8; 16]) -> Result<ServerKey, Fault> {
    let mut head = Head::new();
    head.scan(bytes, &Limits::default())?;
    let message = Message::new(bytes, &head);
    ServerKey::of(message, &message.top_via()?, secret)
}

fn with_cookie(method: &'static str) -> Request {
    Request::new(method, "SIP/2.0/UDP client.example.com:5060;branch=z9hG4bK74bf9")
}

fn without_cookie(method: &'static str) -> Request {
    Request::new(method, "SIP/2.0/UDP client.example.com:5060")
}

#[test]
fn s17_2_3_a_retransmission_has_the_key_of_the_first() {
    assert_eq!(with_cookie("REGISTER").key(), with_cookie("REGISTER").key());
    assert_eq!(without_cookie("REGISTER").key(), without_cookie("REGISTER").key());
    assert_eq!(size_of::<ServerKey>(), 16);
}

#[test]
fn s17_2_3_with_the_cookie_only_branch_sent_by_and_method_count() {
    let first = with_cookie("INVITE");
    let mut same = first.clone();
    same.uri = "sip:carol@example.net".into();
    same.from = "<sip:dave@example.com>;tag=9".into();
    same.to = "<sip:bob@example.com>;tag=314".into();
    same.call_id = "other".into();
    same.cseq = 8;
    assert_eq!(same.key(), first.key());

    for via in [
        "SIP/2.0/UDP client.example.com:5060;branch=z9hG4bK74bf8",
        "SIP/2.0/UDP client.example.com:5061;branch=z9hG4bK74bf9",
        "SIP/2.0/UDP client2.example.com:5060;branch=z9hG4bK74bf9",
        "SIP/2.0/UDP 192.0.2.4:5060;branch=z9hG4bK74bf9",
    ] {
        assert_ne!(Request::new("INVITE", via).key(), first.key(), "{via}");
    }
    assert_ne!(with_cookie("OPTIONS").key(), first.key());
}

#[test]
fn s17_2_3_sent_by_is_compared_as_a_host_and_a_port() {
    let key = with_cookie("INVITE").key();
    for via in [
        "SIP/2.0/UDP CLIENT.Example.com:5060;branch=z9hG4bK74bf9",
        "SIP/2.0/UDP client.example.com;branch=z9hG4bK74bf9",
        "SIP / 2.0 / UDP client.example.com:5060;rport;branch=z9hG4bK74bf9",
        "SIP/2.0/UDP client.example.com:5060;branch=z9hG4bK74bf9;received=192.0.2.1",
    ] {
        assert_eq!(Request::new("INVITE", via).key(), key, "{via}");
    }
    // The default port is the transport's.
    let tls = |sent_by: &str| {
        Request::new("INVITE", &format!("SIP/2.0/TLS {sent_by};branch=z9hG4bKx")).key()
    };
    assert_eq!(tls("a.example.com"), tls("a.example.com:5061"));
    assert_ne!(tls("a.example.com"), tls("a.example.com:5060"));
    // IPv6 by value.
    assert_eq!(tls("[2001:db8::1]"), tls("[2001:DB8:0:0::1]"));
}

#[test]
fn s17_2_3_an_ack_belongs_to_its_invite() {
    let mut ack = with_cookie("ACK");
    ack.to = "<sip:bob@example.com>;tag=314".into();
    assert_eq!(ack.key(), with_cookie("INVITE").key());
    assert!(!ack.key().is_rfc2543());
}

#[test]
fn s9_2_a_cancel_has_its_own_key_and_names_what_it_cancels() {
    let cancel = with_cookie("CANCEL").key();
    let invite = with_cookie("INVITE").key();
    assert_ne!(cancel, invite);
    assert_ne!(cancel.bucket(), invite.bucket());
    assert_eq!(cancel.for_invite(), invite);
    assert_eq!(cancel.cancelled().next(), Some(invite));
    for method in ["REGISTER", "OPTIONS", "BYE", "PUBLISH", "MESSAGE"] {
        let key = with_cookie(method).key();
        assert!(cancel.cancelled().any(|k| k == key), "{method}");
    }
    assert!(!cancel.cancelled().any(|k| k == cancel));
}

#[test]
fn two_unknown_methods_with_one_branch_are_two_transactions() {
    assert_ne!(with_cookie("FOO").key(), with_cookie("BAR").key());
    assert_eq!(with_cookie("FOO").key(), with_cookie("FOO").key());
}

#[test]
fn s17_2_3_a_branch_that_is_only_the_cookie_is_matched_as_in_rfc_2543() {
    let empty = Request::new("OPTIONS", "SIP/2.0/UDP a.example.com;branch=z9hG4bK");
    assert!(empty.key().is_rfc2543());
    let mut other = empty.clone();
    other.call_id = "another".into();
    assert_ne!(empty.key(), other.key());
}

#[test]
fn s17_2_3_without_the_cookie_the_fields_of_rfc_2543_count() {
    let first = without_cookie("INVITE");
    assert!(first.key().is_rfc2543());
    let changes: [fn(&mut Request); 5] = [
        |r| r.uri = "sip:carol@example.com".into(),
        |r| r.from = "<sip:alice@example.com>;tag=1929".into(),
        |r| r.call_id = "b".into(),
        |r| r.cseq = 8,
        |r| r.via = "SIP/2.0/UDP client.example.com:5060;branch=1".into(),
    ];
    for change in changes {
        let mut other = first.clone();
        change(&mut other);
        assert_ne!(other.key(), first.key());
    }
}

#[test]
fn s17_2_3_without_the_cookie_ack_and_cancel_find_their_invite() {
    let invite = without_cookie("INVITE").key();
    let mut ack = without_cookie("ACK");
    ack.to = "<sip:bob@example.com>;tag=of-the-response".into();
    assert_eq!(ack.key(), invite);
    assert!(ack.key().is_rfc2543(), "so the owner compares the To tag with its response");
    assert_eq!(without_cookie("CANCEL").key().for_invite(), invite);
    assert_ne!(without_cookie("CANCEL").key(), invite);
}

#[test]
fn s17_2_3_without_the_cookie_the_to_tag_counts_for_other_methods() {
    let mut tagged = without_cookie("BYE");
    tagged.to = "<sip:bob@example.com>;tag=1".into();
    let mut other = tagged.clone();
    other.to = "<sip:bob@example.com>;tag=2".into();
    assert_ne!(tagged.key(), other.key());
}

#[test]
fn a_request_without_the_fields_of_rfc_2543_is_a_fault() {
    let bytes = b"OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP c\r\n\r\n";
    assert!(key_of(bytes, &SECRET).is_err());
}

#[test]
fn another_secret_gives_another_key() {
    let bytes = with_cookie("INVITE").bytes();
    assert_ne!(key_of(&bytes, &SECRET), key_of(&bytes, b"another 16 bytes"));
}

#[test]
fn buckets_of_counted_branches_spread() {
    let low: HashSet<u64> = (0..4_096)
        .map(|n| {
            let via = format!("SIP/2.0/UDP c.example.com;branch=z9hG4bK{n}");
            Request::new("OPTIONS", &via).key().bucket() % 4_096
        })
        .collect();
    // A fair hash fills 1 - 1/e of the buckets, 2,589 of them; 2,400 is ten deviations below.
    assert!(low.len() > 2_400, "{} of 4096", low.len());
}

proptest! {
    #[test]
    fn keys_differ_exactly_where_branch_or_sent_by_differ(
        branches in prop::collection::vec("[a-zA-Z0-9.]{1,6}", 2),
        hosts in prop::collection::vec("[a-zA-Z][a-zA-Z0-9]{0,3}|[a-z]{70}", 2),
        ports in prop::collection::vec(5_059u16..5_062, 2),
    ) {
        let key = |i: usize| {
            let via = format!(
                "SIP/2.0/TCP {}:{};branch=z9hG4bK{}", hosts[i], ports[i], branches[i]
            );
            Request::new("OPTIONS", &via).key()
        };
        let same = branches[0] == branches[1]
            && hosts[0].eq_ignore_ascii_case(&hosts[1])
            && ports[0] == ports[1];
        prop_assert_eq!(key(0) == key(1), same);
    }
}
