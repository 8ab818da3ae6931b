#!/bin/bash
# Finds or makes a rustc that can compile for wasm32-unknown-unknown, and prints its path.
#
# usage: RUSTC=$(tests/setup/wasm-toolchain.sh) cargo build --target wasm32-unknown-unknown
#
#   VIADUCT_WASM_TOOLCHAIN  unset: rustup's target if there, else try `rustup target add`, else Debian
#                           debian: never touch rustup's toolchain;  rustup: never take Debian's
#   VIADUCT_CACHE           where the Debian toolchain lives
#                           (default: ${XDG_CACHE_HOME:-~/.cache}/viaduct/wasm)
#
# The Debian way: the security suite of Debian 12 carries `rustc-web`, a current rustc with the
# source of its own std. The packages are downloaded and unpacked, not installed, so root is not
# needed. std is built once from that source with bitcode embedded, because policies are linked with
# LTO, and put where `rustup target add` would have put it. About 140 MB of download and 100 s the
# first time, a fraction of a second afterwards.
set -euo pipefail

target=wasm32-unknown-unknown
mode=${VIADUCT_WASM_TOOLCHAIN:-auto}
cache=${VIADUCT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/viaduct/wasm}
toolchain=$cache/toolchain

say() { echo "wasm-toolchain: $*" >&2; }
die() { say "$@"; exit 1; }

# Whether the rustc $1 has a std for the target.
has_std() {
    local libdir
    libdir=$("$1" --print target-libdir --target $target 2>/dev/null) || return 1
    compgen -G "$libdir/libstd-*.rlib" >/dev/null
}

done_with() { say "taken: $2"; echo "$1"; exit 0; }

case $mode in
    auto|debian|rustup) ;;
    *) die "VIADUCT_WASM_TOOLCHAIN is '$mode'; it may be 'debian', 'rustup' or unset" ;;
esac

if [ "$mode" != debian ]; then
    rustc=$(command -v rustc) || die "no rustc on the PATH; install Rust from https://rustup.rs first"
    if has_std "$rustc"; then done_with "$rustc" "the target of the active Rust toolchain"; fi
fi
if [ "$mode" != rustup ] && has_std "$toolchain/bin/rustc"; then
    done_with "$toolchain/bin/rustc" "Debian's rustc-web, made earlier in $cache"
fi
if [ "$mode" != debian ]; then
    if command -v rustup >/dev/null && timeout 180 rustup target add $target >&2 && has_std "$rustc"
    then done_with "$rustc" "rustup target add $target"; fi
    [ "$mode" = auto ] || die "rustup could not add $target, and VIADUCT_WASM_TOOLCHAIN=rustup forbids the other way"
    say "rustup could not add $target; going the Debian way"
fi

# --- the Debian way ------------------------------------------------------------------------------

command -v cargo >/dev/null || die "no cargo on the PATH; install Rust from https://rustup.rs first"
command -v apt-get >/dev/null || die "the Debian way needs apt-get, which is not here"
mkdir -p "$cache"
exec 9>"$cache/lock"
flock 9   # two builds started together: the second waits, then finds the work done
if has_std "$toolchain/bin/rustc"; then
    done_with "$toolchain/bin/rustc" "Debian's rustc-web, made just now in $cache"
fi

work=$cache/work
rm -rf "$work" "$toolchain"
mkdir -p "$work/debs" "$work/tree/bin" "$work/lists/partial" "$work/archives/partial"
trap 'rm -rf "$work"' EXIT

# The machine's package lists may be absent (fresh image) or stale (404 on a superseded version), and
# refreshing them takes root. The second attempt therefore uses lists of its own.
apt_options=(-q -o APT::Sandbox::User=root)
private=(-o "Dir::State::lists=$work/lists" -o "Dir::Cache::archives=$work/archives"
         -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache=)

dependency() { # the first package PACKAGE=VERSION ($1) depends on whose name begins with $2
    apt-cache "${apt_options[@]}" depends "$1" | awk -v p="$2" '$1 == "Depends:" && index($2, p) == 1 { print $2; exit }'
}

download() {
    local version libstd llvm
    version=$(apt-cache "${apt_options[@]}" policy rustc-web | awk '$1 == "Candidate:" { print $2 }')
    [ -n "$version" ] && [ "$version" != "(none)" ] || return 1
    libstd=$(dependency "libstd-rust-web-dev=$version" libstd-rust-web-)
    [ -n "$libstd" ] || return 1
    llvm=$(dependency "$libstd=$version" libllvm)
    [ -n "$llvm" ] || return 1
    say "downloading rustc-web $version (about 140 MB)"
    (cd "$work/debs" && apt-get "${apt_options[@]}" download "rustc-web=$version" \
        "libstd-rust-web-dev=$version" "$libstd=$version" "rust-web-src=$version" "$llvm" >&2)
}

if ! download; then
    say "not with the machine's package lists; fetching lists of our own"
    apt_options+=("${private[@]}")
    apt-get "${apt_options[@]}" update >&2 && download \
        || die "rustc-web cannot be fetched; is bookworm-security among the package sources?"
fi

say "unpacking"
for package in "$work"/debs/*.deb; do dpkg -x "$package" "$work/tree"; done

# Finds its libraries beside itself, so that the tree may be moved.
cat >"$work/tree/bin/rustc" <<'WRAPPER'
#!/bin/bash
tree=$(dirname "$(dirname "$(readlink -f "$0")")")
libraries=$(echo "$tree"/usr/lib/*-linux-gnu)
LD_LIBRARY_PATH="$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" exec "$tree/usr/bin/rustc" "$@"
WRAPPER
chmod 755 "$work/tree/bin/rustc"
rustc=$work/tree/bin/rustc
"$rustc" -V >&2 || die "the unpacked rustc-web does not start on this machine"

# The linker for wasm comes with every rustup toolchain; rustc looks for it in its own sysroot.
sysroot=$("$rustc" --print sysroot)
host=$("$rustc" -vV | awk '$1 == "host:" { print $2 }')
linker=
for candidate in "$(rustc --print sysroot 2>/dev/null)/lib/rustlib/$host/bin/rust-lld" \
    "$(command -v wasm-ld || true)" /usr/bin/wasm-ld-*; do
    if [ -x "$candidate" ]; then linker=$candidate; break; fi
done
[ -n "$linker" ] || die "no rust-lld in the active Rust toolchain and no wasm-ld on the PATH"
mkdir -p "$sysroot/lib/rustlib/$host/bin"
cp -L "$linker" "$sysroot/lib/rustlib/$host/bin/rust-lld"

say "building std for $target (once, about 100 s of CPU)"
mkdir -p "$work/std"
printf '[package]\nname = "empty"\nversion = "0.0.0"\nedition = "2021"\n[lib]\npath = "lib.rs"\n[workspace]\n' \
    >"$work/std/Cargo.toml"
echo '#![no_std]' >"$work/std/lib.rs"
# A caller's own settings for cargo must not leak into this build.
(cd "$work/std" && env -u CARGO_TARGET_DIR -u CARGO_BUILD_TARGET -u RUSTC_WRAPPER \
    -u CARGO_ENCODED_RUSTFLAGS -u CARGO_BUILD_RUSTC_WRAPPER -u CARGO_BUILD_RUSTFLAGS \
    RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Cembed-bitcode=yes RUSTC="$rustc" \
    cargo build -q --release --target $target --target-dir "$work/std/target" \
    -Z build-std=std,panic_abort,test,proc_macro >&2) || die "std for $target did not build"
libdir=$sysroot/lib/rustlib/$target/lib
mkdir -p "$libdir"
cp "$work/std/target/$target/release/deps/"lib*.{rlib,rmeta} "$libdir/"
rm -f "$libdir"/libempty-*

# The source and the manuals are not needed any more.
rm -rf "$work/tree/usr/src" "$work/tree/usr/share"
mv "$work/tree" "$toolchain"   # in one step: an interrupted run leaves no half toolchain
has_std "$toolchain/bin/rustc" || die "the finished toolchain in $toolchain has no std; remove it and report this"
done_with "$toolchain/bin/rustc" "Debian's rustc-web, made in $cache"
