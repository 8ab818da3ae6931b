#!/bin/bash
# Shows that the simulation finds faults: breaks a copy of the source in one place after the other
# (mutants/*.patch), and expects some seed to fail each time. `make sim-mutants`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
seeds=${SEEDS:-2000}
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}
export RUST_BACKTRACE=0
# Always the same place, so that a second run finds what the first has built. It is no part of the
# repository around it, or patches would be looked for there.
copy=$CARGO_TARGET_DIR/sim-mutants
export GIT_CEILING_DIRECTORIES=$CARGO_TARGET_DIR
# The last mutant must not be taken for the simulation.
trap 'rm -rf "$copy" "$CARGO_TARGET_DIR/debug/sim"' EXIT
rm -rf "$copy"
mkdir -p "$copy"

git ls-files -z | xargs -0 cp -d --parents -t "$copy"
# The policies as they have been built: a mutant is a broken router, not a broken policy.
cp --parents policies/*/*.wasm "$copy"
found=0 missed=0
for patch in tests/sim/mutants/*.patch; do
    name=$(basename "$patch" .patch)
    git -C "$copy" apply "$PWD/$patch"
    # The whole workspace, so that other people's crates are those `make test` has built.
    (cd "$copy" && cargo build -q --workspace --bin sim 2>"$copy/build.log") ||
        { cat "$copy/build.log"; echo "$name does not build"; exit 1; }
    if output=$("$CARGO_TARGET_DIR/debug/sim" --seeds "$seeds" --quick --out "$copy/out" 2>&1); then
        echo "MISSED $name: $seeds seeds found nothing"
        missed=$((missed + 1))
    else
        echo "found  $name: $(grep -m1 '^seed' <<<"$output")"
        found=$((found + 1))
    fi
    git -C "$copy" apply -R "$PWD/$patch"
done
echo "$found of $((found + missed)) faults found"
[ "$missed" -eq 0 ]
