//! Edits of a whole message, then serialised: the output parses, and says what a list of values says
//! that is edited alike. Input: three bytes an edit (kind, header, value).
#![no_main]

use libfuzzer_sys::fuzz_target;
use viaduct_message::{Edits, Head, HeaderName, Limits, Message, check};

const ORIGINAL: &[u8] = b"REGISTER sip:example.com SIP/2.0\r\n\
    v: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKa , SIP/2.0/TCP [2001:db8::1];branch=z9hG4bKb\r\n\
    Via:SIP/2.0/UDP 192.0.2.2;branch=z9hG4bKc;x=\"a,b\"\r\nMax-Forwards: 70\r\n\
    Route: <sip:a;lr>,\r\n <sip:b;lr> ,<sip:c,d@e;lr>\r\nroute : <sip:e;lr>\r\n\
    From: \"A, B\" <sip:a@example.com>;tag=1\r\nTo: <sip:a@example.com>\r\nCall-ID: c\r\n\
    CSeq: 1 REGISTER\r\nPath: <sip:p;lr>, <sip:q;lr>\r\nSupported: path,, gruu\r\n\
    m: <sip:a@192.0.2.1>;q=0.5, \"x\" <sip:b@192.0.2.1>\r\nContent-Length: 3\r\n\r\nabc";

const LISTS: [(HeaderName, &str); 5] = [
    (HeaderName::Route, "Route"),
    (HeaderName::Path, "Path"),
    (HeaderName::Supported, "Supported"),
    (HeaderName::Contact, "Contact"),
    (HeaderName::RecordRoute, "Record-Route"),
];
const URIS: [&[u8]; 3] = [b"sip:example.org", b"sips:x", b"sip:[2001:db8::9]:5061;lr"];

/// One list header's values: put in front, left of the original, put behind.
#[derive(Default)]
struct Model {
    front: Vec<Vec<u8>>,
    kept: Vec<Option<Vec<u8>>>,
    back: Vec<Vec<u8>>,
}

fn values(message: Message<'_>, name: HeaderName) -> Vec<Vec<u8>> {
    let all = message.values(name).filter(|value| !value.bytes.is_empty());
    all.map(|value| value.bytes.to_vec()).collect()
}

fuzz_target!(|bytes: &[u8]| {
    let mut head = Head::new();
    head.scan(ORIGINAL, &Limits::default()).expect("the original");
    let message = Message::new(ORIGINAL, &head);
    let top = message.lines()[0].whole.start;
    let (mut edits, mut uri) = (Edits::new(), None);
    let mut models: Vec<Model> = Vec::new();
    for (name, _) in LISTS {
        let kept = values(message, name).into_iter().map(Some).collect();
        models.push(Model { kept, ..Model::default() });
    }
    for edit in bytes.chunks_exact(3).take(24) {
        let (name, label) = LISTS[usize::from(edit[1]) % LISTS.len()];
        let model = &mut models[usize::from(edit[1]) % LISTS.len()];
        let new = format!("<sip:new{};lr>", edit[2]).into_bytes();
        let line = [label.as_bytes(), b": ", &new, b"\r\n"].concat();
        match edit[0] % 4 {
            0 if !model.kept.is_empty() => {
                let which = usize::from(edit[2]) % model.kept.len();
                let mut all = message.values(name).filter(|value| !value.bytes.is_empty());
                let value = all.nth(which).expect("as counted");
                if model.kept[which].take().is_some() {
                    edits.remove_value(message, &value);
                }
            }
            1 => {
                edits.insert(top, &line);
                model.front.push(new);
            }
            2 => {
                edits.insert(message.headers_end(), &line);
                model.back.push(new);
            }
            3 if uri.is_none() => {
                let new = URIS[usize::from(edit[2]) % URIS.len()];
                edits.replace(message.request_uri_span(), new);
                uri = Some(new);
            }
            _ => {}
        }
    }
    let mut out = Vec::new();
    edits.write(ORIGINAL, &mut out);
    let mut again = Head::new();
    again.scan(&out, &Limits::default()).expect("what was edited");
    let edited = Message::new(&out, &again);
    check::request(edited).expect("what was edited");
    assert_eq!(edited.request_uri(), uri.unwrap_or(message.request_uri()));
    assert_eq!(edited.body(), b"abc");
    assert_eq!(values(edited, HeaderName::Via), values(message, HeaderName::Via));
    for ((name, _), model) in LISTS.into_iter().zip(models) {
        let kept = model.kept.into_iter().flatten();
        let wanted: Vec<_> = model.front.into_iter().chain(kept).chain(model.back).collect();
        assert_eq!(values(edited, name), wanted, "{name:?}");
    }
});
