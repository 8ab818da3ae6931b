//! Compiles the steering program for user space, with libFuzzer's counters. Where its bounds are
//! left, an index overflows or something is divided by zero, the program ends at once.

fn main() {
    for file in ["shim", "../bpf", "../src/xdp"] {
        println!("cargo::rerun-if-changed={file}");
    }
    let mut build = cc::Build::new();
    build.compiler("clang").file("shim/steer.c").include("shim").include("../bpf");
    build.flag("-O1").flag("-Wno-unused-parameter").flag("-Wno-pointer-arith");
    build.flag("-fsanitize-coverage=inline-8bit-counters,pc-table,trace-cmp");
    build.flag("-fsanitize=bounds,shift,integer-divide-by-zero,signed-integer-overflow");
    build.flag("-fsanitize-trap=all");
    build.compile("steer");
}
