use proptest::prelude::*;

use super::*;
use crate::Message;

fn scan(text: &str) -> (Head, Result<(), Fault>) {
    let mut head = Head::new();
    let result = head.scan(text.as_bytes(), &Limits::default());
    (head, result)
}

fn with_lines(lines: &str) -> String {
    format!("OPTIONS sip:a@b SIP/2.0\r\n{lines}\r\n")
}

#[test]
fn a_blank_before_the_colon_is_the_same_header() {
    let text = with_lines("Route :<sip:x;lr>\r\nX-Name \t: 1\r\nROUTE\t: <sip:y;lr>\r\n");
    let (head, result) = scan(&text);
    assert_eq!(result, Ok(()));
    let message = Message::new(text.as_bytes(), &head);
    assert_eq!(message.lines_of(HeaderName::Route).count(), 2);
    assert_eq!(message.value_by_label(b"x-name"), Some(&b"1"[..]));
}

#[test]
fn folds_belong_to_the_line_before() {
    let text = with_lines("Subject: a\r\n b\r\n\tc\r\nRoute:\r\n <sip:x>\r\n");
    let (head, result) = scan(&text);
    assert_eq!(result, Ok(()));
    let message = Message::new(text.as_bytes(), &head);
    assert_eq!(message.value_by_label(b"s"), Some(&b"a\r\n b\r\n\tc"[..]));
    assert_eq!(message.value(HeaderName::Route), Some(&b"<sip:x>"[..]));
    assert_eq!(message.lines().len(), 2);
}

#[test]
fn bad_lines_are_refused_and_the_good_ones_kept() {
    for bad in [
        "no colon\r\n",
        ": no name\r\n",
        "X\0: 1\r\n",
        "X\u{1}: 1\r\n",
        "X Y: 1\r\n",
        "X: a\nRoute: <sip:evil>\r\n",
        "X: a\rRoute: <sip:evil>\r\n",
        "X: a\r\r\n",
        "\nRoute: <sip:evil>\r\n",
        "X\r\n : 1\r\n",
        "X(: 1\r\n",
    ] {
        let text = with_lines(&format!("To: a\r\n{bad}Call-ID: b\r\n"));
        let (head, result) = scan(&text);
        assert_eq!(result, Err(Fault::HeaderLine), "{bad:?}");
        let names: Vec<_> = head.lines.iter().map(|line| line.name).collect();
        assert_eq!(names, [HeaderName::To, HeaderName::CallId], "{bad:?}");
    }
    let (_, result) = scan("OPTIONS sip:a@b SIP/2.0\r\n folded: 1\r\n\r\n");
    assert_eq!(result, Err(Fault::HeaderLine));
}

#[test]
fn start_lines_are_read_or_refused() {
    for (line, expected) in [
        ("OPTIONS sip:a@b SIP/2.0", Ok(())),
        ("OPTIONS sip:a@b sip/2.0", Ok(())),
        ("SIP/2.0 200 OK", Ok(())),
        ("SIP/2.0 100 ", Ok(())),
        ("SIP/2.0 100", Ok(())),
        ("OPTIONS sip:a@b SIP/7.0", Err(Fault::Version)),
        ("SIP/3.0 200 OK", Err(Fault::Version)),
        ("SIP/2.0 99 x", Err(Fault::StatusCode)),
        ("SIP/2.0 0200 OK", Err(Fault::StatusCode)),
        ("SIP/2.0 -200 OK", Err(Fault::StartLine)),
        ("SIP/2.0", Err(Fault::StartLine)),
        ("OPTIONS sip:a@b", Err(Fault::StartLine)),
        ("OPTIONS  SIP/2.0", Err(Fault::StartLine)),
        ("OPTIONS sip:a@b SIP/2.0 ", Err(Fault::StartLine)),
        ("OPTIONS sip:a@b HTTP/1.1", Err(Fault::StartLine)),
        ("OPT\0IONS sip:a@b SIP/2.0", Err(Fault::StartLine)),
        (" OPTIONS sip:a@b SIP/2.0", Err(Fault::StartLine)),
        ("OPTIONS sip:a@b\nX SIP/2.0", Err(Fault::StartLine)),
        ("", Err(Fault::StartLine)),
    ] {
        let (head, result) = scan(&format!("{line}\r\nTo: x\r\n\r\n"));
        assert_eq!(result, expected, "{line:?}");
        assert_eq!(head.lines.len(), 1, "{line:?}");
    }
}

#[test]
fn what_looks_like_a_response_is_never_taken_for_a_request() {
    for line in
        ["SIP/2.0 4294967301 x", "SIP/2.0 x", "sip/9 200 OK", "SIP/2.0 18446744073709551616 x"]
    {
        let text = format!("{line}\r\n\r\n");
        let (head, _) = scan(&text);
        assert!(!Message::new(text.as_bytes(), &head).is_request(), "{line:?}");
    }
}

#[test]
fn the_first_line_of_a_name_is_known_and_repeats_are_noted() {
    let text = with_lines("Via: 1\r\nTo: 2\r\nv: 3\r\n");
    let (head, _) = scan(&text);
    assert_eq!(head.first(HeaderName::Via), Some(0));
    assert_eq!(head.first(HeaderName::To), Some(1));
    assert_eq!(head.first(HeaderName::From), None);
    assert!(head.is_repeated(HeaderName::Via));
    assert!(!head.is_repeated(HeaderName::To));
}

#[test]
fn a_head_is_reused_without_leftovers() {
    let mut head = Head::new();
    let first = with_lines("Via: 1\r\nVia: 2\r\nl: 3\r\n") + "abc";
    assert_eq!(head.scan(first.as_bytes(), &Limits::default()), Ok(()));
    let room = head.lines.capacity();
    let second = with_lines("To: 2\r\n");
    assert_eq!(head.scan(second.as_bytes(), &Limits::default()), Ok(()));
    assert_eq!(head.first(HeaderName::Via), None);
    assert!(!head.is_repeated(HeaderName::Via));
    assert_eq!((head.lines.len(), head.lines.capacity()), (1, room));
    assert!(head.body.is_empty());
}

#[test]
fn content_length_ends_the_body() {
    for (length, body) in [("3", "abc"), ("0", ""), ("9", "abcde"), ("x", "abcde")] {
        let text = with_lines(&format!("l: {length}\r\n")) + "abcde";
        let (head, result) = scan(&text);
        assert_eq!(result, Ok(()));
        assert_eq!(Message::new(text.as_bytes(), &head).body(), body.as_bytes(), "{length}");
    }
}

#[test]
fn limits_are_kept_and_the_head_stays_readable() {
    let text = with_lines(&"To: x\r\n".repeat(5));
    let mut head = Head::new();
    let limits = Limits { headers: 4, ..Limits::default() };
    assert_eq!(head.scan(text.as_bytes(), &limits), Err(Fault::TooManyHeaders));
    assert_eq!(head.lines.len(), 4);
    let limits = Limits { headers: 5, ..Limits::default() };
    assert_eq!(head.scan(text.as_bytes(), &limits), Ok(()));
    let limits = Limits { message_bytes: text.len() as u32 - 1, ..Limits::default() };
    assert_eq!(head.scan(text.as_bytes(), &limits), Err(Fault::TooLarge));
    assert_eq!(head.lines.len(), 5);
}

#[test]
fn a_head_without_end_is_unfinished() {
    for text in ["", "OPTIONS", "OPTIONS sip:a SIP/2.0\r\n", "OPTIONS sip:a SIP/2.0\r\nTo: x\r\n"] {
        assert_eq!(scan(text).1, Err(Fault::Unfinished), "{text:?}");
    }
    assert_eq!(scan("OPTIONS sip:a SIP/2.0\r\nTo: x\r\nFrom: y").0.lines.len(), 1);
}

proptest! {
    /// The short way to a name tells what the long one does.
    #[test]
    fn a_label_is_read_as_the_grammar_says(
        name in 0..HeaderName::COUNT,
        compact: bool,
        kind in 0u8..4,
        damage in proptest::option::of((any::<proptest::sample::Index>(), any::<u8>())),
        behind in "[ \t]{0,2}:[ -~\r\n]{0,20}",
    ) {
        let text = HeaderName::ALL[name].as_str();
        let text = if compact { &text[..1] } else { text };
        let mut line = match kind {
            0 => text.to_uppercase(),
            1 => text.to_lowercase(),
            _ => text.to_owned(),
        }
        .into_bytes();
        line.extend_from_slice(behind.as_bytes());
        if let Some((at, byte)) = damage {
            let at = at.index(line.len());
            line[at] = byte;
        }
        let token = line.iter().take_while(|b| chars::is(**b, chars::TOKEN)).count();
        let blank = |b: &&u8| matches!(b, b' ' | b'\t');
        let colon = token + line[token..].iter().take_while(blank).count();
        let good = token > 0 && line.get(colon) == Some(&b':');
        let expected = good.then(|| (HeaderName::from_label(&line[..token]), token, colon));
        prop_assert_eq!(label(&line), expected);
    }

    /// Lines end where a reader who takes one byte after the other finds their end.
    #[test]
    fn lines_end_at_the_first_crlf_without_a_blank_behind(
        pieces in proptest::collection::vec(
            proptest::sample::select(vec!["\r\n", "\r", "\n", " ", "\t", "To: ", "a", "aaaaaaaaaaaaaaaaaaaaaaa"]),
            0..20,
        ),
    ) {
        let text = pieces.concat().into_bytes();
        let crlf = |at: usize| text[at..].starts_with(b"\r\n");
        let ends = |at: &usize| crlf(*at) && !matches!(text.get(at + 2), Some(b' ' | b'\t'));
        let end = if crlf(0) { Some(0) } else { (0..text.len()).find(ends) };
        let lone = |at: usize| match text[at] {
            b'\r' => !crlf(at),
            b'\n' => at == 0 || !crlf(at - 1),
            _ => false,
        };
        let good = |end| !(0..end).any(lone) && label(&text).is_some();
        match (cut(&text, 0), end) {
            (Cut::Unfinished, None) | (Cut::Empty, Some(0)) => {}
            (Cut::Line(line), Some(end)) => {
                prop_assert!(good(end));
                prop_assert_eq!(line.whole, Span { start: 0, end: end as u32 + 2 });
                let colon = text.iter().position(|b| *b == b':').unwrap();
                let value = chars::trim_lws(&text[colon + 1..end]);
                prop_assert_eq!(line.value.of(&text), value);
            }
            (Cut::Bad { next }, Some(end)) => {
                prop_assert!(!good(end));
                prop_assert_eq!(next, end + 2);
            }
            _ => prop_assert!(false, "{:?}", String::from_utf8_lossy(&text)),
        }
    }
}
