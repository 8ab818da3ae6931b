#!/bin/bash
# The first process of the guest. Runs the script named in `env`, leaves its exit status and the
# kernel's log in the shared folder, and ends the guest.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/run TMPDIR=/run/tmp
mkdir -p /run/tmp /run/netns /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t debugfs debugfs /sys/kernel/debug
ip link set lo up
# What is printed by the kernel from here on is the tests' doing.
dmesg -C
cd /mnt/share || exit 1
. ./env
export SUITE KERNEL ARGS ROUNDS MESSAGES SEED
echo "guest: up after $(cut -d' ' -f1 /proc/uptime) s, $(uname -r), $(nproc) CPUs"
. ./lib.sh
forget_leaks
setsid -w /bin/bash -eu "./$SCRIPT.sh"
code=$?
dmesg >dmesg.txt
if [ "$code" != 0 ]; then tail -40 dmesg.txt; fi
sync
echo "$code" >exitcode
# QEMU ends on a reboot, which needs no ACPI.
[ ! -e /proc/sysrq-trigger ] || echo b >/proc/sysrq-trigger
# User-mode Linux would begin anew.
busybox poweroff -f
sleep 60
