#!/bin/bash
# Makes the appliance out of an installed Debian root: a small root with that
# Debian's disk tools, used by chroot, and the same as an initramfs for QEMU.
#
#   appliance.sh ROOT OUT
#
# It shares no code with the product: it makes what the product must capture,
# and judges what the product brought back.
set -euo pipefail
root=$1 out=$2
here=$(cd "$(dirname "$0")" && pwd)
app=$out/appliance
version=$(basename "$root"/boot/vmlinuz-*); version=${version#vmlinuz-}

programs=(
	bash sh cat chattr chmod chown chroot cmp comm cp cut date dd df diff dirname basename du echo env expr false
	find findmnt getcap getfacl getfattr grep head id install join kill ln ls lsattr lsblk mkdir mkfifo mknod mktemp
	mv od paste printf ps pwd readlink realpath rm rmdir sed seq setcap setfacl setfattr sha256sum sleep sort
	split stat stty sync tac tail tar tee test timeout touch tr true truncate tty uname uniq unlink wc xargs free dmesg
	awk mawk gzip zstd cpio perl
	mount umount mountpoint losetup blkid blockdev wipefs sfdisk partx swaplabel mkswap fallocate flock unshare
	mke2fs mkfs mkfs.ext4 mkfs.ext3 mkfs.ext2 tune2fs fsck dumpe2fs debugfs e2fsck e2label fsck.ext4
	mkfs.xfs xfs_admin xfs_db xfs_info xfs_repair xfs_growfs xfs_spaceman xfs_io fsck.xfs
	mkfs.btrfs btrfs mkfs.vfat fsck.vfat fatlabel
	lvm pvs vgs lvs pvcreate vgcreate lvcreate vgchange lvchange pvscan vgscan lvremove vgremove pvremove dmsetup
	mdadm cryptsetup thin_check thin_dump
	modprobe kmod insmod lsmod depmod
)

# What the machines of the tests have, and what their disks hold; the kernel's
# own requests (file systems, dm targets, ciphers) find the rest by modprobe.
modules=(
	virtio_pci virtio_blk virtio_scsi virtio_console sd_mod sr_mod ahci nvme megaraid_sas mptspi mptsas mpt3sas vmw_pvscsi sym53c8xx
	xhci_pci ehci_pci uhci_hcd usb_storage uas
	dm_mod dm_mirror dm_snapshot dm_thin_pool dm_cache_smq dm_crypt dm_raid dm_integrity dm_multipath
	linear raid0 raid1 raid10 raid456 loop
	ext4 xfs btrfs vfat isofs nls_cp437 nls_ascii nls_utf8 nls_iso8859-1
	crc32c_generic crc32c_intel xts cbc aes_generic aesni_intel sha256_generic sha512_generic essiv algif_skcipher authenc
)

copy() { # PATH: the file and every link on the way to it
	local p=$1 t
	while :; do
		[ ! -e "$app$p" ] && [ ! -L "$app$p" ] || return 0
		mkdir -p "$app$(dirname "$p")"
		cp -a "$root$p" "$app$p"
		[ -L "$root$p" ] || return 0
		t=$(readlink "$root$p")
		case $t in /*) p=$t ;; *) p=$(realpath -ms "$(dirname "$p")/$t") ;; esac
	done
}

rm -rf "$app"; mkdir -p "$app"
for d in bin sbin lib lib64; do
	mkdir -p "$app/usr/$d"; ln -s "usr/$d" "$app/$d"
done
mkdir -p "$app"/{dev,proc,sys,run,tmp,etc,root,mnt,lab,var,usr/lib/modules}
chmod 1777 "$app/tmp"; ln -s /run "$app/var/run"

for p in "${programs[@]}"; do
	path=$(chroot "$root" /bin/bash -c 'type -P "$1"' - "$p") || {
		# Shell builtins have no file of their own everywhere.
		[ "$(type -t "$p")" = builtin ] && continue
		echo "appliance: the tree has no program $p"; exit 1
	}
	# Merged /usr: one name for each file, or the links above would be files.
	case $path in /bin/* | /sbin/*) path=/usr$path ;; esac
	copy "$path"
done
cp -a "$root/usr/lib/x86_64-linux-gnu/perl-base" "$app/usr/lib/" && mkdir -p "$app/usr/lib/x86_64-linux-gnu" &&
	mv "$app/usr/lib/perl-base" "$app/usr/lib/x86_64-linux-gnu/"
# Opened at run time, so ldd does not name them: cryptsetup needs the first.
for lib in libgcc_s.so.1; do copy "/usr/lib/x86_64-linux-gnu/$lib"; done

find "$app/usr" -type f \( -perm -100 -o -name '*.so*' \) -printf '/%P\n' | sed "s|^|/usr|" |
	{ chroot "$root" /usr/bin/xargs -n 50 /usr/bin/ldd 2>/dev/null || true; } | # scripts make ldd fail
	sed -n 's|.*=> \(/[^ ]*\) (.*|\1|p; s|^[[:space:]]*\(/[^ ]*ld-linux[^ ]*\) (.*|\1|p' | sort -u |
	while read -r lib; do
		case $lib in /lib/* | /lib64/*) lib=/usr$lib ;; esac
		copy "$lib"
	done
cp -a "$root/etc/ld.so.conf" "$root/etc/ld.so.conf.d" "$app/etc/"
cp -a "$root/etc/mke2fs.conf" "$app/etc/"
mkdir -p "$app/usr/lib/locale"; cp -a "$root/usr/lib/locale/C.utf8" "$app/usr/lib/locale/"
printf 'root:x:0:0:root:/root:/bin/bash\n' >"$app/etc/passwd"
printf 'root:x:0:\n' >"$app/etc/group"
chroot "$app" /usr/bin/bash -c true

say() { echo "appliance: $*"; }
mkdir -p "$app/usr/lib/modules/$version"
cp -a "$root/usr/lib/modules/$version"/modules.{order,builtin,builtin.modinfo} "$app/usr/lib/modules/$version/"
for m in "${modules[@]}"; do
	chroot "$root" /sbin/modprobe -S "$version" --show-depends "$m" 2>/dev/null | awk '$1 == "insmod" { print $2 }' || true
done | sort -u | while read -r ko; do
	case $ko in /lib/*) ko=/usr$ko ;; esac
	mkdir -p "$app$(dirname "$ko")"
	cp -a "$root$ko" "$app$ko"
done
chroot "$root" /sbin/depmod --help >/dev/null
chroot "$app" /usr/sbin/depmod "$version"

install -m 755 "$here/agent.pl" "$app/agent"
install -m 755 "$here/init.sh" "$app/init"
(cd "$app" && find . -print0 | LC_ALL=C sort -z | cpio --quiet -0 -o -H newc -R 0:0) | zstd -q -T0 -6 -f -o "$out/appliance.img"
say "$(du -sm "$app" | cut -f1) MiB, as initramfs $(du -m "$out/appliance.img" | cut -f1) MiB"
