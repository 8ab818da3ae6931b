# For the scripts that run in the guest.
say() { echo "guest: $*"; }
fail() { say "FAILED: $*"; exit 1; }

module() { modprobe -d "$KERNEL" "$1" || fail "the kernel's module $1"; }
load() { insmod ./viaduct.ko "$@" || fail "viaduct.ko could not be loaded"; }
unload() { rmmod viaduct || fail "viaduct could not be unloaded"; }

# The kernel has nothing to complain about since the boot.
clean_log() {
    local bad
    bad=$(dmesg | grep -E 'BUG:|WARNING:|UBSAN:|Oops|RIP:|refcount_t|suspicious RCU|possible recursive|rcu_sched self-detected' || true)
    [ -z "$bad" ] || fail "the kernel says: $bad"
}
