//! Loop detection (RFC 3261 16.3 item 4, RFC 5393 4.2).

use viaduct_message::{Essentials, Fault, HeaderName, Message, NameAddr, Via};

use crate::settings::Settings;
use crate::transaction::OwnBranch;
use crate::transaction::branch::loop_hash;

/// Hash of everything our routing of a request depends on (RFC 5393 4.2.1): Request-URI, Route, and
/// what names the request. Not the method, so that CANCEL and ACK get the branch of their INVITE.
/// Only what is forwarded needs it, so it is worked out then.
pub(crate) fn hash(message: Message<'_>, secret: &[u8; 16]) -> u32 {
    // The message has been checked; a field that cannot be read counts as empty.
    let number = message.cseq().map_or(0, |cseq| cseq.number).to_be_bytes();
    let call_id = message.call_id().unwrap_or_default();
    let tag = message.from().ok().and_then(NameAddr::tag).unwrap_or_default();
    let fixed = [message.request_uri(), call_id, tag, number.as_slice()];
    let routes = message.lines_of(HeaderName::Route).map(|l| l.value.of(message.bytes()));
    loop_hash(secret, fixed.into_iter().chain(routes))
}

/// Has this very request passed us before? A Via of ours with the same hash is a loop; with
/// another hash it is a spiral, which is legal (RFC 5393 4.2.2).
pub(crate) fn is_loop(
    message: Message<'_>,
    read: &Essentials<'_>,
    settings: &Settings,
) -> Result<bool, Fault> {
    // The branch carries a keyed check of its own, so sent-by need not be compared: what parses
    // was written by us.
    let own = |via: &Via<'_>| OwnBranch::parse(via.rfc3261_branch()?, &settings.secret);
    let mut below = message.values(HeaderName::Via).skip(1).map(|value| Via::parse(value.bytes));
    let mut next = Some(Ok(read.via));
    while let Some(via) = next {
        let again = own(&via?).is_some_and(|own| own.loop_hash == hash(message, &settings.secret));
        if again {
            return Ok(true);
        }
        next = if read.more_vias { below.next() } else { None };
    }
    Ok(false)
}
