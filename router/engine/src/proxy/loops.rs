//! Loop detection (RFC 3261 16.3 item 4, RFC 5393 4.2).

use viaduct_message::{Essentials, Fault, HeaderName, Message, Via};

use crate::settings::Settings;
use crate::transaction::OwnBranch;
use crate::transaction::branch::loop_hash;

/// Hash of everything our routing of a request depends on (RFC 5393 4.2.1): Request-URI, Route, and
/// what names the request. Not the method, so that CANCEL and ACK get the branch of their INVITE.
pub(crate) fn hash(message: Message<'_>, read: &Essentials<'_>, secret: &[u8; 16]) -> u32 {
    let number = read.cseq.number.to_be_bytes();
    let tag = read.from_tag.unwrap_or_default();
    let fixed = [message.request_uri(), read.call_id, tag, number.as_slice()];
    let routes = message.lines_of(HeaderName::Route).map(|l| l.value.of(message.bytes()));
    loop_hash(secret, fixed.into_iter().chain(routes))
}

/// Has this very request passed us before? A Via of ours with the same hash is a loop; with
/// another hash it is a spiral, which is legal (RFC 5393 4.2.2).
pub(crate) fn is_loop(
    message: Message<'_>,
    read: &Essentials<'_>,
    settings: &Settings,
    hash: u32,
) -> Result<bool, Fault> {
    let below = message.values(HeaderName::Via).skip(1).map(|value| Via::parse(value.bytes));
    for via in std::iter::once(Ok(read.via)).chain(below) {
        let Some(branch) = via?.rfc3261_branch() else { continue };
        // The branch carries a keyed check of its own, so sent-by need not be compared: what
        // parses was written by us.
        let ours = OwnBranch::parse(branch, &settings.secret);
        if ours.is_some_and(|own| own.loop_hash == hash) {
            return Ok(true);
        }
    }
    Ok(false)
}
