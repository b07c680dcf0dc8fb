package payload

import "strings"

// Programs that are packed when the host has them. What the plan needs comes
// besides, and is an error when it is missing.
var (
	// basics have an applet in our own base for hosts without them.
	basics = strings.Fields(`
		bash sh cat chmod chown chgrp chroot cmp cp cut date dd df diff dirname basename dmesg du echo env expr false find
		flock free getopt grep egrep fgrep head hexdump hostname hwclock id kill ln ls losetup mkdir mkfifo mknod mktemp
		more mount mountpoint mv nohup od paste pgrep pidof pkill printenv printf ps pwd readlink realpath reset rm rmdir
		sed seq setsid sha256sum md5sum sleep sort split stat stty sync tail tar tee test timeout top touch tput tr true
		truncate tty umount uname uniq uptime wc which xargs xxd awk cpio gzip gunzip zcat bzip2 xz unxz xzcat zstd zstdcat
		findmnt fuser lsof swapon swapoff mkswap lsattr chattr getfattr setfattr getfacl setfacl getcap setcap less`)

	// diagnostics are for the person at the console.
	diagnostics = strings.Fields(`
		lsblk blkid wipefs sfdisk fdisk cfdisk gdisk sgdisk parted partx blockdev smartctl hdparm nvme lsscsi
		lvm dmsetup mdadm cryptsetup mke2fs e2fsck tune2fs dumpe2fs debugfs resize2fs e2label
		mkfs.xfs xfs_repair xfs_admin xfs_db xfs_info xfs_growfs xfs_io mkfs.vfat fsck.vfat fatlabel fsck.fat mkfs.fat
		mkfs.btrfs btrfs multipath kpartx ip ss ping tracepath ethtool nc strace tcpdump lspci lsusb dmidecode efibootmgr
		loadkeys setfont ssh scp`)

	// editors: the first that is there is packed, and vi leads to it. The small
	// vim has all that an edit of fstab takes.
	editors = strings.Fields(`vim.tiny vim vim.basic nano vi`)
)

// probes are arguments with which a program is known to answer and end, and
// to touch nothing; an empty one means no argument, which these take for wrong
// usage. A program that is not listed is never started.
var probes = map[string]string{
	"bash": "--version", "awk": "BEGIN{exit}", "gawk": "--version", "sed": "--version", "grep": "--version",
	"tar": "--version", "gzip": "--version", "xz": "--version", "zstd": "--version", "bzip2": "--help", "cpio": "--version", "find": "--version",
	"ls": "--version", "cp": "--version", "dd": "--version", "sort": "--version", "sha256sum": "--version", "date": "--version",
	"mount": "--version", "umount": "--version", "findmnt": "--version", "losetup": "--version", "lsblk": "--version",
	"blkid": "--version", "wipefs": "--version", "sfdisk": "--version", "fdisk": "--version", "partx": "--version",
	"blockdev": "--version", "mkswap": "--version", "swapon": "--version", "swapoff": "--version", "hwclock": "--version",
	"parted": "--version", "sgdisk": "--version", "mdadm": "--version", "cryptsetup": "--version",
	"lvm": "version", "dmsetup": "--version", "mke2fs": "-V", "mkfs.ext2": "-V", "mkfs.ext3": "-V", "mkfs.ext4": "-V", "e2fsck": "-V", "tune2fs": "", "dumpe2fs": "-V", "resize2fs": "",
	"debugfs": "-V", "mkfs.xfs": "-V", "xfs_repair": "-V", "xfs_db": "-V", "xfs_io": "-V", "mkfs.vfat": "--help", "mkfs.fat": "--help",
	"mkfs.btrfs": "--version", "btrfs": "version", "smartctl": "--version", "ip": "-V", "ss": "-V", "strace": "-V",
	"tcpdump": "--version", "ethtool": "--version", "efibootmgr": "--version", "lspci": "--version", "lsusb": "--version",
	"vim": "--version", "vim.tiny": "--version", "vim.basic": "--version", "nano": "--version", "less": "--version", "ssh": "-V",
	"rsync": "--version", "restic": "version", "borg": "--version", "getfattr": "--version", "setfattr": "--version",
	"getfacl": "--version", "setfacl": "--version", "free": "--version", "kpartx": "-h", "multipath": "-h",
}

// probeCodes are exit codes of a good answer that differ from 0: tools that
// take a version or help argument for wrong usage.
var probeCodes = map[string][]int{
	"tune2fs": {1}, "resize2fs": {1}, "mkfs.vfat": {0, 1, 2}, "mkfs.fat": {0, 1, 2}, "kpartx": {0, 1}, "multipath": {0, 1}, "lvm": {0, 3, 5}, "lspci": {0, 1}, "dmsetup": {0, 1},
}
