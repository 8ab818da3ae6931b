//! `#[viaduct::policy]`

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Error, ItemImpl, Result};

use crate::refuse_arguments;

pub(crate) fn expand(arguments: TokenStream, item: TokenStream) -> Result<TokenStream> {
    refuse_arguments(&arguments)?;
    let policy: ItemImpl = syn::parse2(item)?;
    let of_trait = policy
        .trait_
        .as_ref()
        .and_then(|(_, path, _)| path.segments.last());
    if of_trait.is_none_or(|segment| segment.ident != "Policy") {
        return Err(Error::new_spanned(
            &policy.self_ty,
            "write #[viaduct::policy] on `impl Policy for TYPE`",
        ));
    }
    if !policy.generics.params.is_empty() {
        return Err(Error::new_spanned(
            &policy.generics,
            "a policy is one type without parameters",
        ));
    }
    let policy_type = &policy.self_ty;
    Ok(quote! {
        #policy

        #[cfg(not(feature = "tests"))]
        const _: () = {
            type Exported = ::viaduct_guest::component::Component<#policy_type>;
            ::viaduct_guest::component::export_policy!(
                Exported with_types_in ::viaduct_guest::entry
            );
        };

        // The component of the tests exports no policy, and the compiler would call it dead.
        #[cfg(feature = "tests")]
        const _: () = {
            #[allow(dead_code)]
            fn compiled_but_not_exported() {
                ::viaduct_guest::component::keep::<#policy_type>();
            }
        };
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(item: TokenStream) -> String {
        expand(TokenStream::new(), item).unwrap_err().to_string()
    }

    #[test]
    fn the_policy_is_kept_and_exported() {
        let item =
            quote! { impl Policy for Edge { fn on_request(r: &Request) -> Verdict { relay() } } };
        let expanded = expand(TokenStream::new(), item.clone())
            .unwrap()
            .to_string();
        assert!(expanded.starts_with(&item.to_string()));
        assert!(expanded.contains("Component < Edge >"));
    }

    #[test]
    fn what_is_no_policy_is_refused_with_what_to_write() {
        assert!(refused(quote! { impl Edge {} }).contains("impl Policy for TYPE"));
        assert!(refused(quote! { impl Other for Edge {} }).contains("impl Policy for TYPE"));
        assert!(refused(quote! { impl<T> Policy for Edge<T> {} }).contains("without parameters"));
        let arguments = expand(quote! { fast }, quote! { impl Policy for Edge {} });
        assert!(arguments.unwrap_err().to_string().contains("no arguments"));
    }
}
