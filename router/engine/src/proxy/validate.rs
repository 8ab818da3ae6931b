//! Request validation (RFC 3261 16.3), in the RFC's order. Syntax comes first, in
//! [`viaduct_message::check`].

use viaduct_message::{Essentials, HeaderName, Message, Method, Scheme};

use super::loops;
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
    let mut unsupported = Vec::new();
    for option in message.values(HeaderName::ProxyRequire) {
        if !unsupported.is_empty() {
            unsupported.extend_from_slice(b", ");
        }
        unsupported.extend_from_slice(option.bytes);
    }
    if unsupported.is_empty() {
        return Ok(());
    }
    Err(Reject::new(420, "Bad Extension").with_header("Unsupported", &unsupported))
}
