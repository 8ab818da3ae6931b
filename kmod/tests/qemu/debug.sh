# Everything the other scripts do, on a kernel that looks for leaks and watches locks; at last a
# module that leaks, which must be found.
. ./lib.sh
kmemleak=/sys/kernel/debug/kmemleak
[ -w $kmemleak ] || fail "this kernel does not look for leaks"
[ -e /proc/lockdep_stats ] || fail "this kernel does not watch locks"
[ -e viaduct-leaky.ko ] || fail "there is no leaking module to find"

# How many objects nothing points to. An object must have been seen unchanged twice, 5 s apart.
unreferenced() {
    sleep 6
    echo scan >$kmemleak
    sleep 1
    echo scan >$kmemleak
    grep -c '^unreferenced' $kmemleak || true
}

say "leaks before the module was loaded, which do not count: $(unreferenced)"
echo clear >$kmemleak
. ./suite.sh
leaks=$(unreferenced)
[ "$leaks" = 0 ] || { head -200 $kmemleak; fail "$leaks objects leaked"; }
say "no leak after the suite, $MESSAGES messages and $ROUNDS loads"

insmod ./viaduct-leaky.ko || fail "the leaking module could not be loaded"
VIADUCT_RELAY=module "$SUITE" --exact \
    forward::r_m2_packets_are_relayed_both_ways_and_counted_exactly || fail "the leaking module's call"
unload
leaks=$(unreferenced)
[ "$leaks" != 0 ] || fail "a module that leaks was not found out"
grep -q '\[viaduct\]' $kmemleak || fail "what leaked has nothing to do with the module"
say "the leaking module was found out: $leaks objects"

clean_log
grep -q 'debug_locks: *1' /proc/lockdep_stats || fail "the kernel stopped watching locks on the way"
