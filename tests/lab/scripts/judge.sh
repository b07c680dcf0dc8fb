#!/bin/bash
# Lists the file systems of two raw disks and lets GNU tar compare each pair.
# Run in a mount namespace of its own; nothing is written to either disk.
#
#   judge.sh APPLIANCE VOLUMES OUT
#
# VOLUMES: lines "index side type offset bytes file", sides a and b of one
# index are compared. OUT gets index.side.* of listing.sh, index.side.fsck and
# index.tar.
set -euo pipefail
export LC_ALL=C
app=$1 volumes=$2 out=$3
here=$(cd "$(dirname "$0")" && pwd)
modprobe -abq loop ext4 xfs 2>/dev/null || true
mount -t tmpfs tmpfs "$app/lab"
mount -t proc proc "$app/proc"
mount --bind /dev "$app/dev"
mkdir "$app/lab/out"; mount --bind "$out" "$app/lab/out"
cp "$here/listing.sh" "$app/lab/"

loop=
trap '[ -z "$loop" ] || losetup -d "$loop"' EXIT

check() { # TYPE DEVICE: as its own checker sees it
	case $1 in
	ext*) chroot "$app" e2fsck -fn "$2" 2>&1 ;;
	xfs) chroot "$app" xfs_repair -n "$2" 2>&1 ;;
	esac
}

while IFS=$'\t' read -r index side type offset bytes file; do
	loop=$(losetup --find --show --read-only --offset "$offset" --sizelimit "$bytes" "$file")
	if check "$type" "$loop" >"$out/$index.$side.check"; then echo clean; else cat "$out/$index.$side.check"; fi >"$out/$index.$side.fsck"
	mkdir -p "$app/lab/$index.$side"
	# Nothing is replayed: what is compared is what lies on the disk.
	case $type in ext*) how=ro,noload ;; xfs) how=ro,norecovery,nouuid ;; *) how=ro ;; esac
	mount -t "$type" -o "$how" "$loop" "$app/lab/$index.$side"
	printf '%s %s %s %s\n' "$index" "$side" "$type" "$loop"
	losetup -d "$loop"; loop= # in use: it goes with the mount, and that with the namespace
done <"$volumes" >"$out/mounted"

one_side() {
	while read -r index side type loop; do
		[ "$side" = "$1" ] || continue
		chroot "$app" /bin/bash /lab/listing.sh "/lab/$index.$side" "$type" "$loop" "/lab/out/$index.$side"
	done <"$out/mounted"
}
one_side a & first=$!
one_side b
wait "$first"

while read -r index side _; do
	[ "$side" = a ] && [ -d "$app/lab/$index.b" ] || continue
	chroot "$app" /bin/bash -c '
		set -o pipefail
		tar -C "/lab/$1.a" -S --numeric-owner -cf - . 2>/dev/null | tar -C "/lab/$1.b" --numeric-owner --quoting-style=literal --diff -f - 2>&1
		[ $? -le 1 ]' - "$index" >"$out/$index.tar"
done <"$out/mounted"
