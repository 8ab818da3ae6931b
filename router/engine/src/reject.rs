//! A request refused by the rules: what to answer.

use viaduct_message::Fault;

/// Status, reason and header lines of a refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reject {
    pub(crate) status: u16,
    pub(crate) reason: &'static str,
    pub(crate) headers: Vec<u8>,
}

impl Reject {
    pub(crate) fn new(status: u16, reason: &'static str) -> Reject {
        Reject { status, reason, headers: Vec::new() }
    }

    pub(crate) fn with_header(mut self, name: &str, value: &[u8]) -> Reject {
        for part in [name.as_bytes(), b": ", value, b"\r\n"] {
            self.headers.extend_from_slice(part);
        }
        self
    }
}

impl From<Fault> for Reject {
    fn from(fault: Fault) -> Reject {
        Reject::new(fault.status(), fault.reason())
    }
}
