package blockdev

import (
	"sort"
	"strings"
	"testing"

	"lifeboat/manifest"
)

func lines(p map[string][]manifest.Protection) string {
	var out []string
	for disk, l := range p {
		for _, x := range l {
			out = append(out, disk+": "+x.Why+" "+x.What+": "+strings.Join(x.Chain, " < "))
		}
	}
	sort.Strings(out)
	return strings.Join(out, "\n")
}

// TestProtections walks from mounts, swap, a loop file on an LV and an array
// down to whole disks (C12).
func TestProtections(t *testing.T) {
	v := scan(t, recordedSystem(t, "mixed"))
	got := lines(v.Protections(Uses{Backup: []string{"/mnt/backup/host/x.lba"}, Medium: []string{"/dev/sde"}}))
	want := `nvme0n1: active md0: md0 < nvme0n1p3 < nvme0n1
sdd: readonly sdd: sdd
sde: medium /dev/sde: /dev/sde < sde
vda: backup /mnt/backup/host/x.lba: /mnt/backup/host/x.lba < /mnt/backup < loop0 < /mnt/r/img < dm-0 < vda3 < vda
vda: mounted /mnt/backup: /mnt/backup < loop0 < /mnt/r/img < dm-0 < vda3 < vda
vda: mounted /mnt/r: /mnt/r < dm-0 < vda3 < vda
vda: mounted swap /dev/mapper/vg--data-swap: /dev/mapper/vg--data-swap < dm-1 < vda2 < vda`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestProtectionsOpened: what Lifeboat opened protects nothing, but the
// backup's disk stays protected whoever opened it.
func TestProtectionsOpened(t *testing.T) {
	v := scan(t, recordedSystem(t, "mixed"))
	got := lines(v.Protections(Uses{
		Backup:        []string{"/mnt/backup"},
		OpenedMounts:  []string{"/mnt"},
		OpenedDevices: []string{"md0", "dm-0", "loop0"},
	}))
	want := `sdd: readonly sdd: sdd
vda: backup /mnt/backup: /mnt/backup < loop0 < /mnt/r/img < dm-0 < vda3 < vda
vda: mounted swap /dev/mapper/vg--data-swap: /dev/mapper/vg--data-swap < dm-1 < vda2 < vda`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestProtectionsMulti: a btrfs over two disks has no device number of its
// own; a swap file protects the disk of its filesystem; an unmounted LV is
// active.
func TestProtectionsMulti(t *testing.T) {
	v := scan(t, recordedSystem(t, "mixed",
		"", "l fs/btrfs/0b1c/devices/sda ../../../../sda", "l fs/btrfs/0b1c/devices/sdb ../../../../sdb",
		"p self/mountinfo 30 1 0:44 /sub /data rw - btrfs /dev/sda rw",
		"p swaps /data/swap\\040file file 1024 0 -3",
		"rm fs/nothing"))
	got := lines(v.Protections(Uses{OpenedMounts: []string{"/mnt/r", "/mnt/backup"}}))
	want := `nvme0n1: active md0: md0 < nvme0n1p3 < nvme0n1
sda: mounted /data: /data < sda
sda: mounted swap /data/swap file: /data/swap file < /data < sda
sdb: mounted /data: /data < sdb
sdb: mounted swap /data/swap file: /data/swap file < /data < sdb
sdd: readonly sdd: sdd
vda: active dm-0 (vg--data-ro--ot): dm-0 < vda3 < vda
vda: active loop0 (/mnt/r/img): loop0 < /mnt/r/img < dm-0 < vda3 < vda
vda: mounted swap /dev/mapper/vg--data-swap: /dev/mapper/vg--data-swap < dm-1 < vda2 < vda`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if d := strings.Join(v.DisksOfPath("/data/x/y"), " "); d != "sda sdb" {
		t.Errorf("disks of /data/x/y: %s", d)
	}
}

// TestLoopOnPartition: a loop device straight on a partition keeps its disk.
func TestLoopOnPartition(t *testing.T) {
	v := scan(t, recordedSystem(t, "mixed", ""))
	v.Device("loop0").File = "/dev/nvme0n1p1"
	for _, by := range []func(d *Device){func(*Device) {}, func(d *Device) {
		d.File, d.fileIs = "/dev/of/another/namespace", v.Device("nvme0n1p1").DevNo
	}} {
		by(v.Device("loop0"))
		if got := lines(v.Protections(Uses{})); !strings.Contains(got, "< loop0 < "+v.Device("loop0").File+" < nvme0n1p1 < nvme0n1") {
			t.Errorf("the loop device protects no disk:\n%s", got)
		}
	}
}

// TestLoopOfItself: a chain that bites its tail ends.
func TestLoopOfItself(t *testing.T) {
	v := scan(t, recordedSystem(t, "mixed", "", "p self/mountinfo 31 25 7:0 / /mnt/r rw - ext4 /dev/loop0 rw"))
	if p := v.Protections(Uses{}); len(p["nvme0n1"]) == 0 {
		t.Error("the other disks are not seen")
	}
}

// TestMountOf walks as the kernel does: what is mounted over is not reached.
func TestMountOf(t *testing.T) {
	v := &View{Mounts: []Mount{
		{ID: 1, Parent: 0, Path: "/"}, {ID: 2, Parent: 1, Path: "/mnt"}, {ID: 3, Parent: 2, Path: "/mnt/a"},
		{ID: 4, Parent: 2, Path: "/mnt"}, {ID: 5, Parent: 4, Path: "/mnt/b"}, {ID: 6, Parent: 1, Path: "/mntx"},
	}}
	for path, want := range map[string]int{"/": 1, "/x": 1, "/mnt": 4, "/mnt/a/f": 4, "/mnt/b/f": 5, "/mntx/": 6, "/mntxy": 1} {
		if m, ok := v.MountOf(path); !ok || m.ID != want {
			t.Errorf("%s leads to %d, not %d", path, m.ID, want)
		}
	}
	if v.Visible(v.Mounts[2]) || v.Visible(v.Mounts[1]) || !v.Visible(v.Mounts[3]) {
		t.Error("visible is wrong")
	}
	if _, ok := (&View{}).MountOf("/"); ok {
		t.Error("no mounts, but one was found")
	}
}

func TestMountinfo(t *testing.T) {
	m, err := ParseMountinfo(strings.NewReader(`36 35 98:0 /mnt1 /mnt\0402\134x rw,noatime master:1 shared:2 - ext3 /dev/ro\011ot rw,errors=continue` + "\n"))
	if err != nil {
		t.Fatal(err)
	}
	if m[0].Path != `/mnt 2\x` || m[0].Root != "/mnt1" || m[0].Type != "ext3" || m[0].Source != "/dev/ro\tot" || m[0].Super != "rw,errors=continue" || m[0].DevNo.String() != "98:0" {
		t.Errorf("%+v", m[0])
	}
	for _, bad := range []string{"36 35 98:0 / /x rw", "36 35 98 / / rw - a b c", "x 35 98:0 / / rw - a b c"} {
		if _, err := ParseMountinfo(strings.NewReader(bad)); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
	// An empty source (some FUSE servers) is two blanks.
	if m, err := ParseMountinfo(strings.NewReader("36 35 0:40 / /x rw - fuse  rw")); err != nil || m[0].Source != "" || m[0].Super != "rw" {
		t.Errorf("%+v %v", m, err)
	}
}

func FuzzMountinfo(f *testing.F) {
	f.Add("36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 - ext3 /dev/root rw")
	f.Add("36 35 0:40 / /x rw - fuse  rw")
	f.Fuzz(func(t *testing.T, s string) { _, _ = ParseMountinfo(strings.NewReader(s)) })
}

func FuzzSwaps(f *testing.F) {
	f.Add("Filename\tType\n/dev/sda\\0402 partition 1024 0 -2\n")
	f.Fuzz(func(t *testing.T, s string) { _, _ = ParseSwaps(strings.NewReader(s)) })
}
