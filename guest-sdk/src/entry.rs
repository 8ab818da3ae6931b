//! The exports of a policy, in place of those the bindings' generator makes. They differ in one thing: the
//! text of a verdict is freed when the next run begins, not by a call of its own (the `post-return` of the
//! component model) after the router has read it. Entering a policy a second time for that costs as much
//! as a call to the router, with each message, and most verdicts have no text.
//!
//! The module tree below stands where the generated macro looks for the exports.
#![allow(unsafe_code)]

use core::cell::Cell;

use crate::bindings::exports::viaduct::policy::handler::{self, Guest};

/// What the last run of this instance has returned and the router has read since.
#[derive(Clone, Copy)]
enum Returned {
    Nothing,
    Verdict(*mut u8),
    FailureVerdict(*mut u8),
}

thread_local! {
    static RETURNED: Cell<Returned> = const { Cell::new(Returned::Nothing) };
}

/// A run begins: frees what the one before has returned.
fn begin<T: Guest>() {
    match RETURNED.replace(Returned::Nothing) {
        Returned::Nothing => {}
        // SAFETY: it is what `on_request` of this instance returned last, and is freed once. The router
        // has read it before it enters the instance again.
        Returned::Verdict(at) => unsafe { handler::__post_return_on_request::<T>(at) },
        // SAFETY: as above, of `on_failure`.
        Returned::FailureVerdict(at) => unsafe { handler::__post_return_on_failure::<T>(at) },
    }
}

/// What the router passes with each phase: method, traits, transport, port, time, seed.
pub type Passed = (i32, i32, i32, i32, i64, i64);

/// Phase on-request.
///
/// # Safety
/// Called by the router alone, with a request lowered as the component model says.
#[must_use]
pub unsafe fn on_request<T: Guest>((a, b, c, d, e, f): Passed) -> *mut u8 {
    begin::<T>();
    // SAFETY: the caller's promise.
    let verdict = unsafe { handler::_export_on_request_cabi::<T>(a, b, c, d, e, f) };
    RETURNED.set(Returned::Verdict(verdict));
    verdict
}

/// Phase on-branch.
///
/// # Safety
/// As of [`on_request`].
#[must_use]
pub unsafe fn on_branch<T: Guest>((a, b, c, d, e, f): Passed) -> i32 {
    begin::<T>();
    // SAFETY: the caller's promise.
    unsafe { handler::_export_on_branch_cabi::<T>(a, b, c, d, e, f) }
}

/// Phase on-reply.
///
/// # Safety
/// As of [`on_request`].
#[must_use]
pub unsafe fn on_reply<T: Guest>((a, b, c, d, e, f): Passed, status: i32) -> i32 {
    begin::<T>();
    // SAFETY: the caller's promise.
    unsafe { handler::_export_on_reply_cabi::<T>(a, b, c, d, e, f, status) }
}

/// Phase on-failure.
///
/// # Safety
/// As of [`on_request`].
#[must_use]
pub unsafe fn on_failure<T: Guest>((a, b, c, d, e, f): Passed, status: i32) -> *mut u8 {
    begin::<T>();
    // SAFETY: the caller's promise.
    let verdict = unsafe { handler::_export_on_failure_cabi::<T>(a, b, c, d, e, f, status) };
    RETURNED.set(Returned::FailureVerdict(verdict));
    verdict
}

/// Makes the functions the router calls, of a type that implements the generated `Guest`.
#[doc(hidden)]
#[macro_export]
macro_rules! __export_handler {
    ($policy:ident with_types_in $($path:tt)*) => {
        const _: () = {
    $crate::__export_phase!($policy, "on-request", on_request() -> *mut u8);
    $crate::__export_phase!($policy, "on-branch", on_branch() -> i32);
    $crate::__export_phase!($policy, "on-reply", on_reply(status) -> i32);
    $crate::__export_phase!($policy, "on-failure", on_failure(status) -> *mut u8);
        };
    };
}

/// One of them.
#[doc(hidden)]
#[macro_export]
macro_rules! __export_phase {
    ($policy:ident, $name:literal, $phase:ident($($status:ident)?) -> $verdict:ty) => {
        #[unsafe(export_name = concat!("viaduct:policy/handler@1.0.0#", $name))]
        unsafe extern "C" fn $phase(
            a: i32,
            b: i32,
            c: i32,
            d: i32,
            e: i64,
            f: i64,
            $($status: i32)?
        ) -> $verdict {
            // SAFETY: the router is who calls this.
            unsafe { $crate::entry::$phase::<$policy>((a, b, c, d, e, f), $($status)?) }
        }
    };
}

/// See the top of the file.
pub mod exports {
    #[allow(missing_docs)]
    pub mod viaduct {
        pub mod policy {
            pub mod handler {
                pub use crate::__export_handler as __export_viaduct_policy_handler_1_0_0_cabi;
            }
        }
    }
}
