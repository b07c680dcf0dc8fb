#!/bin/bash
# Makes the Debian that the machine tests run on, and the appliance that makes
# and judges their disks, out of Debian's own packages and nothing else.
#
#   tree.sh OUT SUITE DEBS
#
# OUT gets tree.tar (the server, numeric owners, ACLs, xattrs), vmlinuz,
# appliance/ (a small root with Debian's tools, used by chroot on this machine)
# and appliance.img (the same as an initramfs). DEBS keeps downloaded packages.
set -euo pipefail
export LC_ALL=C DEBIAN_FRONTEND=noninteractive
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
out=$1 suite=$2 debs=$3
here=$(cd "$(dirname "$0")" && pwd)
root=$out/root

# What a plain server has, and what any layout of the tests needs. The full
# kernel: tests move disks between controllers. No recommended packages.
packages=(
	systemd-sysv udev dbus kmod init login passwd procps less nano
	linux-image-amd64 initramfs-tools zstd cpio
	grub-pc grub-efi-amd64-bin grub-efi-amd64-signed shim-signed efibootmgr
	lvm2 mdadm cryptsetup-initramfs thin-provisioning-tools
	e2fsprogs xfsprogs btrfs-progs dosfstools fdisk
	acl attr libcap2-bin
	iproute2 iputils-ping netbase openssh-server
)

say() { echo "tree: $*"; }

mirror() {
	# The mirror is the one this machine already uses. A host of another
	# distribution has none; then debootstrap's built-in one is taken.
	apt-get indextargets --format '$(ORIGIN) $(COMPONENT) $(CODENAME) $(REPO_URI)' 'Created-By: Packages' 2>/dev/null |
		awk '$1 == "Debian" && $2 == "main" && $3 !~ /-/ { print $4; exit }'
}

bootstrap() {
	local m proxy args=()
	m=$(mirror)
	# wget, which debootstrap uses, does not read apt's proxy setting.
	proxy=$(apt-config dump Acquire::http::Proxy 2>/dev/null | sed -n 's/.*"\(http.*\)".*/\1/p')
	[ -z "$proxy" ] || export http_proxy=$proxy
	mkdir -p "$debs"
	args=(--foreign --arch=amd64 --variant=minbase --cache-dir="$debs"
		--keyring=/usr/share/keyrings/debian-archive-keyring.gpg
		--include="$(IFS=,; echo "${packages[*]}")")
	debootstrap "${args[@]}" "$suite" "$root" ${m:+"$m"} |
		awk '/^I: (Retrieving|Extracting)/ { if (++n % 50 == 0) { print "tree: " n " packages fetched or unpacked"; fflush() } next }
		     /^[WE]:/ { print; fflush() }'
	# Documentation and translations are a third of the files and prove nothing.
	mkdir -p "$root/etc/dpkg/dpkg.cfg.d"
	cat >"$root/etc/dpkg/dpkg.cfg.d/small" <<-'END'
		path-exclude=/usr/share/doc/*
		path-exclude=/usr/share/man/*
		path-exclude=/usr/share/info/*
		path-exclude=/usr/share/lintian/*
		path-exclude=/usr/share/locale/*
	END
	# Nothing here survives a power cut anyway: no fsync for each package.
	echo force-unsafe-io >"$root/etc/dpkg/dpkg.cfg.d/lab"
	say "installing ${#packages[@]} packages and what they need"
	# No initramfs yet: each source system makes its own, with its own swap.
	INITRD=No chroot "$root" /debootstrap/debootstrap --second-stage >"$out/second-stage.log" 2>&1 || {
		tail -n 30 "$out/second-stage.log" "$root/debootstrap/debootstrap.log" 2>/dev/null
		return 1
	}
	rm -f "$root/etc/dpkg/dpkg.cfg.d/lab" "$out/second-stage.log"
}

settle() {
	rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/usr/share/{doc,man,info,lintian,locale}/*
	rm -rf "$root"/var/log/{bootstrap.log,dpkg.log,alternatives.log,apt} "$root"/var/cache/debconf/*-old
	rm -f "$root"/etc/{machine-id,hostname,resolv.conf} "$root"/var/lib/dbus/machine-id "$root"/etc/ssh/ssh_host_*
	: >"$root/etc/machine-id"
	mkdir -p "$root/boot/grub" "$root/srv/data"
}

kernel() { basename "$root"/boot/vmlinuz-*; }

command -v debootstrap >/dev/null || { echo "tree: debootstrap is not installed; run tests/setup.sh as root"; exit 1; }
rm -rf "$root"; mkdir -p "$out"
start=$SECONDS
say "$suite by debootstrap"
bootstrap
say "installed after $((SECONDS - start)) s"
settle
bash "$here/appliance.sh" "$root" "$out"
tar --numeric-owner --acls --xattrs --xattrs-include='*' --sort=name -C "$root" -cf "$out/tree.tar" .
cp "$root/boot/$(kernel)" "$out/vmlinuz"
chmod 644 "$out/vmlinuz"
say "$(du -sm "$root" | cut -f1) MiB, $(kernel), made in $((SECONDS - start)) s"
rm -rf "$root"
