//! The contract in guest-sdk/wit is whole: every item of it says what it means.
// What fails here is a fault of the test, and helpers may say so.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::Path;

use viaduct_policy::manifest::Interface;
use viaduct_policy::testing::host_functions;
use viaduct_policy::{PolicyCatalog, package};
use wit_parser::{Docs, Resolve, TypeDefKind, WorldItem};

fn contract() -> Resolve {
    let mut resolve = Resolve::default();
    let wit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../guest-sdk/wit");
    resolve.push_dir(&wit).expect("the contract parses");
    resolve
}

fn has_docs(docs: &Docs) -> bool {
    docs.contents.as_ref().is_some_and(|text| !text.trim().is_empty())
}

#[test]
fn every_item_of_the_contract_is_documented() {
    let resolve = contract();
    let mut bare: Vec<String> = Vec::new();
    let mut look = |name: String, docs: &Docs| {
        if !has_docs(docs) {
            bare.push(name);
        }
    };
    for (_, world) in &resolve.worlds {
        look(world.name.clone(), &world.docs);
    }
    for (_, interface) in &resolve.interfaces {
        let of = interface.name.clone().unwrap_or_default();
        look(of.clone(), &interface.docs);
        for (name, function) in &interface.functions {
            look(format!("{of}.{name}"), &function.docs);
        }
        for (name, id) in &interface.types {
            let ty = &resolve.types[*id];
            let item = format!("{of}.{name}");
            let mut part = |part: &str, docs: &Docs| look(format!("{item}.{part}"), docs);
            match &ty.kind {
                // `use`: it is documented where it is defined.
                TypeDefKind::Type(_) => continue,
                TypeDefKind::Record(of) => of.fields.iter().for_each(|f| part(&f.name, &f.docs)),
                TypeDefKind::Flags(of) => of.flags.iter().for_each(|f| part(&f.name, &f.docs)),
                TypeDefKind::Enum(of) => of.cases.iter().for_each(|c| part(&c.name, &c.docs)),
                TypeDefKind::Variant(of) => of.cases.iter().for_each(|c| part(&c.name, &c.docs)),
                other => panic!("{item} is {other:?}"),
            }
            look(item, &ty.docs);
        }
    }
    assert!(bare.is_empty(), "without a word: {bare:#?}");
}

#[test]
fn every_host_interface_can_be_granted_and_no_other() {
    let resolve = contract();
    let (_, world) = resolve.worlds.iter().find(|(_, world)| world.name == "policy").unwrap();
    let mut imported: Vec<String> =
        world.imports.keys().map(|key| resolve.name_world_key(key)).collect();
    imported.retain(|name| name != "viaduct:policy/types@1.0.0");
    let mut granted: Vec<String> =
        Interface::ALL.iter().map(|i| format!("viaduct:policy/{}@1.0.0", i.name())).collect();
    imported.sort();
    granted.sort();
    assert_eq!(imported, granted);
}

/// What fuzz targets call is all that a guest can call.
#[test]
fn a_bare_guest_can_call_every_function_of_the_contract() {
    let resolve = contract();
    let (_, world) = resolve.worlds.iter().find(|(_, world)| world.name == "policy").unwrap();
    let mut functions: Vec<String> = Vec::new();
    for item in world.imports.values() {
        let WorldItem::Interface { id, .. } = item else { panic!("{item:?}") };
        let interface = &resolve.interfaces[*id];
        let of = interface.name.as_deref().unwrap();
        functions.extend(interface.functions.keys().map(|name| format!("{of}.{name}")));
    }
    let mut called: Vec<&str> = host_functions().collect();
    functions.sort();
    called.sort();
    assert_eq!(called, functions);
}

/// A component as it was built when the contract was frozen: it imports every function there was, with
/// all their types. It has not been built again since, and must never be.
const BUILT_AT_1_0_0: &[u8] = include_bytes!("data/contract-1.0.0.wasm");

#[test]
fn a_component_built_when_the_contract_was_frozen_still_loads() {
    let manifest = include_str!("data/contract-1.0.0.toml");
    let component = package::build(BUILT_AT_1_0_0, manifest).unwrap();
    let imported = package::imports(&component).unwrap();
    // The 12 interfaces of then, and the types.
    assert_eq!(imported.len(), 13, "{imported:#?}");
    let deployed = PolicyCatalog::in_memory().unwrap().deploy(&component);
    assert!(deployed.is_ok(), "{:#}", deployed.err().unwrap());
}
