//! What {{name}} decides: phones of our domains register here and are called, and nothing else is
//! relayed. Change it to what you need; the tests are in tests.rs.

#[cfg(feature = "tests")]
mod tests;

use viaduct_guest::prelude::*;

/// The policy.
struct Routes;

#[viaduct::policy]
impl Policy for Routes {
    fn on_request(request: &Request) -> Verdict {
        // A request of a dialog follows the Route set the dialog was made with.
        if request.in_dialog() {
            return if request.loose_routed() { relay() } else { reply(481, "") };
        }
        // A Route set or a destination chosen by a stranger would make us an open relay.
        if (request.preloaded_route() || !request.uri_is_ours()) && !request.trusted() {
            return reply(403, "Relaying Denied");
        }
        match request.method() {
            Method::Register => usrloc::save("location", "path-lazy").into(),
            _ if request.uri_is_router() => answer_options("path"),
            method => match usrloc::lookup("location", "") {
                Ok(_) => {
                    if method.forms_dialog() {
                        routing::record_route();
                    }
                    relay()
                }
                Err(_) if request.uri_is_ours() => reply(480, ""),
                Err(_) => relay(), // a trusted peer's call to elsewhere
            },
        }
    }
}
