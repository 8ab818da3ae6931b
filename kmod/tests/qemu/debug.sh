# On a kernel that looks for leaks and watches locks: everything the other scripts do, then a module
# that leaks, which must be found.
. ./lib.sh
[ -e $kmemleak ] || fail "this kernel does not look for leaks"
[ -e /proc/lockdep_stats ] || fail "this kernel does not watch locks"
. ./suite.sh
. ./leak.sh
