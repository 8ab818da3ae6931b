#!/bin/bash
# Builds the debug kernel if it is not there, and the module for it, once as it is and once leaking;
# boots it in QEMU and runs a script of tests/qemu there: `debug`, which is all of the others, else the
# one named.
#
# usage: run.sh [netlink|churn|suite|leak|debug]
# env:   as for tests/qemu/run.sh
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../../.." && pwd)

"$root/tests/setup/packages.sh" kernel kernel-debug
headers=$("$here/build.sh")
leaky=$root/target/kmod/${headers##*/linux-headers-}/leaky
make -C "$root/kmod" module KDIR="$headers" OUT="$leaky" LEAKY=y >&2

# An emulated machine that checks every access is slow.
VIADUCT_KERNEL=debug VIADUCT_LEAKY=$leaky/viaduct.ko VIADUCT_QEMU_S=${VIADUCT_QEMU_S:-7200} \
    "$here/../qemu/run.sh" "${1:-debug}"
