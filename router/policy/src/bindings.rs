//! Rust types and traits made from the contract in `guest-sdk/wit`.
// Generated code: not ours to document, and the macro's `unsafe` is wasmtime's own.
#![allow(missing_docs, unreachable_pub, unsafe_code, clippy::all, clippy::restriction)]

/// World `policy`.
pub(crate) mod policy {
    wasmtime::component::bindgen!({
        path: "../../guest-sdk/wit",
        world: "policy",
        imports: { default: trappable },
    });
}

/// World `policy-tests`.
pub(crate) mod policy_tests {
    wasmtime::component::bindgen!({
        path: "../../guest-sdk/wit",
        world: "policy-tests",
        imports: { default: trappable },
    });
}
