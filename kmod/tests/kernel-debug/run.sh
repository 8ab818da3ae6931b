#!/bin/bash
# Builds the debug kernel if it is not there, and the module for it, once as it is and once leaking;
# boots it and runs a script of tests/qemu there: `debug`, which is all of the others, else the one named.
#
# usage: run.sh [um|qemu] [netlink|churn|suite|leak|brief|debug]
#        um, the default: user-mode Linux, in minutes; qemu: two CPUs with preemption, in hours
# env:   as for tests/qemu/run.sh
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../../.." && pwd)
kind=${1:-um}

"$root/tests/setup/packages.sh" kernel kernel-debug
headers=$("$here/build.sh" "$kind")
leaky=$root/target/kmod/${headers##*/linux-headers-}/leaky
make -C "$root/kmod" module KDIR="$headers" OUT="$leaky" LEAKY=y >&2

# An emulated machine that checks every access is slow.
VIADUCT_KERNEL=${kind/qemu/debug} VIADUCT_LEAKY=$leaky/viaduct.ko VIADUCT_QEMU_S=${VIADUCT_QEMU_S:-7200} \
    "$here/../qemu/run.sh" "${2:-debug}"
