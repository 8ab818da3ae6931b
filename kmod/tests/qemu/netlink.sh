# MESSAGES right, spoilt and random netlink messages from SEED on, with packets meanwhile.
. ./lib.sh
faults=/sys/kernel/debug/failslab
if [ -d $faults ]; then
    # Also those that may wait; without a word for each.
    echo 0 >$faults/ignore-gfp-wait
    echo 0 >$faults/verbose
fi
# Fewer sessions than the fuzzer's places have room for, so that the limit is met.
load sessions_max=20
./netlink-fuzz "$MESSAGES" "$SEED" || fail "netlink messages, seed $SEED"
unload
clean_log
no_leaks
