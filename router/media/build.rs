//! Compiles the relay's XDP programs with clang. Where there is no clang the crate is built all the
//! same: loading the program then fails with that reason, and user space relays.

#[path = "../transport/build_bpf.rs"]
mod build_bpf;

fn main() {
    println!("cargo::rerun-if-changed=../transport/build_bpf.rs");
    build_bpf::build("relay", "no media relay in XDP");
    println!("cargo::rerun-if-changed=../../kmod/uapi/viaduct.h");
    build_bpf::build("consult", "no steering before the stack");
}
