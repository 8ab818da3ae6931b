//! Label values: fixed words, never text that a peer chose.

use viaduct_engine::FailureKind;
use viaduct_message::{Fault, Method};

/// In the order of [`Method`]'s discriminants.
pub(super) const METHODS: [&str; 15] = [
    "INVITE",
    "ACK",
    "BYE",
    "CANCEL",
    "REGISTER",
    "OPTIONS",
    "SUBSCRIBE",
    "NOTIFY",
    "REFER",
    "MESSAGE",
    "INFO",
    "PRACK",
    "UPDATE",
    "PUBLISH",
    "other",
];

pub(super) const FAULTS: [&str; 16] = [
    "start-line",
    "version",
    "header-line",
    "too-many-headers",
    "too-large",
    "unfinished",
    "missing-header",
    "repeated-header",
    "bad-header",
    "request-uri",
    "uri",
    "cseq-method",
    "body-short",
    "status-code",
    "framing",
    "other",
];

pub(super) const FAILURES: [&str; 7] =
    ["trap", "fuel", "memory", "time", "garbage", "unavailable", "fact"];

/// Index into [`METHODS`].
pub(super) fn method(method: Method) -> usize {
    method as usize
}

/// Index into [`FAULTS`].
pub(super) fn fault(fault: Fault) -> usize {
    match fault {
        Fault::StartLine => 0,
        Fault::Version => 1,
        Fault::HeaderLine => 2,
        Fault::TooManyHeaders => 3,
        Fault::TooLarge => 4,
        Fault::Unfinished => 5,
        Fault::Missing(_) => 6,
        Fault::Repeated(_) => 7,
        Fault::Header(_) => 8,
        Fault::RequestUri => 9,
        Fault::Uri => 10,
        Fault::CSeqMethod => 11,
        Fault::BodyShort => 12,
        Fault::StatusCode => 13,
        _ => 15,
    }
}

/// The word for a fault, for logs.
pub(crate) fn fault_word(of: Fault) -> &'static str {
    FAULTS.get(fault(of)).copied().unwrap_or("other")
}

/// Index of a stream that was closed for bad framing.
pub(super) const FRAMING: usize = 14;

/// Index into [`FAILURES`].
pub(super) fn failure(kind: FailureKind) -> usize {
    match kind {
        FailureKind::Trap => 0,
        FailureKind::Fuel => 1,
        FailureKind::Memory => 2,
        FailureKind::Time => 3,
        FailureKind::Garbage => 4,
        FailureKind::Unavailable => 5,
        FailureKind::Fact => 6,
    }
}

/// The word for a policy's failure, for logs.
pub(crate) fn failure_word(kind: FailureKind) -> &'static str {
    FAILURES.get(failure(kind)).copied().unwrap_or("other")
}
