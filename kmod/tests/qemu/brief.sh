# On an emulated kernel that looks for leaks and watches locks, with several CPUs and preemption: what there
# is time for there. The whole of it is what user-mode Linux does, see kernel-debug/run.sh.
. ./lib.sh
[ -e $kmemleak ] || fail "this kernel does not look for leaks"
[ -e /proc/lockdep_stats ] || fail "this kernel does not watch locks"
module veth
load
VIADUCT_RELAY=module "$SUITE" --test-threads=1 forward:: || fail "the relay suite"
unload
clean_log
. ./netlink.sh
ROUNDS=5
. ./churn.sh
. ./leak.sh
say "brief passed"
