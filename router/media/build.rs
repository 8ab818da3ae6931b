//! Compiles the relay's XDP program with clang. Where there is no clang the crate is built all the
//! same: loading the program then fails with that reason, and user space relays.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=bpf");
    println!("cargo::rerun-if-env-changed=CLANG");
    let object = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default()).join("relay.bpf.o");
    if let Err(reason) = compile(&object) {
        println!("cargo::warning=no media relay in XDP in this build: {reason}");
        if let Err(error) = std::fs::write(&object, b"") {
            println!("cargo::error={}: {error}", object.display());
        }
    }
}

fn compile(object: &Path) -> Result<(), String> {
    let clang = env::var("CLANG").unwrap_or_else(|_| "clang".to_owned());
    let headers = env::var("DEP_BPF_INCLUDE").map_err(|_| "no BPF headers from libbpf-sys")?;
    let machine = env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default();
    let output = Command::new(&clang)
        .args(["-O2", "-g", "-target", "bpf", "-mcpu=v3", "-Wall", "-Werror"])
        .arg(format!("-I{headers}"))
        .arg(format!("-I/usr/include/{machine}-linux-gnu"))
        .args(["-c", "bpf/relay.bpf.c", "-o"])
        .arg(object)
        .output()
        .map_err(|error| format!("{clang}: {error} (Debian's package is clang)"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).replace('\n', "; "))
}
