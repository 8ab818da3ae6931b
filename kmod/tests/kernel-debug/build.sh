#!/bin/bash
# Builds the distribution's kernel from its source package with our configuration, as a place to find
# the module's faults. Laid out as an unpacked kernel package, so that what builds against and boots
# Debian's kernels takes this one too. Nothing is installed. Prints the folder of the headers.
#
# usage: build.sh qemu|um            a kernel for QEMU, or user-mode Linux
# env:   VIADUCT_KERNEL_DEBUG_DIR   where to keep it, target/kernel-debug else (1 GB)
#        VIADUCT_KERNEL_SOURCE      the source package, linux-source-6.1 else
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../../.." && pwd)
cache=${VIADUCT_KERNEL_DEBUG_DIR:-$root/target/kernel-debug}
package=${VIADUCT_KERNEL_SOURCE:-linux-source-6.1}
kind=${1:?usage: build.sh qemu|um}

say() { echo "kernel-debug: $*" >&2; }

mkdir -p "$cache"
cache=$(cd "$cache" && pwd)

case $kind in
    qemu) arch=x86_64 name=viaduct-debug image=arch/x86/boot/bzImage makes="bzImage modules" ;;
    um) arch=um name=viaduct-um image=linux makes="linux modules" ;;
    *) say "no kind of kernel: $kind"; exit 1 ;;
esac
config=$cache/$kind.config
cat "$here/common.config" "$here/$kind.config" >"$config"

# Built once for a version of the source and of the configuration.
built=$cache/built-$kind
key=$(sha256sum <"$config"; sha256sum "${BASH_SOURCE[0]}")
key=$(sha256sum <<<"$key" | cut -c1-16)
if [ -e "$built" ]; then
    read -r was headers <"$built"
    if [ "$was" = "$package-$key" ]; then echo "$headers"; exit 0; fi
fi

source=$cache/$package
# Without the headers of graphics cards and other machines' device trees, which are half of it.
unpack_source() {
    local scratch
    scratch=$(mktemp -d -p "$cache")
    say "downloading $package"
    (cd "$scratch" && apt-get -q download "$package" >&2 && dpkg -x ./*.deb .)
    mkdir "$scratch/source"
    tar -C "$scratch/source" --strip-components=1 --wildcards --exclude='*/drivers/gpu/drm/*.[ch]' \
        --exclude='*/arch/*/boot/dts/*' --exclude='*/tools/testing/*' \
        --exclude='*/Documentation/*.rst' --exclude='*/Documentation/*.yaml' \
        -xf "$scratch/usr/src/$package.tar.xz"
    # User-mode Linux keeps a process's vector registers in 2,696 octets, and the newest CPUs have 11,008;
    # the CPU takes them as a whole or not at all.
    sed -i 's/\(HOST_FP_SIZE\), 2696/\1, 16384/' "$scratch/source/arch/x86/um/user-offsets.c"
    mv "$scratch/source" "$source"
    rm -rf "$scratch"
}
[ -e "$source/Makefile" ] || unpack_source

# An option whose dependencies are missing vanishes without a word.
check_config() {
    local line bad=0
    while read -r line; do
        case $line in
            CONFIG_*=*) grep -qxF "$line" "$1" ;;
            "# CONFIG_"*" is not set") ! grep -q "^$(cut -d' ' -f2 <<<"$line")=" "$1" ;;
            *) continue ;;
        esac || { say "not in the kernel's configuration: $line"; bad=1; }
    done <"$config"
    return "$bad"
}

version=$(make -s -C "$source" kernelversion)-$name
to=$cache/$version
headers=$to/usr/src/linux-headers-$version
log=$cache/build-$kind.log
mkdir -p "$headers" "$to/boot"
kbuild=(make -C "$source" "O=$headers" ARCH="$arch" LOCALVERSION="-$name" "-j$(nproc)")
say "configuring and building $version; the first time this takes long"
KCONFIG_ALLCONFIG=$config "${kbuild[@]}" allnoconfig >"$log" 2>&1
check_config "$headers/.config" || exit 1
# shellcheck disable=SC2086
nice -n 10 "${kbuild[@]}" $makes >>"$log" 2>&1 \
    || { tail -20 "$log" >&2; say "the kernel could not be built: $log"; exit 1; }
cp "$headers/$image" "$to/boot/vmlinuz-$version"
# What is built in, for modprobe to know.
"${kbuild[@]}" INSTALL_MOD_PATH="$to" modules_install >>"$log" 2>&1
echo "$package-$key $headers" >"$built"
say "$version is ready"
echo "$headers"
