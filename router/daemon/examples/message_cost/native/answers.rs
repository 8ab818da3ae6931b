//! Answers that several policies give.

use viaduct_engine::auth::{Identity, Role};
use viaduct_engine::run::ReplyLines;
use viaduct_engine::{AuthFault, Run, Verdict};

use super::request::level;

/// Methods the router forwards, as a value of Allow.
pub(super) const METHODS: &str = "INVITE, ACK, CANCEL, BYE, OPTIONS, REGISTER, SUBSCRIBE, NOTIFY, REFER, \
                                  MESSAGE, INFO, PRACK, UPDATE, PUBLISH";

pub(super) fn reply(status: u16, reason: &str) -> Verdict {
    Verdict::Reply { status, reason: reason.into() }
}

/// 200 to OPTIONS that are meant for the router. The lines are the same each time, so they are
/// checked once, as the policy host does.
pub(super) struct OptionsAnswer(ReplyLines);

impl OptionsAnswer {
    pub(super) fn new() -> OptionsAnswer {
        let lines = format!("Allow: {METHODS}\nAccept: application/sdp\nSupported: path");
        OptionsAnswer(ReplyLines::parse(&lines).unwrap())
    }

    pub(super) fn give(&self, run: &mut Run) -> Verdict {
        let _ = run.add_reply_headers(&self.0);
        reply(200, "")
    }
}

pub(super) fn method_not_allowed(run: &mut Run, allow: &str) -> Verdict {
    let _ = run.add_reply_header("Allow", allow);
    reply(405, "")
}

/// 403 to a user who gives an address that is not his.
pub(super) fn not_own_address(run: &mut Run, line: &str) -> Verdict {
    run.count("not_own_address", 1);
    run.log(level::INFO, line);
    reply(403, "Not Your Address")
}

/// The user, `None` where the router has no users, or what to answer with.
pub(super) fn demand(run: &mut Run, role: Role) -> Result<Option<Identity>, Verdict> {
    let fault = match run.check_auth(role, None) {
        Ok(user) => return Ok(Some(user)),
        Err(AuthFault::Off) => return Ok(None),
        Err(AuthFault::Ask) => return Err(Verdict::Ask { fallback: 503 }),
        Err(fault) => fault,
    };
    Err(match run.challenge(role, None, fault == AuthFault::Stale) {
        Ok(()) => Verdict::Answered,
        Err(_) => reply(500, ""),
    })
}
