#!/bin/bash
# Installs more packages into a source system, by its own apt in a chroot.
#
#   install.sh DISK VOLUMES DEBS PACKAGE...
#
# VOLUMES is the table that fill.sh read. DEBS keeps downloaded packages.
# Run in a mount namespace of its own: it unmounts nothing when it fails.
set -euo pipefail
export LC_ALL=C DEBIAN_FRONTEND=noninteractive
disk=$1 volumes=$2 debs=$3
shift 3
target=$(mktemp -d)

while IFS=$'\t' read -r _ type offset bytes point _; do
	case $type in ext4 | xfs) mount -o "loop,offset=$offset,sizelimit=$bytes" -t "$type" "$disk" "$target$point" ;; esac
done <"$volumes"
mount -t proc proc "$target/proc"; mount -t sysfs sysfs "$target/sys"; mount --bind /dev "$target/dev"
mount -t tmpfs tmpfs "$target/run"
mkdir -p "$debs/partial" "$target/var/cache/apt/archives"
mount --bind "$debs" "$target/var/cache/apt/archives"
mount -t tmpfs tmpfs "$target/var/lib/apt/lists"

# Names are looked up as on this machine, downloads go its way; no service
# starts. Nothing of this stays.
[ ! -e "$target/etc/resolv.conf" ] || mv "$target/etc/resolv.conf" "$target/run/resolv.conf"
cat /etc/resolv.conf >"$target/etc/resolv.conf"
printf '#!/bin/sh\nexit 101\n' >"$target/usr/sbin/policy-rc.d"; chmod 755 "$target/usr/sbin/policy-rc.d"
proxy=$(apt-config dump Acquire::http::Proxy 2>/dev/null | sed -n 's/.*"\(http.*\)".*/\1/p')
[ -z "$proxy" ] || export http_proxy=$proxy
apt_get() {
	chroot "$target" apt-get -qq -o APT::Sandbox::User=root -o Dpkg::Use-Pty=0 "$@" </dev/null >"$target/run/apt.log" 2>&1 || {
		tail -n 30 "$target/run/apt.log"
		return 1
	}
}
apt_get update
apt_get install --no-install-recommends "$@"
rm -f "$target/etc/resolv.conf" "$target/usr/sbin/policy-rc.d"
[ ! -e "$target/run/resolv.conf" ] || mv "$target/run/resolv.conf" "$target/etc/resolv.conf"

umount -R "$target"
rmdir "$target"
sync "$disk"
