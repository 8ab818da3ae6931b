//! What the router sent because of one message, or of time.

use super::{Sent, compare};

/// What the router sent. `100 Trying` is left out, because it is never the policy's;
/// [`Outcome::trying`] knows.
#[derive(Clone, Debug)]
pub struct Outcome {
    cause: String,
    sent: Vec<Sent>,
    trying: bool,
}

impl Outcome {
    pub(super) fn new(cause: String, mut sent: Vec<Sent>) -> Outcome {
        let before = sent.len();
        sent.retain(|message| !message.start_line().starts_with("SIP/2.0 100 "));
        Outcome {
            cause,
            trying: sent.len() < before,
            sent,
        }
    }

    /// Was there a `100 Trying`?
    pub fn trying(&self) -> bool {
        self.trying
    }

    /// All messages, in the order they were sent.
    pub fn all(&self) -> &[Sent] {
        &self.sent
    }

    /// The one message sent; fails where there are none or several.
    #[track_caller]
    pub fn only(&self) -> &Sent {
        self.one("one message", |_| true)
    }

    /// The one request forwarded; responses are left aside, and so is ACK, because for a refusal it
    /// is the router's own.
    #[track_caller]
    pub fn forwarded(&self) -> &Sent {
        let is_forwarded = |message: &Sent| message.is_request() && !message.is_ack();
        self.one("one request", is_forwarded)
    }

    /// The one response sent back; requests are left aside.
    #[track_caller]
    pub fn response(&self) -> &Sent {
        self.one("one response", |message| !message.is_request())
    }

    /// All requests sent, ACK left aside.
    pub fn requests(&self) -> Vec<&Sent> {
        self.sent
            .iter()
            .filter(|message| message.is_request() && !message.is_ack())
            .collect()
    }

    #[track_caller]
    fn one(&self, expected: &str, fits: impl Fn(&Sent) -> bool) -> &Sent {
        let mut fitting = self.sent.iter().filter(|message| fits(message));
        match (fitting.next(), fitting.next()) {
            (Some(message), None) => message,
            _ => panic!("after {}:\n{}", self.cause, self.beside(expected)),
        }
    }

    /// Fails where anything was sent.
    #[track_caller]
    pub fn expect_silence(&self) {
        if !self.sent.is_empty() {
            panic!("after {}:\n{}", self.cause, self.beside("nothing"));
        }
    }

    /// Fails where a request was sent; ACK is left aside.
    #[track_caller]
    pub fn expect_nothing_forwarded(&self) {
        if !self.requests().is_empty() {
            panic!("after {}:\n{}", self.cause, self.beside("no request"));
        }
    }

    fn beside(&self, expected: &str) -> String {
        let actual: Vec<String> = self.sent.iter().map(Sent::shown).collect();
        let actual = if actual.is_empty() {
            "nothing".to_owned()
        } else {
            actual.join("\n\n")
        };
        compare::side_by_side(("expected", expected), ("sent", &actual))
    }

    /// [`Sent::expect_status`] of the only message.
    #[track_caller]
    pub fn expect_status(&self, status: u16) -> &Sent {
        self.only().expect_status(status)
    }

    /// Status of the only message, a response.
    #[track_caller]
    pub fn status(&self) -> u16 {
        self.only().status()
    }

    /// Request line of the only message, a request.
    #[track_caller]
    pub fn request_line(&self) -> &str {
        self.only().request_line()
    }

    /// First header of that name in the only message.
    #[track_caller]
    pub fn header(&self, name: &str) -> Option<String> {
        self.only().header(name)
    }

    /// Where the only message went, `udp:IP:PORT`.
    #[track_caller]
    pub fn to(&self) -> &str {
        self.only().to()
    }
}
