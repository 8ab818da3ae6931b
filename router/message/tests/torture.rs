//! The torture messages of RFC 4475 and RFC 5118, judged by their indexes at the parser level.

#![allow(clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test may

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use viaduct_message::framing::{Datagram, Frame, StreamFramer, datagram};
use viaduct_message::{Fault, Head, HeaderName, Limits, Message, check};

/// Messages where we judge otherwise than the index, each with the reason. A test fails when an
/// entry is no deviation any more.
const DEVIATIONS: &[Deviation] = &[];

struct Deviation {
    file: &'static str,
    verdict: Verdict,
    #[allow(dead_code)] // for the reader
    reason: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Accept,
    Reject,
}

#[derive(serde::Deserialize)]
struct Index {
    message: Vec<Entry>,
}

#[derive(serde::Deserialize)]
struct Entry {
    file: String,
    kind: String,
    parse: String,
    udp: Vec<String>,
    stream: Option<String>,
}

/// Where the corpus lies: beside the checkout, or where VIADUCT_CORPUS says.
fn corpus() -> Option<PathBuf> {
    let path = std::env::var_os("VIADUCT_CORPUS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpus"),
        PathBuf::from,
    );
    if path.is_dir() {
        return Some(path);
    }
    println!("skipped: no torture corpus at {} (set VIADUCT_CORPUS)", path.display());
    None
}

fn entries(folder: &Path) -> Vec<(Entry, Vec<u8>)> {
    let text = std::fs::read_to_string(folder.join("index.toml")).expect("index.toml");
    let index: Index = toml::from_str(&text).expect("index.toml parses");
    index
        .message
        .into_iter()
        .map(|entry| {
            let bytes = std::fs::read(folder.join(&entry.file)).expect("message file");
            (entry, bytes)
        })
        .collect()
}

/// What the router does with a datagram before it looks at its meaning.
fn judge(bytes: &[u8]) -> Result<(), Fault> {
    let Datagram::Message(bytes) = datagram(bytes) else { panic!("not taken for a message") };
    let mut head = Head::new();
    head.scan(bytes, &Limits::default())?;
    let message = Message::new(bytes, &head);
    if message.is_request() {
        check::request(message).map(|_| ())
    } else {
        check::response(message).map(|_| ())
    }
}

fn judge_folder(name: &str, count: usize) {
    let Some(corpus) = corpus() else { return };
    let mut failures = Vec::new();
    let mut stated = 0;
    for (entry, bytes) in entries(&corpus.join(name)) {
        let result = judge(&bytes);
        let got = if result.is_ok() { Verdict::Accept } else { Verdict::Reject };
        let wanted = match entry.parse.as_str() {
            "accept" => Some(Verdict::Accept),
            "reject" => Some(Verdict::Reject),
            "either" => None,
            "not-stated" => continue,
            other => panic!("{}: unknown verdict {other}", entry.file),
        };
        stated += 1;
        let deviation = DEVIATIONS.iter().find(|d| d.file == entry.file);
        let excused = deviation.is_some_and(|d| d.verdict == got);
        let as_stated = wanted.is_none_or(|wanted| wanted == got);
        if as_stated == deviation.is_some() || !(as_stated || excused) {
            failures.push(format!("{}: {result:?}, index says {}", entry.file, entry.parse));
        }
        // A request we refuse must be refused with a code the index allows.
        if let (Err(fault), "request") = (result, entry.kind.as_str()) {
            let code = fault.status().to_string();
            if !entry.udp.contains(&code) {
                failures.push(format!("{}: {code} is not in {:?}", entry.file, entry.udp));
            }
        }
        // What is not refused as a request must be fit to go on as it is.
        let only_fixed = entry.udp.iter().any(|u| u == "forward-fixed")
            && !entry.udp.iter().any(|u| u == "forward" || u == "200" || u == "404");
        if got == Verdict::Accept && only_fixed {
            failures.push(format!("{}: accepted, and would go on with its fault", entry.file));
        }
    }
    assert_eq!(failures, Vec::<String>::new());
    assert_eq!(stated, count, "messages with a verdict in {name}");
}

#[test]
fn rfc4475_messages_are_judged_as_the_index_says() {
    judge_folder("rfc4475", 49);
}

#[test]
fn rfc5118_messages_are_judged_as_the_index_says() {
    judge_folder("rfc5118", 12);
}

#[test]
fn no_deviation_names_a_file_that_is_gone() {
    let Some(corpus) = corpus() else { return };
    let known: BTreeSet<String> = ["rfc4475", "rfc5118"]
        .iter()
        .flat_map(|folder| entries(&corpus.join(folder)))
        .map(|(entry, _)| entry.file)
        .collect();
    for deviation in DEVIATIONS {
        assert!(known.contains(deviation.file), "{}", deviation.file);
    }
}

/// What a stream framer makes of the whole file.
fn frames(bytes: &[u8]) -> (Vec<usize>, Result<Frame, Fault>) {
    let mut framer = StreamFramer::new();
    let mut rest = bytes;
    let mut messages = Vec::new();
    loop {
        match framer.next(rest, &Limits::default()) {
            Ok(Frame::Message(span)) => {
                messages.push(span.len());
                rest = &rest[span.end as usize..];
            }
            Ok(Frame::Blank(span) | Frame::Ping(span)) => rest = &rest[span.end as usize..],
            last => return (messages, last),
        }
    }
}

#[test]
fn streams_are_framed_as_the_index_says() {
    let Some(corpus) = corpus() else { return };
    let mut seen = BTreeSet::new();
    for (entry, bytes) in entries(&corpus.join("rfc4475")) {
        if entry.stream.is_none() {
            continue;
        }
        let (messages, last) = frames(&bytes);
        match entry.file.as_str() {
            // Both requests; the octets behind the second body are no message.
            "dblreq.dat" => {
                assert_eq!(last, Err(Fault::Missing(HeaderName::ContentLength)));
                assert_eq!(messages.len(), 2);
            }
            "clerr.dat" => assert_eq!((messages.len(), last), (0, Ok(Frame::Partial))),
            "ncl.dat" => {
                assert_eq!(last, Err(Fault::Header(HeaderName::ContentLength)));
                assert_eq!(messages.len(), 0);
            }
            "mcl01.dat" => {
                assert_eq!(last, Err(Fault::Repeated(HeaderName::ContentLength)));
                assert_eq!(messages.len(), 0);
            }
            "inv2543.dat" => {
                assert_eq!(last, Err(Fault::Missing(HeaderName::ContentLength)));
                assert_eq!(messages.len(), 0);
            }
            other => panic!("{other}: the index says something about streams, this test does not"),
        }
        seen.insert(entry.file);
    }
    assert_eq!(seen.len(), 5);
}

#[test]
fn every_well_formed_message_is_one_frame_of_a_stream() {
    let Some(corpus) = corpus() else { return };
    let mut framed = 0;
    for folder in ["rfc4475", "rfc5118"] {
        for (entry, bytes) in entries(&corpus.join(folder)) {
            if entry.parse == "accept" && entry.stream.is_none() {
                let (messages, last) = frames(&bytes);
                assert_eq!(messages.len(), 1, "{}: {last:?}", entry.file);
                framed += 1;
            }
        }
    }
    assert!(framed > 30, "{framed}");
}

fn scanned(folder: &str, file: &str) -> Option<(Head, Vec<u8>)> {
    let bytes = std::fs::read(corpus()?.join(folder).join(file)).expect("message file");
    let mut head = Head::new();
    let _ = head.scan(&bytes, &Limits::default());
    Some((head, bytes))
}

#[test]
fn the_tortuous_invite_reads_as_meant() {
    let Some((head, bytes)) = scanned("rfc4475", "wsinv.dat") else {
        return;
    };
    let message = Message::new(&bytes, &head);
    assert_eq!(message.max_forwards(), Ok(Some(68)));
    assert_eq!(message.cseq().map(|c| (c.number, c.token)), Ok((9, &b"INVITE"[..])));
    assert_eq!(message.to().map(|to| to.tag()), Ok(Some(&b"1918181833n"[..])));
    assert_eq!(message.from().map(|f| f.display), Ok(Some(&br#""J Rosenberg \\\"""#[..])));
    let vias: Vec<_> = message.values(HeaderName::Via).collect();
    assert_eq!(vias.len(), 3);
    assert_eq!(message.value_by_label(b"Subject"), Some(&b""[..]));
    assert_eq!(message.value_by_label(b"unknownheaderwithunusualvalue"), Some(&b";;,,;;,;"[..]));
    assert!(message.values(HeaderName::Contact).count() == 1);
}

#[test]
fn octets_behind_the_body_are_not_part_of_the_message() {
    let Some((head, bytes)) = scanned("rfc4475", "dblreq.dat") else {
        return;
    };
    let message = Message::new(&bytes, &head);
    assert_eq!(message.body(), b"");
    assert!(message.bytes().ends_with(b"Content-Length: 0\r\n\r\n"));
    assert!(!message.bytes().windows(6).any(|w| w == b"INVITE"));
}

#[test]
fn a_body_may_hold_nul_bytes() {
    let Some((head, bytes)) = scanned("rfc4475", "mpart01.dat") else {
        return;
    };
    let message = Message::new(&bytes, &head);
    assert_eq!(message.body().len(), 553);
    assert!(message.body().contains(&0));
}

#[test]
fn a_percent_sign_is_an_escape_in_uris_only() {
    let Some((head, bytes)) = scanned("rfc4475", "esc02.dat") else {
        return;
    };
    let message = Message::new(&bytes, &head);
    assert_eq!(message.method(), viaduct_message::Method::Other);
    assert_eq!(message.method_token(), b"RE%47IST%45R");
    assert_eq!(message.values(HeaderName::Contact).count(), 2);
    let Some((head, bytes)) = scanned("rfc4475", "esc01.dat") else {
        return;
    };
    let message = Message::new(&bytes, &head);
    let contact = message.values(HeaderName::Contact).next().expect("a contact");
    let contact = viaduct_message::NameAddr::parse(contact.bytes).expect("parses");
    assert!(contact.parse_uri().expect("parses").is_loose());
}

#[test]
fn a_port_inside_the_brackets_is_part_of_the_address() {
    let Some((head, bytes)) = scanned("rfc5118", "wire/port-ambiguous.dat") else {
        return;
    };
    let uri = Message::new(&bytes, &head).parse_request_uri().expect("parses");
    assert_eq!(uri.port, None);
    assert_eq!(uri.host_text, b"[2001:db8::10:5070]");
    let Some((head, bytes)) = scanned("rfc5118", "wire/port-unambiguous.dat") else {
        return;
    };
    let uri = Message::new(&bytes, &head).parse_request_uri().expect("parses");
    assert_eq!(uri.port, Some(5070));
}
