package probe

import (
	"context"
	"testing"

	"lifeboat/internal/hostconf/fstab"
)

// TestSpecs resolves every way in which fstab names a device (C71).
func TestSpecs(t *testing.T) {
	b := newBench(t, "")
	b.do("nvme0n1", gptN, "sfdisk", "-q")
	b.do("sda", "label: dos\nlabel-id: 0x0abc1234\n", "sfdisk", "-q")
	b.do("nvme0n1p1", "", "mkfs.vfat", "-i", "1234ABCD", "-n", "MY ESP")
	b.do("dm-0", "", "mke2fs", "-q", "-t", "ext4", "-U", fsUUID(1), "-L", "a b/ü")
	r, err := Read(context.Background(), b.opt)
	if err != nil {
		t.Fatal(err)
	}
	g, err := r.Graph(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	m := &mounter{r: r, g: g}
	for line, want := range map[string]string{
		"UUID=1234-ABCD":   "nvme0n1p1",
		"UUID=1234-abcd":   "nvme0n1p1",
		`UUID="1234-ABCD"`: "nvme0n1p1",
		"PARTUUID=11111111-0000-4000-8000-000000000011":              "nvme0n1p1",
		`PARTLABEL=EFI\040System\040Partition`:                       "nvme0n1p1",
		`LABEL=MY\040ESP`:                                            "nvme0n1p1",
		"/dev/nvme0n1p1":                                             "nvme0n1p1",
		"/dev/disk/by-partuuid/11111111-0000-4000-8000-000000000011": "nvme0n1p1",
		`/dev/disk/by-partlabel/EFI\134x20System\134x20Partition`:    "nvme0n1p1",
		"/dev/disk/by-id/nvme-QEMU_NVMe_Ctrl_S1-SYSTEM-part1":        "nvme0n1p1",
		"/dev/disk/by-path/pci-0000:00:01.0-nvme-1-part1":            "nvme0n1p1",
		"/dev/mapper/vg--data-ro--ot":                                "dm-0",
		"/dev/disk/by-id/dm-name-vg--data-ro--ot":                    "dm-0",
		`LABEL=a\040b/ü`:                                             "dm-0",
		"UUID=11111111-0000-4000-8000-000000000011":                  "",
		"LABEL=":                  "",
		"/dev/sdz9":               "",
		"PARTUUID=0abc1234-01":    "",
		"nas:/export":             "",
		"/dev/disk/by-label/gone": "",
	} {
		e := fstab.Parse([]byte(line + " /x ext4 defaults")).Entries()
		if len(e) != 1 {
			t.Fatalf("%s: %d entries", line, len(e))
		}
		d, id := m.resolve(e[0].Spec)
		got := ""
		if d != nil {
			got = d.Name
		}
		if got != want || (id == "") != (want == "") {
			t.Errorf("%s is %q (%s), not %q", line, got, id, want)
		}
	}
}
