# For the scripts that run in the guest.
say() { echo "guest: $*"; }
fail() { say "FAILED: $*"; exit 1; }

module() { modprobe -d "$KERNEL" "$1" || fail "the kernel's module $1"; }
load() { insmod ./viaduct.ko "$@" || fail "viaduct.ko could not be loaded"; }
unload() { rmmod viaduct || fail "viaduct could not be unloaded"; }

# The kernel has nothing to complain about since the boot, and goes on watching locks if it is one that
# does. Where allocations fail, some of kmemleak's own may: it then looks for less, but goes on.
clean_log() {
    local bad
    bad=$(dmesg | grep -E 'BUG:|WARNING:|UBSAN:|Oops|RIP:|refcount_t|ODEBUG|suspicious RCU|possible (recursive|circular|irq)|inconsistent lock|INFO: task|self-detected stall|kmemleak: (Cannot allocate a kmemleak_object|Memory pool|Kernel memory leak detector disabled)' || true)
    [ -z "$bad" ] || fail "the kernel says: $bad"
    [ ! -e /proc/lockdep_stats ] || grep -q 'debug_locks: *1' /proc/lockdep_stats \
        || fail "the kernel stopped watching locks on the way"
}

kmemleak=/sys/kernel/debug/kmemleak

# How many objects nothing points to, on a kernel that can tell. An object must have been there for
# 5 s, and unchanged from one scan to the next.
unreferenced() {
    sleep 6
    echo scan >$kmemleak
    sleep 1
    echo scan >$kmemleak
    grep -c '^unreferenced' $kmemleak || true
}

# What was leaked before the tests does not count.
forget_leaks() {
    [ -e $kmemleak ] || return 0
    say "leaks from the boot, which do not count: $(unreferenced)"
    echo clear >$kmemleak
}

no_leaks() {
    local leaks
    [ -e $kmemleak ] || return 0
    leaks=$(unreferenced)
    [ "$leaks" = 0 ] || { head -100 $kmemleak; fail "$leaks objects leaked"; }
    say "no leak"
}
