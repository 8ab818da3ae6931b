//! Writes SIP messages shortly.

use core::sync::atomic::{AtomicU32, Ordering};

use super::bindings::viaduct::policy::router as host;
use super::{Outcome, router};

/// Where messages come from unless a test says otherwise.
const SOURCE: &str = "198.51.100.7:5060";

/// Makes every new message a call of its own. One instance runs one test, so tests repeat exactly.
static NUMBER: AtomicU32 = AtomicU32::new(1);

/// A request in the making. What is not said is filled in as a simple phone would.
///
/// ```no_run
/// use viaduct_guest::testing::prelude::*;
///
/// Sip::register("alice@example.com").contact("sip:alice@192.0.2.4").expires(3600).send();
/// Sip::invite("alice@example.com").caller("bob@example.com").from("192.0.2.5:5060").send();
/// ```
#[derive(Clone, Debug)]
pub struct Sip {
    method: String,
    request_uri: String,
    source: String,
    via: Option<String>,
    caller: String,
    callee: String,
    to_tag: Option<String>,
    number: u32,
    branch: u32,
    cseq: u32,
    contact: bool,
    headers: Vec<(String, String)>,
    body: String,
}

impl Sip {
    /// Any request to `uri` (`sip:` is put before where it has no scheme).
    pub fn request(method: &str, uri: &str) -> Sip {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let callee = with_scheme(uri);
        Sip {
            method: method.to_owned(),
            request_uri: callee.clone(),
            source: SOURCE.to_owned(),
            via: None,
            caller: "sip:bob@example.com".to_owned(),
            callee,
            to_tag: None,
            number,
            branch: number,
            cseq: 1,
            contact: false,
            headers: Vec::new(),
            body: String::new(),
        }
    }

    /// REGISTER for an AoR, sent to the AoR's domain. Without [`Sip::contact`] it is a query.
    pub fn register(aor: &str) -> Sip {
        let domain = aor.rsplit('@').next().unwrap_or(aor);
        let mut register = Sip::request("REGISTER", domain);
        register.callee = with_scheme(aor);
        register.caller = register.callee.clone();
        register.contact = true;
        register
    }

    /// INVITE, with a Contact of the caller.
    pub fn invite(uri: &str) -> Sip {
        Sip::request("INVITE", uri)
    }

    /// OPTIONS.
    pub fn options(uri: &str) -> Sip {
        Sip::request("OPTIONS", uri)
    }

    /// MESSAGE with a text.
    pub fn message(uri: &str, text: &str) -> Sip {
        Sip::request("MESSAGE", uri).body("text/plain", text)
    }

    /// SUBSCRIBE to an event.
    pub fn subscribe(uri: &str, event: &str) -> Sip {
        Sip::request("SUBSCRIBE", uri).header("Event", event)
    }

    /// BYE of the dialog with this To-tag; add the [`Sip::route`] the dialog was made with.
    pub fn bye(uri: &str, to_tag: &str) -> Sip {
        Sip::request("BYE", uri).to_tag(to_tag)
    }

    /// Where it comes from, `IP:PORT`.
    pub fn from(mut self, source: &str) -> Sip {
        self.source = source.to_owned();
        self
    }

    /// What Via says it comes from (`HOST:PORT`), where that is not true: a phone behind NAT.
    pub fn via(mut self, sent_by: &str) -> Sip {
        self.via = Some(sent_by.to_owned());
        self
    }

    /// Another proxy it came by, added below the first Via.
    pub fn came_by(self, sent_by: &str) -> Sip {
        let value = format!("SIP/2.0/UDP {sent_by};branch=z9hG4bK-below");
        self.header("Via", &value)
    }

    /// From URI.
    pub fn caller(mut self, uri: &str) -> Sip {
        self.caller = with_scheme(uri);
        self
    }

    /// To URI, where it is not the Request-URI.
    pub fn to(mut self, uri: &str) -> Sip {
        self.callee = with_scheme(uri);
        self
    }

    /// Request-URI, where it is not the To URI.
    pub fn request_uri(mut self, uri: &str) -> Sip {
        self.request_uri = with_scheme(uri);
        self
    }

    /// Puts it into a dialog.
    pub fn to_tag(mut self, tag: &str) -> Sip {
        self.to_tag = Some(tag.to_owned());
        self
    }

    /// Contact, a URI or `*`, or all of the value where it has `<` in it.
    pub fn contact(mut self, contact: &str) -> Sip {
        self.contact = true;
        let bare = contact.contains('<') || contact == "*";
        let value = if bare {
            contact.to_owned()
        } else {
            format!("<{}>", with_scheme(contact))
        };
        self.header("Contact", &value)
    }

    /// Expires.
    pub fn expires(self, seconds: u32) -> Sip {
        self.header("Expires", &seconds.to_string())
    }

    /// Supported.
    pub fn supported(self, tags: &str) -> Sip {
        self.header("Supported", tags)
    }

    /// Path: a whole value, `<sip:p1.example;lr>`.
    pub fn path(self, value: &str) -> Sip {
        self.header("Path", value)
    }

    /// Route: a whole value. Several calls give several values, in that order.
    pub fn route(self, value: &str) -> Sip {
        self.header("Route", value)
    }

    /// Any other header.
    pub fn header(mut self, name: &str, value: &str) -> Sip {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A body.
    pub fn body(self, content_type: &str, text: &str) -> Sip {
        let mut with_type = self.header("Content-Type", content_type);
        with_type.body = text.to_owned();
        with_type
    }

    /// The next request of the same Call-ID: the next CSeq, a new transaction.
    pub fn next(mut self) -> Sip {
        self.cseq = self.cseq.saturating_add(1);
        self.branch = NUMBER.fetch_add(1, Ordering::Relaxed);
        self
    }

    /// The CANCEL of this request (RFC 3261 9.1).
    pub fn cancel(&self) -> Sip {
        let mut cancel = self.clone();
        cancel.method = "CANCEL".to_owned();
        cancel
            .headers
            .retain(|(name, _)| name.eq_ignore_ascii_case("Route"));
        cancel.body.clear();
        cancel
    }

    /// The message as it will be sent.
    pub fn text(&self) -> String {
        let (method, number) = (&self.method, self.number);
        let sent_by = self.via.as_ref().unwrap_or(&self.source);
        let mut lines = vec![
            format!("{method} {} SIP/2.0", self.request_uri),
            format!(
                "Via: SIP/2.0/UDP {sent_by};rport;branch=z9hG4bK-{}",
                self.branch
            ),
        ];
        // Header order is kept among equals, and Via values belong together.
        let (vias, others): (Vec<_>, Vec<_>) = self
            .headers
            .iter()
            .partition(|(name, _)| name.eq_ignore_ascii_case("Via"));
        lines.extend(vias.iter().map(|(name, value)| format!("{name}: {value}")));
        let to_tag = self
            .to_tag
            .as_ref()
            .map_or(String::new(), |tag| format!(";tag={tag}"));
        lines.extend([
            "Max-Forwards: 70".to_owned(),
            format!("From: <{}>;tag=caller-{number}", self.caller),
            format!("To: <{}>{to_tag}", self.callee),
            format!("Call-ID: call-{number}@test"),
            format!("CSeq: {} {method}", self.cseq),
        ]);
        if !self.contact && matches!(method.as_str(), "INVITE" | "SUBSCRIBE" | "REFER") {
            lines.push(format!("Contact: <sip:caller@{}>", self.source));
        }
        lines.extend(
            others
                .iter()
                .map(|(name, value)| format!("{name}: {value}")),
        );
        format!(
            "{}\r\nContent-Length: {}\r\n\r\n{}",
            lines.join("\r\n"),
            self.body.len(),
            self.body
        )
    }

    /// Sends it, and if it is challenged, the next request with credentials of the user; what the
    /// router sent because of that one. Fails where there was no challenge.
    pub fn send_as(&self, user: &str, password: &str) -> Outcome {
        let challenged = self.send();
        self.clone().next().answer(&challenged, user, password)
    }

    /// Sends it with credentials that answer a challenge (a 401 or 407), by SHA-256 and with
    /// nonce-count 1.
    pub fn answer(&self, challenged: &Outcome, user: &str, password: &str) -> Outcome {
        self.answer_with(challenged, user, password, "SHA-256", 1)
    }

    /// [`Sip::answer`] with another algorithm or nonce-count.
    pub fn answer_with(
        &self,
        challenged: &Outcome,
        user: &str,
        password: &str,
        algorithm: &str,
        count: u32,
    ) -> Outcome {
        let challenge = challenged.response().text();
        let text = host::authorize(&self.text(), challenge, user, password, algorithm, count);
        router::receive(&self.source, &text)
    }

    /// Sends it; what the router sent because of it. Sending the same again is a retransmission.
    pub fn send(&self) -> Outcome {
        router::receive(&self.source, &self.text())
    }
}

fn with_scheme(uri: &str) -> String {
    let has_scheme = ["sip:", "sips:", "tel:", "<"]
        .iter()
        .any(|scheme| uri.starts_with(scheme));
    if has_scheme {
        uri.to_owned()
    } else {
        format!("sip:{uri}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_register_is_written_as_a_phone_would() {
        let register = Sip::register("alice@example.com")
            .contact("sip:alice@192.0.2.4:5062")
            .supported("path")
            .expires(3600)
            .from("192.0.2.4:5062");
        let (text, number) = (register.text(), register.number);
        assert_eq!(
            text,
            format!(
                "REGISTER sip:example.com SIP/2.0\r\n\
                 Via: SIP/2.0/UDP 192.0.2.4:5062;rport;branch=z9hG4bK-{number}\r\n\
                 Max-Forwards: 70\r\n\
                 From: <sip:alice@example.com>;tag=caller-{number}\r\n\
                 To: <sip:alice@example.com>\r\n\
                 Call-ID: call-{number}@test\r\n\
                 CSeq: 1 REGISTER\r\n\
                 Contact: <sip:alice@192.0.2.4:5062>\r\n\
                 Supported: path\r\n\
                 Expires: 3600\r\n\
                 Content-Length: 0\r\n\r\n"
            )
        );
    }

    #[test]
    fn the_next_request_keeps_the_call_and_changes_the_transaction() {
        let first = Sip::message("alice@example.com", "hello");
        let second = first.clone().next();
        assert!(second.text().contains("CSeq: 2 MESSAGE"));
        let line = |sip: &Sip, name: &str| {
            sip.text()
                .lines()
                .find(|line| line.starts_with(name))
                .unwrap()
                .to_owned()
        };
        assert_eq!(line(&first, "Call-ID"), line(&second, "Call-ID"));
        assert_ne!(line(&first, "Via"), line(&second, "Via"));
        assert!(first.text().ends_with("Content-Length: 5\r\n\r\nhello"));
    }
}
