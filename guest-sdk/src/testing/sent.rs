//! A message the router sent, and the answer of whoever got it.

use super::bindings::viaduct::policy::router as host;
use super::{Outcome, compare, router};

/// A message the router sent.
#[derive(Clone, Debug)]
pub struct Sent {
    to: String,
    text: String,
}

impl From<host::Sent> for Sent {
    fn from(sent: host::Sent) -> Sent {
        Sent {
            to: sent.to,
            text: sent.text,
        }
    }
}

impl Sent {
    /// Where it went, `udp:IP:PORT`.
    pub fn to(&self) -> &str {
        &self.to
    }

    /// The whole message.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Request line or status line.
    pub fn start_line(&self) -> &str {
        self.text.split("\r\n").next().unwrap_or("")
    }

    /// Is it a request?
    pub fn is_request(&self) -> bool {
        !self.start_line().starts_with("SIP/2.0 ")
    }

    pub(super) fn is_ack(&self) -> bool {
        self.start_line().starts_with("ACK ")
    }

    /// Request line; fails on a response.
    #[track_caller]
    pub fn request_line(&self) -> &str {
        self.check(self.is_request(), "a request", "");
        self.start_line()
    }

    /// Request-URI; fails on a response.
    #[track_caller]
    pub fn request_uri(&self) -> &str {
        self.request_line().split(' ').nth(1).unwrap_or("")
    }

    /// Status; fails on a request.
    #[track_caller]
    pub fn status(&self) -> u16 {
        let status = self
            .start_line()
            .strip_prefix("SIP/2.0 ")
            .and_then(|rest| rest.get(..3));
        match status.and_then(|digits| digits.parse().ok()) {
            Some(status) => status,
            None => self.fail("a response", ""),
        }
    }

    /// First header of that name, in any case, compact or full form.
    pub fn header(&self, name: &str) -> Option<String> {
        self.headers(name).into_iter().next()
    }

    /// All headers of that name, one a line as sent.
    pub fn headers(&self, name: &str) -> Vec<String> {
        let head = self.text.split("\r\n\r\n").next().unwrap_or("");
        let lines = head
            .split("\r\n")
            .skip(1)
            .filter_map(|line| line.split_once(':'));
        lines
            .filter(|(written, _)| same_header(written.trim(), name))
            .map(|(_, value)| value.trim().to_owned())
            .collect()
    }

    /// The body; empty where there is none.
    pub fn body(&self) -> &str {
        self.text
            .split_once("\r\n\r\n")
            .map_or("", |(_, body)| body)
    }

    /// Fails unless it is a response with this status.
    #[track_caller]
    pub fn expect_status(&self, status: u16) -> &Sent {
        let line = self.start_line();
        let has = line
            .strip_prefix("SIP/2.0 ")
            .is_some_and(|rest| rest.starts_with(&status.to_string()));
        self.check(has, &format!("SIP/2.0 {status}"), "")
    }

    /// Fails unless the request line is `METHOD URI SIP/2.0`; leave the version out.
    #[track_caller]
    pub fn expect_request(&self, method_and_uri: &str) -> &Sent {
        let expected = format!("{method_and_uri} SIP/2.0");
        self.check(self.start_line() == expected, &expected, "")
    }

    /// Fails unless it went there, `udp:IP:PORT`.
    #[track_caller]
    pub fn expect_to(&self, address: &str) -> &Sent {
        self.check(self.to == address, "", address)
    }

    /// Fails unless the headers of that name are exactly this; several are joined by `, `.
    #[track_caller]
    pub fn expect_header(&self, name: &str, value: &str) -> &Sent {
        let actual = self.headers(name);
        let fits = !actual.is_empty() && actual.join(", ") == value;
        self.check(fits, &format!("{name}: {value}"), "")
    }

    /// Fails unless a header of that name has this in it.
    #[track_caller]
    pub fn expect_in_header(&self, name: &str, part: &str) -> &Sent {
        let fits = self.headers(name).iter().any(|value| value.contains(part));
        self.check(fits, &format!("{name}: ...{part}..."), "")
    }

    /// Fails where there is a header of that name.
    #[track_caller]
    pub fn expect_no_header(&self, name: &str) -> &Sent {
        self.check(self.headers(name).is_empty(), &format!("no {name}"), "")
    }

    #[track_caller]
    fn check(&self, fits: bool, expected: &str, expected_to: &str) -> &Sent {
        if fits {
            self
        } else {
            self.fail(expected, expected_to)
        }
    }

    #[track_caller]
    fn fail(&self, expected: &str, expected_to: &str) -> ! {
        let left = if expected_to.is_empty() {
            format!("\n{expected}")
        } else {
            format!("to {expected_to}\n{expected}")
        };
        panic!(
            "\n{}",
            compare::side_by_side(("expected", &left), ("sent", &self.shown()))
        );
    }

    pub(super) fn shown(&self) -> String {
        format!("to {}\n{}", self.to, self.text.trim_end())
    }

    /// Answers this request as whoever got it: begins a response, [`Answer::send`] sends it.
    /// From 101 to 299 its Contact is the address the request went to.
    #[track_caller]
    pub fn answer(&self, status: u16) -> Answer {
        let source = self.to.split_once(':').map_or("", |(_, address)| address);
        self.answer_from_contact(status, &format!("sip:callee@{source}"))
    }

    /// [`Sent::answer`] with another Contact URI: that of a phone behind NAT.
    #[track_caller]
    pub fn answer_from_contact(&self, status: u16, contact: &str) -> Answer {
        self.check(self.is_request(), "a request", "");
        let mut lines = vec![format!("SIP/2.0 {status} Answer")];
        for name in ["Via", "Record-Route", "From", "Call-ID", "CSeq"] {
            lines.extend(
                self.headers(name)
                    .iter()
                    .map(|value| format!("{name}: {value}")),
            );
        }
        let mut to = self.header("To").unwrap_or_default();
        if !to.contains(";tag=") {
            to.push_str(";tag=callee");
        }
        lines.push(format!("To: {to}"));
        let source = self
            .to
            .split_once(':')
            .map_or("", |(_, address)| address)
            .to_owned();
        if (101..300).contains(&status) {
            lines.push(format!("Contact: <{contact}>"));
        }
        Answer {
            source,
            lines,
            body: String::new(),
        }
    }
}

/// A response on its way back to the router.
#[derive(Clone, Debug)]
pub struct Answer {
    source: String,
    lines: Vec<String>,
    body: String,
}

impl Answer {
    /// Adds a header.
    pub fn header(mut self, name: &str, value: &str) -> Answer {
        self.lines.push(format!("{name}: {value}"));
        self
    }

    /// Gives it a body.
    pub fn body(mut self, content_type: &str, text: &str) -> Answer {
        self.body = text.to_owned();
        self.header("Content-Type", content_type)
    }

    /// Sends it; what the router sent because of it.
    pub fn send(&self) -> Outcome {
        let (lines, length) = (self.lines.join("\r\n"), self.body.len());
        let text = format!("{lines}\r\nContent-Length: {length}\r\n\r\n{}", self.body);
        router::receive(&self.source, &text)
    }
}

/// Compact forms (RFC 3261 7.3.3 and 20, RFC 3515, RFC 6665).
const COMPACT: [(&str, &str); 14] = [
    ("Accept-Contact", "a"),
    ("Allow-Events", "u"),
    ("Call-ID", "i"),
    ("Contact", "m"),
    ("Content-Encoding", "e"),
    ("Content-Length", "l"),
    ("Content-Type", "c"),
    ("Event", "o"),
    ("From", "f"),
    ("Refer-To", "r"),
    ("Subject", "s"),
    ("Supported", "k"),
    ("To", "t"),
    ("Via", "v"),
];

fn same_header(written: &str, name: &str) -> bool {
    let full = |given: &str| {
        let known = COMPACT
            .iter()
            .find(|(_, compact)| compact.eq_ignore_ascii_case(given));
        known.map_or(given.to_ascii_lowercase(), |(full, _)| {
            full.to_ascii_lowercase()
        })
    };
    full(written) == full(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent() -> Sent {
        let text =
            "SIP/2.0 200 OK\r\nv: SIP/2.0/UDP a\r\nVIA : SIP/2.0/UDP b\r\nt: <sip:x>\r\n\r\nhello";
        Sent {
            to: "udp:192.0.2.4:5062".to_owned(),
            text: text.to_owned(),
        }
    }

    #[test]
    fn headers_are_found_in_any_case_and_form() {
        assert_eq!(sent().headers("Via"), ["SIP/2.0/UDP a", "SIP/2.0/UDP b"]);
        assert_eq!(sent().header("to").as_deref(), Some("<sip:x>"));
        assert_eq!(
            (sent().status(), sent().body(), sent().is_request()),
            (200, "hello", false)
        );
        sent()
            .expect_header("v", "SIP/2.0/UDP a, SIP/2.0/UDP b")
            .expect_no_header("Path");
    }

    #[test]
    fn a_failed_expectation_shows_what_was_sent() {
        let failed = std::panic::catch_unwind(|| {
            sent().expect_status(403);
        });
        let text = *failed.unwrap_err().downcast::<String>().unwrap();
        assert!(text.contains("SIP/2.0 403 | SIP/2.0 200 OK"), "{text}");
        assert!(text.contains("| to udp:192.0.2.4:5062"), "{text}");
    }
}
