//! Where the session description is in a message's body: all of it, or one part (RFC 2046 5.1, RFC
//! 5621).

use std::ops::Range;

/// Most parts that are looked at.
const PARTS_MAX: usize = 32;
/// Most levels of parts within parts.
const DEPTH_MAX: usize = 4;

/// A description in a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its octets.
    sdp: Range<usize>,
    /// Digits of the part's own Content-Length, where it has one.
    length: Option<Range<usize>>,
}

impl Place {
    /// Finds the first description; `None`: there is none. `content_type`: the message's.
    #[must_use]
    pub fn find(content_type: &[u8], body: &[u8]) -> Option<Place> {
        let whole = 0..body.len();
        find(content_type, body, whole, None, DEPTH_MAX).filter(|place| !place.sdp.is_empty())
    }

    /// The description.
    #[must_use]
    pub fn of<'a>(&self, body: &'a [u8]) -> &'a [u8] {
        body.get(self.sdp.clone()).unwrap_or_default()
    }

    /// The body with another description in it.
    #[must_use]
    pub fn replaced(&self, body: &[u8], sdp: &[u8]) -> Vec<u8> {
        let part = |range: Range<usize>| body.get(range).unwrap_or_default();
        let mut out = Vec::with_capacity(body.len() + sdp.len());
        let mut kept = 0;
        if let Some(length) = &self.length {
            out.extend_from_slice(part(0..length.start));
            out.extend_from_slice(sdp.len().to_string().as_bytes());
            kept = length.end;
        }
        out.extend_from_slice(part(kept..self.sdp.start));
        out.extend_from_slice(sdp);
        out.extend_from_slice(part(self.sdp.end..body.len()));
        out
    }
}

fn find(
    content_type: &[u8],
    body: &[u8],
    at: Range<usize>,
    length: Option<Range<usize>>,
    depth: usize,
) -> Option<Place> {
    let (kind, parameters) = split_once(content_type, b';');
    let kind = kind.trim_ascii();
    if kind.eq_ignore_ascii_case(b"application/sdp") {
        return Some(Place { sdp: at, length });
    }
    let is_multipart = kind.get(..10).is_some_and(|t| t.eq_ignore_ascii_case(b"multipart/"));
    if !is_multipart || depth == 0 {
        return None;
    }
    let boundary = parameter(parameters, b"boundary").filter(|b| (1..=70).contains(&b.len()))?;
    parts(body, at, boundary).into_iter().find_map(|part| {
        let head = Head::read(body, part);
        find(head.content_type, body, head.body, head.length, depth - 1)
    })
}

/// The parts between the delimiters, without the line end before the next one.
fn parts(body: &[u8], at: Range<usize>, boundary: &[u8]) -> Vec<Range<usize>> {
    let mut parts = Vec::new();
    let mut open: Option<usize> = None;
    let mut line_start = at.start;
    while line_start < at.end && parts.len() < PARTS_MAX {
        let rest = body.get(line_start..at.end).unwrap_or_default();
        let line_len = rest.iter().position(|c| *c == b'\n').map_or(rest.len(), |lf| lf + 1);
        let line = rest.get(..line_len).unwrap_or_default();
        let after = line.strip_prefix(b"--").and_then(|line| line.strip_prefix(boundary));
        let after = after.map(<[u8]>::trim_ascii_end);
        if let Some(after) = after.filter(|rest| rest.is_empty() || *rest == b"--") {
            if let Some(start) = open.take() {
                parts.push(start..without_line_end(body, start, line_start));
            }
            if after.is_empty() {
                open = Some(line_start + line_len);
            } else {
                break;
            }
        }
        line_start += line_len;
    }
    parts
}

/// The line end before a delimiter belongs to the delimiter (RFC 2046 5.1.1).
fn without_line_end(body: &[u8], start: usize, end: usize) -> usize {
    let part = body.get(start..end).unwrap_or_default();
    let part = part.strip_suffix(b"\n").unwrap_or(part);
    start + part.strip_suffix(b"\r").unwrap_or(part).len()
}

/// The header of a part.
struct Head<'a> {
    /// `text/plain` where it names none, which is no description.
    content_type: &'a [u8],
    length: Option<Range<usize>>,
    body: Range<usize>,
}

impl<'a> Head<'a> {
    fn read(body: &'a [u8], part: Range<usize>) -> Head<'a> {
        let mut head = Head { content_type: b"", length: None, body: part.end..part.end };
        let mut start = part.start;
        while start < part.end {
            let rest = body.get(start..part.end).unwrap_or_default();
            let len = rest.iter().position(|c| *c == b'\n').map_or(rest.len(), |lf| lf + 1);
            let line = rest.get(..len).unwrap_or_default().trim_ascii_end();
            if line.is_empty() {
                head.body = (start + len).min(part.end)..part.end;
                break;
            }
            let (name, value) = split_once(line, b':');
            let trimmed = value.trim_ascii();
            if name.trim_ascii().eq_ignore_ascii_case(b"content-type") {
                head.content_type = trimmed;
            } else if name.trim_ascii().eq_ignore_ascii_case(b"content-length") {
                let lead = value.len() - value.trim_ascii_start().len();
                let at = start + name.len() + 1 + lead;
                head.length = Some(at..at + trimmed.len());
            }
            start += len;
        }
        head
    }
}

fn split_once(text: &[u8], at: u8) -> (&[u8], &[u8]) {
    match text.iter().position(|c| *c == at) {
        Some(place) => {
            let (before, after) = text.split_at(place);
            (before, after.get(1..).unwrap_or_default())
        }
        None => (text, b""),
    }
}

/// The value of a parameter, without quotes.
fn parameter<'a>(parameters: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    parameters.split(|c| *c == b';').find_map(|parameter| {
        let (key, value) = split_once(parameter, b'=');
        let value = value.trim_ascii();
        let bare = value.strip_prefix(b"\"").and_then(|v| v.strip_suffix(b"\"")).unwrap_or(value);
        key.trim_ascii().eq_ignore_ascii_case(name).then_some(bare)
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIXED: &[u8] = b"multipart/mixed;boundary=\"x1\"";
    const BODY: &str = "preamble\r\n--x1\r\nContent-Type: text/plain\r\n\r\nv=1\r\n--x1\r\n\
        Content-Type: application/sdp\r\nContent-Length: 5\r\n\r\nv=0\r\n\r\n--x1--\r\n";

    #[test]
    fn rfc_5621_the_part_with_the_description_is_found_and_the_others_stay() {
        let place = Place::find(MIXED, BODY.as_bytes()).unwrap();
        assert_eq!(place.of(BODY.as_bytes()), b"v=0\r\n");
        let after = place.replaced(BODY.as_bytes(), b"v=0\r\ns=-\r\n");
        let expected = BODY.replace("v=0\r\n", "v=0\r\ns=-\r\n").replace("h: 5", "h: 10");
        assert_eq!(String::from_utf8(after).unwrap(), expected);
    }

    #[test]
    fn a_body_that_is_the_description_is_taken_whole_and_all_else_is_left() {
        let place = Place::find(b"Application/SDP; charset=utf-8", b"v=0\r\n").unwrap();
        assert_eq!(place.replaced(b"v=0\r\n", b"new"), b"new");
        for (kind, body) in [
            ("text/plain", BODY),
            ("application/sdp", ""),
            ("multipart/mixed", BODY),
            ("multipart/mixed;boundary=other", BODY),
            ("", BODY),
        ] {
            assert_eq!(Place::find(kind.as_bytes(), body.as_bytes()), None, "{kind}");
        }
    }

    #[test]
    fn a_description_in_a_part_of_a_part_is_found() {
        let outer = format!(
            "--o\r\nContent-Type: {}\r\n\r\n{BODY}--o--\r\n",
            String::from_utf8_lossy(MIXED)
        );
        let place = Place::find(b"multipart/related; boundary=o", outer.as_bytes()).unwrap();
        assert_eq!(place.of(outer.as_bytes()), b"v=0\r\n");
    }

    proptest! {
        #[test]
        fn whatever_comes_the_same_description_put_back_changes_nothing_but_lengths(
            parts in proptest::collection::vec("[a-z:\r\n -]{0,40}", 0..6),
        ) {
            let mut body = String::new();
            for part in &parts {
                body += &format!("--x1\r\nContent-Type: application/sdp\r\n{part}");
            }
            if let Some(place) = Place::find(MIXED, body.as_bytes()) {
                prop_assert!(place.length.is_some()
                    || place.replaced(body.as_bytes(), place.of(body.as_bytes())) == body.as_bytes());
            }
        }
    }
}
