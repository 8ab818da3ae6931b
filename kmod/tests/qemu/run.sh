#!/bin/bash
# Boots the distribution's kernel in QEMU, with this machine's own files as its read-only root, loads
# the module and runs a script there. Without KVM that takes minutes rather than seconds. User-mode Linux
# is booted without QEMU.
#
# usage: run.sh [suite|churn|netlink|consult|steer|router|vlan|bench|debug|brief|leak]
#                            `suite`, the default, has `netlink`, `consult`, `steer` and `churn` in it; for
#                            `router` see router-files.sh; `vlan` has no need of the module, but of a
#                            kernel with VLANs; `bench` counts instructions; for the last three see
#                            kernel-debug/run.sh
# env:   ARGS                to the relay suite, such as part of a test's name; to `vlan`: such a part;
#                            to `bench`: what is measured, such as `module`
#        VIADUCT_BIN         the router for `router` and `vlan`, target/release/viaduct else
#        ROUNDS              how often `churn` loads and unloads, 20 else
#        MESSAGES SEED       of the netlink fuzzer, 20000 and 1 else
#        VIADUCT_LEAKY       a module built to leak, for `debug` and `leak`
#        VIADUCT_KERNEL      see tests/kernel.sh
#        VIADUCT_QEMU_S      how long it may take, 1800 s else
#        VIADUCT_QEMU_CPU    arguments instead of emulation, such as "-accel kvm -cpu host"
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../../.." && pwd)
script=${1:-suite}
out=$root/target/kmod

say() { echo "qemu: $*" >&2; }

"$root/tests/setup/packages.sh" kernel
headers=$("$here/../kernel.sh" image)
version=${headers##*/linux-headers-}
kernel=$(cd "$headers/../../.." && pwd)
# Each kernel has a module of its own.
make -C "$root/kmod" module KDIR="$headers" OUT="$out/$version" >&2
make -C "$root/kmod" guest OUT="$out" >&2

# What runs in the guest, as it was built here.
suites=()
built() { # test|bench PACKAGE NAME...
    local kind=$1 package=$2 json name found
    shift 2
    json=$(cd "$root" \
        && nice -n 10 cargo "$kind" --workspace "${@/#/--$kind=}" --no-run --message-format=json)
    for name; do
        found=$(sed -n "/\"package_id\":\"[^\"]*$package/s/.*\"executable\":\"\([^\"]*\/$name-[^\"]*\)\".*/\1/p" \
            <<<"$json" | tail -1)
        [ -r "$found" ] || { say "$name could not be built"; exit 1; }
        suites+=("$found")
    done
}
case $script in
    bench) built bench viaduct-media relay_cost ;;
    router | netlink | steer) ;; # they need none
    vlan) built test viaduct-tests xdp ladder phone path keepalive auth ;;
    *) built test viaduct-media relay ;;
esac
# Time is what the one CPU has executed, a nanosecond an instruction. So what `bench` counts is exact, and
# for `router` and `vlan`, where people would be waiting, the machine is as quick as a real one, however
# slow or busy the one it is emulated on. Where nothing is done it passes at once; but for `vlan` as it does
# here, as much of the waiting there is for this machine's files.
counted="-smp 1 -accel tcg,thread=single,tb-size=512 -cpu qemu64 -icount shift=0,sleep"
# For the others two CPUs take turns on one thread: with a thread each, QEMU may go on executing what the
# kernel has replaced meanwhile, as it does when a hook is attached under traffic, and a guest hangs.
case $script in
    bench | router) machine="$counted=off" ;;
    vlan) machine="$counted=on" ;;
    *) machine="-smp 2 ${VIADUCT_QEMU_CPU:--accel tcg,thread=single,tb-size=512 -cpu qemu64}" ;;
esac

share=$(mktemp -d)
trap 'rm -rf "$share"' EXIT
cp "$here"/*.sh "$share/"
[ "$script" != router ] || "$here/router-files.sh" "$share"
if [ "$script" = vlan ]; then
    cp "${VIADUCT_BIN:-$root/target/release/viaduct}" "$share/viaduct" \
        || { say "there is no router: make policies"; exit 1; }
fi
# A copy, so that building meanwhile does not change what runs.
cp "$out/$version/viaduct.ko" "${suites[@]}" "$out"/guest/* "$share/"
[ -z "${VIADUCT_LEAKY:-}" ] || cp "$VIADUCT_LEAKY" "$share/viaduct-leaky.ko"
cat >"$share/env" <<END
SCRIPT=$script
SUITE="${suites[*]/#*\//./}"
KERNEL=$kernel
ARGS="${ARGS:-}"
ROUNDS=${ROUNDS:-20}
MESSAGES=${MESSAGES:-20000}
SEED=${SEED:-1}
END

boot_qemu() {
    local initrd=$out/initrd-$version.gz cpu
    read -ra cpu <<<"$machine"
    if [ ! -e "$initrd" ] || [ "$here/mkinitrd.sh" -nt "$initrd" ]; then
        "$here/mkinitrd.sh" "$version" "$kernel" "$initrd"
    fi
    # On a busy machine its timer may not come in time for the kernel to believe in it, and a CPU may wait
    # for its turn so long that the other takes it for locked up: two minutes it may, what hangs does longer.
    "${limit[@]}" qemu-system-x86_64 -M q35 "${cpu[@]}" -m 2G \
        -nographic -no-reboot -nodefaults -serial stdio \
        -kernel "$kernel/boot/vmlinuz-$version" -initrd "$initrd" \
        -append "console=ttyS0 panic=-1 panic_on_warn=0 mitigations=off no_timer_check watchdog_thresh=60 quiet" \
        -virtfs "local,path=/,mount_tag=rootfs,security_model=none,readonly=on,multidevs=remap" \
        -virtfs "local,path=$share,mount_tag=share,security_model=none,multidevs=remap" </dev/null
}

# User-mode Linux: a process of this machine. It finds its place in memory at fixed addresses only.
boot_um() {
    "${limit[@]}" setarch --addr-no-randomize "$kernel/boot/vmlinuz-$version" mem=2G quiet panic=-1 \
        root=/dev/root rootfstype=hostfs rootflags=/ ro init="$share/um-init.sh" share="$share" \
        con=null con0=null,fd:1 </dev/null
}

say "booting $version"
limit=(nice -n 10 timeout "${VIADUCT_QEMU_S:-1800}")
if [ "${VIADUCT_KERNEL:-}" = um ]; then boot_um || true; else boot_qemu || true; fi
[ -e "$share/exitcode" ] || { say "the guest did not finish"; exit 1; }
code=$(cat "$share/exitcode")
[ "$code" = 0 ] || say "failed ($code)"
exit "$code"
