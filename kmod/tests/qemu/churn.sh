# Loads and unloads the module under traffic, ROUNDS times; then the kernel must not have complained,
# and what the module's own caches hold must be gone with it.
. ./lib.sh
module veth
VIADUCT_MODULE=$PWD/viaduct.ko VIADUCT_ROUNDS=$ROUNDS \
    "$SUITE" --exact churn::r_m8_the_module_comes_and_goes_under_traffic || fail "loading and unloading"
! grep -q '^viaduct ' /proc/modules || fail "the module is still there"
clean_log
say "loaded and unloaded $ROUNDS times"
