#!/bin/sh
# Records what sysfs and procfs show of block devices, one object a line:
#   d PATH            a folder
#   l PATH TARGET     a link
#   f PATH TEXT       an attribute, as printf %b would read it
#   x PATH HEX        a binary attribute
#   p NAME TEXT       a line of a file below /proc
# Runs with busybox alone: sh record.sh > name.sysfs
cd /sys || exit 1

one() { # folder
	echo "d $1"
	for a in dev size ro removable hidden serial wwid partition start nsid force_ro cid name model vendor \
		rev transport type idVendor idProduct bInterfaceNumber port_no comp_algorithm mm_stat mac_address \
		queue/logical_block_size queue/physical_block_size queue/rotational \
		dm/name dm/uuid dm/suspended loop/backing_file loop/offset loop/sizelimit \
		md/level md/raid_disks md/metadata_version md/uuid md/array_state md/degraded md/sync_action; do
		[ -f "$1/$a" ] || continue
		v=$(cat "$1/$a" 2>/dev/null) || continue
		echo "f $1/$a $(printf '%s' "$v" | sed 's/\\/\\\\/g' | tr '\n' ' ')"
	done
	for a in vpd_pg80 vpd_pg83; do
		[ -f "$1/$a" ] || continue
		v=$(hexdump -ve '1/1 "%02x"' "$1/$a" 2>/dev/null) || continue
		[ -n "$v" ] && echo "x $1/$a $v"
	done
	for a in subsystem driver device; do
		[ -L "$1/$a" ] && echo "l $1/$a $(readlink "$1/$a")"
	done
	for a in slaves holders; do
		for n in "$1/$a"/*; do
			[ -L "$n" ] && echo "l $n $(readlink "$n")"
		done
	done
	for a in scsi_host ata_port iscsi_session fc_remote_ports sas_end_device sas_device; do
		for n in "$1/$a"/*; do
			[ -d "$n" ] || continue
			echo "d $n"
			[ -f "$n/port_no" ] && echo "f $n/port_no $(cat "$n/port_no")"
		done
	done
}

{
	for l in class/block/*; do
		echo "l $l $(readlink "$l")"
		real=$(readlink -f "$l")
		real=${real#/sys/}
		echo "l dev/block/$(cat "$l/dev") ../../$real"
		while [ "$real" != devices ] && [ "$real" != . ]; do
			one "$real"
			real=${real%/*}
		done
	done
	for u in fs/btrfs/*-*; do
		for n in "$u"/devices/*; do
			[ -L "$n" ] && echo "l $n $(readlink "$n")"
		done
	done
} | awk '!seen[$0]++'
sed 's/^/p self\/mountinfo /' /proc/self/mountinfo
[ -f /proc/swaps ] && sed 's/^/p swaps /' /proc/swaps
exit 0
