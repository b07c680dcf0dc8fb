#!/bin/bash
# Makes the file systems of a source system on a raw disk and fills them with
# the Debian tree. Partitions and LVM are there already; VOLUMES says where
# each file system lies, so the kernel of this machine mounts them by offset.
#
#   fill.sh DISK BASE VOLUMES
#
# VOLUMES has a line for each, fields divided by tabs, below before above:
#   name type offset bytes mountpoint options uuid mkfs-command tune-command
# The commands are quoted for a shell.
# Run in a mount namespace of its own: it unmounts nothing when it fails.
set -euo pipefail
export LC_ALL=C
disk=$1 base=$2 volumes=$3
here=$(cd "$(dirname "$0")" && pwd)
app=$base/appliance
target=$(mktemp -d)
say() { echo "fill: $*"; }

loop=
trap '[ -z "$loop" ] || losetup -d "$loop"' EXIT

mount --bind /dev "$app/dev"
mount -t proc proc "$app/proc"

# Kernel modules of this machine, where it has any.
modprobe -abq loop ext4 xfs 2>/dev/null || true

while IFS=$'\t' read -r name type offset bytes _ _ _ mkfs tune; do
	[ "$type" != vfat ] || continue # made in the appliance: not every kernel has vfat
	eval "mkfs=($mkfs) tune=(${tune:-true})"
	loop=$(losetup --find --show --offset "$offset" --sizelimit "$bytes" "$disk")
	chroot "$app" "${mkfs[@]}" "$loop" >/dev/null
	chroot "$app" "${tune[@]}" "$loop" >/dev/null
	losetup -d "$loop"; loop=
done <"$volumes"
say "file systems made"

below() { # a mount point has an inode of its own, which no mounted system shows
	mkdir -p "$1"
	chown 1234:5678 "$1"; chmod 0711 "$1"
	setfattr -n user.below -v "under the mount" "$1" 2>/dev/null || chroot "$app" setfattr -n user.below -v x "$1"
}

while IFS=$'\t' read -r name type offset bytes point _; do
	case $type in swap | vfat) continue ;; esac
	[ "$point" = / ] || { [ "$point" = none ] && continue; below "$target$point"; }
	mount -o "loop,offset=$offset,sizelimit=$bytes" -t "$type" "$disk" "$target$point"
done <"$volumes"

tar -C "$target" --numeric-owner --acls --xattrs --xattrs-include='*' -xpf "$base/tree.tar"
say "tree unpacked"

while IFS=$'\t' read -r name type _ _ point options uuid _; do
	pass=0; case $type in ext4 | vfat) pass=2; [ "$point" != / ] || pass=1 ;; esac
	printf 'UUID=%s\t%s\t%s\t%s\t0 %s\n' "$uuid" "$point" "$type" "$options" "$pass"
	[ "$type" != swap ] || echo "RESUME=UUID=$uuid" >"$target/etc/initramfs-tools/conf.d/resume"
done <"$volumes" >"$target/etc/fstab"

install -m 755 "$here/agent.pl" "$target/usr/local/sbin/lab-agent"
mount -t proc proc "$target/proc"; mount -t sysfs sysfs "$target/sys"; mount --bind /dev "$target/dev"
mount -t tmpfs tmpfs "$target/run"
install -m 755 "$here/configure.sh" "$here/kinds.sh" "$target/run/"
# The initramfs takes as long as the files: side by side.
chroot "$target" /bin/bash /run/configure.sh & configure=$!
chroot "$target" /bin/bash /run/kinds.sh /var/lib/kinds full
while IFS=$'\t' read -r _ type _ _ point _; do
	[ "$type" != xfs ] || chroot "$target" /bin/bash /run/kinds.sh "$point" some
done <"$volumes"
say "files of every kind made"
wait "$configure"
say "system configured"
umount "$target/run" "$target/dev" "$target/sys" "$target/proc"
umount -R "$target"
rmdir "$target"
sync "$disk"
