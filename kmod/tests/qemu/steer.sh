# Steering by rules: packets on the CPU, transmit queue, priority and mark they were given, a full queue,
# and rules, CPUs, the module and the namespace going away under traffic.
. ./lib.sh
module veth

# As steer-test knows them (tests/steer/place.h). Two queues, and no ARP, which would send a packet later
# and from elsewhere.
network() { # NAMESPACE NUMBER
    local third=$2 device=to-$1
    ip link add "$device" netns r address 02:00:00:00:0$third:fe numtxqueues 2 numrxqueues 2 type veth \
        peer name eth0 netns "$1" address 02:00:00:00:0$third:01 numtxqueues 2 numrxqueues 2
    ip -n r address add 10.0.$third.254/24 dev "$device"
    ip -n r address add fd00:$third::254/64 dev "$device" nodad
    ip -n "$1" address add 10.0.$third.1/24 dev eth0
    ip -n "$1" address add fd00:$third::1/64 dev eth0 nodad
    ip -n r link set "$device" up
    ip -n "$1" link set eth0 up
    for to in 10.0.$third.1 fd00:$third::1; do
        ip -n r neigh replace $to lladdr 02:00:00:00:0$third:01 dev "$device" nud permanent
    done
    for to in 10.0.$third.254 fd00:$third::254; do
        ip -n "$1" neigh replace $to lladdr 02:00:00:00:0$third:fe dev eth0 nud permanent
    done
}
router_namespace() {
    ip netns add r
    ip -n r link set lo up
    network a 1
    network b 2
}
for name in a b; do ip netns add $name; done
router_namespace

load
./steer-test checks || fail "steering"

# Only a queueing discipline shows a priority.
if modprobe -q -d "$KERNEL" sch_prio; then
    ip netns exec r tc qdisc add dev to-b root handle 1: prio
    ./steer-test priority || fail "steering by priority"
    tc_class() { ip netns exec r tc -s class show dev to-b | grep -A1 "class prio 1:$1 " | sed -n 's/.* \([0-9]*\) pkt.*/\1/p'; }
    # What has no priority, such as the kernel's own IPv6 packets, goes to the first two.
    [ "$(tc_class 3)" = 100 ] || fail "$(tc_class 1) $(tc_class 2) $(tc_class 3) packets in the three classes"
    ip netns exec r tc qdisc del dev to-b root
else
    say "skipped: priority, as this kernel has no sch_prio"
fi

./steer-test full || fail "a full queue"
say "rules come and go under traffic"
./steer-test flood &
flood=$!
./steer-test churn 300 || fail "rules under traffic"
say "the module is unloaded under traffic, its queues full"
echo 2 >/sys/module/viaduct/parameters/steer_queue
for _ in 1 2 3 4 5; do
    ./steer-test hold || fail "rules for the next unloading"
    unload
    load steer_queue=2
done
say "the namespace goes under traffic"
for _ in 1 2 3; do
    ./steer-test hold || fail "rules for the next namespace"
    ip netns del r
    router_namespace
done
kill $flood
wait $flood 2>/dev/null || true
unload
for name in a r b; do ip netns del $name; done
clean_log
no_leaks
say "steer passed"
