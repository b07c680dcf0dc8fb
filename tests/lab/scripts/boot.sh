#!/bin/bash
# In the appliance: mounts the new system and makes it start by itself.
#
#   boot.sh SCRIPT      SCRIPT runs inside the system, with $disk
set -euo pipefail
. /lab/disks.sh
disk=$(disks); export disk
device() {
	case $1 in
	"part "*) part "$disk" "${1#part }" ;;
	*/*) echo "/dev/$1" ;;
	esac
}
vgchange -q -ay >/dev/null
while IFS=$'\t' read -r name type _ _ point _ _ mkfs; do
	dev=$(device "$name")
	if [ "$type" = vfat ]; then eval "mkfs=($mkfs)"; "${mkfs[@]}" "$dev" >/dev/null; mkdir -p "/mnt$point"; fi
	[ "$type" = swap ] || mount "$dev" "/mnt$point"
done </lab/volumes
for d in dev proc sys; do mount --bind /$d /mnt/$d; done
mount -t tmpfs tmpfs /mnt/run
# update-grub asks udev's links whether a UUID can be found at boot.
mkdir -p /dev/disk/by-uuid
for d in $(lsblk -nrpo NAME); do
	uuid=$(blkid -p -s UUID -o value "$d" || true)
	[ -z "$uuid" ] || ln -sf "$d" "/dev/disk/by-uuid/$uuid"
done
PATH=/usr/sbin:/usr/bin:/sbin:/bin chroot /mnt /bin/bash -euc "$1"
umount -R /mnt
vgchange -q -an >/dev/null
