#!/bin/bash
# Installs the Debian packages of the named groups, and only those that are missing.
#
# usage: packages.sh GROUP...        groups: build wasm test bench optimised fuzz kernel kernel-debug python c
#
# Does nothing, quickly, when everything is there. Refreshes the package lists only when something
# is missing. Becomes root by sudo when it has to. Daemons among the packages are not started:
# Kamailio would take port 5060, which `make run` wants. The tests start a PostgreSQL of their own.
set -euo pipefail

say() { echo "packages: $*" >&2; }
die() { say "$@"; exit 1; }

group() {
    case "$1" in
        # clang for the XDP programs (build.rs of router/transport and router/media), the rest from
        # m4 on for libxdp and libbpf.
        build) echo gcc libc6-dev make pkg-config ca-certificates clang m4 libelf-dev zlib1g-dev \
            linux-libc-dev ;;
        wasm)  echo apt dpkg util-linux coreutils ;;
        test)  echo sip-tester kamailio rtpengine-daemon baresip-core iproute2 ethtool procps postgresql \
            util-linux python3-venv ;;
        bench) echo kamailio iproute2 ethtool util-linux postgresql kamailio-postgres-modules ;;
        optimised) echo bolt-16 ;;
        fuzz)  echo g++ clang linux-libc-dev ;;
        kernel) echo gcc libc6-dev make apt dpkg kmod cpio xz-utils zstd busybox-static qemu-system-x86 \
            iproute2 libelf1 dwarves pkg-config clang libelf-dev zlib1g-dev linux-libc-dev ;;
        kernel-debug) echo bc bison flex libelf-dev libssl-dev ;;
        python) echo python3-venv ;;
        c)     echo clang lld wasi-libc libclang-rt-14-dev-wasm32 ;;
        *)     die "no group called '$1' (there are: build wasm test bench optimised fuzz kernel kernel-debug python c)" ;;
    esac
}

[ $# -gt 0 ] || die "name at least one group: build wasm test bench optimised fuzz kernel kernel-debug python c"
command -v dpkg-query >/dev/null \
    || die "this is not a Debian machine; install by hand what these groups name: $*"

wanted=()
for name in "$@"; do
    names=$(group "$name")
    read -ra names <<<"$names"
    wanted+=("${names[@]}")
done

missing=()
for package in "${wanted[@]}"; do
    state=$(dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2>/dev/null || true)
    [[ $state == ii* ]] || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

as_root=()
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null \
        || die "missing: ${missing[*]}. Neither root nor sudo here; as root: apt-get install ${missing[*]}"
    as_root=(sudo)
fi

# A policy-rc.d that answers 101 keeps the maintainer scripts from starting services. The machine's
# own one, if there is one, stays in charge.
veto=/usr/sbin/policy-rc.d
put_veto=
if [ ! -e "$veto" ]; then
    printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$veto" >/dev/null
    "${as_root[@]}" chmod 755 "$veto"
    put_veto=yes
fi
cleanup() { [ -z "$put_veto" ] || "${as_root[@]}" rm -f "$veto"; }
trap cleanup EXIT

say "installing ${missing[*]}"
apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300)
"${apt[@]}" update >&2 || say "the package lists could not be refreshed; trying with the old ones"
"${apt[@]}" install -y --no-upgrade --no-install-recommends "${missing[@]}" >&2 \
    || die "apt-get could not install: ${missing[*]} (see above)"

# A packaged Kamailio is enabled for the next boot too; nobody asked for that here.
if [[ " ${missing[*]} " == *" kamailio "* ]] && [ -d /run/systemd/system ]; then
    "${as_root[@]}" systemctl disable --quiet kamailio || true
fi
if [[ " ${missing[*]} " == *" postgresql "* ]] && [ -d /run/systemd/system ]; then
    "${as_root[@]}" systemctl disable --quiet postgresql || true
fi
