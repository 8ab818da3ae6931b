//! Compiles the steering program and the sieve with clang. Where there is no clang the crate is built all the
//! same: opening AF_XDP then fails with that reason, and kernel sockets serve.

mod build_bpf;

fn main() {
    println!("cargo::rerun-if-changed=build_bpf.rs");
    build_bpf::build("steer", "no AF_XDP: the steering program is not there");
    build_bpf::build("sieve", "under pressure the kernel drops nothing for us");
}
