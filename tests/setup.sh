#!/bin/bash
# Installs what building Lifeboat and all tiers of its tests need, on Debian 12
# and 13 and Ubuntu 22.04 and 24.04. As root, without a terminal. Says nothing
# and touches no network when everything is there.
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=a LC_ALL=C
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:$PATH

packages=(
	# Machines and their firmware.
	qemu-system-x86 qemu-utils ovmf ipxe-qemu
	# Source systems. The keyring is that of Debian, on Ubuntu too.
	debootstrap debian-archive-keyring wget ca-certificates
	# Loaders that go onto the rescue media.
	grub-pc-bin grub-efi-amd64-bin grub-efi-amd64-signed shim-signed
	# Tools that the rescue system packs, and tools that judge it.
	e2fsprogs xfsprogs btrfs-progs dosfstools lvm2 mdadm cryptsetup-bin fdisk gdisk util-linux kmod
	tar cpio gzip zstd xz-utils acl attr libcap2-bin mtools xorriso iproute2 file busybox-static pci.ids openssh-client udev
)

say() { echo "setup: $*"; }

installed() { [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

# A kernel with its modules: the rescue system of the tests is built around
# it. A cloud kernel has no drivers for the controllers that the tests use.
have_kernel() {
	local v
	for v in /boot/vmlinuz-*; do
		v=${v#/boot/vmlinuz-}
		case $v in *cloud* | *-aws | *-azure | *-gcp | *-oracle | *-kvm) continue ;; esac
		if [ -d "/usr/lib/modules/$v/kernel/drivers/ata" ] || [ -d "/lib/modules/$v/kernel/drivers/ata" ]; then return 0; fi
	done
	return 1
}

# Names the kernel's packages. Ubuntu's meta package would bring hundreds of
# MiB of firmware; the image and its modules are enough.
kernel_packages() {
	if apt-cache show linux-image-amd64 >/dev/null 2>&1; then
		echo linux-image-amd64
		return
	fi
	local image
	image=$(apt-cache depends linux-image-generic | sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1)
	[ -n "$image" ] || { say "no kernel package found: linux-image-amd64 (Debian) or linux-image-generic (Ubuntu) is needed" >&2; return 1; }
	echo "$image" "${image/-image-/-modules-extra-}"
}

apt_get() { # everything that apt says goes to a file, shown when it fails
	local log
	log=$(mktemp)
	if ! apt-get -y -o DPkg::Lock::Timeout=300 -o Dpkg::Options::=--force-confold "$@" </dev/null 2>&1 | tee "$log" |
		awk '/^(Unpacking|Setting up) / { if (++n % 40 == 0) { print "setup: " n " of " total " steps"; fflush() } next }
		     /newly installed/ { total = 2 * ($1 + $3); print "setup: " $0; fflush() }'; then
		tail -n 30 "$log" >&2
		say "apt-get $* failed; see above. Repair apt (sources, network, locks) and run this again" >&2
		rm -f "$log"
		return 1
	fi
	rm -f "$log"
}

missing=()
for p in "${packages[@]}"; do installed "$p" || missing+=("$p"); done
if [ ${#missing[@]} -eq 0 ] && have_kernel; then exit 0; fi

if ! command -v apt-get >/dev/null; then
	say "this is no Debian or Ubuntu; install the equivalents of: ${packages[*]} and a kernel with all modules" >&2
	exit 1
fi
if [ "$(id -u)" != 0 ]; then
	say "root is needed to install: ${missing[*]:-a kernel}; run: sudo $0" >&2
	exit 1
fi
say "updating the package lists"
apt_get update
have_kernel || { k=$(kernel_packages); read -ra more <<<"$k"; missing+=("${more[@]}"); }
say "installing ${missing[*]}"
apt_get install --no-install-recommends "${missing[@]}"
have_kernel || { say "a kernel was installed but /boot has none with its modules; the tests need one" >&2; exit 1; }
say "done"
