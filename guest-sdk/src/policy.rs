//! The phases of a policy.

use crate::{BranchVerdict, FailureVerdict, ReplyVerdict, Request, Response, Verdict};

/// A routing policy: one function a phase. The router calls those the manifest lists under
/// `phases`.
pub trait Policy {
    /// A request has come in (the request route): answer it, or say where it goes.
    ///
    /// CANCEL, ACK and what a transaction absorbs never get here. A retransmission of a request
    /// other than INVITE that was answered at once may: the answer then is made again, alike.
    fn on_request(request: &Request) -> Verdict;

    /// One branch of a forwarded request is about to be sent (the branch route); `request` is as it
    /// will leave. Header edits made here count for this branch.
    fn on_branch(request: &Request) -> BranchVerdict {
        let _ = request;
        BranchVerdict::Send
    }

    /// A response has come in (the reply route). Header edits are made in the response. Only
    /// provisional responses can be dropped.
    fn on_reply(response: &Response) -> ReplyVerdict {
        let _ = response;
        ReplyVerdict::Forward
    }

    /// All branches have failed (the failure route); `status` is the best response's, 300 to 699.
    /// Stage new targets and return [`FailureVerdict::Retry`], or let the best response go back.
    fn on_failure(request: &Request, status: u16) -> FailureVerdict {
        let _ = (request, status);
        FailureVerdict::Forward
    }
}
