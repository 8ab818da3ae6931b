//! The command `viaduct`. All it does is to tell the command line what starts a router and what
//! runs a policy's tests; start reading in the library, at [`viaduct::serve`].

use std::process::ExitCode;
use std::sync::Arc;

use viaduct::cli::{self, Wiring};
use viaduct::control::Control;
use viaduct::memory::Allocator;
use viaduct::policy_tests;
use viaduct::runtime::Router;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

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
