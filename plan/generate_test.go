package plan

import (
	"fmt"
	"math/rand/v2"

	"lifeboat/manifest"
)

// gen makes random hosts and machines: few sizes and identities, so that
// things collide often.
type gen struct{ *rand.Rand }

func (g gen) chance(percent int) bool { return g.IntN(100) < percent }

func pick[T any](g gen, list ...T) T { return list[g.IntN(len(list))] }

var sizes = []int64{4 * gib, 8 * gib, 8*gib + 512, 16 * gib}

// identity gives a disk serial and WWN: mostly its own, at times none, a
// placeholder, or one that others have too.
func (g gen) identity(d *manifest.Disk, own string) {
	switch {
	case g.chance(55):
		d.Serial = "S-" + own
	case g.chance(30):
		d.Serial = pick(g, "QM00001", "0000000000", "To Be Filled By O.E.M.")
	case g.chance(30):
		d.Serial = "S-SAME"
	}
	if g.chance(30) {
		d.WWN = "naa.5000c500" + fmt.Sprintf("%08x", 0x1000+g.IntN(4)*16) + own
	} else if g.chance(5) {
		d.WWN = pick(g, "naa.5000c5000000ffff", "eui.0000000000000000")
	}
}

func (g gen) host() *host {
	h := newHost(pick(g, "bios", "uefi"))
	n := 1 + g.IntN(3)
	var pvs []manifest.ID
	for i := range n {
		d := manifest.Disk{Model: "OLD", Bytes: pick(g, sizes...), Transport: "sata"}
		if g.chance(10) {
			d.Logical, d.Physical = 4096, 4096
			d.Bytes &^= 4095
		}
		if g.chance(5) {
			d.Transport = "usb"
		}
		g.identity(&d, fmt.Sprint(i))
		id := h.disk(d)
		h.m.Storage.Nodes[len(h.m.Storage.Nodes)-1].ID = manifest.ID(fmt.Sprintf("disk:%d", i))
		id = manifest.ID(fmt.Sprintf("disk:%d", i))
		if i == 0 {
			pvs = append(pvs, g.system(h, id)...)
		} else {
			pvs = append(pvs, g.data(h, id, i)...)
		}
	}
	if len(pvs) > 0 {
		g.group(h, pvs)
	}
	if g.chance(10) {
		g.Shuffle(len(h.m.System.Kernels), func(i, j int) {
			h.m.System.Kernels[i], h.m.System.Kernels[j] = h.m.System.Kernels[j], h.m.System.Kernels[i]
		})
	}
	return h
}

// system fills the disk that the host starts from.
func (g gen) system(h *host, d manifest.ID) (pvs []manifest.ID) {
	t := h.gpt(d)
	h.m.Boot.MBRCode = []manifest.ID{d}
	if h.m.Boot.Firmware == "uefi" {
		esp := h.fs("vfat", h.part(t, 15, mib, 64*mib, manifest.TypeESP), "/boot/efi")
		h.m.Storage.Node(esp).FS.VFAT.SectorSize = pick(g, int64(512), 4096)
	} else {
		h.m.Boot.BIOSBoot = []manifest.ID{h.part(t, 14, mib, mib, manifest.TypeBIOSBoot)}
	}
	at := 100 * mib
	h.fs(pick(g, "ext4", "xfs"), h.part(t, 1+g.IntN(3), at, gib, manifest.TypeLinux), "/")
	at += gib + int64(g.IntN(3))*mib
	if g.chance(50) {
		h.swap(h.part(t, 5, at, 256*mib, manifest.TypeSwap))
		at += 256 * mib
	}
	if g.chance(60) {
		end := int64(-1)
		if g.chance(50) {
			end = gib
		}
		pvs = append(pvs, h.pv(h.part(t, 7, at, end, manifest.TypeLVM), "vg"))
	}
	return pvs
}

// data fills another disk in one of the ways that hosts have.
func (g gen) data(h *host, d manifest.ID, i int) (pvs []manifest.ID) {
	path := fmt.Sprintf("/data%d", i)
	switch g.IntN(8) {
	case 0: // raw
	case 1:
		// Some tools leave no gap before the first partition.
		h.fs("ext4", h.part(h.gpt(d), 1, pick(g, mib, 24576), -1, manifest.TypeLinux), path)
	case 2:
		fs := h.fs("xfs", h.part(h.gpt(d), 1, mib, gib, manifest.TypeLinux), "")
		if g.chance(70) {
			h.mount(path, fs, "xfs", pick(g, manifest.ScopeExclude, manifest.ScopeNone))
		}
	case 3:
		pvs = append(pvs, h.pv(h.part(h.gpt(d), 1, mib, -1, manifest.TypeLVM), "vg"))
	case 4:
		pvs = append(pvs, h.pv(d, "vg")) // the whole disk
	case 5:
		u := h.unknown(d, "zfs_member", "ZFS cannot be rebuilt by this version")
		if g.chance(60) {
			h.mount(path, u, "zfs", manifest.ScopeFull)
			if g.chance(60) {
				h.m.Uncovered = append(h.m.Uncovered, manifest.Uncovered{Path: manifest.Bytes(path), Node: u, Reason: "x", Accepted: true})
			}
		}
	case 6:
		h.fs("ext4", h.part(h.dos(d), 1, pick(g, mib, 63*sector(*h.m.Storage.Node(d).Disk)), gib, "83"), path)
	case 7:
		g.logicals(h, d, path)
	}
	return pvs
}

// logicals fills a disk up to its end, or nearly, by logical partitions in an
// extended one.
func (g gen) logicals(h *host, d manifest.ID, path string) {
	t, end := h.dos(d), h.m.Storage.Node(d).Disk.Bytes/mib*mib
	h.fs("ext4", h.part(t, 1, mib, gib, "83"), path)
	tail := pick(g, 0, mib, 40*mib)
	h.part(t, 2, 2*gib, end-2*gib, "05")
	h.swap(h.part(t, 5, 2*gib+mib, pick(g, mib, 300*mib), "82"))
	h.fs("ext4", h.part(t, 6, 2*gib+500*mib, end-tail-2*gib-500*mib, "83"), path+"/b")
}

func (h *host) dos(disk manifest.ID) manifest.ID {
	h.n++
	u := fmt.Sprintf("0x%08x", 0xabc00000+h.n)
	return h.node(manifest.Node{ID: manifest.ID("table:" + u), Kind: manifest.KindTable, On: on(disk), Bytes: h.m.Storage.Node(disk).Disk.Bytes, Table: &manifest.Table{Type: "dos", UUID: u}})
}

func (g gen) group(h *host, pvs []manifest.ID) {
	v := h.vg("vg", pvs...)
	for i, path := range []string{"/srv", "/var", "/opt"} {
		free := h.m.Storage.Node(v).VG.Free
		if free == 0 || i > 0 && g.chance(30) {
			break
		}
		n := 1 + g.Int64N(free)
		if g.chance(20) {
			n = free
		}
		if each := h.leastFree(v); each > 0 && len(pvs) > 1 && g.chance(20) {
			h.mount(path, h.fs("ext4", h.striped(v, fmt.Sprintf("st%d", i), 1+g.Int64N(each)), ""), "ext4", manifest.ScopeFull)
			continue
		}
		lv := h.lv(v, fmt.Sprintf("lv%d", i), n)
		if g.chance(30) {
			h.swap(lv)
			continue
		}
		if g.chance(5) {
			h.m.Storage.Node(lv).LV.Type = "thin"
		}
		fs := h.fs("ext4", lv, "")
		if g.chance(85) {
			h.mount(path, fs, "ext4", pick(g, manifest.ScopeFull, manifest.ScopeFull, manifest.ScopeExclude))
		}
	}
	// Many hosts have nothing free, and swap somewhere in between.
	if free := h.m.Storage.Node(v).VG.Free; free > 200 && g.chance(60) {
		swap := 1 + g.Int64N(150)
		h.swap(h.lv(v, "swap", swap))
		h.fs("ext4", h.lv(v, "rest", free-swap), "")
	}
}

// machine makes a machine on which the host may or may not come back.
func (g gen) machine(h *host) Input {
	var list []manifest.MachineDisk
	for _, c := range h.m.Storage.OfKind(manifest.KindDisk) {
		if g.chance(50) {
			d := manifest.MachineDisk{Disk: *c.Disk}
			if g.chance(10) {
				d.Disk.Bytes += pick(g, -mib, -512, 512, gib, -300*mib)
			}
			if g.chance(60) {
				d = full(d)
			}
			list = append(list, d)
		}
	}
	for i := range g.IntN(4) {
		d := blank("", pick(g, sizes...)-pick(g, 0, 0, 0, 512, mib, 9*mib, 400*mib))
		if g.chance(40) {
			g.identity(&d.Disk, fmt.Sprint("N", i))
		}
		if g.chance(10) {
			d = logical4K(d)
			d.Disk.Bytes &^= 4095
		}
		if g.chance(25) {
			d = full(d)
		}
		list = append(list, d)
	}
	for i := range list {
		d := &list[i]
		switch g.IntN(30) {
		case 0, 1:
			*d = protected(*d, pick(g, manifest.ProtectBackup, manifest.ProtectMounted, manifest.ProtectActive, manifest.ProtectMedium), "x", "/x", "dm-0")
		case 2:
			d.Disk.ReadOnly = true
		case 3:
			d.Unread = "input/output error"
		case 4:
			d.Disk.Transport = "usb"
		case 5:
			d.Links = []string{"by-path/p" + fmt.Sprint(i)}
		}
	}
	for i := range list {
		if d := &list[i]; !d.Blank() && g.chance(20) {
			g.systems(h, d)
		}
	}
	if g.chance(30) {
		list = append(list, stick())
	}
	g.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	mode := h.m.Boot.Firmware
	if g.chance(3) {
		mode = pick(g, "bios", "uefi")
	}
	in := Input{Manifest: h.m, Machine: machine(mode, list...), Policy: auto}
	in.Policy.Unattended = g.chance(80)
	g.persons(&in)
	return in
}

// systems puts roots onto a disk, and what could be one and is not readable.
func (g gen) systems(h *host, d *manifest.MachineDisk) {
	if g.chance(50) {
		d.Marks = append(d.Marks, manifest.Mark{Device: "x1", Host: pick(g, h.m.Host.Name, "beta", ""), MachineID: pick(g, h.m.Host.MachineID, "beef", ""),
			Newest: pick(g, "2020-01-01T00:00:00Z", "2030-01-01T00:00:00Z", "?"), Order: pick(g, "", "", auto.Order, "another")})
	}
	if g.chance(50) {
		d.Unlooked = append(d.Unlooked, manifest.Unlooked{Device: "x2", Type: pick(g, "LVM2_member", "ext4", ""), UUID: pick(g, "", "U-1"),
			Why: pick(g, manifest.UnlookedDamaged, manifest.UnlookedDamaged, manifest.UnlookedTool, manifest.UnlookedLocked, manifest.UnlookedOther)})
	}
}

// persons adds what people and earlier runs leave: mappings, lifted
// protections, claims.
func (g gen) persons(in *Input) {
	ds := in.Machine.Disks
	if len(ds) == 0 {
		return
	}
	d := &ds[g.IntN(len(ds))]
	c := pick(g, in.Manifest.Storage.OfKind(manifest.KindDisk)...)
	if g.chance(10) && d.Disk.Serial != "" {
		in.Policy.Unprotect = []string{d.Disk.Serial}
	}
	if g.chance(10) {
		to := d.Disk.Serial
		if len(d.Links) > 0 {
			to = d.Links[0]
		}
		in.Mapping = &Mapping{Disks: []DiskMapping{{From: string(c.ID), To: to}}}
	}
	if g.chance(10) {
		for i := range ds {
			if &ds[i] == d {
				m := claimed(in, i, c.ID)
				if t := tableOn(&in.Manifest.Storage, c.ID); t != nil && g.chance(70) && d.Table != "" {
					d.TableID = t.Table.UUID
				}
				if g.chance(20) {
					m.Order = "another"
				}
			}
		}
	}
}
