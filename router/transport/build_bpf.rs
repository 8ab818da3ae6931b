//! Compiles a BPF program with clang; shared by the build scripts of the crates that have one.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Makes `OUT_DIR/NAME.bpf.o` of `bpf/NAME.bpf.c`. Where that cannot be done the object is empty, the
/// crate is built all the same, and the warning says what is `missing` for which reason.
pub(crate) fn build(name: &str, missing: &str) {
    println!("cargo::rerun-if-changed=bpf");
    println!("cargo::rerun-if-env-changed=CLANG");
    let object = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    let object = object.join(format!("{name}.bpf.o"));
    if let Err(reason) = compile(name, &object) {
        println!("cargo::warning={missing} in this build: {reason}");
        if let Err(error) = std::fs::write(&object, b"") {
            println!("cargo::error={}: {error}", object.display());
        }
    }
}

fn compile(name: &str, object: &Path) -> Result<(), String> {
    let clang = env::var("CLANG").unwrap_or_else(|_| "clang".to_owned());
    let headers = env::var("DEP_BPF_INCLUDE").map_err(|_| "no BPF headers from libbpf-sys")?;
    let machine = env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default();
    let output = Command::new(&clang)
        .args(["-O2", "-g", "-target", "bpf", "-mcpu=v3", "-Wall", "-Werror"])
        .arg(format!("-I{headers}"))
        .arg(format!("-I/usr/include/{machine}-linux-gnu"))
        .arg("-c")
        .arg(format!("bpf/{name}.bpf.c"))
        .arg("-o")
        .arg(object)
        .output()
        .map_err(|error| format!("{clang}: {error} (Debian's package is clang)"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).replace('\n', "; "))
}
