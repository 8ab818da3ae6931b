//! Is a message legal? By our scanner, and by a second look at what an injected line would change.

use viaduct_message::{Head, HeaderName, Limits, Message};

/// Each stands in a message once.
const ONCE: [HeaderName; 5] = [
    HeaderName::From,
    HeaderName::To,
    HeaderName::CallId,
    HeaderName::CSeq,
    HeaderName::ContentLength,
];

/// Why a message is illegal.
pub fn fault_of(bytes: &[u8]) -> Option<String> {
    let mut head = Head::new();
    if let Err(fault) = head.scan(bytes, &Limits::default()) {
        return Some(format!("our scanner: {fault}"));
    }
    let message = Message::new(bytes, &head);
    if let Some(fault) = fault_of_first_line(bytes) {
        return Some(fault);
    }
    for name in ONCE {
        let count = message.lines_of(name).count();
        if count != 1 {
            return Some(format!("{count} lines of {name:?}"));
        }
    }
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Some("no end of the headers".to_owned());
    };
    let told = message.lines_of(HeaderName::ContentLength).next()?.value.of(bytes);
    let told = std::str::from_utf8(told).ok().and_then(|told| told.trim().parse().ok());
    if told != Some(bytes.len() - end - 4) {
        return Some("Content-Length is another than the body's".to_owned());
    }
    if message.is_request() && message.lines_of(HeaderName::MaxForwards).count() != 1 {
        return Some("Max-Forwards".to_owned());
    }
    let lines = String::from_utf8_lossy(&bytes[..end]);
    let control = |c: char| c.is_control() && c != '\t';
    if lines.split("\r\n").any(|line| line.contains(control)) {
        return Some("a control character".to_owned());
    }
    (bytes.len() > 65_535).then(|| "longer than any datagram".to_owned())
}

/// Method, Request-URI and all that follows, of a request.
pub fn request_line(text: &str) -> Option<(&str, &str, &str)> {
    let (method, rest) = text.split_once(' ')?;
    let (uri, rest) = rest.split_once(' ')?;
    (method != "SIP/2.0").then_some((method, uri, rest))
}

fn fault_of_first_line(bytes: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(bytes);
    let (line, _) = text.split_once("\r\n")?;
    let Some((_, uri, version)) = request_line(line) else {
        return (!line.starts_with("SIP/2.0 ")).then(|| line.to_owned());
    };
    // `#` is for service codes as phones dial them (`chars.rs` of the scanner).
    let of_uri = |c: char| c.is_ascii_alphanumeric() || "-_.!~*'();/?:@&=+$,%[]#".contains(c);
    let after = uri.split_once(':').map(|(_, after)| after);
    let wrong = !uri.chars().all(of_uri) || after.is_none_or(str::is_empty) || version != "SIP/2.0";
    wrong.then(|| format!("first line {line:?}"))
}
