//! The command `viaduct`. All it does is to tell the command line what starts a router and what
//! runs a policy's tests; start reading in the library, at [`viaduct::serve`].

use std::process::ExitCode;
use std::sync::Arc;

use viaduct::cli::{self, Wiring};
use viaduct::control::Control;
use viaduct::policy_tests;
use viaduct::runtime::Router;

/// A REGISTER makes and frees a handful of small blocks; this allocator does that in half the time
/// of the C library's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    viaduct::memory::keep_freed();
    cli::main(Wiring {
        start: |config, metrics, runtime, events| {
            let router: Arc<dyn Control> = Router::start(config, metrics, runtime, events)?;
            Ok(router)
        },
        test: policy_tests::run,
    })
}
