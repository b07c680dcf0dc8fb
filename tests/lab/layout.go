package lab

import "lifeboat/drill/qemu"

// Layout says how a source system lies on its disk. All identities are
// written out, so that every run makes the same system.
type Layout struct {
	Name     string
	Firmware qemu.Firmware
	Bytes    int64  // of the disk
	Storage  string // bash in the appliance: $disk is blank; disks.sh is read
	Volumes  []Volume
	Boot     string // bash inside the new system, in the appliance: makes it start from $disk
}

// Volume is a file system or swap space of a layout.
type Volume struct {
	Name    string   // "VG/LV" or "part N", as comparisons call it
	Type    string   // as in fstab: ext4, xfs, vfat, swap
	UUID    string   // as in fstab; Make sets the same
	Path    string   // mount point, or "none"
	Options string   // for fstab
	Make    []string // program and arguments, without the device
	Tune    []string // run after it in the same way; may be nil
}

// BIOSLayout is a server that starts by BIOS from GPT: numbers with holes and
// out of disk order, a volume group with a dash, and no option left as the
// tools would choose it.
func BIOSLayout() Layout {
	return Layout{
		Name: "bios-gpt-lvm", Firmware: qemu.BIOS, Bytes: 4 << 30,
		Storage: `
sfdisk --quiet "$disk" <<'END'
label: gpt
label-id: 7C0B3F52-91D4-4E0A-8B6E-2F5A9D1C4E77
unit: sectors
first-lba: 34
2 : start=40, size=2008, type=21686148-6449-6E6F-744E-656564454649, uuid=1B6A2C10-5D3E-4F71-9A80-C1D2E3F40516, name="grub core", attrs="RequiredPartition"
9 : start=411648, size=7974912, type=E6D6D379-F507-44C2-A23C-238F2A3DF928, uuid=9E8D7C6B-5A49-4838-A726-150403F2E1D0, name="Datenträger 1"
5 : start=2048, size=409600, type=0FC63DAF-8483-4772-8E79-3D69D8477DE4, uuid=5F00BA11-0000-4000-8000-00000000B007, name="boot", attrs="LegacyBIOSBootable GUID:60"
END
pvcreate -q --uuid Ab3dEf-9hIj-KlMn-0pQr-StUv-WxYz-123456 --norestorefile --dataalignment 2m --metadatasize 3m "$(part "$disk" 9)"
vgcreate -q -s 8m --addtag lab-tag vg-data-a "$(part "$disk" 9)"
lvcreate -q -y -Wn -Zn -n root -L 2560m vg-data-a
lvcreate -q -y -Wn -Zn -n swap -L 128m -r 512 vg-data-a
lvcreate -q -y -Wn -Zn -n data -L 512m --addtag data-tag vg-data-a
`,
		Volumes: []Volume{
			{Name: "vg-data-a/root", Type: "ext4", UUID: "0a1b2c3d-4e5f-4061-8293-a4b5c6d7e8f9", Path: "/", Options: "errors=remount-ro",
				Make: []string{"mke2fs", "-q", "-F", "-t", "ext4", "-U", "0a1b2c3d-4e5f-4061-8293-a4b5c6d7e8f9", "-L", "system a", "-b", "4096", "-I", "512", "-i", "12288", "-m", "3.5",
					"-J", "size=24", "-O", "^huge_file,^resize_inode,meta_bg", "-g", "16384", "-e", "remount-ro",
					"-E", "hash_seed=11223344-5566-4778-899a-abbccddeeff0,stride=16,stripe_width=64,lazy_itable_init=0,lazy_journal_init=0"},
				Tune: []string{"tune2fs", "-c", "37", "-i", "90d", "-o", "journal_data_ordered,acl", "-E", "mount_opts=delalloc"}},
			{Name: "part 5", Type: "ext4", UUID: "b0071234-5678-4abc-9def-0123456789ab", Path: "/boot", Options: "noatime,nodev",
				Make: []string{"mke2fs", "-q", "-F", "-t", "ext4", "-U", "b0071234-5678-4abc-9def-0123456789ab", "-L", "boot-é", "-b", "1024", "-I", "128", "-i", "8192", "-m", "1", "-r", "1",
					"-O", "^metadata_csum,^64bit,uninit_bg,^dir_nlink", "-E", "hash_seed=00112233-4455-4667-8899-aabbccddeeff,lazy_itable_init=0"}},
			{Name: "vg-data-a/data", Type: "xfs", UUID: "da7ada7a-1111-4222-8333-444455556666", Path: "/srv/data", Options: "noatime,logbufs=8",
				Make: []string{"mkfs.xfs", "-q", "-f", "-K", "-L", "data-a", "-m", "uuid=da7ada7a-1111-4222-8333-444455556666,reflink=0,bigtime=0,finobt=1,rmapbt=0",
					"-i", "size=1024,maxpct=35,sparse=0", "-n", "size=8192", "-d", "su=64k,sw=2,agcount=5", "-l", "size=70m"}},
			{Name: "vg-data-a/swap", Type: "swap", UUID: "5a5a5a5a-0b0b-4c0c-8d0d-0e0e0f0f1010", Path: "none", Options: "sw,pri=5",
				Make: []string{"mkswap", "-q", "-U", "5a5a5a5a-0b0b-4c0c-8d0d-0e0e0f0f1010", "-L", "swap-a"}},
		},
		Boot: "grub-install --target=i386-pc \"$disk\"\nupdate-grub\n",
	}
}

// UEFILayout is a server that starts by UEFI, through shim so that Secure Boot
// may be on: root on xfs straight on a partition, a swap partition before it.
func UEFILayout() Layout {
	return Layout{
		Name: "uefi-gpt-xfs", Firmware: qemu.UEFI, Bytes: 3 << 30,
		Storage: `
sfdisk --quiet "$disk" <<'END'
label: gpt
label-id: 2D4C6B8A-13F5-4E97-A1B3-C5D7E9F10213
unit: sectors
1 : start=2048, size=139264, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B, uuid=E5B00000-0000-4000-8000-00000000E5B1, name="EFI System Partition"
3 : start=141312, size=262144, type=0657FD6D-A4AB-43C4-84E5-0933C84B4F4F, uuid=5A400000-0000-4000-8000-00000005A403, name="swap"
2 : start=403456, type=0FC63DAF-8483-4772-8E79-3D69D8477DE4, uuid=40070000-0000-4000-8000-000000400702, name="root"
END
`,
		Volumes: []Volume{
			{Name: "part 2", Type: "xfs", UUID: "c0ffee00-1234-4321-8765-0a0b0c0d0e0f", Path: "/", Options: "defaults",
				Make: []string{"mkfs.xfs", "-q", "-f", "-K", "-L", "root", "-m", "uuid=c0ffee00-1234-4321-8765-0a0b0c0d0e0f,reflink=1,bigtime=1,inobtcount=1", "-i", "size=512", "-d", "agcount=3"}},
			{Name: "part 1", Type: "vfat", UUID: "B007-E5B1", Path: "/boot/efi", Options: "umask=0077",
				Make: []string{"mkfs.vfat", "-i", "B007E5B1", "-n", "EFI-A", "-F", "32", "-s", "1"}},
			{Name: "part 3", Type: "swap", UUID: "5a5a5a5a-4444-4333-8222-111100009999", Path: "none", Options: "sw",
				Make: []string{"mkswap", "-q", "-U", "5a5a5a5a-4444-4333-8222-111100009999"}},
		},
		Boot: "grub-install --target=x86_64-efi --uefi-secure-boot --no-nvram --force-extra-removable\nupdate-grub\n",
	}
}
