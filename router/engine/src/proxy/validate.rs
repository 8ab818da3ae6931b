//! Request validation (RFC 3261 16.3), in the RFC's order. Syntax comes first, in
//! [`viaduct_message::check`].

use viaduct_message::{Essentials, HeaderName, Message, Method, Scheme};

use super::loops;
use crate::registrar::OutboundMode;
use crate::reject::Reject;
use crate::settings::Settings;

/// Checks a request that began no transaction yet.
pub(crate) fn validate(
    message: Message<'_>,
    read: &Essentials<'_>,
    settings: &Settings,
) -> Result<(), Reject> {
    if read.uri.scheme == Scheme::Other {
        return Err(Reject::new(416, "Unsupported URI Scheme"));
    }
    if read.max_forwards == Some(0) {
        return Err(Reject::new(483, "Too Many Hops"));
    }
    if loops::is_loop(message, read, settings)? {
        return Err(Reject::new(482, "Loop Detected"));
    }
    proxy_require(message)
}

/// RFC 3261 16.3 item 5. We support no option tag that concerns proxies. ACK and CANCEL cannot be
/// answered 420 and are passed (RFC 3261 8.2.2.3).
fn proxy_require(message: Message<'_>) -> Result<(), Reject> {
    if matches!(message.method(), Method::Ack | Method::Cancel) {
        return Ok(());
    }
    refuse(&unsupported(message, HeaderName::ProxyRequire, |_| false))
}

/// RFC 3261 8.2.2.3, for a request that is meant for the router itself, which is its UAS. Of a
/// REGISTER `save` looks after it.
pub(crate) fn require(message: Message<'_>, settings: &Settings) -> Result<(), Reject> {
    if matches!(message.method(), Method::Ack | Method::Cancel | Method::Register) {
        return Ok(());
    }
    refuse(&unsupported_here(message, settings))
}

/// Options of Require that registrar and router do not know, with commas between. What `path` and
/// `outbound` come to is `save`'s.
pub(crate) fn unsupported_here(message: Message<'_>, settings: &Settings) -> Vec<u8> {
    let registrar = &settings.registrar;
    unsupported(message, HeaderName::Require, |option| {
        let is = |name: &[u8]| option.eq_ignore_ascii_case(name);
        is(b"path")
            || (registrar.outbound != OutboundMode::Off && is(b"outbound"))
            || (registrar.gruu && is(b"gruu"))
    })
}

fn unsupported(message: Message<'_>, name: HeaderName, known: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let mut unsupported = Vec::new();
    for option in message.values(name).filter(|option| !known(option.bytes)) {
        if !unsupported.is_empty() {
            unsupported.extend_from_slice(b", ");
        }
        unsupported.extend_from_slice(option.bytes);
    }
    unsupported
}

fn refuse(unsupported: &[u8]) -> Result<(), Reject> {
    if unsupported.is_empty() {
        return Ok(());
    }
    Err(Reject::new(420, "Bad Extension").with_header("Unsupported", unsupported))
}
