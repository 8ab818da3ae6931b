//! A small registrar and proxy that writes its version into whatever it touches, phase by phase, so that
//! a test can see from outside which versions decided one transaction.

use viaduct_guest::prelude::*;

const TABLE: &str = "location";

/// The policy.
struct Versioned;

#[viaduct::policy]
impl Policy for Versioned {
    fn on_request(request: &Request) -> Verdict {
        let version = version();
        if request.method() == Method::Register {
            let _ = routing::add_reply_header("X-Answered", &version);
            return usrloc::save(TABLE, "path-lazy").into();
        }
        if request.uri_is_router() || usrloc::lookup(TABLE, "").is_err() {
            let _ = routing::add_reply_header("X-Answered", &version);
            return reply(if request.uri_is_router() { 200 } else { 480 }, "");
        }
        let _ = request.add_header("X-Request", &version);
        relay()
    }

    fn on_branch(request: &Request) -> BranchVerdict {
        let _ = request.add_header("X-Branch", &version());
        BranchVerdict::Send
    }

    fn on_reply(response: &Response) -> ReplyVerdict {
        let _ = response.add_header("X-Reply", &version());
        ReplyVerdict::Forward
    }
}

fn version() -> String {
    settings::get("shown").unwrap_or_default()
}
