package blockdev

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestIdentity reads a recorded machine with a disk on every common bus
// (field notes C01, C03, C08, C09, C13).
func TestIdentity(t *testing.T) {
	v := scan(t, recordedSystem(t, "mixed"))
	var got []string
	for _, d := range v.Disks() {
		got = append(got, fmt.Sprintf("%s|%s|%s|%s|%s|%d|%d/%d|%s", d.Name, d.Transport, d.WWN, d.Serial, d.Model, d.Bytes, d.Logical, d.Physical, d.Driver))
	}
	const mib256 = "268435456"
	want := []string{
		"mmcblk0|mmc||0xdeadbeef|QEMU!|" + mib256 + "|512/512|mmcblk",
		"nvme0n1|nvme|nvme.1b36-53312d53595354454d-51454d55204e564d65204374726c-00000001|S1-SYSTEM|QEMU NVMe Ctrl|" + mib256 + "|512/512|nvme",
		"nvme1n1|nvme|nvme.1b36-53322d44415441-51454d55204e564d65204374726c-00000001|S2-DATA|QEMU NVMe Ctrl|" + mib256 + "|512/512|nvme",
		"sda|sata|naa.5000c500a1b2c3d4|WD-WCC4N1234567|WDC WD10EZEX 08WN4A0|" + mib256 + "|512/512|ahci",
		"sdb|sata||QM00003|QEMU HARDDISK|" + mib256 + "|512/512|ahci",
		"sdc|scsi|naa.5000c500deadbe01|SCSI-42|QEMU HARDDISK|" + mib256 + "|512/512|virtio_scsi",
		"sdd|scsi|||QEMU HARDDISK|" + mib256 + "|512/512|virtio_scsi",
		"sde|usb||USB-STICK-7|QEMU HARDDISK|" + mib256 + "|512/512|usb-storage",
		"vda|virtio||lv-disk||" + mib256 + "|512/512|virtio_blk",
		"vdb|virtio||four-k||" + mib256 + "|4096/4096|virtio_blk",
		"vdc|virtio||||" + mib256 + "|512/512|virtio_blk",
	}
	if a, b := strings.Join(got, "\n"), strings.Join(want, "\n"); a != b {
		t.Errorf("got\n%s\nwant\n%s", a, b)
	}
	if sdd, sde := v.Device("sdd"), v.Device("sde"); !sdd.ReadOnly || !sde.Removable || sdd.Removable {
		t.Errorf("read-only %v, removable %v", sdd.ReadOnly, sde.Removable)
	}
	var ignored []string
	for _, i := range v.Ignored {
		ignored = append(ignored, i.Name)
	}
	if strings.Join(ignored, " ") != "sr0" {
		t.Errorf("ignored %v", v.Ignored)
	}
}

func TestPartitions(t *testing.T) {
	v := scan(t, recordedSystem(t, "mixed"))
	var got []string
	for _, n := range append(v.Device("nvme0n1").Partitions, v.Device("vdb").Partitions...) {
		d := v.Device(n)
		got = append(got, fmt.Sprintf("%s %s %d %d %d", d.Name, d.Parent, d.Number, d.Start, d.Bytes))
	}
	want := []string{
		"nvme0n1p1 nvme0n1 1 1048576 4194304",
		"nvme0n1p3 nvme0n1 3 10485760 20971520",
		"nvme0n1p4 nvme0n1 4 5242880 4194304",
		"nvme0n1p6 nvme0n1 6 33554432 10485760",
		"vdb1 vdb 1 1048576 16777216", // 256 sectors of 4096 bytes
		"vdb2 vdb 2 17825792 249561088",
	}
	if a, b := strings.Join(got, "\n"), strings.Join(want, "\n"); a != b {
		t.Errorf("got\n%s\nwant\n%s", a, b)
	}
	md := v.Device("md0")
	if md.Kind != MD || md.MDArr.Level != "raid1" || md.MDArr.Devices != 2 || md.MDArr.Metadata != "1.2" {
		t.Errorf("md0 is %+v %+v", md, md.MDArr)
	}
	if lv := v.Device("dm-0"); lv.DMName != "vg--data-ro--ot" || !strings.HasPrefix(lv.DMUUID, "LVM-") {
		t.Errorf("dm-0 is %+v", lv)
	}
	if l := v.Device("loop0"); l.Kind != Loop || l.File != "/mnt/r/img" || l.Gone {
		t.Errorf("loop0 is %+v", l)
	}
}

func TestLinks(t *testing.T) {
	v := scan(t, recordedSystem(t, "mixed"))
	for name, want := range map[string]string{
		"sda":       "by-id/ata-WDC_WD10EZEX_08WN4A0_WD-WCC4N1234567 by-id/scsi-35000c500a1b2c3d4 by-id/wwn-0x5000c500a1b2c3d4 by-path/pci-0000:00:1f.2-ata-1 by-path/pci-0000:00:1f.2-ata-1.0",
		"sdd":       "by-path/pci-0000:00:06.0-scsi-0:0:1:0",
		"sde":       "by-id/usb-QEMU_QEMU_HARDDISK_USB-STICK-7-0:0 by-path/pci-0000:00:07.0-usb-0:1:1.0-scsi-0:0:0:0",
		"vda":       "by-id/virtio-lv-disk by-path/pci-0000:00:03.0",
		"vda2":      "by-id/virtio-lv-disk-part2 by-path/pci-0000:00:03.0-part2",
		"nvme1n1":   "by-id/nvme-QEMU_NVMe_Ctrl_S2-DATA by-id/nvme-nvme.1b36-53322d44415441-51454d55204e564d65204374726c-00000001 by-path/pci-0000:00:02.0-nvme-1",
		"nvme0n1p4": "by-id/nvme-QEMU_NVMe_Ctrl_S1-SYSTEM-part4 by-id/nvme-nvme.1b36-53312d53595354454d-51454d55204e564d65204374726c-00000001-part4 by-path/pci-0000:00:01.0-nvme-1-part4",
	} {
		if got := strings.Join(v.Links(v.Device(name)), " "); got != want {
			t.Errorf("%s:\n got %s\nwant %s", name, got, want)
		}
	}
}

// TestUdevLinks: names that udev gave are there beside those worked out.
func TestUdevLinks(t *testing.T) {
	s := recordedSystem(t, "mixed")
	dir := filepath.Join(s.Dev, "disk/by-id")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]string{"scsi-made-up": "../../sdd", "scsi-made-up-part1": "../../sdd1"} {
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	v := scan(t, s)
	if got := strings.Join(v.Links(v.Device("sdd")), " "); got != "by-id/scsi-made-up by-path/pci-0000:00:06.0-scsi-0:0:1:0" {
		t.Error(got)
	}
}

// TestIgnored puts the devices beside the recording that must never be read
// (C09), and a disk whose media is out.
func TestIgnored(t *testing.T) {
	mmc := "devices/pci0000:00/0000:00:08.0/mmc_host/mmc0/mmc0:4567/block/mmcblk0"
	add := func(name, dir, no string, more ...string) []string {
		l := []string{"", "l class/block/" + name + " ../../" + dir, "d " + dir, "f " + dir + "/dev " + no, "f " + dir + "/size 8192"}
		for _, m := range more {
			l = append(l, "f "+dir+"/"+m)
		}
		return l
	}
	var lines []string
	for _, l := range [][]string{
		add("mmcblk0boot0", mmc+"/mmcblk0boot0", "179:8", "force_ro 1"),
		add("mmcblk0boot1", mmc+"/mmcblk0boot1", "179:16", "force_ro 1"),
		add("mmcblk0rpmb", mmc+"/mmcblk0rpmb", "179:24"),
		add("mmcblk0p1", mmc+"/mmcblk0p1", "179:1", "partition 1", "start 2048"),
		add("zram0", "devices/virtual/block/zram0", "252:0", "comp_algorithm lzo", "mm_stat 0"),
		add("mtdblock0", "devices/pci0000:00/0000:00:1f.5/mtd/mtd0/mtdblock0", "31:0"),
		add("ram0", "devices/virtual/block/ram0", "1:0"),
		add("fd0", "devices/platform/floppy.0/block/fd0", "2:0"),
		add("loop7", "devices/virtual/block/loop7", "7:7"),
		add("zd0", "devices/virtual/block/zd0", "230:0"),
		add("nvme2c0n1", "devices/pci0000:00/0000:00:02.0/nvme/nvme1/nvme2c0n1", "259:9", "hidden 1"),
		add("cciss!c0d0", "devices/pci0000:00/0000:00:09.0/cciss0/c0d0/block/cciss!c0d0", "104:0"),
	} {
		lines = append(lines, l...)
	}
	lines = append(lines, "d devices/pci0000:00/0000:00:09.0/cciss0/c0d0", "l devices/pci0000:00/0000:00:09.0/cciss0/c0d0/block/cciss!c0d0/device ../../../c0d0")
	v := scan(t, recordedSystem(t, "mixed", lines...))
	var got []string
	for _, i := range v.Ignored {
		got = append(got, i.Name+": "+i.Reason)
	}
	want := `fd0: floppy drive
loop7: loop device without a file
mmcblk0boot0: hardware area of an eMMC
mmcblk0boot1: hardware area of an eMMC
mmcblk0rpmb: hardware area of an eMMC
mtdblock0: flash memory of the board
nvme2c0n1: a path of a device that the kernel joins by itself
ram0: memory disk
sr0: optical drive
zram0: compressed memory (zram)`
	if g := strings.Join(got, "\n"); g != want {
		t.Errorf("ignored\n%s\nwant\n%s", g, want)
	}
	if d := v.Device("mmcblk0p1"); d == nil || d.Parent != "mmcblk0" || d.Kind != Partition {
		t.Errorf("mmcblk0p1 is %+v", d)
	}
	if d := v.Device("zd0"); d == nil || d.Kind != Virtual {
		t.Errorf("zd0 is %+v", d)
	}
	if d := v.Device("cciss/c0d0"); d == nil || d.Kind != Disk || !strings.HasSuffix(v.Node(d), "/cciss/c0d0") {
		t.Errorf("cciss/c0d0 is %+v", d)
	}
}

// TestVanish: a device that is listed but gone is an error that names it.
func TestVanish(t *testing.T) {
	s := recordedSystem(t, "mixed")
	if err := os.Remove(filepath.Join(s.Sys, "class/block/vdc/size")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Scan(); err == nil || !strings.Contains(err.Error(), "vdc") {
		t.Errorf("error %v does not name vdc", err)
	}
}

func TestNatural(t *testing.T) {
	in := []string{"sda", "sda2", "sda10", "sdb", "sdaa"}
	for i, a := range in {
		for j, b := range in {
			if a[:3] == "sda" && b[:3] == "sda" && natural(a, b) != (i < j) {
				t.Errorf("natural(%s, %s) is %v", a, b, natural(a, b))
			}
		}
	}
}

func FuzzIDPage(f *testing.F) {
	f.Add([]byte("\x00\x83\x00\x0c\x01\x03\x00\x08\x50\x00\xc5\x00\xa1\xb2\xc3\xd4"))
	f.Add([]byte("\x00\x80\x00\x04 abc"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, s := range []string{idOfPage(b), ataModel(b), parseSerialPage(b)} {
			if strings.IndexFunc(s, func(r rune) bool { return r < 0x20 || r > 0x7e }) >= 0 {
				t.Errorf("unprintable %q", s)
			}
		}
	})
}
