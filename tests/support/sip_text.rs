//! SIP as text, for clients in tests: reading what came and writing what goes, with nothing clever.
//!
//! Deliberately not built on the router's own parser: a fault there must not hide itself here.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use super::net::Transport;

/// A message as it came, and from where.
#[derive(Clone, Debug)]
pub struct Received {
    /// The message; octets that are not UTF-8 are replaced.
    pub text: String,
    /// The sender's address.
    pub from: SocketAddr,
}

impl Received {
    /// The status code, if this is a response.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        self.text.strip_prefix("SIP/2.0 ")?.get(..3)?.parse().ok()
    }

    /// The method, if this is a request.
    #[must_use]
    pub fn method(&self) -> Option<&str> {
        if self.text.starts_with("SIP/2.0 ") {
            return None;
        }
        self.text.split(' ').next()
    }

    /// The Request-URI, if this is a request.
    #[must_use]
    pub fn request_uri(&self) -> Option<&str> {
        self.method()?;
        self.text.lines().next()?.split(' ').nth(1)
    }

    /// The values of all header fields with this name (long form, any case), in order, one for each
    /// header field line: commas are not looked at.
    #[must_use]
    pub fn headers(&self, name: &str) -> Vec<&str> {
        let short = short_form(name);
        self.text
            .lines()
            .skip(1)
            .take_while(|line| !line.is_empty())
            .filter_map(|line| line.split_once(':'))
            .filter(|(found, _)| {
                let found = found.trim();
                found.eq_ignore_ascii_case(name)
                    || short.is_some_and(|s| found.eq_ignore_ascii_case(s))
            })
            .map(|(_, value)| value.trim())
            .collect()
    }

    /// The first header field with this name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers(name).first().copied()
    }

    /// The values of a list header such as Path, split at commas outside `<>` and quotes.
    #[must_use]
    pub fn list(&self, name: &str) -> Vec<String> {
        self.headers(name).iter().flat_map(|line| split_commas(line)).collect()
    }

    /// The CSeq method.
    #[must_use]
    pub fn cseq_method(&self) -> Option<&str> {
        self.header("CSeq")?.split_whitespace().nth(1)
    }

    /// The parameter `tag` of From or To.
    #[must_use]
    pub fn tag(&self, name: &str) -> Option<&str> {
        let value = self.header(name)?;
        let parameters = value.rsplit_once('>').map_or(value, |(_, rest)| rest);
        parameters.split(';').find_map(|p| p.trim().strip_prefix("tag="))
    }
}

fn short_form(name: &str) -> Option<&'static str> {
    let forms = [
        ("Via", "v"),
        ("From", "f"),
        ("To", "t"),
        ("Call-ID", "i"),
        ("Contact", "m"),
        ("Supported", "k"),
        ("Content-Length", "l"),
        ("Content-Type", "c"),
    ];
    forms.iter().find(|(long, _)| long.eq_ignore_ascii_case(name)).map(|(_, short)| *short)
}

/// Splits at commas that are outside angle brackets and quoted strings.
fn split_commas(value: &str) -> Vec<String> {
    let (mut parts, mut part) = (Vec::new(), String::new());
    let (mut quoted, mut bracketed, mut escaped) = (false, false, false);
    for c in value.chars() {
        match c {
            '"' if !escaped => quoted = !quoted,
            '<' if !quoted => bracketed = true,
            '>' if !quoted => bracketed = false,
            ',' if !quoted && !bracketed => {
                parts.push(std::mem::take(&mut part).trim().to_owned());
                continue;
            }
            _ => {}
        }
        escaped = quoted && c == '\\' && !escaped;
        part.push(c);
    }
    parts.push(part.trim().to_owned());
    parts
}

/// A string that no other message of this test run carries.
#[must_use]
pub fn unique(prefix: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("{prefix}{}x{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A request being written.
#[derive(Clone, Debug)]
pub struct Request {
    method: String,
    uri: String,
    /// From, To, Call-ID and so on, in order.
    headers: Vec<(String, String)>,
    body: String,
}

impl Request {
    /// A request with all that RFC 3261 8.1.1 wants, from `from` to `to` (both URIs).
    #[must_use]
    pub fn new(method: &str, uri: &str, from: &str, to: &str) -> Self {
        let headers = [
            ("Max-Forwards", "70".to_owned()),
            ("From", format!("<{from}>;tag={}", unique("f"))),
            ("To", format!("<{to}>")),
            ("Call-ID", unique("call")),
            ("CSeq", format!("1 {method}")),
        ];
        Self {
            method: method.to_owned(),
            uri: uri.to_owned(),
            headers: headers.map(|(name, value)| (name.to_owned(), value)).to_vec(),
            body: String::new(),
        }
    }

    /// A REGISTER of `contact` for `sip:user@domain`.
    #[must_use]
    pub fn register(user: &str, domain: &str, contact: &str, expires_s: u32) -> Self {
        let aor = format!("sip:{user}@{domain}");
        Self::new("REGISTER", &format!("sip:{domain}"), &aor, &aor)
            .with("Contact", &format!("<{contact}>"))
            .with("Expires", &expires_s.to_string())
    }

    /// A REGISTER that asks which bindings there are.
    #[must_use]
    pub fn fetch(user: &str, domain: &str) -> Self {
        let aor = format!("sip:{user}@{domain}");
        Self::new("REGISTER", &format!("sip:{domain}"), &aor, &aor)
    }

    /// Adds a header field, or replaces it if it is one of those every request has.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        let once = ["Max-Forwards", "From", "To", "Call-ID", "CSeq", "Contact", "Expires"];
        let found = self.headers.iter_mut().find(|(n, _)| n == name && once.contains(&name));
        match found {
            Some((_, old)) => value.clone_into(old),
            None => self.headers.push((name.to_owned(), value.to_owned())),
        }
        self
    }

    /// Takes all header fields of this name away.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(found, _)| found != name);
        self
    }

    /// The same with another Request-URI.
    #[must_use]
    pub fn at(mut self, uri: &str) -> Self {
        uri.clone_into(&mut self.uri);
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn with_body(self, content_type: &str, body: &str) -> Self {
        let mut request = self.with("Content-Type", content_type);
        body.clone_into(&mut request.body);
        request
    }

    /// The message with a Via of its own on top.
    #[must_use]
    pub fn render(&self, transport: Transport, local: SocketAddr) -> String {
        let mut text = format!("{} {} SIP/2.0\r\n", self.method, self.uri);
        let branch = unique("z9hG4bKt");
        let via = transport.in_via();
        let _ = write!(text, "Via: SIP/2.0/{via} {local};branch={branch};rport\r\n");
        for (name, value) in &self.headers {
            let _ = write!(text, "{name}: {value}\r\n");
        }
        let _ = write!(text, "Content-Length: {}\r\n\r\n{}", self.body.len(), self.body);
        text
    }
}

/// The response to `request` that a plain user agent would give (RFC 3261 8.2.6).
///
/// `to_tag` is added unless To has one; `more` are whole header field lines without line ends.
#[must_use]
pub fn response(request: &Received, status: &str, to_tag: &str, more: &[String]) -> String {
    let mut text = format!("SIP/2.0 {status}\r\n");
    for name in ["Via", "Record-Route", "From", "To", "Call-ID", "CSeq"] {
        for value in request.headers(name) {
            let _ = write!(text, "{name}: {value}");
            if name == "To" && request.tag("To").is_none() {
                let _ = write!(text, ";tag={to_tag}");
            }
            text.push_str("\r\n");
        }
    }
    for line in more {
        let _ = write!(text, "{line}\r\n");
    }
    text.push_str("Content-Length: 0\r\n\r\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(text: &str) -> Received {
        Received { text: text.replace('\n', "\r\n"), from: "127.0.0.1:5060".parse().unwrap() }
    }

    #[test]
    fn lists_split_outside_brackets_and_quotes_only() {
        let message = received(
            "SIP/2.0 200 OK\nPath: \"a, \\\"b\" <sip:p2;lr>,<sip:p1;x=1,2;lr>\npath: <sip:p0;lr>\n\n",
        );
        let expected = ["\"a, \\\"b\" <sip:p2;lr>", "<sip:p1;x=1,2;lr>", "<sip:p0;lr>"];
        assert_eq!(message.list("Path"), expected);
        assert_eq!(message.status(), Some(200));
    }

    #[test]
    fn compact_names_are_found_and_bodies_are_not_searched() {
        let message = received("INVITE sip:b@x SIP/2.0\nt: <sip:b@x>;tag=77\n\nCSeq: 9 BYE\n");
        assert_eq!(message.tag("To"), Some("77"));
        assert_eq!(message.header("CSeq"), None);
        assert_eq!(message.request_uri(), Some("sip:b@x"));
    }

    #[test]
    fn a_response_copies_what_rfc_3261_8_2_6_names() {
        let request = received(
            "INVITE sip:b@x SIP/2.0\nVia: a\nVia: b\nRecord-Route: <sip:p;lr>\nFrom: <sip:a@x>;tag=1\n\
             To: <sip:b@x>\nCall-ID: c\nCSeq: 3 INVITE\n\n",
        );
        let reply = received(&response(&request, "180 Ringing", "mine", &[]).replace('\r', ""));
        assert_eq!(reply.headers("Via"), ["a", "b"]);
        assert_eq!(reply.tag("To"), Some("mine"));
        assert_eq!(reply.header("CSeq"), Some("3 INVITE"));
        assert_eq!(reply.header("Record-Route"), Some("<sip:p;lr>"));
    }
}
