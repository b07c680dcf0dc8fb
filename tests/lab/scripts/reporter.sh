#!/bin/bash
# Puts the one-shot report into the system on a raw disk.
#
#   reporter.sh DISK VOLUMES
#
# VOLUMES: lines "type offset bytes"; the one that holds the system is found.
set -euo pipefail
disk=$1 volumes=$2
here=$(cd "$(dirname "$0")" && pwd)
dir=$(mktemp -d); trap 'rmdir "$dir"' EXIT
modprobe -abq loop ext4 xfs 2>/dev/null || true
while IFS=$'\t' read -r type offset bytes; do
	mount -t "$type" -o "loop,offset=$offset,sizelimit=$bytes" "$disk" "$dir"
	if [ -d "$dir/etc/systemd/system" ]; then
		install -m 755 "$here/report.sh" "$dir/usr/local/sbin/lab-report"
		cat >"$dir/etc/systemd/system/lab-report.service" <<-'END'
			[Unit]
			Description=Report of the tests
			ConditionPathExists=/dev/virtio-ports/lifeboat.report

			[Service]
			Type=exec
			ExecStart=/usr/local/sbin/lab-report

			[Install]
			WantedBy=multi-user.target
		END
		mkdir -p "$dir/etc/systemd/system/multi-user.target.wants"
		ln -sf ../lab-report.service "$dir/etc/systemd/system/multi-user.target.wants/lab-report.service"
		umount "$dir"
		exit 0
	fi
	umount "$dir"
done <"$volumes"
echo "no file system on $disk holds a system with systemd" >&2
exit 1
