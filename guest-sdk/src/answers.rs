//! Answers of the router itself that most policies give. They need the grant `routing`.

use crate::{Verdict, log, reply, routing};

/// Methods the router forwards, as a value of Allow.
pub const METHODS: &str = "INVITE, ACK, CANCEL, BYE, OPTIONS, REGISTER, SUBSCRIBE, NOTIFY, REFER, \
                           MESSAGE, INFO, PRACK, UPDATE, PUBLISH";

/// 200 to OPTIONS that are meant for the router: what it can do (RFC 3261 11.2). `supported` lists
/// option tags, `path` for one that handles Path.
pub fn answer_options(supported: &str) -> Verdict {
    let allow = METHODS;
    let lines = [
        "Allow: ",
        allow,
        "\nAccept: application/sdp\nSupported: ",
        supported,
    ]
    .concat();
    if let Err(error) = routing::add_reply_headers(&lines) {
        log::error!("reply headers refused: {}", error.name());
    }
    reply(200, "")
}

/// 405 with what is allowed instead (RFC 3261 21.4.6).
pub fn method_not_allowed(allow: &str) -> Verdict {
    add_reply_header("Allow", allow);
    reply(405, "")
}

/// The reply is better sent without a header than not at all.
fn add_reply_header(name: &str, value: &str) {
    if let Err(error) = routing::add_reply_header(name, value) {
        log::error!("reply header {name} refused: {}", error.name());
    }
}
