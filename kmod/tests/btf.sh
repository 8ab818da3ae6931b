#!/bin/bash
# Gives a module the types (BTF) without which XDP programs cannot call it. The kernel's own build does
# that only where its whole source was built; this needs pahole (Debian: dwarves), resolve_btfids, which
# some headers packages lack, and the types of the kernel the module is for. Where one is missing the
# module stays as it is, and works but for that.
#
# usage: btf.sh MODULE HEADERS [KERNEL]     KERNEL: its version, if HEADERS does not end in it
set -euo pipefail
module=$1 headers=$2
version=${3:-${headers##*/linux-headers-}}

without() { echo "btf: XDP programs cannot consult the module: $*" >&2; exit 0; }

has_types() { readelf -SW "$1" 2>/dev/null | grep -q ' \.BTF '; }
! has_types "$module" || exit 0
config=$headers/include/config
[ -e "$config/DEBUG_INFO_BTF_MODULES" ] || without "that kernel has no types of modules"
command -v pahole >/dev/null || without "no pahole (Debian: dwarves)"

# Beside the headers, or unpacked there by kernel.sh.
resolver=
for found in "$headers"/tools/bpf/resolve_btfids/resolve_btfids \
    "$headers"/../../lib/linux-kbuild-*/tools/bpf/resolve_btfids/resolve_btfids \
    /usr/lib/linux-kbuild-*/tools/bpf/resolve_btfids/resolve_btfids; do
    [ ! -x "$found" ] || { resolver=$found; break; }
done
[ -n "$resolver" ] || without "no resolve_btfids (Debian: linux-kbuild-6.12 or later)"

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# The types as they are in the image: uncompressed behind the loader, which says neither where nor how.
from_image() { # IMAGE
    local kind magic open at
    while read -r kind magic open; do
        for at in $(LC_ALL=C grep -abo -P "$magic" "$1" | cut -d: -f1); do
            # It ends where the loader goes on, of which the program may complain.
            # shellcheck disable=SC2086
            tail -c+$((at + 1)) "$1" | $open >"$scratch/$kind" 2>/dev/null || true
            objcopy -O binary --only-section=.BTF "$scratch/$kind" "$scratch/types" 2>/dev/null \
                || true
            [ ! -s "$scratch/types" ] || return 0
        done
    done <<'END'
xz \xfd7zXZ\x00 xz -dcq
gzip \x1f\x8b\x08 gzip -dcq
zstd \x28\xb5\x2f\xfd zstd -dcq
END
    return 1
}

image=$headers/../../../boot/vmlinuz-$version
if [ -e /sys/kernel/btf/vmlinux ] && [ "$version" = "$(uname -r)" ]; then
    types=/sys/kernel/btf/vmlinux
elif [ -s "$headers/.types" ]; then
    types=$headers/.types
elif [ -e "$image" ]; then
    from_image "$image" || without "no types in $image"
    mv "$scratch/types" "$headers/.types"
    types=$headers/.types
else
    without "the types of $version are in its image, which is not here"
fi

cp "$module" "$scratch/module.ko"
# Kernels before 6.0 would not know the kind of type that is left out.
LLVM_OBJCOPY=$(command -v objcopy) pahole -J --btf_base "$types" --skip_encoding_btf_enum64 \
    "$scratch/module.ko" || without "pahole failed"
"$resolver" -b "$types" "$scratch/module.ko" || without "resolve_btfids failed"
has_types "$scratch/module.ko" || without "pahole found no types: no debug information?"
mv "$scratch/module.ko" "$module"
