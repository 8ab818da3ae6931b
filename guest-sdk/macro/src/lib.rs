//! The attributes `#[viaduct::policy]` and `#[viaduct::tests]`. They write the export glue and
//! nothing else: what a policy says is compiled as it stands. Use them through `viaduct_guest`.

mod cases;
mod policy;

use proc_macro::TokenStream;

/// On `impl Policy for TYPE`: makes that type the policy this crate is. One a crate.
///
/// With the crate's feature `tests` nothing is exported here, because the component then is the
/// policy's tests (`#[viaduct::tests]`).
#[proc_macro_attribute]
pub fn policy(arguments: TokenStream, item: TokenStream) -> TokenStream {
    expand(policy::expand(arguments.into(), item.into()))
}

/// On a module of `#[test]` functions: makes them the tests of this crate's policy. One a crate;
/// tests may be grouped in modules inside it. Compiled only with the crate's feature `tests`.
#[proc_macro_attribute]
pub fn tests(arguments: TokenStream, item: TokenStream) -> TokenStream {
    expand(cases::expand(arguments.into(), item.into()))
}

fn expand(expanded: syn::Result<proc_macro2::TokenStream>) -> TokenStream {
    expanded
        .unwrap_or_else(|error| error.to_compile_error())
        .into()
}

/// Neither attribute takes arguments.
fn refuse_arguments(arguments: &proc_macro2::TokenStream) -> syn::Result<()> {
    if arguments.is_empty() {
        return Ok(());
    }
    Err(syn::Error::new_spanned(
        arguments,
        "this attribute takes no arguments",
    ))
}
