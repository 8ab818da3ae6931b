//! Turns a [`Policy`] into the exports of the world `policy`. Used by `#[viaduct::policy]` only.

use core::marker::PhantomData;
use std::panic::PanicHookInfo;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::bindings::exports::viaduct::policy::handler;
use crate::bindings::viaduct::policy::types;
use crate::{Policy, Request, Response};

pub use crate::bindings::export_policy;

/// Export glue of one policy.
pub struct Component<P>(PhantomData<P>);

impl<P: Policy> handler::Guest for Component<P> {
    fn on_request(request: types::Request) -> types::Verdict {
        begin_run();
        P::on_request(&Request::new(request))
    }

    fn on_branch(request: types::Request) -> types::BranchVerdict {
        begin_run();
        P::on_branch(&Request::new(request))
    }

    fn on_reply(request: types::Request, status: u16) -> types::ReplyVerdict {
        begin_run();
        P::on_reply(&Response::new(request, status))
    }

    fn on_failure(request: types::Request, status: u16) -> types::FailureVerdict {
        begin_run();
        P::on_failure(&Request::new(request), status)
    }
}

/// Names a policy's functions without calling them.
pub fn keep<P: Policy>() {
    let _ = (P::on_request, P::on_branch, P::on_reply, P::on_failure);
}

fn begin_run() {
    crate::allocator::begin_run();
    install_panic_hook(log_panic);
}

/// Once an instance is enough. A function item has no size, so that boxing it allocates nothing
/// that would outlive the run.
pub(crate) fn install_panic_hook<H>(hook: H)
where
    H: Fn(&PanicHookInfo<'_>) + Send + Sync + 'static,
{
    static INSTALLED: AtomicBool = AtomicBool::new(false);
    if !INSTALLED.swap(true, Ordering::Relaxed) {
        std::panic::set_hook(Box::new(hook));
    }
}

fn log_panic(info: &PanicHookInfo<'_>) {
    crate::log::write(crate::log::Level::Error, &info.to_string());
}
