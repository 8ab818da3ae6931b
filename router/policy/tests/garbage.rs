//! Damaged components and manifests: refused with words, or working as before, and never a panic.
// What fails here is a fault of the test, and helpers may say so.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::sync::LazyLock;

use proptest::prelude::*;
use proptest::sample::Index;
use viaduct_policy::manifest::Manifest;
use viaduct_policy::{PolicyCatalog, package};

/// Uses the whole contract.
static COMPONENT: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let module = include_bytes!("data/contract-1.0.0.wasm");
    package::build(module, include_str!("data/contract-1.0.0.toml")).unwrap()
});

/// Octets that are written over others, taken out, or put in.
fn damage() -> impl Strategy<Value = Vec<(Index, usize, Vec<u8>)>> {
    let new = proptest::collection::vec(any::<u8>(), 0..4);
    proptest::collection::vec((any::<Index>(), 0usize..4, new), 1..4)
}

fn damaged(bytes: &[u8], damage: Vec<(Index, usize, Vec<u8>)>) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for (at, length, new) in damage {
        let at = at.index(bytes.len());
        let end = (at + length).min(bytes.len());
        bytes.splice(at..end, new);
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_damaged_component_is_looked_into_without_panic(damage in damage()) {
        let component = damaged(&COMPONENT, damage);
        let _ = package::imports(&component);
        if let Ok(text) = package::manifest_text(&component) {
            let _ = Manifest::parse(text);
        }
    }

    #[test]
    fn a_damaged_manifest_is_a_manifest_or_an_error_with_words(damage in damage()) {
        let whole = package::manifest_text(&COMPONENT).unwrap();
        let text = damaged(whole.as_bytes(), damage);
        if let Err(error) = Manifest::parse(&String::from_utf8_lossy(&text)) {
            prop_assert!(!error.to_string().is_empty());
        }
    }
}

proptest! {
    // Each that is still valid is compiled.
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn a_damaged_component_is_deployed_or_refused_and_the_one_before_stays(damage in damage()) {
        let catalog = PolicyCatalog::in_memory().unwrap();
        catalog.deploy(&COMPONENT).unwrap();
        let before = catalog.live().map(|live| live.manifest().version.clone());
        if let Err(error) = catalog.deploy(&damaged(&COMPONENT, damage)) {
            prop_assert!(!error.to_string().is_empty());
            prop_assert_eq!(catalog.live().map(|live| live.manifest().version.clone()), before);
        }
    }
}
