# What a relayed packet costs. `run.sh bench` boots with a clock that counts instructions.
. ./lib.sh
module veth
load
# A third of what rtpengine's module takes above a hop: 6,788.
# shellcheck disable=SC2086
VIADUCT_BENCH_MODULE=1 VIADUCT_BENCH_ABOVE_HOP=2262 "$SUITE" $ARGS || fail "the benchmark"
unload
clean_log
