use super::*;
use crate::{Head, Limits};

fn source() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 4540))
}

fn request(via: &str) -> String {
    format!(
        "OPTIONS sip:a@b SIP/2.0\r\n{via}Max-Forwards: 70\r\nFrom: <sip:f@b>;tag=1\r\n\
         t: <sip:t@b>\r\ni: c@x\r\nCSeq: 3 OPTIONS\r\nTimestamp: 54\r\n\r\n"
    )
}

fn respond(text: &str, source: SocketAddr, force: bool, reply: &Reply<'_>) -> String {
    let mut head = Head::new();
    let _ = head.scan(text.as_bytes(), &Limits::default());
    let mut out = Vec::new();
    write(Message::new(text.as_bytes(), &head), source, force, reply, &mut out);
    String::from_utf8(out).expect("text")
}

/// The top Via after filling; the response and the forwarded request must agree.
fn filled(via: &str, source: SocketAddr, force: bool) -> String {
    let text = request(&format!("Via: {via}\r\n"));
    let answer = respond(&text, source, force, &Reply { status: 200, ..Reply::default() });
    let line = answer.lines().nth(1).expect("a Via").to_owned();
    let mut head = Head::new();
    assert_eq!(head.scan(text.as_bytes(), &Limits::default()), Ok(()));
    let message = Message::new(text.as_bytes(), &head);
    let mut edits = Edits::new();
    via_source_edits(message, source, force, &mut edits);
    let mut forwarded = Vec::new();
    edits.write(message.bytes(), &mut forwarded);
    let forwarded = String::from_utf8(forwarded).expect("text");
    assert_eq!(forwarded.lines().nth(1), Some(line.as_str()));
    assert_eq!(forwarded.lines().count(), text.lines().count());
    line.strip_prefix("Via: ").expect("a Via").to_owned()
}

#[test]
fn rport_is_filled_where_asked_and_received_with_it() {
    for (via, expected) in [
        (
            "SIP/2.0/UDP 10.1.1.1:4540;rport;branch=z",
            "SIP/2.0/UDP 10.1.1.1:4540;rport=4540;branch=z;received=192.0.2.1",
        ),
        ("SIP/2.0/UDP 192.0.2.1;rport", "SIP/2.0/UDP 192.0.2.1;rport=4540;received=192.0.2.1"),
        ("SIP/2.0/UDP 192.0.2.1;branch=z", "SIP/2.0/UDP 192.0.2.1;branch=z"),
        ("SIP/2.0/UDP 192.0.2.9;branch=z", "SIP/2.0/UDP 192.0.2.9;branch=z;received=192.0.2.1"),
        ("SIP/2.0/UDP host.example", "SIP/2.0/UDP host.example;received=192.0.2.1"),
    ] {
        assert_eq!(filled(via, source(), false), expected);
    }
}

#[test]
fn what_the_client_claims_is_replaced_not_repeated() {
    for (via, expected) in [
        (
            "SIP/2.0/UDP 192.0.2.1;received=198.51.100.9;branch=z",
            "SIP/2.0/UDP 192.0.2.1;received=192.0.2.1;branch=z",
        ),
        (
            "SIP/2.0/UDP a;received=[2001:db8::1];rport=1;branch=z",
            "SIP/2.0/UDP a;received=192.0.2.1;rport=4540;branch=z",
        ),
        (
            "SIP/2.0/UDP a;rport = 1 ;x;received = b",
            "SIP/2.0/UDP a;rport=4540 ;x;received=192.0.2.1",
        ),
    ] {
        assert_eq!(filled(via, source(), false), expected);
    }
}

#[test]
fn rport_can_be_forced_and_ipv6_has_no_brackets() {
    assert_eq!(
        filled("SIP/2.0/UDP 192.0.2.1", source(), true),
        "SIP/2.0/UDP 192.0.2.1;received=192.0.2.1;rport=4540"
    );
    let v6: SocketAddr = "[2001:db8::7]:5070".parse().expect("address");
    assert_eq!(filled("SIP/2.0/UDP [2001:DB8:0::7]", v6, false), "SIP/2.0/UDP [2001:DB8:0::7]");
    assert_eq!(filled("SIP/2.0/UDP a", v6, false), "SIP/2.0/UDP a;received=2001:db8::7");
    let mapped: SocketAddr = "[::ffff:192.0.2.1]:5070".parse().expect("address");
    assert_eq!(filled("SIP/2.0/UDP 192.0.2.1", mapped, false), "SIP/2.0/UDP 192.0.2.1");
}

#[test]
fn lower_vias_are_copied_in_order_and_unchanged() {
    let vias =
        "Via: SIP/2.0/UDP a;branch=1, SIP/2.0/TCP b;rport\r\nMax-Breadth: 9\r\nv: SIP/2.0/X c\r\n";
    let reply = Reply { status: 200, ..Reply::default() };
    let answer = respond(&request(vias), source(), false, &reply);
    let expected = "SIP/2.0 200 OK\r\n\
        Via: SIP/2.0/UDP a;branch=1;received=192.0.2.1, SIP/2.0/TCP b;rport\r\n\
        Via: SIP/2.0/X c\r\n\
        From: <sip:f@b>;tag=1\r\n\
        To: <sip:t@b>\r\n\
        Call-ID: c@x\r\n\
        CSeq: 3 OPTIONS\r\n\
        Content-Length: 0\r\n\r\n";
    assert_eq!(answer, expected);
}

#[test]
fn headers_body_and_tag_are_written() {
    let reply = Reply {
        server: "",
        status: 486,
        reason: b"Bu\r\nsy\0 \xc3\xa9",
        to_tag: b"tt",
        headers: b"Content-Type: text/plain\r\n",
        body: b"12345",
    };
    let answer = respond(&request("Via: SIP/2.0/UDP 192.0.2.1\r\n"), source(), false, &reply);
    assert!(answer.starts_with("SIP/2.0 486 Busy \u{e9}\r\n"), "{answer}");
    assert!(answer.contains("\r\nTo: <sip:t@b>;tag=tt\r\n"));
    assert!(answer.ends_with("Content-Type: text/plain\r\nContent-Length: 5\r\n\r\n12345"));
    assert!(!answer.contains("Timestamp"));
}

#[test]
fn a_100_has_no_tag_of_ours_and_keeps_the_timestamp() {
    let reply = Reply { status: 100, to_tag: b"tt", ..Reply::default() };
    let answer = respond(&request("Via: SIP/2.0/UDP a\r\n"), source(), false, &reply);
    assert!(answer.contains("\r\nTo: <sip:t@b>\r\n"));
    assert!(answer.contains("\r\nTimestamp: 54\r\n"));
}

#[test]
fn an_existing_to_tag_is_kept() {
    for to in ["<sip:t@b>;tag=old", "\"open <sip:t@b>;TAG=old"] {
        let text = request("Via: SIP/2.0/UDP a\r\n").replace("<sip:t@b>", to);
        let reply = Reply { status: 400, to_tag: b"tt", ..Reply::default() };
        let answer = respond(&text, source(), false, &reply);
        assert!(answer.contains(&format!("\r\nTo: {to}\r\n")), "{answer}");
    }
}

#[test]
fn a_broken_request_is_answered_with_what_it_has() {
    let text =
        "OPTIONS sip:a@b\r\nVia: SIP/2.0/UDP a;;\r\nno colon\r\nCSeq: x\r\nX: a\nFrom: evil\r\n";
    let reply = Reply { status: 400, reason: b"", to_tag: b"t", ..Reply::default() };
    assert_eq!(
        respond(text, source(), true, &reply),
        "SIP/2.0 400 Bad Request\r\nVia: SIP/2.0/UDP a;;\r\nCSeq: x\r\nContent-Length: 0\r\n\r\n"
    );
}

#[test]
fn statuses_out_of_range_become_500() {
    for status in [0, 99, 700, u16::MAX] {
        let reply = Reply { status, ..Reply::default() };
        assert!(respond(&request(""), source(), false, &reply).starts_with("SIP/2.0 500 "));
    }
}

#[test]
fn every_status_has_a_phrase_fit_to_send() {
    for status in 100..700 {
        let phrase = reason_phrase(status);
        assert!(!phrase.is_empty() && phrase.is_ascii(), "{status}");
    }
    assert_eq!(reason_phrase(404), "Not Found");
    assert_eq!(reason_phrase(599), "Server Error");
}
