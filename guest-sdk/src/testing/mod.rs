//! Tests of a policy. They are compiled to wasm32 as a component of their own and talk to a whole
//! router, with real transactions, that runs the policy as it ships, over a virtual network, a
//! virtual clock and a location service in memory. Run them with `viaduct policy test`.
//!
//! ```no_run
//! # // What follows stands in a policy's crate, which has the feature `tests`.
//! use viaduct_guest::testing::prelude::*;
//!
//! #[viaduct::tests]
//! mod tests {
//!     use super::*;
//!
//!     #[test]
//!     fn a_registered_phone_is_called() {
//!         Sip::register("alice@example.com")
//!             .contact("sip:alice@192.0.2.4:5062")
//!             .from("192.0.2.4:5062")
//!             .send()
//!             .expect_status(200);
//!         let call = Sip::invite("alice@example.com").send();
//!         call.forwarded().expect_to("udp:192.0.2.4:5062");
//!     }
//! }
//! # fn main() {}
//! ```
//!
//! Each test begins with a router of its own: it listens on UDP 192.0.2.1:5060, `example.com` is
//! its only domain, nobody is registered, and no peer is trusted. [`router`] changes that.
//!
//! Start with [`Sip`], which writes messages, and [`Outcome`], what the router made of one.
#![allow(clippy::panic, reason = "a test fails by trapping")]

mod compare;
mod outcome;
pub mod router;
mod sent;
mod sip;

use core::marker::PhantomData;
use std::panic::PanicHookInfo;

pub use outcome::Outcome;
pub use sent::{Answer, Sent};
pub use sip::Sip;

#[doc(hidden)]
pub use bindings::export_tests;

/// Everything tests need: `use viaduct_guest::testing::prelude::*;`
pub mod prelude {
    pub use super::{Outcome, Sent, Sip, router};
    pub use crate::viaduct;
}

/// The contract of the tests' world in Rust; generated.
#[doc(hidden)]
#[allow(
    missing_docs,
    unsafe_code,
    unreachable_pub,
    clippy::all,
    clippy::indexing_slicing
)]
pub mod bindings {
    wit_bindgen::generate!({
        path: "wit",
        world: "policy-tests",
        pub_export_macro: true,
        export_macro_name: "export_tests",
        default_bindings_module: "viaduct_guest::testing::bindings",
        generate_all,
    });
}

/// One test.
#[doc(hidden)]
pub struct Case {
    /// `module::function`
    pub name: &'static str,
    /// The function; it traps where the test fails.
    pub run: fn(),
}

/// The tests of a crate, listed by `#[viaduct::tests]`.
#[doc(hidden)]
pub trait Cases {
    /// In the order they are written.
    const ALL: &'static [Case];
}

/// Exports the tests of a crate.
#[doc(hidden)]
pub struct Suite<C>(PhantomData<C>);

impl<C: Cases> bindings::exports::viaduct::policy::tests::Guest for Suite<C> {
    fn names() -> Vec<String> {
        C::ALL.iter().map(|case| case.name.to_owned()).collect()
    }

    fn run(name: String) {
        crate::component::install_panic_hook(report_panic);
        match C::ALL.iter().find(|case| case.name == name) {
            Some(case) => (case.run)(),
            None => panic!("there is no test named {name}"),
        }
    }
}

fn report_panic(info: &PanicHookInfo<'_>) {
    bindings::viaduct::policy::router::fail(&info.to_string());
}
