//! `#[viaduct::tests]`

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Attribute, Error, Ident, Item, ItemFn, ItemMod, Path, Result, Visibility};

use crate::refuse_arguments;

pub(crate) fn expand(arguments: TokenStream, item: TokenStream) -> Result<TokenStream> {
    refuse_arguments(&arguments)?;
    let mut module: ItemMod = syn::parse2(item)?;
    let mut cases = Vec::new();
    collect(&mut module, &mut Vec::new(), &mut cases)?;
    if cases.is_empty() {
        return Err(Error::new_spanned(
            &module.ident,
            "no #[test] function in this module",
        ));
    }
    let cases = cases.iter().map(|path| {
        let name = name_of(path);
        quote! { ::viaduct_guest::testing::Case { name: #name, run: #path } }
    });
    Ok(quote! {
        #[cfg(feature = "tests")]
        #module

        #[cfg(feature = "tests")]
        const _: () = {
            struct Cases;
            impl ::viaduct_guest::testing::Cases for Cases {
                const ALL: &'static [::viaduct_guest::testing::Case] = &[#(#cases),*];
            }
            type Exported = ::viaduct_guest::testing::Suite<Cases>;
            ::viaduct_guest::testing::export_tests!(
                Exported with_types_in ::viaduct_guest::testing::bindings
            );
        };
    })
}

/// Takes `#[test]` off the functions of the module and of those inside it, makes them reachable,
/// and lists them as paths from where the module stands.
fn collect(module: &mut ItemMod, outer: &mut Vec<Ident>, cases: &mut Vec<Path>) -> Result<()> {
    let Some((_, items)) = &mut module.content else {
        return Err(Error::new_spanned(
            &module.ident,
            "#[viaduct::tests] needs the tests here, between braces, not in a file of their own; \
             a file can hold `#[viaduct::tests] mod NAME { ... }`",
        ));
    };
    outer.push(module.ident.clone());
    let visible = visible_above(outer.len());
    for item in items {
        match item {
            Item::Mod(inner) if inner.content.is_some() => {
                inner.vis = visible.clone();
                collect(inner, outer, cases)?;
            }
            Item::Fn(function) => {
                let is_test = take_test_attribute(function)?;
                if is_test {
                    function.vis = visible.clone();
                    let name = &function.sig.ident;
                    cases.push(syn::parse_quote! { #(#outer)::* :: #name });
                }
            }
            _ => {}
        }
    }
    outer.pop();
    Ok(())
}

/// Visible where the outermost module stands, `depth` modules up.
fn visible_above(depth: usize) -> Visibility {
    let ups = (0..depth).map(|_| quote! { super });
    syn::parse_quote! { pub(in #(#ups)::*) }
}

/// Was there a `#[test]`?
fn take_test_attribute(function: &mut ItemFn) -> Result<bool> {
    let is = |attribute: &Attribute, name: &str| attribute.path().is_ident(name);
    let before = function.attrs.len();
    function.attrs.retain(|attribute| !is(attribute, "test"));
    if function.attrs.len() == before {
        return Ok(false);
    }
    for attribute in &function.attrs {
        if is(attribute, "should_panic") || is(attribute, "ignore") {
            let text = "not supported: a test fails by trapping, and every test runs";
            return Err(Error::new_spanned(attribute, text));
        }
    }
    let signature = &function.sig;
    if !signature.inputs.is_empty() || !matches!(signature.output, syn::ReturnType::Default) {
        return Err(Error::new_spanned(
            signature,
            "a test takes nothing and returns nothing",
        ));
    }
    Ok(true)
}

/// `module::function`
fn name_of(path: &Path) -> String {
    let names: Vec<String> = path
        .segments
        .iter()
        .map(|segment| segment.ident.to_string())
        .collect();
    names.join("::")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(item: TokenStream) -> String {
        expand(TokenStream::new(), item).unwrap_err().to_string()
    }

    #[test]
    fn tests_of_inner_modules_are_listed_by_path() {
        let expanded = expand(
            TokenStream::new(),
            quote! {
                mod tests {
                    fn helper() {}
                    #[test]
                    fn first() {}
                    mod calls {
                        #[test]
                        fn second() {}
                    }
                }
            },
        );
        let expanded = expanded.unwrap().to_string();
        assert!(expanded.contains("\"tests::first\" , run : tests :: first"));
        assert!(expanded.contains("\"tests::calls::second\" , run : tests :: calls :: second"));
        assert!(!expanded.contains("# [test]"));
        assert!(!expanded.contains("tests::helper"));
    }

    #[test]
    fn what_could_not_run_is_refused() {
        assert!(refused(quote! { mod tests; }).contains("between braces"));
        assert!(refused(quote! { mod tests { fn helper() {} } }).contains("no #[test]"));
        let ignored = quote! { mod tests { #[test] #[ignore] fn first() {} } };
        assert!(refused(ignored).contains("not supported"));
        let fallible = quote! { mod tests { #[test] fn first() -> Result<(), ()> { Ok(()) } } };
        assert!(refused(fallible).contains("returns nothing"));
    }
}
