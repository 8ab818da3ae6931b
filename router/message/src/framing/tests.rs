use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const LIMITS: Limits = Limits { message_bytes: 300, headers: 256 };

fn message(extra: &str, body: &str) -> String {
    format!(
        "OPTIONS sip:a@b SIP/2.0\r\nTo: x\r\n{extra}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Kind and bytes of each frame.
type Frames = Vec<(char, Vec<u8>)>;

/// Frames of a stream that arrives in the pieces given, then how it ended.
fn frames(pieces: &[&[u8]]) -> (Frames, Result<(), Fault>) {
    let mut framer = StreamFramer::new();
    let mut buffer = Vec::new();
    let mut found = Vec::new();
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            let (kind, span) = match framer.next(&buffer, &LIMITS) {
                Ok(Frame::Message(span)) => ('M', span),
                Ok(Frame::Ping(span)) => ('P', span),
                Ok(Frame::Blank(span)) => ('B', span),
                Ok(Frame::Partial) => break,
                Err(fault) => return (found, Err(fault)),
            };
            let rest = buffer.split_off(span.end as usize);
            found.push((kind, std::mem::replace(&mut buffer, rest)));
        }
    }
    (found, Ok(()))
}

fn kinds(stream: &str) -> String {
    frames(&[stream.as_bytes()]).0.iter().map(|(kind, _)| *kind).collect()
}

#[test]
fn messages_end_where_content_length_says() {
    let one = message("", "hello\r\n\r\nworld");
    let two = message("", "");
    let stream = format!("{one}{two}");
    let (found, end) = frames(&[stream.as_bytes()]);
    assert_eq!(end, Ok(()));
    assert_eq!(found, [('M', one.into_bytes()), ('M', two.into_bytes())]);
}

#[test]
fn two_crlfs_between_messages_are_a_ping() {
    let m = message("", "");
    assert_eq!(kinds("\r\n\r\n"), "BP");
    assert_eq!(kinds("\r\n\r\n\r\n"), "BPB");
    assert_eq!(kinds("\r\n\r\n\r\n\r\n"), "BPBP");
    assert_eq!(kinds(&format!("{m}\r\n\r\n{m}\r\n{m}\r\n")), "MBPMBMB");
    assert_eq!(kinds("\r"), "");
}

#[test]
fn a_bad_length_ends_the_stream() {
    const NAME: HeaderName = HeaderName::ContentLength;
    for (lines, fault) in [
        ("", Fault::Missing(NAME)),
        ("Content-Length: -1\r\n", Fault::Header(NAME)),
        ("Content-Length: +1\r\n", Fault::Header(NAME)),
        ("Content-Length: 0x1\r\n", Fault::Header(NAME)),
        ("Content-Length: 1 1\r\n", Fault::Header(NAME)),
        ("Content-Length:\r\n", Fault::Header(NAME)),
        ("Content-Length: 1, 1\r\n", Fault::Header(NAME)),
        ("Content-Length: 4294967296\r\n", Fault::Header(NAME)),
        ("Content-Length: 18446744073709551617\r\n", Fault::Header(NAME)),
        ("Content-Length: 4294967295\r\n", Fault::TooLarge),
        ("Content-Length: 300\r\n", Fault::TooLarge),
        ("Content-Length: 1\r\nl : 2\r\n", Fault::Repeated(NAME)),
        ("l: 1\r\nX: a\nContent-Length: 2\r\n", Fault::HeaderLine),
        ("l: 1\r\nContent-Length\0: 2\r\n", Fault::HeaderLine),
    ] {
        let stream = format!("OPTIONS sip:a@b SIP/2.0\r\n{lines}\r\nabc");
        let (found, end) = frames(&[stream.as_bytes()]);
        assert_eq!((found.len(), end), (0, Err(fault)), "{lines:?}");
    }
    let twice = "OPTIONS sip:a@b SIP/2.0\r\nl: 1\r\nContent-Length : 01\r\n\r\nabc";
    assert_eq!(kinds(twice), "M");
}

#[test]
fn a_head_beyond_the_limit_ends_the_stream() {
    let endless = vec![b'x'; 400];
    let pieces: Vec<&[u8]> = endless.chunks(7).collect();
    assert_eq!(frames(&pieces).1, Err(Fault::TooLarge));
    let body = "x".repeat(300);
    assert_eq!(frames(&[message("", &body).as_bytes()]).1, Err(Fault::TooLarge));
}

#[test]
fn datagrams_are_sorted() {
    assert_eq!(datagram(b""), Datagram::KeepAlive);
    assert_eq!(datagram(b"\r\n\r\n"), Datagram::KeepAlive);
    assert_eq!(datagram(b"\0\0\0\0"), Datagram::KeepAlive);
    assert_eq!(datagram(b"\0\x01\0\0"), Datagram::Stun(b"\0\x01\0\0"));
    assert_eq!(datagram(b"\x01\x01"), Datagram::Stun(b"\x01\x01"));
    assert_eq!(datagram(b"\r\nOPTIONS"), Datagram::Message(b"OPTIONS"));
    assert_eq!(datagram(b"\rx"), Datagram::Message(b"\rx"));
}

fn part() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => ("(X: [a-z]{0,9}(\r\n [a-z])?\r\n){0,2}", "[ab\r\n]{0,40}")
            .prop_map(|(extra, body)| message(&extra, &body)),
        2 => Just("\r\n".to_owned()),
        1 => Just("\r\n\r\n".to_owned()),
        1 => "[a-z:\r\n ]{1,20}",
        1 => Just("OPTIONS sip:a SIP/2.0\r\nl: 1\r\nl: 2\r\n\r\n".to_owned()),
    ]
}

proptest! {
    #[test]
    fn frames_do_not_depend_on_how_the_stream_is_chopped(
        parts in vec(part(), 0..6),
        cuts in vec(any::<proptest::sample::Index>(), 0..12),
    ) {
        let stream = parts.concat().into_bytes();
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        cuts.extend([0, stream.len()]);
        cuts.sort_unstable();
        let pieces: Vec<_> = cuts.windows(2).map(|pair| &stream[pair[0]..pair[1]]).collect();
        let whole = frames(&[&stream]);
        prop_assert_eq!(&frames(&pieces), &whole);
        let bytes: Vec<_> = stream.chunks(1).collect();
        prop_assert_eq!(&frames(&bytes), &whole);
    }

    /// What the framer takes for one message, the scan takes for the same one.
    #[test]
    fn framer_and_scan_agree_where_a_message_ends(parts in vec(part(), 1..4)) {
        let stream = parts.concat().into_bytes();
        for (_, bytes) in frames(&[&stream]).0.iter().filter(|(kind, _)| *kind == 'M') {
            let mut head = crate::Head::new();
            let _ = head.scan(bytes, &LIMITS);
            prop_assert_eq!(crate::Message::new(bytes, &head).bytes().len(), bytes.len());
        }
    }
}
