//! From the contract's verdicts to the engine's. A guest can return anything; what would make an
//! illegal message is no verdict.

use viaduct_engine::{Run, Verdict};

use crate::bindings::policy::exports::viaduct::policy::handler::{
    BranchVerdict, FailureVerdict, ReplyVerdict, Verdict as RequestVerdict,
};
use crate::bindings::policy::viaduct::policy::types::{Method, Reply, Request, Traits, Transport};

/// Longest reason phrase, bytes.
const MAX_REASON_BYTES: usize = 128;

/// Not a verdict; the text says why.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Garbage {
    #[error("status {0} in a reply; 200 to 699 are final")]
    Status(u16),
    #[error("a reason phrase of {0} bytes, or with control characters")]
    Reason(usize),
    #[error("`answered`, but no host function has staged an answer")]
    NoAnswer,
}

/// The facts that travel with the call.
pub(crate) fn request(run: &Run) -> Request {
    Request {
        method: method(run.method()),
        traits: traits(run.traits()),
        transport: transport(run.transport()),
        source_port: run.source().port(),
        now_ms: run.now().unix_ms,
        seed: run.seed(),
    }
}

/// Phase on-request.
pub(crate) fn of_request(verdict: RequestVerdict, run: &Run) -> Result<Verdict, Garbage> {
    match verdict {
        RequestVerdict::Relay => Ok(Verdict::Relay),
        RequestVerdict::Reply(reply) => checked(reply),
        RequestVerdict::Answered if run.effects.answer.is_none() => Err(Garbage::NoAnswer),
        RequestVerdict::Answered => Ok(Verdict::Answered),
        RequestVerdict::Drop => Ok(Verdict::Drop),
    }
}

/// Phase on-branch.
pub(crate) fn of_branch(verdict: BranchVerdict) -> Verdict {
    match verdict {
        BranchVerdict::Send => Verdict::Continue,
        BranchVerdict::Skip => Verdict::Drop,
    }
}

/// Phase on-reply.
pub(crate) fn of_reply(verdict: ReplyVerdict) -> Verdict {
    match verdict {
        ReplyVerdict::Forward => Verdict::Continue,
        ReplyVerdict::Drop => Verdict::Drop,
    }
}

/// Phase on-failure.
pub(crate) fn of_failure(verdict: FailureVerdict) -> Result<Verdict, Garbage> {
    match verdict {
        FailureVerdict::Forward => Ok(Verdict::Continue),
        FailureVerdict::Retry => Ok(Verdict::Relay),
        FailureVerdict::Reply(reply) => checked(reply),
    }
}

fn checked(reply: Reply) -> Result<Verdict, Garbage> {
    if !(200..=699).contains(&reply.status) {
        return Err(Garbage::Status(reply.status));
    }
    let reason = reply.reason;
    // RFC 3261 25.1: a Reason-Phrase stands on one line; CR or LF in it would start a header.
    if reason.len() > MAX_REASON_BYTES || reason.chars().any(char::is_control) {
        return Err(Garbage::Reason(reason.len()));
    }
    Ok(Verdict::Reply { status: reply.status, reason: reason.into_boxed_str() })
}

fn method(method: viaduct_message::Method) -> Method {
    use viaduct_message::Method as M;
    match method {
        M::Invite => Method::Invite,
        M::Ack => Method::Ack,
        M::Bye => Method::Bye,
        M::Cancel => Method::Cancel,
        M::Register => Method::Register,
        M::Options => Method::Options,
        M::Subscribe => Method::Subscribe,
        M::Notify => Method::Notify,
        M::Refer => Method::Refer,
        M::Message => Method::Message,
        M::Info => Method::Info,
        M::Prack => Method::Prack,
        M::Update => Method::Update,
        M::Publish => Method::Publish,
        M::Other => Method::Other,
    }
}

fn transport(transport: viaduct_engine::Transport) -> Transport {
    use viaduct_engine::Transport as T;
    match transport {
        T::Udp => Transport::Udp,
        T::Tcp => Transport::Tcp,
        T::Tls => Transport::Tls,
        T::Ws => Transport::Ws,
        T::Wss => Transport::Wss,
    }
}

fn traits(facts: viaduct_engine::run::Traits) -> Traits {
    let mut traits = Traits::empty();
    for (is, bit) in [
        (facts.in_dialog, Traits::IN_DIALOG),
        (facts.loose_routed, Traits::LOOSE_ROUTED),
        (facts.preloaded_route, Traits::PRELOADED_ROUTE),
        (facts.uri_is_ours, Traits::URI_IS_OURS),
        (facts.uri_is_router, Traits::URI_IS_ROUTER),
        (facts.from_is_ours, Traits::FROM_IS_OURS),
        (facts.trusted, Traits::TRUSTED),
        (facts.first_hop, Traits::FIRST_HOP),
        (facts.has_path, Traits::HAS_PATH),
        (facts.supports_path, Traits::SUPPORTS_PATH),
        (facts.has_body, Traits::HAS_BODY),
        (facts.by_received, Traits::BY_RECEIVED),
    ] {
        if is {
            traits |= bit;
        }
    }
    traits
}
