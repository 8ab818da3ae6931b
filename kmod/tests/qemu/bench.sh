# What a relayed packet costs. `run.sh bench` boots with a clock that counts instructions.
. ./lib.sh
module veth
load
VIADUCT_BENCH_MODULE=1 "$SUITE" || fail "the benchmark"
unload
clean_log
