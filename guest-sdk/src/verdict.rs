//! What a policy decides.

pub use crate::bindings::viaduct::policy::types::{
    BranchVerdict, FailureVerdict, Reply, ReplyVerdict, Verdict,
};
use crate::usrloc::{SaveCode, SaveError};

/// Forward the request to the staged targets, or to the Request-URI where none are staged.
pub fn relay() -> Verdict {
    Verdict::Relay
}

/// Answer with `status` (200 to 699) and `reason`; an empty reason is replaced by the registered
/// one. As the verdict of a request or of a failure:
///
/// ```no_run
/// # use viaduct_guest::prelude::*;
/// fn closed() -> Verdict {
///     reply(480, "Call Again Tomorrow")
/// }
/// fn nobody_answered() -> FailureVerdict {
///     reply(480, "")
/// }
/// ```
pub fn reply<V: From<Reply>>(status: u16, reason: &str) -> V {
    V::from(Reply {
        status,
        reason: reason.to_owned(),
    })
}

impl From<Reply> for Verdict {
    fn from(reply: Reply) -> Verdict {
        Verdict::Reply(reply)
    }
}

impl From<Reply> for FailureVerdict {
    fn from(reply: Reply) -> FailureVerdict {
        FailureVerdict::Reply(reply)
    }
}

/// What to do after [`usrloc::save`](crate::usrloc::save) without `no-reply`: send the answer it
/// has staged, be it the 200 with the contacts or the refusal. Flags that mean nothing are a fault
/// of the policy: 500.
impl From<Result<SaveCode, SaveError>> for Verdict {
    fn from(saved: Result<SaveCode, SaveError>) -> Verdict {
        match saved {
            Ok(_) | Err(SaveError::Refused(_)) => Verdict::Answered,
            Err(SaveError::BadFlags(_)) => reply(500, "Bad Registrar Flags"),
        }
    }
}
