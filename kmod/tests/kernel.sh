#!/bin/bash
# Gets a Debian kernel and its headers, to build against and to boot in QEMU. Nothing is installed:
# the packages are unpacked into a folder of this tree. Prints the folder of the headers.
#
# usage: kernel.sh [image]     image: the kernel and its modules too, for QEMU
# env:   VIADUCT_KERNEL        which one, as in 6.1.0-56-amd64; the distribution's current one else;
#                              `debug`, `um`: one we build, see kernel-debug/build.sh
#        VIADUCT_KERNEL_DIR    where to keep them, target/kernel else
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
case ${VIADUCT_KERNEL:-} in
    debug) exec "$here/kernel-debug/build.sh" qemu ;;
    um) exec "$here/kernel-debug/build.sh" um ;;
esac
cache=${VIADUCT_KERNEL_DIR:-$root/target/kernel}
want=${1:-headers}
mkdir -p "$cache"

say() { echo "kernel: $*" >&2; }

version=${VIADUCT_KERNEL:-}
if [ -z "$version" ]; then
    version=$(ls "$cache" | sort -V | tail -1)
fi
if [ -z "$version" ]; then
    version=$(apt-cache depends linux-image-amd64 | sed -n 's/.*Depends: linux-image-//p' | head -1)
fi
[ -n "$version" ] || { say "no kernel package is known here; apt-get update?"; exit 1; }
to=$cache/$version
headers=$to/usr/src/linux-headers-$version

# Unpacks the named packages, and what each of them needs of the kernel's own.
unpack() {
    local scratch package needed
    scratch=$(mktemp -d)
    needed=$(apt-cache depends "$1" \
        | sed -n 's/.*Depends: \(linux-\(headers\|kbuild\|compiler\)-.*\)/\1/p')
    say "downloading $1 ${needed//$'\n'/ }"
    # shellcheck disable=SC2086
    (cd "$scratch" && apt-get -q download "$1" $needed >&2)
    mkdir -p "$to"
    for package in "$scratch"/*.deb; do dpkg -x "$package" "$to"; done
    rm -rf "$scratch"
}

if [ ! -e "$headers/.unpacked" ]; then
    unpack "linux-headers-$version"
    # The package expects to live under /usr/src.
    sed -i "s,include /usr/src/,include $to/usr/src/," "$headers/Makefile"
    touch "$headers/.unpacked"
fi
# What gives a module the numbers of its types (btf.sh) is in none of 6.1's packages, but in those of later
# kernels, and knows them all.
resolver() {
    local scratch package
    package=$(apt-cache search --names-only '^linux-kbuild-6\.1[2-9]' | cut -d' ' -f1 | sort -V | tail -1)
    [ -n "$package" ] || { say "no package with resolve_btfids"; return; }
    scratch=$(mktemp -d)
    say "downloading $package"
    if (cd "$scratch" && apt-get -q download "$package" >&2); then
        dpkg --fsys-tarfile "$scratch"/*.deb \
            | tar -x -C "$to" --wildcards './usr/lib/linux-kbuild-*/tools/bpf/resolve_btfids/*'
    else
        say "$package could not be had"
    fi
    rm -rf "$scratch"
}
if ! compgen -G "$to/usr/lib/linux-kbuild-*/tools/bpf/resolve_btfids" >/dev/null; then resolver; fi

if [ "$want" = image ] && [ ! -e "$to/boot/vmlinuz-$version" ]; then
    unpack "linux-image-$version"
fi
echo "$headers"
