//! Write routing policies for Viaduct in Rust.
//!
//! A policy is one type with a few functions, one a phase, compiled to WebAssembly. The router runs
//! it once per message; it reads the message, asks host functions, and returns a verdict.
//!
//! ```no_run
//! use viaduct_guest::prelude::*;
//!
//! /// Registers phones and finds them again.
//! struct Registrar;
//!
//! #[viaduct::policy]
//! impl Policy for Registrar {
//!     fn on_request(request: &Request) -> Verdict {
//!         if request.method() == Method::Register {
//!             return usrloc::save("location", "path-lazy").into();
//!         }
//!         match usrloc::lookup("location", "") {
//!             Ok(_) => relay(),
//!             Err(_) => reply(480, ""),
//!         }
//!     }
//! }
//! # fn main() {}
//! ```
//!
//! # What a policy need not do
//! Retransmissions, CANCEL, ACK, Max-Forwards, loop detection, loose routing, Via, 100 Trying and
//! all timers are the router's (RFC 3261 16 and 17). No verdict can make it send an illegal
//! message.
//!
//! # What a policy may not do
//! * **Keep anything from run to run.** Instances are pooled, thrown away, and exist once per
//!   worker, so what a `static` holds has no meaning in the next run. Use [`vars`] for what one
//!   transaction needs again, [`table`] for what transactions share, and the location service for
//!   what lasts.
//! * Use time, randomness, files or network. [`Request::now_ms`] and [`Request::seed`] are given.
//! * Panic and expect anything of it: nothing the run has staged takes effect, and the message ends
//!   by the fallback of the manifest.
//!
//! Effects are *staged*: they happen together after the run has ended with a verdict that needs
//! them.
//!
//! # Where to start reading
//! [`Policy`], then [`Request`] and the modules named after the host's interfaces: [`usrloc`],
//! [`path`], [`routing`], [`auth`], [`nat`], [`media`], [`dispatcher`], [`table`], [`vars`],
//! [`settings`], [`log`], [`metrics`], [`http`]. Each is a
//! grant in the policy's manifest: what is not granted is refused when the policy is loaded. The contract
//! itself is `wit/`. Tests are written with [`testing`] (feature `testing`).

mod alias;
mod allocator;
mod answers;
#[cfg(any(test, all(target_arch = "wasm32", not(feature = "testing"))))]
mod arena;
pub mod auth;
#[doc(hidden)]
pub mod bindings;
#[cfg(any(test, target_arch = "wasm32"))]
mod compare;
#[doc(hidden)]
pub mod component;
pub mod dispatcher;
#[doc(hidden)]
pub mod entry;
pub mod http;
pub mod log;
pub mod media;
mod message;
pub mod metrics;
pub mod nat;
pub mod path;
mod policy;
mod request;
pub mod routing;
pub mod settings;
pub mod table;
#[cfg(feature = "testing")]
pub mod testing;
pub mod usrloc;
pub mod vars;
mod verdict;

pub use answers::{METHODS, answer_options, method_not_allowed};
pub use message::{EditError, Field, Message};
pub use policy::Policy;
pub use request::{Method, Request, Response, Transport};
pub use verdict::{BranchVerdict, FailureVerdict, Reply, ReplyVerdict, Verdict, relay, reply};

/// The attributes, so that they read `#[viaduct::policy]` and `#[viaduct::tests]`.
pub mod viaduct {
    pub use viaduct_guest_macro::{policy, tests};
}

/// Everything a policy usually needs: `use viaduct_guest::prelude::*;`
pub mod prelude {
    pub use crate::dispatcher::Algorithm;
    pub use crate::path::Mode;
    pub use crate::{
        BranchVerdict, FailureVerdict, Method, Policy, ReplyVerdict, Request, Response, Transport,
        Verdict, answer_options, auth, dispatcher, http, log, media, method_not_allowed, metrics,
        nat, path, relay, reply, routing, settings, table, usrloc, vars, viaduct,
    };
}
