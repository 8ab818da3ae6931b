# A module built to leak is found out: what the search for leaks says of the other one is worth
# something.
. ./lib.sh
[ -e $kmemleak ] || fail "this kernel does not look for leaks"
[ -e viaduct-leaky.ko ] || fail "there is no leaking module to find"
module veth
insmod ./viaduct-leaky.ko || fail "the leaking module could not be loaded"
VIADUCT_RELAY=module "$SUITE" --exact \
    forward::r_m2_packets_are_relayed_both_ways_and_counted_exactly || fail "the leaking module's call"
unload
leaks=$(unreferenced)
[ "$leaks" != 0 ] || fail "a module that leaks was not found out"
head -24 $kmemleak
say "the leaking module was found out: $leaks objects"
clean_log
