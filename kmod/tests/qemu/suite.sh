# The shared relay suite against the module, netlink messages of all kinds, steering, then loading and
# unloading it under traffic.
. ./lib.sh
module veth
# For one test, which says so where there is none.
modprobe -d "$KERNEL" xfrm_user || true
load
# A test waits for events; on an emulated machine one at a time is quicker than all at once.
# shellcheck disable=SC2086
VIADUCT_RELAY=module "$SUITE" --test-threads=1 --skip consult:: $ARGS || fail "the relay suite"
# Once more with the packets taken at the devices' ingress.
# shellcheck disable=SC2086
VIADUCT_RELAY=module VIADUCT_INGRESS=1 "$SUITE" --test-threads=1 --skip consult:: $ARGS || fail "the suite at ingress"
unload
clean_log
. ./consult.sh
. ./netlink.sh
if [ "$(nproc)" -gt 1 ]; then . ./steer.sh; else say "skipped: steering, with one CPU"; fi
. ./churn.sh
say "suite passed"
