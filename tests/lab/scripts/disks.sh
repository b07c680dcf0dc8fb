# Functions for scripts in the appliance; read by bash before each of them.
# Partitions and LVM are told as extents of the whole disk in bytes, so that
# the machine outside reaches every file system of a raw disk without LVM.

# disks: whole disks in the order of their virtio or SCSI slots
disks() {
	local d
	for d in /sys/block/*; do
		case ${d##*/} in loop* | ram* | dm-* | md* | sr* | zram*) continue ;; esac
		echo "$(readlink -f "$d/device") ${d##*/}"
	done | sort -V | while read -r _ name; do echo "/dev/$name"; done
}

# part DISK NUMBER: the partition's device
part() {
	local p
	for p in /sys/block/"${1##*/}"/*/partition; do
		[ -e "$p" ] && [ "$(cat "$p")" = "$2" ] || continue
		p=${p%/partition}; echo "/dev/${p##*/}"; return 0
	done
	echo "$1 has no partition $2" >&2
	return 1
}

# parts DISK: number and device of each partition
parts() {
	local p
	for p in /sys/block/"${1##*/}"/*/partition; do
		[ -e "$p" ] || continue
		echo "$(cat "$p") /dev/$(basename "${p%/partition}")"
	done | sort -n
}

lvm_on() { # DISK COMMAND ARGS: LVM sees this disk's partitions and no other disk
	local d=$1 list; shift
	list=$(parts "$d" | awk '{ printf "%s%s", sep, $2; sep = "," }')
	"$@" --devices "${list:-$d}"
}

# describe DISK: partitions, table, signatures and LVM, each under its heading
describe() {
	local n dev
	echo "== parts"
	parts "$1" | while read -r n dev; do
		echo "$n $(($(cat "/sys/class/block/${dev##*/}/start") * 512)) $(($(cat "/sys/class/block/${dev##*/}/size") * 512)) $dev"
	done
	echo "== table"
	sfdisk --dump "$1"
	echo "== blkid"
	parts "$1" | while read -r n dev; do
		echo "-- $n"
		blkid -p -o export "$dev" || [ $? = 2 ]
	done
	echo "== lvm"
	lvm_on "$1" lvm fullreport --reportformat json --units b --nosuffix \
		--configreport vg -o vg_name,vg_uuid,vg_extent_size,vg_extent_count,vg_tags,vg_systemid,vg_permissions,vg_allocation_policy,max_lv,max_pv \
		--configreport pv -o pv_name,pv_uuid,vg_name,pe_start,pv_size,pv_tags,pv_ba_start,pv_ba_size,pv_allocatable,pv_mda_count \
		--configreport lv -o vg_name,lv_name,lv_uuid,lv_size,lv_tags,lv_attr,lv_allocation_policy,lv_read_ahead,lv_minor \
		--configreport seg -o vg_name,lv_name,segtype,seg_start,seg_size,seg_pe_ranges,stripes,stripe_size \
		--configreport pvseg -o pvseg_start
}

# activate DISK VG: its volumes appear read-only, as the disk below them is
activate() {
	lvm_on "$1" vgchange -q -ay --config "activation{read_only_volume_list=[\"$2\"]}" "$2" >/dev/null
}

# list_volume DISK NAME TYPE PREFIX: the listing of "part N" or "VG/LV"
list_volume() {
	local dev
	case $2 in
	"part "*) dev=$(part "$1" "${2#part }") ;;
	*)
		activate "$1" "${2%%/*}"
		dev=/dev/$2
		;;
	esac
	mkdir -p /lab/out /lab/list
	case $3 in
	ext*) e2fsck -fn "$dev" >/lab/check 2>&1 ;;
	xfs) xfs_repair -n "$dev" >/lab/check 2>&1 ;;
	vfat) fsck.vfat -n "$dev" >/lab/check 2>&1 ;;
	btrfs) btrfs check --readonly "$dev" >/lab/check 2>&1 ;;
	esac && echo clean >"/lab/out/$4.fsck" || cp /lab/check "/lab/out/$4.fsck"
	mount -t "$3" -o ro "$dev" /lab/list
	bash /lab/listing.sh /lab/list "$3" "$dev" "/lab/out/$4"
	umount /lab/list
	case $2 in "part "*) ;; *) lvm_on "$1" vgchange -q -an "${2%%/*}" >/dev/null ;; esac
}
