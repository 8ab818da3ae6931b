//! Prints what it costs to read and to write a typical REGISTER and INVITE.
//!
//! `cargo run --release -p viaduct-message --example scan_cost`. Low of several runs: the rest is
//! the machine's noise.

use std::hint::black_box;
use std::net::SocketAddr;
use std::time::Instant;

use viaduct_message::response::{Reply, via_source_edits, write};
use viaduct_message::uri::write_aor;
use viaduct_message::{Edits, Head, HeaderName, Limits, Message, NameAddr, Uri, Via, check};

const REGISTER: &[u8] = b"REGISTER sip:example.com SIP/2.0\r\n\
Via: SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bK776asdhds0001;rport\r\n\
Max-Forwards: 70\r\n\
From: \"Alice\" <sip:alice@example.com>;tag=a73kszlfl\r\n\
To: \"Alice\" <sip:alice@example.com>\r\n\
Call-ID: 1j9FpLxk3uxtm8tn@192.0.2.10\r\n\
CSeq: 2 REGISTER\r\n\
Contact: <sip:alice@192.0.2.10:5060;transport=udp>;expires=3600;+sip.instance=\"<urn:uuid:0>\"\r\n\
Supported: path, outbound, gruu\r\n\
User-Agent: Deskphone/4.2.1 (fw 7)\r\n\
Allow: INVITE, ACK, BYE, CANCEL, OPTIONS\r\n\
Expires: 3600\r\n\
Content-Length: 0\r\n\r\n";

const INVITE: &[u8] = b"INVITE sip:bob@example.net SIP/2.0\r\n\
Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKp1.1\r\n\
Via: SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bK776asdhds0002;rport=5060;received=192.0.2.10\r\n\
Max-Forwards: 69\r\n\
Route: <sip:192.0.2.2;lr>\r\n\
Record-Route: <sip:192.0.2.1;lr>\r\n\
From: \"Alice\" <sip:alice@example.com>;tag=9fxced76sl\r\n\
To: <sip:bob@example.net>\r\n\
Call-ID: 3848276298220188511@192.0.2.10\r\n\
CSeq: 1 INVITE\r\n\
Contact: <sip:alice@192.0.2.10:5060;transport=udp>\r\n\
Supported: replaces, 100rel, timer\r\n\
User-Agent: Deskphone/4.2.1 (fw 7)\r\n\
Allow: INVITE, ACK, BYE, CANCEL, OPTIONS, REFER, NOTIFY, INFO\r\n\
Content-Type: application/sdp\r\n\
Content-Length: 142\r\n\r\n\
v=0\r\no=alice 2890844526 2890844526 IN IP4 192.0.2.10\r\ns=-\r\nc=IN IP4 192.0.2.10\r\n\
t=0 0\r\nm=audio 49172 RTP/AVP 0 8\r\na=rtpmap:0 PCMU/8000\r\na=sendrecv\r\n";

const ROUNDS: u32 = 200_000;

fn main() {
    for (name, bytes) in [("REGISTER", REGISTER), ("INVITE", INVITE)] {
        println!("{name}, {} bytes", bytes.len());
        costs(bytes);
    }
}

fn costs(bytes: &[u8]) {
    let limits = Limits::default();
    let mut head = Head::new();
    report("scan", || {
        let _ = black_box(head.scan(black_box(bytes), &limits));
    });
    assert_eq!(head.scan(bytes, &limits), Ok(()));
    let message = Message::new(bytes, &head);
    assert!(check::request(message).is_ok());
    report("check", || {
        let _ = black_box(check::request(black_box(message)));
    });
    let via = message.value(HeaderName::Via).unwrap_or_default();
    report("one Via value", || {
        let _ = black_box(Via::parse(black_box(via)));
    });
    let contact = message.value(HeaderName::Contact).unwrap_or_default();
    report("one Contact value", || {
        let _ = black_box(NameAddr::parse(black_box(contact)));
    });
    let uri = NameAddr::parse(contact).map(|contact| contact.uri).unwrap_or_default();
    report("one URI", || {
        let _ = black_box(Uri::parse(black_box(uri)));
    });
    report("top Via, From, To, CSeq, Call-ID", || {
        let message = black_box(message);
        let _ = black_box((message.top_via(), message.from(), message.to()));
        let _ = black_box((message.cseq(), message.call_id()));
    });
    let mut aor = Vec::new();
    report("Contact and AoR of To", || {
        let message = black_box(message);
        for value in message.values(HeaderName::Contact) {
            let _ = black_box(NameAddr::parse(value.bytes).and_then(|c| c.parse_uri()));
        }
        aor.clear();
        if let Ok(uri) = message.to().and_then(|to| to.parse_uri()) {
            write_aor(&uri, false, &mut aor);
        }
        black_box(&aor);
    });
    let source = SocketAddr::from(([198, 51, 100, 7], 40_000));
    let mut edits = Edits::new();
    let mut out = Vec::with_capacity(4096);
    report("forward: 4 edits, write", || {
        edits.clear();
        out.clear();
        via_source_edits(message, source, true, &mut edits);
        if let Some(via) = message.line(HeaderName::Via) {
            edits.insert(via.whole.start, b"Via: SIP/2.0/UDP 192.0.2.3;branch=z9hG4bKw1.77\r\n");
        }
        if let Some(line) = message.line(HeaderName::MaxForwards) {
            edits.replace(line.value, b"68");
        }
        edits.write(message.bytes(), &mut out);
        black_box(&out);
    });
    let reply = Reply { status: 200, to_tag: b"314159", ..Reply::default() };
    report("response", || {
        out.clear();
        write(black_box(message), source, false, &reply, &mut out);
        black_box(&out);
    });
}

fn report(name: &str, mut run: impl FnMut()) {
    let best = (0..9)
        .map(|_| {
            let begin = Instant::now();
            for _ in 0..ROUNDS {
                run();
            }
            begin.elapsed()
        })
        .min()
        .unwrap_or_default();
    println!("  {:>6.1} ns  {name}", best.as_nanos() as f64 / f64::from(ROUNDS));
}
