use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::{Head, HeaderName, Limits};

fn edited(edits: &Edits, original: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    edits.write(original, &mut out);
    out
}

#[derive(Clone, Debug)]
enum Op {
    Insert(u32, Vec<u8>),
    Remove(u32, u32),
    Replace(u32, u32, Vec<u8>),
}

fn op() -> impl Strategy<Value = Op> {
    let text = vec(b'A'..=b'Z', 0..4);
    prop_oneof![
        (0u32..40, text.clone()).prop_map(|(at, text)| Op::Insert(at, text)),
        (0u32..40, 0u32..40).prop_map(|(a, b)| Op::Remove(a, b)),
        (0u32..40, 0u32..40, text).prop_map(|(a, b, text)| Op::Replace(a, b, text)),
    ]
}

/// The same edits, done slowly: per offset the insertions, then the byte unless removed.
fn model(original: &[u8], ops: &[Op]) -> Vec<u8> {
    let mut inserted = vec![Vec::new(); 64];
    let mut removed = [false; 64];
    for op in ops {
        let (at, to, text) = match op {
            Op::Insert(at, text) => (*at, *at, text.clone()),
            Op::Remove(at, to) => (*at, *to, Vec::new()),
            Op::Replace(at, to, text) => (*at, *to, text.clone()),
        };
        (at..to).for_each(|i| removed[i as usize] = true);
        inserted[at as usize].extend(text);
    }
    let mut out = Vec::new();
    for (i, inserted) in inserted.iter().enumerate() {
        out.extend(inserted);
        out.extend(original.get(i).filter(|_| !removed[i]));
    }
    out
}

proptest! {
    #[test]
    fn edits_do_what_the_slow_model_does(
        original in vec(b'a'..=b'z', 0..32),
        ops in vec(op(), 0..12),
    ) {
        let mut edits = Edits::new();
        for op in &ops {
            match op {
                Op::Insert(at, text) => edits.insert(*at, text),
                Op::Remove(start, end) => edits.remove(Span { start: *start, end: *end }),
                Op::Replace(start, end, text) => {
                    edits.replace(Span { start: *start, end: *end }, text);
                }
            }
        }
        prop_assert_eq!(edited(&edits, &original), model(&original, &ops));
    }

    #[test]
    fn removed_values_leave_the_others_in_order(
        lines in vec(vec(("[a-z]{1,3}", " {0,2}", "(\r\n )?"), 1..5), 1..4),
        removals in vec(0usize..16, 0..16),
    ) {
        let mut text = String::from("OPTIONS sip:a@b SIP/2.0\r\nTo: x\r\n");
        for line in &lines {
            let values: Vec<_> =
                line.iter().map(|(v, pad, fold)| format!("<{v}>{pad}{fold}")).collect();
            text += &format!("Route: {}\r\n", values.join(", "));
        }
        text += "From: y\r\n\r\nbody";
        let mut head = Head::new();
        prop_assert_eq!(head.scan(text.as_bytes(), &Limits::default()), Ok(()));
        let message = Message::new(text.as_bytes(), &head);
        let values: Vec<_> = message.values(HeaderName::Route).collect();
        let mut edits = Edits::new();
        for at in removals.iter().filter(|at| **at < values.len()) {
            edits.remove_value(message, &values[*at]);
        }
        let out = edited(&edits, text.as_bytes());
        let mut head = Head::new();
        prop_assert_eq!(head.scan(&out, &Limits::default()), Ok(()));
        let after = Message::new(&out, &head);
        let left: Vec<_> = after.values(HeaderName::Route).map(|v| v.bytes.to_vec()).collect();
        let expected: Vec<_> = (0..values.len())
            .filter(|at| !removals.contains(at))
            .map(|at| values[at].bytes.to_vec())
            .collect();
        prop_assert_eq!(left, expected);
        prop_assert!(after.lines_of(HeaderName::Route).all(|line| !line.value.is_empty()));
        prop_assert_eq!(after.body(), b"body");
        prop_assert_eq!(after.value(HeaderName::From), Some(&b"y"[..]));
    }
}

fn without(list: &str, removals: &[usize]) -> String {
    let text = format!("OPTIONS sip:a@b SIP/2.0\r\nRoute: {list}\r\n\r\n");
    let mut head = Head::new();
    assert_eq!(head.scan(text.as_bytes(), &Limits::default()), Ok(()));
    let message = Message::new(text.as_bytes(), &head);
    let values: Vec<_> = message.values(HeaderName::Route).collect();
    let mut edits = Edits::new();
    for at in removals {
        edits.remove_value(message, &values[*at]);
    }
    let out = edited(&edits, text.as_bytes());
    String::from_utf8(out[25..out.len() - 2].to_vec()).expect("text")
}

#[test]
fn a_value_goes_with_its_comma_and_the_last_with_its_line() {
    assert_eq!(without("<a>, <b>, <c>", &[0]), "Route: <b>, <c>\r\n");
    assert_eq!(without("<a>, <b>, <c>", &[1]), "Route: <a>, <c>\r\n");
    assert_eq!(without("<a>, <b>, <c>", &[2]), "Route: <a>, <b>\r\n");
    assert_eq!(without("<a>, <b>, <c>", &[1, 0]), "Route: <c>\r\n");
    assert_eq!(without("<a>, <b>, <c>", &[2, 1]), "Route: <a>\r\n");
    assert_eq!(without("<a>, <b>, <c>", &[1, 2, 0]), "");
    assert_eq!(without("<a>,\r\n <b>", &[0]), "Route: <b>\r\n");
    assert_eq!(without("<a>,,<b>", &[0]), "Route: <b>\r\n");
}

#[test]
fn cleared_edits_change_nothing() {
    let mut edits = Edits::new();
    edits.replace(Span { start: 1, end: 2 }, b"x");
    assert!(!edits.is_empty());
    edits.clear();
    assert!(edits.is_empty());
    assert_eq!(edited(&edits, b"abc"), b"abc");
}

#[test]
fn a_header_stripped_under_any_spelling_is_gone() {
    // CVE-2020-28361: a blank before the colon, compact forms, folds and case hide nothing.
    let text =
        "OPTIONS sip:a@b SIP/2.0\r\nContact: a\r\nCONTACT : b\r\nm: c\r\nM\t :\r\n d\r\n\r\n";
    let mut head = Head::new();
    assert_eq!(head.scan(text.as_bytes(), &Limits::default()), Ok(()));
    let message = Message::new(text.as_bytes(), &head);
    let mut edits = Edits::new();
    for line in message.lines_of(HeaderName::Contact) {
        edits.remove(line.whole);
    }
    assert_eq!(edited(&edits, text.as_bytes()), b"OPTIONS sip:a@b SIP/2.0\r\n\r\n");
}
