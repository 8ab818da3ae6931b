#!/bin/bash
# Puts what router.sh needs into the folder the guest shares: the router, its policy with the setting
# the call needs, the phones and what they play.
#
# usage: router-files.sh FOLDER
# env:   VIADUCT_BIN   the router, target/release/viaduct else
#        HOLD_S        from the beginning of what the phones play to what they do next, 40 s else
#        ROUTER_S      how long the router may take to start in the guest, 60 s else
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../../.." && pwd)
to=$1
router=${VIADUCT_BIN:-$root/target/release/viaduct}
policy=$root/policies/default-script
packets=3000 # 10 ms each
if [ ! -x "$router" ] || [ ! -e "$policy/default-script.wasm" ]; then
    echo "qemu: there is no router or no policy: make policies" >&2
    exit 1
fi
"$root/tests/setup/packages.sh" test

# A copy, so that building meanwhile does not change what runs.
cp "$router" "$to/viaduct"
# The manifest is in the component as text; what is put in is as long, at the expense of a blank in the
# comment below. An emulated machine takes its time for a policy's first run.
LC_ALL=C perl -0pe 's/^media = "off"\n# Where/media="always"\n#Where/m; s/^wall_ms = 50$/wall_ms=1000/m' \
    "$policy/default-script.wasm" >"$to/policy.wasm"
[ "$(grep -acE '^(media="always"|wall_ms=1000)$' "$to/policy.wasm")" = 2 ]
# Longer calls than elsewhere: the second time they play as long as the first.
sed 's/<pause milliseconds="1500"\/>/<pause variable="hold_ms"\/>/' \
    "$root/tests/sipp/media.uac.xml" >"$to/uac.xml"
sed 's/timeout="[0-9]*"/timeout="600000"/' "$root/tests/sipp/media.uas.xml" >"$to/uas.xml"
"$here/capture.pl" "$packets" >"$to/audio.pcap"
cat >"$to/call.env" <<END
ROUTER=/mnt/share/viaduct
POLICY=policy.wasm
PACKETS=$packets
HOLD_S=${HOLD_S:-40}
ROUTER_S=${ROUTER_S:-60}
END
