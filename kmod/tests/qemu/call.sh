# A router between two networks, and a call of SIPp through it, with the files that router-files.sh has
# put here.
. ./call.env
for name in r a b; do ip netns add $name && ip -n $name link set lo up; done
for name in a b; do
    ip link add to-$name netns r type veth peer name eth0 netns $name
    third=$([ $name = a ] && echo 1 || echo 2)
    ip -n r address add 10.0.$third.254/24 dev to-$name
    ip -n r link set to-$name up
    ip -n $name address add 10.0.$third.1/24 dev eth0
    ip -n $name link set eth0 up
    ip -n $name route add default via 10.0.$third.254
done

work=$(mktemp -d)
cat >"$work/v.toml" <<END
workers = 1
open = true
domains = ["example.com"]
state_dir = "$work/state"
[[listen]]
address = "10.0.1.254:5060"
[policy]
file = "$PWD/$POLICY"
[admin]
listen = "unix:$work/admin.sock"
[media]
idle_s = 600
[[media.address]]
name = "a"
address = "10.0.1.254"
[[media.address]]
name = "b"
address = "10.0.2.254"
END

fail() {
    say "FAILED: $*"
    tail -8 router.log
    exit 1
}

# Runs a command until it succeeds, for so many seconds.
await() {
    local until=$((SECONDS + $1))
    shift
    until "$@"; do
        [ $SECONDS -lt $until ] || return 1
        sleep 0.2
    done
}

# The answer of the router's admin API.
ask() {
    perl -MIO::Socket::UNIX -e '
        my $s = IO::Socket::UNIX->new($ARGV[0]) or exit 1;
        print $s "GET $ARGV[1] HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        local $/; my $all = <$s>; $all =~ s/.*?\r\n\r\n//s; print $all' "$work/admin.sock" "$1"
}

router_up() {
    ip netns exec r "$ROUTER" run --config "$work/v.toml" >>router.log 2>&1 &
    router=$!
    await "$ROUTER_S" answers || fail "the router does not start"
}
answers() { ask /v1/status 2>/dev/null | grep -q uptime_s; }
media_is() { ask /v1/status | perl -ne 'print "$1\n" if /"media":"((?:[^"\\]|\\.)*)"/' | grep -Eq "$1"; }
packets_are() { ask /v1/status | perl -ne 'print "$1\n" if /"packets":"((?:[^"\\]|\\.)*)"/' | grep -Eq "$1"; }
relayed() { ask /v1/media | perl -ne '$n += $1 while /"packets":(\d+)/g; END { print $n + 0 }'; }
relayed_at_least() { [ "$(relayed)" -ge "$1" ]; }
carried_by() { ask /v1/media | grep -q "\"carrier\":\"$1\""; }
# Datagrams sockets in the router's network have received.
datagrams() { ip netns exec r awk '/^Udp: [0-9]/ { print $2 }' /proc/net/snmp; }
# Packets that have come to the caller.
heard() { ip netns exec a cat /sys/class/net/eth0/statistics/rx_packets; }
heard_at_least() { [ "$(heard)" -ge "$1" ]; }

phone() {
    local network=$1 scenario=$2 third=$3
    shift 3
    ip netns exec "$network" sipp 10.0.1.254:5060 -sf "$scenario" -i "10.0.$third.1" -p 5062 -t u1 -m 1 \
        -key domain example.com -key private 10.255.255.1 -cid_str media-%u@test -nostdin \
        -skip_rlimit -watchdog_interval 0 -trace_err -error_file "$PWD/$network.errors" "$@" >/dev/null 2>&1 &
}
knows_bob() { ask '/v1/location/bob@example.com' | grep -q contact; }

# The callee registers, the caller calls; both play and echo RTP twice.
call_up() {
    phone b uas.xml 2 -key user bob -mp 7000 -rtp_echo
    callee=$!
    await 60 knows_bob || fail "bob never registered: $(ask /v1/status) $(cat b.errors)"
    before=$(datagrams)
    phone a uac.xml 1 -s bob -key caller alice -key hold $((HOLD_S * 1000)) -mp 6000
    caller=$!
}

call_down() {
    wait "$caller" || fail "the caller: $(cat a.errors)"
    wait "$callee" || fail "the callee: $(cat b.errors)"
}
