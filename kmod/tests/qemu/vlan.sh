# Whole routers in a VLAN over AF_XDP: tests that elsewhere run over sockets (tests/support/place.rs says
# how), and those that look whether it is AF_XDP that packets come and go by. Each is in a process of its
# own, as nextest has them. What is skipped is not shown, and so fails.
. ./lib.sh
for name in veth bridge 8021q; do module $name; done
# From memory it starts sooner.
cp viaduct "$TMPDIR/"
export VIADUCT_BIN=$TMPDIR/viaduct VIADUCT_SKIPPED=$TMPDIR/skipped
passed=0

# The names of a binary's tests, those with ARGS in them.
tests_of() { "$1" --list --format terse | sed -n 's/: test$//p' | grep -F -e "$ARGS" || true; }

# Runs a test of a binary; the third says where its routers are, if it does not itself.
run() {
    local began=$SECONDS
    VIADUCT_OVER=${3:-} "$1" --exact "$2" --nocapture >log.txt 2>&1 \
        || { tail -60 log.txt; fail "$2 ${3:-}"; }
    [ ! -s "$VIADUCT_SKIPPED" ] || fail "not run: $(cat "$VIADUCT_SKIPPED")"
    say "$2 ${3:-}: passed, $((SECONDS - began)) s"
    passed=$((passed + 1))
}

for binary in $SUITE; do
    case $binary in
        */xdp-* | */ladder-*) for test in $(tests_of "$binary" | grep vlan); do run "$binary" "$test"; done ;;
        *)
            # Kamailio knows no AF_XDP.
            for test in $(tests_of "$binary" | grep -v through_kamailio); do
                for over in af_xdp_vlan af_xdp_vlan_ipv6; do run "$binary" "$test" $over; done
            done
            ;;
    esac
done
[ $passed -gt 0 ] || fail "no test has $ARGS in its name"
clean_log
say "vlan passed: $passed tests"
