#!/bin/bash
# PID 1 of the appliance: drivers for what is there, then the agent on its port.
export PATH=/usr/sbin:/usr/bin LC_ALL=C.UTF-8 HOME=/root TERM=linux DM_DISABLE_UDEV=1 LVM_SUPPRESS_FD_WARNINGS=1
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/mapper /run/lvm /run/lock /run/cryptsetup
mount -t devpts devpts /dev/pts
ln -sfn /proc/self/fd /dev/fd
ln -sfn /proc/mounts /etc/mtab
echo 4 >/proc/sys/kernel/printk
exec >/dev/console 2>&1
# Twice: buses appear when the driver of their adapter is there.
for round in 1 2; do
	find /sys/devices -name modalias -exec cat {} + | sort -u | xargs -r modprobe -abq
done
modprobe -abq sd_mod virtio_console dm_mod

port() {
	local n
	for n in /sys/class/virtio-ports/*/name; do
		[ "$(cat "$n" 2>/dev/null)" = lab.agent ] || continue
		n=${n%/name}; echo "/dev/${n##*/}"
	done
}
until p=$(port) && [ -n "$p" ] && [ -c "$p" ]; do sleep 0.1; done
echo "appliance: ready on $p"
while :; do
	perl /agent "$p" && break
	sleep 0.2
done
sync
umount -a -r 2>/dev/null
echo o >/proc/sysrq-trigger
sleep 60
