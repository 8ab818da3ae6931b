#!/bin/bash
# Can this machine have VLANs (802.1Q) on interfaces of a network namespace? Silent where it can; else
# says why not, and the exit status is 1.
set -euo pipefail

unshare --net bash -eu -c '
    ip link add cable type veth peer name far
    ip link add link cable name cable.100 type vlan id 100
' 2>&1 || exit 1
