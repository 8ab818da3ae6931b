//! What a run of a policy costs, in ns: median of some batches, low decile beside it.
//!
//! `cargo run --release -p viaduct-policy --example cost [MODULE.wasm policy.toml]`: with a module
//! and its manifest it measures a REGISTER through that policy.
// What fails here is a fault of the test, and helpers may say so.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "../tests/common/mod.rs"]
mod common;

use std::time::Instant;

use common::{ANSWERED, Guest, RELAY, host, manifest, register, reply};
use viaduct_engine::{Phase, Policy, Run};
use viaduct_policy::PolicyHost;

const BATCHES: usize = 200;
const RUNS: usize = 500;

const IMPORTS: &str = r#"
  (import "viaduct:policy/usrloc@1.0.0" "save"
    (func $save (param i32 i32 i32 i32 i32 i32 i32 i32)))
  (import "viaduct:policy/message@1.0.0" "get" (func $get (param i32 i32)))
  (import "viaduct:policy/log@1.0.0" "write" (func $log (param i32 i32 i32)))
  (import "viaduct:policy/routing@1.0.0" "record-route" (func $rr))"#;
const DATA: &str = r#"(data (i32.const 200) "locationpath-lazy, path-receivedContent-Length")"#;

fn guest(body: &str, manifest_rest: &str) -> PolicyHost {
    let grants = "[grants]\nmessage = true\nrouting = true\nlog = true\n\
                  usrloc = { location = \"write\" }\n";
    let guest = Guest { imports: IMPORTS, on_request: body, rest: DATA, ..Guest::default() };
    host(&guest.build(&manifest(&format!("{manifest_rest}\n{grants}"))))
}

/// ns of one `decide`, and of what surrounds it in a loop.
fn measure(host: &mut PolicyHost, mut run: Box<Run>) -> (f64, f64) {
    let version = host.current();
    let mut batches = Vec::with_capacity(BATCHES);
    for _ in 0..BATCHES {
        let begun = Instant::now();
        for _ in 0..RUNS {
            let (back, verdict) = host.decide(&version, Phase::Request, run);
            run = back;
            run.effects.clear();
            assert!(verdict.is_ok(), "{:?}", version.last_failure());
        }
        batches.push(begun.elapsed().as_nanos() as f64 / RUNS as f64);
    }
    batches.sort_by(f64::total_cmp);
    (batches[BATCHES / 2], batches[BATCHES / 10])
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    println!("{:<50}{:>10}{:>12}", "ns a run", "median", "low decile");
    match args.as_slice() {
        [module, manifest] => measure_file(module, manifest),
        _ => measure_all(),
    }
}

fn print(name: &str, (median, low): (f64, f64)) {
    println!("{name:<50}{median:>10.0}{low:>12.0}");
}

fn measure_file(module: &str, manifest: &str) {
    let module = std::fs::read(module).expect("the module");
    let manifest = std::fs::read_to_string(manifest).expect("the manifest");
    let component = viaduct_policy::package::build(&module, &manifest).expect("a package");
    print("REGISTER, instance reused", measure(&mut host(&component), register()));
    let others = manifest.lines().filter(|line| !line.starts_with("isolation"));
    let fresh = others.fold("isolation = \"message\"\n".to_owned(), |all, line| all + line + "\n");
    let component = viaduct_policy::package::build(&module, &fresh).expect("a package");
    print("REGISTER, fresh instance", measure(&mut host(&component), register()));
}

fn measure_all() {
    let save = format!(
        "(call $save (i32.const 200) (i32.const 8) (i32.const 208) (i32.const 24)
           (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 16)) {ANSWERED}"
    );
    let get = format!("(call $get (i32.const 2) (i32.const 16)) {RELAY}");
    let record_route = format!("(call $rr) {RELAY}");
    let log = format!("(call $log (i32.const 2) (i32.const 208) (i32.const 24)) {RELAY}");
    let not_found = reply(404, 200, 8);
    let cases = [
        ("no host call, relay", RELAY, ""),
        ("no host call, reply with reason", &not_found, ""),
        ("one call: record-route", &record_route, ""),
        ("one call: message.get", &get, ""),
        ("one call: log.write", &log, ""),
        ("one call: usrloc.save (registrar core included)", &save, ""),
        ("fresh instance, relay", RELAY, "isolation = \"message\""),
        ("fresh instance, usrloc.save", &save, "isolation = \"message\""),
    ];
    for (name, body, rest) in cases {
        print(name, measure(&mut guest(body, rest), register()));
    }
    let native = {
        let mut run = register();
        let flags = viaduct_engine::registrar::SaveFlags::parse("p1v").expect("flags");
        let begun = Instant::now();
        for _ in 0..100_000 {
            run.effects.clear();
            run.save("location", &flags, None).expect("a good REGISTER");
        }
        begun.elapsed().as_nanos() as f64 / 100_000.0
    };
    println!("{:<50}{native:>10.0}", "for comparison: save natively");
}
