//! Guests written by hand in WebAssembly text. The whole-router tests use this file too.
// Each test file uses its part, and what fails here is a fault of the test.
#![allow(dead_code, unreachable_pub, clippy::expect_used)]

use std::path::Path;

use viaduct_policy::package;
use wit_component::StringEncoding;
use wit_parser::Resolve;

/// Parts of a guest; the rest is filled in: memory, a bump allocator, handlers that let all pass.
#[derive(Clone, Default)]
pub struct Guest<'a> {
    /// Imports and other things that come first.
    pub imports: &'a str,
    /// Locals of on-request.
    pub locals: &'a str,
    /// Body of on-request; gives the address of a verdict.
    pub on_request: &'a str,
    pub on_branch: &'a str,
    pub on_reply: &'a str,
    pub on_failure: &'a str,
    /// Functions, data, a start function.
    pub rest: &'a str,
    /// Memory in pages, with or without a maximum.
    pub pages: &'a str,
}

/// Verdict `relay` at address 0.
pub const RELAY: &str =
    "(block (result i32) (i32.store8 (i32.const 0) (i32.const 0)) (i32.const 0))";
/// Verdict `answered` at address 0.
pub const ANSWERED: &str =
    "(block (result i32) (i32.store8 (i32.const 0) (i32.const 2)) (i32.const 0))";

/// Verdict `reply` with a status and a reason at an address.
pub fn reply(status: i32, reason_at: i32, reason_bytes: i32) -> String {
    format!(
        "(block (result i32)
         (i32.store8 (i32.const 0) (i32.const 1))
         (i32.store16 (i32.const 4) (i32.const {status}))
         (i32.store (i32.const 8) (i32.const {reason_at}))
         (i32.store (i32.const 12) (i32.const {reason_bytes}))
         (i32.const 0))"
    )
}

impl Guest<'_> {
    pub fn wat(&self) -> String {
        let or = |body: &str, default: &str| {
            if body.is_empty() { default.to_owned() } else { body.to_owned() }
        };
        let facts = "(param $method i32) (param $traits i32) (param $transport i32) \
                     (param $port i32) (param $now i64) (param $seed i64)";
        let pages = or(self.pages, "1");
        let [request, branch, reply, failure] = [
            or(self.on_request, RELAY),
            or(self.on_branch, "(i32.const 0)"),
            or(self.on_reply, "(i32.const 0)"),
            or(self.on_failure, RELAY),
        ];
        format!(
            r#"(module
  {imports}
  (memory (export "memory") {pages})
  (global $heap (mut i32) (i32.const 4096))
  (func $alloc (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
    (local $at i32)
    (local.set $at (i32.and (i32.add (global.get $heap) (i32.const 7)) (i32.const -8)))
    (global.set $heap (i32.add (local.get $at) (local.get 3)))
    (local.get $at))
  (func (export "viaduct:policy/handler@1.0.0#on-request") {facts} (result i32)
    {locals}
    (global.set $heap (i32.const 4096))
    {request})
  (func (export "viaduct:policy/handler@1.0.0#on-branch") {facts} (result i32) {branch})
  (func (export "viaduct:policy/handler@1.0.0#on-reply") {facts} (param $status i32) (result i32)
    {reply})
  (func (export "viaduct:policy/handler@1.0.0#on-failure") {facts} (param $status i32) (result i32)
    {failure})
  {rest})"#,
            imports = self.imports,
            locals = self.locals,
            rest = self.rest,
        )
    }

    /// As a deployable component.
    pub fn build(&self, manifest: &str) -> Vec<u8> {
        package::build(&core(&self.wat(), "policy"), manifest).expect("a guest that builds")
    }
}

/// A core module that says for which world it was made, as a guest compiler leaves it.
pub fn core(wat: &str, world: &str) -> Vec<u8> {
    let mut module = wat::parse_str(wat).expect("WebAssembly text");
    let mut resolve = Resolve::default();
    let folders = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let wit = folders.map(|folder| folder.join("guest-sdk/wit")).find(|wit| wit.is_dir());
    let (package, _) = resolve.push_dir(wit.expect("the contract")).expect("it parses");
    let world = resolve.select_world(&[package], Some(world)).expect("the world is there");
    wit_component::embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)
        .expect("metadata");
    module
}

/// A manifest with these lines under its name.
pub fn manifest(rest: &str) -> String {
    format!("name = \"guest\"\nversion = \"1.0.0\"\n{rest}")
}

/// A component that makes handles of resources without end.
pub const MAKES_RESOURCES: &str = r#"(component
    (component $inner
      (type $r (resource (rep i32)))
      (core func $new (canon resource.new $r))
      (core module $m
        (import "host" "new" (func $new (param i32) (result i32)))
        (func (export "flood")
          (loop $l (drop (call $new (i32.const 1))) (br $l))))
      (core instance (instantiate $m
        (with "host" (instance (export "new" (func $new)))))))
    (instance (instantiate $inner)))"#;

/// A component out of text, with a manifest that asks for nothing.
pub fn by_hand(component: &str) -> Vec<u8> {
    let component = wat::parse_str(component).expect("WebAssembly text");
    package::build(&component, &manifest("")).expect("a component")
}
