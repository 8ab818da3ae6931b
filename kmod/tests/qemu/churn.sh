# Loads and unloads the module under traffic, once counting and ROUNDS times; then the kernel must not
# have complained.
. ./lib.sh
module veth
VIADUCT_MODULE=$PWD/viaduct.ko VIADUCT_ROUNDS=$ROUNDS \
    "$SUITE" --test-threads=1 churn:: || fail "loading and unloading"
! grep -q '^viaduct ' /proc/modules || fail "the module is still there"
clean_log
no_leaks
say "loaded and unloaded $ROUNDS times"
