//! What the contract in `wit/` becomes in Rust. Generated; the wrappers beside it are the
//! interface.
#![allow(
    missing_docs,
    unsafe_code,
    unreachable_pub,
    clippy::all,
    clippy::indexing_slicing
)]

wit_bindgen::generate!({
    path: "wit",
    world: "policy",
    pub_export_macro: true,
    export_macro_name: "export_policy",
    default_bindings_module: "viaduct_guest::bindings",
    generate_all,
});
