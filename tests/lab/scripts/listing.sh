#!/bin/bash
# Everything about the files of one file system, by GNU find, sha256sum,
# getfattr and lsattr; and its parameters by its own tools.
#
#   listing.sh DIR TYPE DEVICE OUT
#
# OUT.find OUT.rdev OUT.sha256 OUT.xattr OUT.lsattr(.names) OUT.super
set -euo pipefail
export LC_ALL=C
dir=$1 type=$2 dev=$3 out=$4
case $type in
ext*) dumpe2fs -h "$dev" 2>/dev/null ;;
xfs) xfs_db -r -c 'sb 0' -c print "$dev" ;;
esac >"$out.super"
cd "$dir"
find . -xdev -printf '%y %m %U %G %s %T@ %n %b %i\0%P\0%l\0' >"$out.find"
find . -xdev \( -type b -o -type c \) -print0 | xargs -0 -r stat --printf '%t:%T\0%n\0' >"$out.rdev"
find . -xdev -type f -print0 | xargs -0 -r sha256sum -z -- >"$out.sha256"
find . -xdev -print0 | xargs -0 -r getfattr -h -d -m - -e hex --absolute-names -- >"$out.xattr"
case $type in
ext* | xfs | btrfs)
	find . -xdev \( -type f -o -type d \) -print0 >"$out.lsattr.names"
	xargs -0 -r lsattr -d -- <"$out.lsattr.names" >"$out.lsattr"
	;;
*) : >"$out.lsattr.names"; : >"$out.lsattr" ;;
esac
