//! What is refused when a policy is deployed, and in which words.
// What fails here is a fault of the test, and helpers may say so.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use std::path::Path;

use common::{Guest, MAKES_RESOURCES, by_hand, core, manifest};
use viaduct_policy::{CatalogError, LoadError, PackageError, PolicyCatalog, package};

/// Why the catalog refuses it: the kind, as log and metrics name it, and the words.
fn refusal(component: &[u8]) -> String {
    let catalog = PolicyCatalog::in_memory().unwrap();
    let error = catalog.deploy(component).expect_err("should be refused");
    assert!(catalog.live().is_none() && catalog.list().is_empty());
    let CatalogError::Load(load) = &error else { panic!("{error}") };
    assert!(LoadError::KINDS.contains(&load.kind()), "{}", load.kind());
    format!("{}: {error}", load.kind())
}

fn wanted(error: &str, wanted: &str) {
    assert!(error.contains(wanted), "{error}\n  wanted: {wanted}");
}

/// A component as text, with a manifest: for what no honest tool builds.
#[test]
fn an_import_without_grant_is_refused_by_name() {
    let imports = r#"(import "viaduct:policy/nat@1.0.0" "force-rport" (func))"#;
    let guest = Guest { imports, ..Guest::default() };
    let error = refusal(&guest.build(&manifest("[grants]\nlog = true")));
    assert_eq!(
        error,
        "not-granted: policy `guest` uses `viaduct:policy/nat` but its manifest does not grant `nat`"
    );
    let catalog = PolicyCatalog::in_memory().unwrap();
    catalog.deploy(&guest.build(&manifest("[grants]\nnat = true"))).unwrap();
}

#[test]
fn imports_of_others_are_refused_by_name() {
    let wasi = by_hand(
        r#"(component (import "wasi:clocks/monotonic-clock@0.2.0" (instance
            (export "now" (func (result u64))))))"#,
    );
    wanted(&refusal(&wasi), "import: policy `guest` imports `wasi:clocks/monotonic-clock@0.2.0`");
    wanted(&refusal(&wasi), "no clock, randomness, files or network");
    let newer = by_hand(
        r#"(component (import "viaduct:policy/log@0.2.0" (instance
            (export "write" (func (param "text" string))))))"#,
    );
    wanted(&refusal(&newer), "`viaduct:policy/log@0.2.0`, which this router does not have; it");
    let unknown = by_hand(r#"(component (import "viaduct:policy/fax@1.0.0" (instance)))"#);
    wanted(&refusal(&unknown), "imports `viaduct:policy/fax@1.0.0`");
    let bare = by_hand(r#"(component (import "run" (func)))"#);
    wanted(&refusal(&bare), "imports `run`");
}

/// Handles of resources lie in the host's memory, where no limit of the guest counts them; a policy
/// that is reused could pile up millions.
#[test]
fn a_policy_that_makes_resources_of_its_own_is_refused() {
    wanted(
        &refusal(&by_hand(MAKES_RESOURCES)),
        "resources: policy `guest` makes resources of its own (`resource.new`)",
    );
}

#[test]
fn another_world_is_refused() {
    let empty = by_hand("(component)");
    wanted(
        &refusal(&empty),
        "world: policy `guest` does not fit world `policy` of viaduct:policy@1.0.0",
    );
    wanted(&refusal(&empty), "viaduct:policy/handler");
    let tests = core(
        r#"(module (memory (export "memory") 1)
          (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) unreachable)
          (func (export "viaduct:policy/tests@1.0.0#names") (result i32) unreachable)
          (func (export "viaduct:policy/tests@1.0.0#run") (param i32 i32)))"#,
        "policy-tests",
    );
    let tests = package::build(&tests, &manifest("")).unwrap();
    wanted(&refusal(&tests), "does not fit world `policy`");
}

#[test]
fn an_import_of_another_type_is_refused() {
    let odd = package::build(
        &wat::parse_str(
            r#"(component (import "viaduct:policy/log@1.0.0" (instance
                (export "write" (func (param "text" string))))))"#,
        )
        .unwrap(),
        &manifest("[grants]\nlog = true"),
    );
    wanted(&refusal(&odd.unwrap()), "does not fit world `policy`");
}

#[test]
fn a_start_function_that_hangs_or_traps_is_refused() {
    let hang = Guest { rest: "(func $s (loop $l (br $l))) (start $s)", ..Guest::default() };
    wanted(
        &refusal(&hang.build(&manifest(""))),
        "start: policy `guest` fails when it is started: ",
    );
    wanted(&refusal(&hang.build(&manifest(""))), "fuel");
    let trap = Guest { rest: "(func $s unreachable) (start $s)", ..Guest::default() };
    wanted(&refusal(&trap.build(&manifest(""))), "unreachable");
}

#[test]
fn more_memory_than_the_manifest_allows_is_refused() {
    let guest = Guest { pages: "33", ..Guest::default() };
    let limits = manifest("[limits]\nmemory_bytes = 2_097_152");
    wanted(&refusal(&guest.build(&limits)), "over its memory limit of 2097152 bytes");
    let huge = Guest { pages: "257", ..Guest::default() };
    wanted(&refusal(&huge.build(&manifest(""))), "compile: policy `guest` does not compile");
}

#[test]
fn what_is_no_policy_is_refused() {
    wanted(&refusal(b""), "package: not a WebAssembly file");
    wanted(&refusal(b"#!/bin/sh\n"), "not a WebAssembly file");
    wanted(&refusal(&wat::parse_str("(module)").unwrap()), "a core module, not a component");
    wanted(&refusal(&wat::parse_str("(component)").unwrap()), "no manifest inside");
    let whole = Guest::default().build(&manifest(""));
    for cut in [whole.len() / 3, whole.len() - 1] {
        wanted(&refusal(&whole[..cut]), "not a WebAssembly file");
    }
    let long = format!("size: {} bytes; a policy may have", package::MAX_BYTES + 1);
    wanted(&refusal(&vec![0; package::MAX_BYTES + 1]), &long);
}

#[test]
fn a_component_that_lies_inside_is_refused() {
    let mut bytes = Guest::default().build(&manifest(""));
    // Somewhere in the code: whatever it becomes, it is refused or runs in the sandbox.
    for at in (8..bytes.len()).step_by(7) {
        let old = bytes[at];
        bytes[at] ^= 0x55;
        let catalog = PolicyCatalog::in_memory_with(shared_sandbox());
        let _ = catalog.deploy(&bytes);
        bytes[at] = old;
    }
    let catalog = PolicyCatalog::in_memory_with(shared_sandbox());
    catalog.deploy(&bytes).unwrap();
}

fn shared_sandbox() -> std::sync::Arc<viaduct_policy::Sandbox> {
    use std::sync::{Arc, OnceLock};
    static SANDBOX: OnceLock<Arc<viaduct_policy::Sandbox>> = OnceLock::new();
    Arc::clone(SANDBOX.get_or_init(|| viaduct_policy::Sandbox::new().unwrap()))
}

#[test]
fn a_bad_manifest_is_refused_with_its_line() {
    let module = core(&Guest::default().wat(), "policy");
    let error = package::build(&module, "name = \"a\"\nversion = 1").unwrap_err().to_string();
    assert_eq!(error, "policy.toml line 2: `version`: allowed: a text, not `1`");
}

#[test]
fn a_second_manifest_is_refused() {
    let once = Guest::default().build(&manifest(""));
    let twice = package::build(&once, &manifest(""));
    assert!(matches!(twice, Err(PackageError::BadManifestSection(_))));
}

#[test]
fn the_manifest_is_read_back() {
    let text = manifest("fallback = \"503\"");
    assert_eq!(package::manifest_text(&Guest::default().build(&text)).unwrap(), text);
}

#[test]
fn a_module_that_does_not_fit_the_contract_is_not_built() {
    let module = core("(module (memory (export \"memory\") 1))", "policy");
    let error = package::build(&module, &manifest("")).unwrap_err().to_string();
    wanted(&error, "not a module of the policy contract");
    wanted(&error, "viaduct:policy/handler@1.0.0");
    let bare = wat::parse_str("(module (import \"env\" \"puts\" (func)))").unwrap();
    let error = package::build(&bare, &manifest("")).unwrap_err().to_string();
    wanted(&error, "not a module of the policy contract");
}

/// What the fuzz target `components` begins from; VIADUCT_WRITE=1 writes it anew.
#[test]
fn seeds_of_the_fuzz_target_are_components_that_can_be_deployed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds/components");
    let imports = r#"(import "viaduct:policy/log@1.0.0" "write" (func $log (param i32 i32 i32)))
        (import "viaduct:policy/routing@1.0.0" "add-target"
          (func $target (param i32 i32 i32 i32)))"#;
    let on_request = "(call $log (i32.const 2) (i32.const 200) (i32.const 5))
        (call $target (i32.const 205) (i32.const 17) (i32.const 1000) (i32.const 16))
        (drop (memory.grow (i32.const 1)))
        (block (result i32) (i32.store8 (i32.const 0) (i32.const 0)) (i32.const 0))";
    let rest = r#"(data (i32.const 200) "hellosip:bob@192.0.2.4")"#;
    let calling = Guest { imports, on_request, rest, ..Guest::default() };
    let grants = "phases = [\"on-request\", \"on-failure\"]\n[grants]\nlog = true\nrouting = true\n\
                  [limits]\nfuel = 100_000\nmemory_bytes = 131_072\n[settings]\na = \"b\"\n";
    for (name, component) in [
        ("lean", Guest::default().build(&manifest(""))),
        ("calling", calling.build(&manifest(grants))),
    ] {
        PolicyCatalog::in_memory().unwrap().deploy(&component).unwrap();
        // What a fuzzer is given whole.
        assert!(component.len() < 8192, "{name}: {} bytes", component.len());
        let file = folder.join(name);
        if std::env::var_os("VIADUCT_WRITE").is_some() {
            std::fs::write(&file, &component).unwrap();
        }
        let seed = std::fs::read(&file).unwrap();
        PolicyCatalog::in_memory().unwrap().deploy(&seed).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
}
