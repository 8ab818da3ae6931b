#!/bin/bash
# Builds the router as it serves best: twice, the second time for what the first one was seen to do
# (profile-guided optimisation). The training is the load of `make bench` (OPTIONS, registrations and
# calls by kernel sockets, and by AF_XDP where that can be had), the shipped policies message by
# message, and `make soak` for TCP, stores, swaps and what else a router lives through. What is never
# seen is made small instead of quick. Where there is BOLT (Debian: bolt-16), the blocks of the built
# program that run are then laid side by side: a message takes more instructions than the processor's
# first cache holds.
#
# usage: optimised.sh BENCH        the load generator; make bench and make optimised build it
# env:   VIADUCT_SOAK_S            how long the soak trains, 20 s else
#
# The program is target/optimised/release/viaduct. Both builds are by the toolchain that is there, so
# nothing of the profile is kept in the source.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

bench=${1:?usage: optimised.sh BENCH}
cargo=${CARGO:-cargo}
target=${CARGO_TARGET_DIR:-$PWD/target}
mkdir -p "$target/optimised"
target=$(cd "$target" && pwd)
out=$target/optimised
profile=$out/profile
host=$(rustc -vV | sed -n 's/^host: //p')

say() { echo "optimised: $*" >&2; }
die() { say "$@"; exit 1; }

# The tool that reads profiles must be of the compiler's own LLVM.
reader() {
    local found
    found=$(dirname "$(rustc --print target-libdir)")/bin/llvm-profdata
    [ -x "$found" ] || rustup component add llvm-tools >&2 \
        || die "rustup cannot install llvm-tools, which reads what was seen"
    echo "$found"
}

# Both by the same profile of Cargo.toml: with another one functions bear other names, and what was seen
# of them is lost without a word. --target keeps the flags away from build scripts and macros.
build() { # FLAGS FOLDER
    CARGO_TARGET_DIR=$2 RUSTFLAGS=$1 "$cargo" build --release --target "$host" \
        -p viaduct --bin viaduct --example message_cost
}

# Several processes add to one file when they end.
trained() { LLVM_PROFILE_FILE=$profile/%4m.profraw "$@"; }

train() { # FOLDER OF THE PROGRAMS
    local router=$1/viaduct policy
    local load=("$bench" --viaduct "$router" --viaduct-config tests/bench/viaduct.toml --runs 1)
    say "training: the load of make bench"
    trained "${load[@]}" --scale 200 --only viaduct >&2
    trained "${load[@]}" --veth --only viaduct-xdp >&2 || say "not trained over AF_XDP: see above"
    say "training: policies"
    # Those that message_cost measures by itself.
    for policy in registrar default-script hunt-group outbound-proxy mid-registrar; do
        trained "$1/examples/message_cost" "policies/$policy/$policy.wasm" kept 30 >/dev/null
    done
    say "training: the soak"
    "$cargo" test --workspace --test soak --no-run
    # It judges, too, but a router that counts is slow: that it ran is enough.
    VIADUCT_BIN=$router VIADUCT_SOAK_S=${VIADUCT_SOAK_S:-20} trained "$cargo" test --workspace \
        --test soak -- nothing_is_lost >&2 || say "the soak was not content with it: see above"
}

# Counts which blocks of a built program run under the same load, and lays them out by that.
bolt=$(command -v llvm-bolt || command -v llvm-bolt-16 || true)
# It looks for what it needs beside itself.
[ -z "$bolt" ] || bolt=$(realpath "$bolt")
lay_out() {
    local name counted=$out/counting program=$out/built/$host/release
    rm -rf "$counted"
    mkdir -p "$counted/examples"
    for name in viaduct examples/message_cost; do
        "$bolt" "$program/$name" -o "$counted/$name" -instrument \
            -instrumentation-file="$counted/$name" -instrumentation-file-append-pid >&2
    done
    train "$counted"
    for name in viaduct examples/message_cost; do
        "${bolt%/*}/merge-fdata" "$counted/$name".*.fdata >"$counted/$name.seen"
        "$bolt" "$program/$name" -o "$counted/$name.laid" -data="$counted/$name.seen" \
            -reorder-blocks=ext-tsp -reorder-functions=hfsort+ -split-functions -split-all-cold \
            -split-eh -icf=1 -dyno-stats >&2
        mv "$counted/$name.laid" "$out/release/$name"
    done
}

# Are most of the program's functions known to the profile? Those of C and of the assembler are not Rust's.
known() {
    local all some
    nm --defined-only "$out/built/$host/release/viaduct" \
        | awk '$2 ~ /[tT]/ && $3 ~ /^_(ZN|R)/ {print $3}' | sort -u >"$profile/functions"
    "$reader" show --all-functions "$seen" | sed -n 's/^  \(.*;\)\?\(_[ZR][^ ]*\):$/\2/p' \
        | sort -u >"$profile/known"
    all=$(wc -l <"$profile/functions")
    some=$(comm -12 "$profile/functions" "$profile/known" | wc -l)
    say "$some of $all functions were counted"
    [ $((2 * some)) -gt "$all" ]
}

reader=$(reader)
seen=$profile/seen.profdata
# Retrained when anything it is built from has changed.
changed() {
    [ ! -e "$seen" ] || [ -n "$(find Cargo.lock Cargo.toml router guest-sdk/wit \
        \( -name '*.rs' -o -name '*.toml' -o -name '*.wit' -o -name Cargo.lock -o -name '*.[ch]' \) \
        -newer "$seen" -print -quit)" ]
}
if changed; then
    say "building a router that counts what it does"
    build "-Cprofile-generate=$profile" "$out/training"
    rm -rf "$profile"
    mkdir -p "$profile"
    train "$out/training/$host/release"
    "$reader" merge -o "$seen" "$profile"/*.profraw
    rm -f "$profile"/*.profraw
fi
say "building for what was seen"
build "-Cprofile-use=$seen -Cllvm-args=-pgo-warn-missing-function=false -Clink-arg=-Wl,--emit-relocs" "$out/built"
known || die "the program has other functions than what was seen: is anything set that changes names?"
mkdir -p "$out/release/examples"
if [ -n "$bolt" ]; then
    say "laying out what runs"
    lay_out
else
    say "no llvm-bolt here (Debian: bolt-16); the blocks stay where the compiler has put them"
    ln -f "$out/built/$host/release/viaduct" "$out/release/viaduct"
    ln -f "$out/built/$host/release/examples/message_cost" "$out/release/examples/message_cost"
fi
say "$out/release/viaduct"
