#!/bin/bash
# Runs every fuzz target of every crate that has some (a folder `fuzz` beside its `src`).
#
# usage: fuzz.sh SECONDS [NAME...]      so long for each target; only the targets named, if any
#
# Stable Rust: the coverage instrumentation libFuzzer needs is switched on by compiler flags, so
# neither nightly nor cargo-fuzz is asked for. Our own crates have it (fuzz-rustc.sh); those of others
# are what `make test` has built of them, so that even the WebAssembly engine costs nothing here. What
# was found interesting is kept in target/fuzz/corpus/NAME and used as the seed next time; a crash
# leaves its input there too, says how to repeat it, and ends the run with an error.
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
target=${CARGO_TARGET_DIR:-$PWD/target}
work=$target/fuzz

# Name and seeds of each target that is wanted, and how cargo is asked for it.
programs=()
wanted=()
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
    wanted+=(--features "$(sed -n '0,/^name *= *"\(.*\)"/s//\1/p' "$manifest")/fuzz")
    for name in "${names[@]}"; do
        programs+=("$name $(dirname "$manifest")/seeds/$name")
        wanted+=(--bin "$name")
    done
done
[ ${#programs[@]} -gt 0 ] || { echo "fuzz: no such target: ${*:-none at all}" >&2; exit 1; }
# The whole workspace, so that cargo gives other people's crates the features `make test` gave them.
RUSTC_WORKSPACE_WRAPPER=$PWD/tests/setup/fuzz-rustc.sh CARGO_INCREMENTAL=0 \
    cargo build --workspace "${wanted[@]}"

logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT

# One target; what it says comes as a whole when it is over.
run() {
    local name=$1 seeds=$2 corpus=$work/corpus/$1 program=$target/debug/$1
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
