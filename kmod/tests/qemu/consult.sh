# Steering before the stack: an XDP program asks the module, which has to have types for that; and a
# module without them, which all the rest goes on with.
. ./lib.sh
module veth
asked() { VIADUCT_RELAY=module "$SUITE" --test-threads=1 --nocapture consult || fail "$1"; }

load
if [ -e /sys/kernel/btf/vmlinux ]; then
    [ -e /sys/kernel/btf/viaduct ] || fail "the module was built without types: kmod/tests/btf.sh says why"
else
    say "skipped: steering before the stack, as this kernel has no types"
fi
asked "steering before the stack"
unload
if [ -e /sys/kernel/btf/vmlinux ]; then
    objcopy --remove-section=.BTF viaduct.ko plain.ko
    insmod ./plain.ko || fail "a module without types could not be loaded"
    [ ! -e /sys/kernel/btf/viaduct ] || fail "the module still has types"
    asked "a module without types"
    unload
fi
clean_log
say "consult passed"
