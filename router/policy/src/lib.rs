//! WebAssembly host for routing policies: the component-model side of `viaduct_engine::Policy`.
//!
//! This crate may know wasmtime and the engine's hook, and nothing of sockets, transactions or
//! stores. A policy can hurt neither the router nor the next message: it runs in a sandbox with
//! fuel, memory and wall-clock limits, sees only what its manifest grants, and stages its effects,
//! which a failed run loses.
//!
//! Start reading at [`catalog`] (deployed versions, swap, rollback), then [`worker`] (one run),
//! then [`host`] (what a policy can ask). [`package`] makes one deployable file of a core module
//! and its [`manifest`]; [`testing`] runs the tests of a policy.

mod aot;
mod bindings;
pub mod catalog;
pub mod counts;
mod deadline;
mod disk;
mod failure;
mod guest;
pub mod host;
pub mod manifest;
mod origin;
pub mod package;
pub mod record;
pub mod sandbox;
pub mod scope;
pub mod testing;
mod verdict;
pub mod version;
mod words;
pub mod worker;

pub use catalog::{
    CatalogError, Deployed, Guard, GuardLimits, Guarded, PolicyCatalog, PolicyInfo, ShadowCounts,
};
pub use counts::Counts;
pub use manifest::{Manifest, ManifestError};
pub use package::PackageError;
pub use sandbox::{Sandbox, SandboxError};
pub use scope::{Scope, ScopeError};
pub use version::{LoadError, PolicyVersion};
pub use worker::{PinnedVersion, PolicyHost, WorkerOptions};
