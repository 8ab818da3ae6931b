#!/bin/bash
# Gets what policies in another language are made with, and prints the folder of its programs.
#
# usage: languages.sh python|c
#
#   python   componentize-py from PyPI, in a virtual environment
#   c        clang, lld and wasi-libc of Debian; wit-bindgen from crates.io
#
# It lives in a folder of its own below cargo's target folder. Does nothing, quickly, when everything is
# there. What cannot be had is told on the last line of stderr, and the exit status is 1.
set -euo pipefail

componentize_py=0.25.1
# As router/policy and guest-sdk: the generator and the encoder must speak of one contract.
wit_bindgen=0.61.1

here=$(cd "$(dirname "$0")" && pwd)
target=${CARGO_TARGET_DIR:-$here/../../target}
mkdir -p "$target"
target=$(cd "$target" && pwd)

die() { echo "languages: $*" >&2; exit 1; }

python() {
    local dir=$target/python
    if [ ! -x "$dir/bin/componentize-py" ]; then
        "$here/packages.sh" python >&2 || die "no python3-venv"
        python3 -m venv "$dir" >&2 || die "no virtual environment in $dir"
        "$dir/bin/pip" install --quiet "componentize-py==$componentize_py" >&2 \
            || die "pip cannot install componentize-py $componentize_py"
    fi
    echo "$dir/bin"
}

c() {
    local dir=$target/c
    "$here/packages.sh" c >&2 || die "no compiler for C to WebAssembly"
    if [ "$("$dir/bin/wit-bindgen" --version 2>/dev/null)" != "wit-bindgen-cli $wit_bindgen" ]; then
        # Unoptimised it is built in half the time, and is as good for one small world.
        "${CARGO:-cargo}" install --quiet --debug --locked --root "$dir" --no-default-features \
            --features c "wit-bindgen-cli@$wit_bindgen" >&2 \
            || die "cargo cannot install wit-bindgen-cli $wit_bindgen"
    fi
    echo "$dir/bin"
}

case ${1-} in
    python|c) "$1" ;;
    *) die "name one of: python c" ;;
esac
