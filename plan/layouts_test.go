package plan

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"lifeboat/manifest"
	"lifeboat/report"
)

// tight is biosHost without swap: every extent holds files.
func tight() *host {
	h := newHost("bios")
	d := h.disk(manifest.Disk{Serial: "OLD-1", Model: "OLDDISK", Bytes: 10 * gib, Transport: "sata"})
	t := h.gpt(d)
	h.m.Boot.BIOSBoot = []manifest.ID{h.part(t, 1, mib, mib, manifest.TypeBIOSBoot)}
	h.m.Boot.MBRCode = []manifest.ID{d}
	v := h.vg("vg-a", h.pv(h.part(t, 3, 2*mib, -1, manifest.TypeLVM), "vg-a"))
	h.fs("ext4", h.lv(v, "root", 1000), "/")
	h.fs("xfs", h.lv(v, "data", h.m.Storage.Node(v).VG.Free), "/srv/data")
	return h
}

// whole has one filesystem up to the disk's last usable sector.
func whole() *host {
	h := newHost("bios")
	d := h.disk(manifest.Disk{Serial: "OLD-1", Model: "OLDDISK", Bytes: 10 * gib, Transport: "sata"})
	t := h.gpt(d)
	h.m.Boot.BIOSBoot = []manifest.ID{h.part(t, 1, mib, mib, manifest.TypeBIOSBoot)}
	h.m.Boot.MBRCode = []manifest.ID{d}
	h.fs("ext4", h.part(t, 2, 2*mib, -1, manifest.TypeLinux), "/")
	return h
}

// roomy is biosHost with a hundred free extents behind its volumes.
func roomy() *host {
	h := newHost("bios")
	d := h.disk(manifest.Disk{Serial: "OLD-1", Model: "OLDDISK", Bytes: 10 * gib, Transport: "sata"})
	t := h.gpt(d)
	h.m.Boot.BIOSBoot = []manifest.ID{h.part(t, 1, mib, mib, manifest.TypeBIOSBoot)}
	h.m.Boot.MBRCode = []manifest.ID{d}
	v := h.vg("vg-a", h.pv(h.part(t, 3, 2*mib, -1, manifest.TypeLVM), "vg-a"))
	h.swap(h.lv(v, "swap", 128))
	h.fs("ext4", h.lv(v, "root", h.m.Storage.Node(v).VG.Free-100), "/")
	return h
}

// swapFirst has its swap before the root, which ends where the disk ends.
func swapFirst() *host {
	h := newHost("uefi")
	d := h.disk(manifest.Disk{Serial: "NV-1", Model: "OLD NVME", Bytes: 20 * gib, Transport: "nvme"})
	t := h.gpt(d)
	h.fs("vfat", h.part(t, 1, mib, 512*mib, manifest.TypeESP), "/boot/efi")
	h.swap(h.part(t, 3, 513*mib, gib, manifest.TypeSwap))
	h.fs("xfs", h.part(t, 2, 513*mib+gib, -1, manifest.TypeLinux), "/")
	return h
}

// logicalHost is an MBR with its id, gaps, and logical partitions of which one
// is ext3; swap comes last, as installers have put it for years.
func logicalHost() *host {
	h := newHost("bios")
	d := h.disk(manifest.Disk{Serial: "MBR-1", Model: "OLDDISK", Bytes: 8 * gib, Transport: "ide"})
	h.m.Boot.MBRCode = []manifest.ID{d}
	t := h.dos(d)
	end := 8*gib - mib
	root := h.part(t, 1, 63*512, 3*gib-63*512, "83")
	h.m.Storage.Node(root).Partition.Active = true
	h.fs("ext4", root, "/")
	h.part(t, 3, 3*gib+7*mib, end-3*gib-7*mib, "05")
	h.ext("ext3", h.part(t, 5, 3*gib+8*mib, gib, "83"), "/home")
	h.ext("ext2", h.part(t, 7, 4*gib+20*mib, gib, "83"), "/srv") // a gap and a number left out
	swap := 5*gib + 40*mib
	h.swap(h.part(t, 6, swap, end-swap, "82"))
	for _, p := range partitions(&h.m.Storage, t) {
		p.Partition.UUID = ""
	}
	return h
}

// ext is a filesystem of the older kinds.
func (h *host) ext(typ string, dev manifest.ID, path string) {
	f := h.m.Storage.Node(h.fs(typ, dev, path)).FS
	f.Ext = &manifest.Ext{BlockSize: 1024, Blocks: h.m.Storage.Node(dev).Bytes / 1024, Features: []string{"dir_index", "ext_attr", "filetype"}}
	if typ == "ext3" {
		f.Ext.Features = append(f.Ext.Features, "has_journal")
	}
}

// stripedHost has a system disk and three others: a striped volume over all
// of them, swap and a linear volume behind it.
func stripedHost() *host {
	h := newHost("bios")
	a := h.disk(manifest.Disk{Serial: "SYS-1", Model: "OLDDISK", Bytes: 8 * gib, Transport: "sata"})
	t := h.gpt(a)
	h.m.Boot.MBRCode = []manifest.ID{a}
	h.m.Boot.BIOSBoot = []manifest.ID{h.part(t, 1, mib, mib, manifest.TypeBIOSBoot)}
	h.fs("ext4", h.part(t, 2, 2*mib, -1, manifest.TypeLinux), "/")
	var pvs []manifest.ID
	for i, s := range []string{"STR-1", "STR-2", "STR-3"} {
		d := h.disk(manifest.Disk{Serial: s, Model: "OLDDISK", Bytes: int64(10+i) * gib, Transport: "sata"})
		if i == 2 {
			pvs = append(pvs, h.pv(d, "stripes")) // without a table
			continue
		}
		pvs = append(pvs, h.pv(h.part(h.gpt(d), 1, mib, -1, manifest.TypeLVM), "stripes"))
	}
	v := h.vg("stripes", pvs...)
	h.fs("xfs", h.striped(v, "fast", 2000), "/srv/fast")
	h.swap(h.lv(v, "swap", 256))
	h.ext("ext3", h.lv(v, "old", h.m.Storage.Node(v).VG.Free), "/srv/old")
	return h
}

var layouts = []scenario{
	{name: "shrink-free-extents", host: roomy, disks: disks(blank("", 10*gib-300*mib)), match: map[string]string{"OLD-1": "sda"}, rule: ByBlank},
	{name: "shrink-swap-volume", host: biosHost, disks: disks(blank("", 10*gib-mib)), match: map[string]string{"OLD-1": "sda"}, rule: ByBlank},
	{name: "shrink-swap-volume-half", host: biosHost, disks: disks(blank("", 10*gib-300*mib)), refuse: []string{report.CodeDiskTooSmall}},
	{name: "shrink-both", host: roomy, disks: disks(blank("", 10*gib-500*mib)), match: map[string]string{"OLD-1": "sda"}, rule: ByBlank},
	{name: "shrink-swap-partition", host: uefiHost, disks: disks(blank("", 513*mib+16*gib-10*mib)), match: map[string]string{"NV-1": "sda"}, rule: ByBlank},
	{name: "shrink-swap-first", host: swapFirst, disks: disks(blank("", 20*gib-48*mib)), match: map[string]string{"NV-1": "sda"}, rule: ByBlank},
	{name: "shrink-logical", host: logicalHost, disks: disks(blank("", 8*gib-48*mib)), match: map[string]string{"MBR-1": "sda"}, rule: ByBlank},
	{name: "shrink-only-if-need-be", host: biosHost, disks: disks(blank("", 10*gib), blank("", 10*gib-mib)), match: map[string]string{"OLD-1": "sda"}, rule: ByBlank},
	{name: "free-tail", host: uefiHost, disks: disks(blank("", 17*gib)), match: map[string]string{"NV-1": "sda"}, rule: ByBlank},
	{name: "mbr-logical", host: logicalHost, disks: disks(blank("", 8*gib)), match: map[string]string{"MBR-1": "sda"}, rule: ByBlank},
	{name: "striped", host: stripedHost, disks: disks(blank("", 12*gib), blank("", 10*gib), full(blank("STR-2", 11*gib)), full(blank("SYS-1", 8*gib))),
		match: map[string]string{"SYS-1": "sdd", "STR-1": "sdb", "STR-2": "sdc", "STR-3": "sda"}},
	{name: "striped-smaller", host: stripedHost, disks: disks(blank("STR-1", 10*gib), blank("STR-2", 11*gib), blank("STR-3", 12*gib-8*mib), blank("SYS-1", 8*gib)), refuse: []string{report.CodeDiskTooSmall}},
}

func TestLayouts(t *testing.T) {
	for _, s := range layouts {
		t.Run(s.name, func(t *testing.T) { s.run(t) })
	}
}

// On disks of the captured sizes every place is the captured one: starts,
// gaps, numbers, ids, extents.
func TestLayoutsSame(t *testing.T) {
	for _, name := range []string{"mbr-logical", "striped"} {
		s := layouts[slices.IndexFunc(layouts, func(s scenario) bool { return s.name == name })]
		in := s.input()
		p := Make(in)
		for _, n := range in.Manifest.Storage.Nodes {
			got := p.Target.Node(n.ID)
			if n.Kind == manifest.KindDisk {
				continue
			}
			if got == nil || !reflect.DeepEqual(got.Partition, n.Partition) || !reflect.DeepEqual(got.LV, n.LV) || !reflect.DeepEqual(got.PV, n.PV) || !reflect.DeepEqual(got.FS, n.FS) || !reflect.DeepEqual(got.Table, n.Table) || got.Bytes != n.Bytes {
				t.Errorf("%s: %s is %+v, was %+v", name, n.ID, got, n)
			}
		}
	}
}

// places are the partitions of a plan's only table.
func places(t *testing.T, name string) map[int][2]int64 {
	t.Helper()
	s := layouts[slices.IndexFunc(layouts, func(s scenario) bool { return s.name == name })]
	p := Make(s.input())
	out := map[int][2]int64{}
	for _, n := range p.Target.OfKind(manifest.KindPartition) {
		out[n.Partition.Number] = [2]int64{n.Partition.Start, n.Partition.Size}
	}
	return out
}

// What became smaller, written out.
func TestShrinkPlaces(t *testing.T) {
	logical := places(t, "shrink-logical") // 1 MiB of the 48 that are missing was free
	end := 8*gib - 48*mib
	swap := 5*gib + 40*mib
	want := map[int][2]int64{1: {63 * 512, 3*gib - 63*512}, 3: {3*gib + 7*mib, end - 3*gib - 7*mib}, 5: {3*gib + 8*mib, gib}, 7: {4*gib + 20*mib, gib}, 6: {swap, end - swap}}
	if !reflect.DeepEqual(logical, want) {
		t.Errorf("logical: %v, want %v", logical, want)
	}
	first := places(t, "shrink-swap-first")
	root := 20*gib - 33*512 - (513*mib + gib)
	want = map[int][2]int64{1: {mib, 512 * mib}, 3: {513 * mib, gib - 48*mib}, 2: {513*mib + gib - 48*mib, root}}
	if !reflect.DeepEqual(first, want) {
		t.Errorf("swap first: %v, want %v", first, want)
	}
}

// The server of the machine tests, by what its tools say of it: the smallest
// disk for it is worked out there as well.
func TestLeastOfAServer(t *testing.T) {
	h := newHost("bios")
	d := h.disk(manifest.Disk{Serial: "OLD-1", Bytes: 4 * gib})
	tab := h.gpt(d)
	h.m.Boot.BIOSBoot = []manifest.ID{h.part(tab, 2, 40*512, 2008*512, manifest.TypeBIOSBoot)}
	h.m.Boot.MBRCode = []manifest.ID{d}
	pv := h.pv(h.part(tab, 9, 411648*512, 7974912*512, manifest.TypeLVM), "vg-data-a")
	h.fs("ext4", h.part(tab, 5, mib, 409600*512, manifest.TypeLinux), "/boot")
	n := h.m.Storage.Node(pv).PV
	n.PEStart, n.Extents = 4*mib, 486
	v := h.vg("vg-data-a", pv)
	g := h.m.Storage.Node(v)
	g.VG.ExtentSize, g.Bytes = 8*mib, 486*8*mib
	for _, x := range []struct {
		name, path string
		extents    int64
	}{{"root", "/", 320}, {"swap", "none", 16}, {"data", "/srv/data", 64}} {
		lv := h.m.Storage.Node(h.lv(v, x.name, x.extents))
		lv.Bytes *= 2
		if x.path == "none" {
			h.swap(lv.ID)
			continue
		}
		h.fs("ext4", lv.ID, x.path)
	}
	const least = 3503309312
	for bytes, ok := range map[int64]bool{4 * gib: true, 4*gib - mib: true, least: true, least - 1: false, least - mib: false} {
		p := Make(Input{Manifest: h.m, Machine: machine("bios", blank("", bytes)), Policy: auto})
		if p.Refused() == ok || !ok && !strings.Contains(p.Refusals[0].Text, fmt.Sprintf("has %d bytes and the layout needs %d,", bytes, least)) {
			t.Errorf("%d bytes: %v", bytes, p.Refusals)
		}
	}
}
