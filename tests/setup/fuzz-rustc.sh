#!/bin/bash
# The compiler for fuzz targets, for fuzz.sh as RUSTC_WORKSPACE_WRAPPER: our own crates get the counters
# libFuzzer steers by. Cargo asks it for members of the workspace alone, and keeps what it makes apart
# from other builds. After a change of the flags here remove what is in target/debug.
#
# usage: fuzz-rustc.sh RUSTC ARGUMENT...
set -euo pipefail

rustc=$1
shift
case " $* " in
    # What runs while others are built has no libFuzzer to link with; questions are no builds.
    *" build_script_"* | *" proc-macro "* | *" --print"*) exec "$rustc" "$@" ;;
esac
case ${CARGO_PKG_NAME-} in
    # Large, and of them the configuration alone is run.
    viaduct | viaduct-location | viaduct-transport) level=1 ;;
    *) level=3 ;;
esac
exec "$rustc" "$@" -Copt-level=$level -Ccodegen-units=1 -Cdebug-assertions -Coverflow-checks \
    -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares
