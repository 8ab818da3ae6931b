#!/bin/bash
# Runs every fuzz target of every crate that has some (a folder `fuzz` beside its `src`).
#
# usage: fuzz.sh SECONDS [NAME...]      so long for each target; only the targets named, if any
#
# Stable Rust: the coverage instrumentation libFuzzer needs is switched on by compiler flags, so
# neither nightly nor cargo-fuzz is asked for. What was found interesting is kept in
# target/fuzz/corpus/NAME and used as the seed next time; a crash leaves its input there too, says
# how to repeat it, and ends the run with an error.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

seconds=${1:?usage: fuzz.sh SECONDS [NAME...]}
shift
# libFuzzer itself is C++.
if ! command -v c++ >/dev/null; then
    echo "skipped: fuzz targets: no C++ compiler; make fuzz installs one" \
        | tee -a "${VIADUCT_SKIPPED:-/dev/null}" >&2
    exit 0
fi
host=$(rustc -vV | sed -n 's/^host: //p')
work=${CARGO_TARGET_DIR:-$PWD/target}/fuzz
flags=(-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4
       -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
       -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares
       -Ccodegen-units=1 -Cdebug-assertions -Coverflow-checks --cfg=fuzzing)

# Name and seeds of each target that is wanted.
programs=()
for manifest in router/*/fuzz/Cargo.toml; do
    [ -e "$manifest" ] || continue
    names=()
    for name in $(sed -n '/^\[\[bin\]\]/,/^$/s/^name *= *"\(.*\)"/\1/p' "$manifest"); do
        if [ $# -eq 0 ] || [[ " $* " == *" $name "* ]]; then names+=("$name"); fi
    done
    [ ${#names[@]} -gt 0 ] || continue
    # The steering program is clang's.
    if [[ "$manifest" == */transport/* ]] && ! command -v clang >/dev/null; then
        echo "skipped: fuzz target steer: no clang; make fuzz installs it" \
            | tee -a "${VIADUCT_SKIPPED:-/dev/null}" >&2
        continue
    fi
    # --target keeps the flags away from build scripts and macros, which could not link with them.
    CARGO_TARGET_DIR=$work RUSTFLAGS="${flags[*]}" \
        cargo build --release --bins --manifest-path "$manifest" --target "$host"
    for name in "${names[@]}"; do programs+=("$name $(dirname "$manifest")/seeds/$name"); done
done
[ ${#programs[@]} -gt 0 ] || { echo "fuzz: no such target: ${*:-none at all}" >&2; exit 1; }

logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT

# One target; what it says comes as a whole when it is over.
run() {
    local name=$1 seeds=$2 corpus=$work/corpus/$1 program=$work/$host/release/$1
    mkdir -p "$corpus"
    # Where to begin from, kept in the source; libFuzzer writes to the first folder only.
    local folders=("$corpus")
    [ ! -d "$seeds" ] || folders+=("$seeds")
    if ! "$program" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -max_len=8192 \
        -print_final_stats=1 -artifact_prefix="$corpus/crash-" "${folders[@]}" \
        >"$logs/$name" 2>&1; then
        echo "fuzz: $name failed; repeat with: $program $corpus/crash-..." >>"$logs/$name"
        touch "$logs/$name.failed"
    fi
    { echo "fuzz: $name, $seconds s"; cat "$logs/$name"; } >&2
}

# As many at a time as there are cores.
cores=$(nproc)
for program in "${programs[@]}"; do
    while [ "$(jobs -rp | wc -l)" -ge "$cores" ]; do wait -n || true; done
    read -r name seeds <<<"$program"
    run "$name" "$seeds" &
done
wait
failed=("$logs"/*.failed)
[ ! -e "${failed[0]}" ] || {
    names=("${failed[@]##*/}")
    echo "fuzz: failed: ${names[*]%.failed}" >&2
    exit 1
}
