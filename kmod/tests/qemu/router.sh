# A whole router and a call through it with real RTP: the module carries it, also while the router is
# killed and started again, and user space does while the module is away.
. ./lib.sh
module veth
. ./call.sh

say "a router without the module"
router_up
media_is 'user space.*not loaded' || fail "it does not say that there is no module: $(ask /v1/status)"

say "the module comes"
load
await 30 media_is 'kernel module, 0 sessions' || fail "the router never noticed: $(ask /v1/status)"

call_up
say "the kernel carries the call"
await 60 relayed_at_least 200 || fail "nothing is relayed: $(ask /v1/media)"
carried_by kernel || fail "not by the kernel: $(ask /v1/media)"
media_is 'kernel module, 2 sessions$' || fail "other sessions: $(ask /v1/status)"
sessions=$(ask /metrics | grep -c '^viaduct_media_sessions{carrier="kernel"} 2$')
[ "$sessions" = 1 ] || fail "the metrics say something else"
# What the module relays reaches no socket.
[ $(($(datagrams) - before)) -lt 100 ] || fail "user space has received $(($(datagrams) - before))"

say "kill -9 under traffic"
kill -9 "$router"
wait "$router" 2>/dev/null || true
heard=$(heard)
await 30 heard_at_least $((heard + 200)) || fail "the call is silent without the router"
router_up
media_is 'kernel module, 2 sessions$' || fail "it has not come back to its sessions: $(ask /v1/status)"
carried_by kernel || fail "the call is not known any more: $(ask /v1/media)"
await $((HOLD_S + 30)) relayed_at_least $((2 * PACKETS)) || fail "lost: $(ask /v1/media)"
[ "$(relayed)" = $((2 * PACKETS)) ] || fail "$(relayed) of $((2 * PACKETS)) packets: $(ask /v1/media)"

say "the re-INVITE after the restart, then the module goes"
await $((HOLD_S + 30)) relayed_at_least $((2 * PACKETS + 200)) || fail "no re-INVITE"
unload
await 30 media_is 'user space, 2 sessions: .*unloaded' || fail "not noticed: $(ask /v1/status)"
carried_by 'user space' || fail "not in user space: $(ask /v1/media)"
heard=$(heard)
await 30 heard_at_least $((heard + 200)) || fail "the call is silent without the module"
say "and comes again"
load
await 30 media_is 'kernel module, 2 sessions$' || fail "not taken up again: $(ask /v1/status)"
heard=$(heard)
await 30 heard_at_least $((heard + 200)) || fail "the call is silent with the module again"

call_down
grep -q 'call ended.*reason="ended"' router.log || fail "no record"
await 30 media_is 'kernel module, 0 sessions' || fail "something is left: $(ask /v1/status)"
kill "$router"
wait "$router" || fail "the router did not stop well"
unload

say "a router that has the module asked before the stack holds it, and lets go of it when it ends"
sed -i 's/^idle_s = 600$/&\nxdp = "auto"/' "$work/v.toml"
printf '[media.steering]\nsip_cpus = "0"\nbefore_stack = true\n' >>"$work/v.toml"
router_up
packets_are 'no steering before the stack \(no module' || fail "it does not say so: $(ask /v1/status)"
load
await 30 packets_are '; steering before the stack$' || fail "not noticed: $(ask /v1/status)"
ask /metrics | grep -q 'verdict="steer_no_rule"' || fail "no metrics"
! rmmod viaduct 2>/dev/null || fail "the module is gone while it is asked"
kill "$router"
wait "$router" || fail "the router did not stop well"
# The kernel frees programs a moment later.
await 30 rmmod viaduct 2>/dev/null || fail "the module is held by nobody"
clean_log
say "router passed"
