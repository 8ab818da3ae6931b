#!/bin/bash
# Makes the smallest initial file system that can mount the host's files over 9p and go on there.
#
# usage: mkinitrd.sh VERSION KERNEL OUT     KERNEL: where the kernel's package was unpacked
set -euo pipefail
version=$1 kernel=$2 out=$3
depmod -b "$kernel" "$version"

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir -p "$scratch"/{bin,proc,sys,dev,newroot,modules}
cp "$(command -v busybox)" "$scratch/bin/"

# In the order they must be loaded, each once; none of those built in. Debian packs modules from 6.12
# on.
: >"$scratch/modules/order"
for module in virtio_pci 9pnet_virtio 9p; do
    modprobe -d "$kernel" -S "$version" -D "$module" | awk '$1 == "insmod" { print $2 }'
done | awk '!seen[$0]++' | while read -r file; do
    name=$(basename "$file")
    case $name in
        *.xz) xz -dc "$file" >"$scratch/modules/${name%.xz}" ;;
        *.zst) zstd -qdc "$file" >"$scratch/modules/${name%.zst}" ;;
        *) cp "$file" "$scratch/modules/" ;;
    esac
    name=${name%.xz}
    echo "${name%.zst}" >>"$scratch/modules/order"
done

cat >"$scratch/init" <<'END'
#!/bin/busybox sh
B=/bin/busybox
$B mount -t proc proc /proc
$B mount -t sysfs sys /sys
$B mount -t devtmpfs dev /dev
while read module; do
    $B insmod /modules/$module || echo "initrd: $module could not be loaded"
done </modules/order
$B mount -t 9p -o trans=virtio,version=9p2000.L,ro,msize=524288,cache=loose rootfs /newroot \
    || { echo "initrd: no root"; $B poweroff -f; }
for each in proc sys dev; do $B mount --move /$each /newroot/$each; done
$B mount -t tmpfs tmpfs /newroot/run
$B mount -t tmpfs tmpfs /newroot/mnt
$B mkdir -p /newroot/mnt/share
$B mount -t 9p -o trans=virtio,version=9p2000.L,rw,msize=524288 share /newroot/mnt/share
exec $B switch_root /newroot /bin/bash /mnt/share/guest.sh
END
chmod +x "$scratch/init"
mkdir -p "$(dirname "$out")"
(cd "$scratch" && find . | cpio -o -H newc --quiet | gzip -1) >"$out"
