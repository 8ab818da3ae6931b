#!/bin/bash
# What the initial file system does in QEMU, in user-mode Linux, which begins on the host's files.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /mnt
mkdir /mnt/share
# shellcheck disable=SC2154 # of the kernel's command line
mount -t hostfs none /mnt/share -o "$share"
exec /bin/bash /mnt/share/guest.sh
