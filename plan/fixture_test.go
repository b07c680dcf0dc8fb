package plan

import (
	"fmt"
	"strings"
	"time"

	"lifeboat/manifest"
)

const (
	kib = int64(1) << 10
	mib = int64(1) << 20
	gib = int64(1) << 30
)

// host builds a manifest layer by layer.
type host struct {
	m *manifest.Manifest
	n int // for unique ids
}

func newHost(firmware string) *host {
	m := &manifest.Manifest{Format: manifest.Format, Made: time.Date(2026, 5, 1, 3, 0, 0, 0, time.UTC), By: "test",
		Host: manifest.Host{Name: "alpha", MachineID: "0123456789abcdef0123456789abcdef", OS: manifest.OSRelease{ID: "debian", Arch: "amd64", Pretty: "Debian"}}}
	m.Machine.Firmware.Mode = firmware
	m.Boot = manifest.Boot{Firmware: firmware, Loader: "grub", GRUB: &manifest.GRUB{Prefix: "grub", Dir: "/boot/grub", Config: "/boot/grub/grub.cfg"}}
	m.Boot.GRUB.Platforms = []string{map[string]string{"bios": "i386-pc", "uefi": "x86_64-efi"}[firmware]}
	m.System = manifest.System{Kernel: "6.1.0-1-amd64", Initramfs: manifest.InitramfsTools, Kernels: []manifest.Kernel{
		{Version: "6.1.0-1-amd64", Image: "/boot/vmlinuz-6.1.0-1-amd64", Initramfs: "/boot/initrd.img-6.1.0-1-amd64", Default: true},
		{Version: "5.10.0-9-amd64", Image: "/boot/vmlinuz-5.10.0-9-amd64", Initramfs: "/boot/initrd.img-5.10.0-9-amd64"}}}
	return &host{m: m}
}

func (h *host) uuid() string { h.n++; return fmt.Sprintf("%08X-0000-4000-8000-%012X", h.n, h.n) }

func (h *host) node(n manifest.Node) manifest.ID {
	h.m.Storage.Nodes = append(h.m.Storage.Nodes, n)
	return n.ID
}

func on(ids ...manifest.ID) []manifest.Edge {
	var e []manifest.Edge
	for _, id := range ids {
		e = append(e, manifest.Edge{Node: id, Role: manifest.RoleMember})
	}
	return e
}

func (h *host) disk(d manifest.Disk) manifest.ID {
	h.n++
	if d.Logical == 0 {
		d.Logical, d.Physical = 512, 512
	}
	id := manifest.ID(fmt.Sprintf("disk:%d", h.n))
	if d.Serial != "" {
		id = manifest.ID("disk:" + strings.ReplaceAll(d.Serial, " ", "_"))
	}
	return h.node(manifest.Node{ID: id, Kind: manifest.KindDisk, Bytes: d.Bytes, Disk: &d, Seen: manifest.Seen{Device: fmt.Sprintf("sd%c", 'a'+len(h.m.Storage.OfKind(manifest.KindDisk)))}})
}

func (h *host) gpt(disk manifest.ID) manifest.ID {
	d := h.m.Storage.Node(disk).Disk
	u := h.uuid()
	t := &manifest.Table{Type: "gpt", UUID: u, Entries: 128}
	t.FirstLBA, t.LastLBA = gptFirst(t, sector(*d)), d.Bytes/sector(*d)*sector(*d)-gptTail(t, sector(*d))-sector(*d)
	return h.node(manifest.Node{ID: manifest.ID("table:" + u), Kind: manifest.KindTable, On: on(disk), Bytes: d.Bytes, Table: t})
}

// part adds a partition; size < 0 takes all up to the last usable sector.
func (h *host) part(table manifest.ID, num int, start, size int64, typ string) manifest.ID {
	t := h.m.Storage.Node(table)
	if size < 0 {
		d := h.m.Storage.Node(t.On[0].Node).Disk
		size = t.Table.LastLBA + sector(*d) - start
	}
	u := h.uuid()
	return h.node(manifest.Node{ID: manifest.ID("part:" + u), Kind: manifest.KindPartition, On: on(table), Bytes: size,
		Partition: &manifest.Partition{Number: num, Start: start, Size: size, Type: typ, UUID: u}})
}

func (h *host) fs(typ string, dev manifest.ID, path string) manifest.ID {
	u, b := h.uuid(), h.m.Storage.Node(dev).Bytes
	if typ == "vfat" {
		u = fmt.Sprintf("ABCD-%04X", h.n)
	}
	f := &manifest.FS{Type: typ, UUID: u}
	switch typ {
	case "ext4":
		f.Ext = &manifest.Ext{BlockSize: 4096, Blocks: b / 4096, Features: []string{"extent", "has_journal"}}
	case "xfs":
		f.XFS = &manifest.XFS{BlockSize: 4096, SectorSize: 512}
	case "vfat":
		f.VFAT = &manifest.VFAT{Bits: 32, SectorSize: 512, ClusterSize: 4096}
	}
	id := h.node(manifest.Node{ID: manifest.ID("fs:" + u), Kind: manifest.KindFS, On: on(dev), Bytes: b, FS: f, Seen: manifest.Seen{Used: b / 4}})
	if path != "" {
		h.mount(path, id, typ, manifest.ScopeFull)
	}
	switch path {
	case "/":
		h.m.Boot.RootFS = id
		if h.m.Boot.BootFS == "" {
			h.m.Boot.BootFS = id
		}
	case "/boot":
		h.m.Boot.BootFS = id
	case "/boot/efi":
		h.m.Boot.ESPs = append(h.m.Boot.ESPs, id)
	}
	return id
}

func (h *host) mount(path string, node manifest.ID, typ string, scope manifest.Scope) {
	mt := manifest.Mount{Path: manifest.Bytes(path), Node: node, Type: typ, InFstab: true, Live: true, Backup: scope}
	at := len(h.m.Storage.Mounts)
	for i, m := range h.m.Storage.Mounts { // tree order
		if m.Path == "none" || len(m.Path) > len(path) && within(m.Path, mt.Path) {
			at = i
			break
		}
	}
	if path == "none" {
		at = len(h.m.Storage.Mounts)
	}
	h.m.Storage.Mounts = append(h.m.Storage.Mounts[:at:at], append([]manifest.Mount{mt}, h.m.Storage.Mounts[at:]...)...)
}

func (h *host) swap(dev manifest.ID) manifest.ID {
	u := h.uuid()
	id := h.node(manifest.Node{ID: manifest.ID("swap:" + u), Kind: manifest.KindSwap, On: on(dev), Bytes: h.m.Storage.Node(dev).Bytes, Swap: &manifest.Swap{UUID: u, PageSize: 4096}})
	h.mount("none", id, "swap", manifest.ScopeNone)
	return id
}

func (h *host) unknown(dev manifest.ID, what, reason string) manifest.ID {
	u := h.uuid()
	return h.node(manifest.Node{ID: manifest.ID("unknown:" + u), Kind: manifest.KindUnknown, On: on(dev), Bytes: h.m.Storage.Node(dev).Bytes,
		Unknown: &manifest.Unknown{What: what, Reason: reason}})
}

const extent = 4 * mib

func (h *host) pv(dev manifest.ID, vg string) manifest.ID {
	u, b := h.uuid(), h.m.Storage.Node(dev).Bytes
	return h.node(manifest.Node{ID: manifest.ID("pv:" + u), Kind: manifest.KindPV, On: on(dev), Bytes: b,
		PV: &manifest.PV{UUID: u, VG: vg, PEStart: mib, Extents: (b - mib) / extent, DevSize: b, MDACopies: 1}})
}

func (h *host) vg(name string, pvs ...manifest.ID) manifest.ID {
	u, sum := h.uuid(), int64(0)
	for _, p := range pvs {
		sum += h.m.Storage.Node(p).PV.Extents
	}
	return h.node(manifest.Node{ID: manifest.ID("vg:" + u), Kind: manifest.KindVG, On: on(pvs...), Bytes: sum * extent,
		VG: &manifest.VG{Name: name, UUID: u, ExtentSize: extent, Extents: sum, Free: sum}})
}

// lv takes the next free extents of the group's PVs, over as many as needed.
func (h *host) lv(vg manifest.ID, name string, extents int64) manifest.ID {
	s, g := &h.m.Storage, h.m.Storage.Node(vg)
	lv := &manifest.LV{Name: name, UUID: h.uuid(), Type: "linear"}
	used := map[manifest.ID]int64{}
	for _, l := range s.OfKind(manifest.KindLV) {
		for _, sg := range l.LV.Segments {
			for _, a := range sg.Areas {
				used[a.PV] += sg.Extents / int64(len(sg.Areas))
			}
		}
	}
	for left, at := extents, 0; left > 0; at++ {
		pv := s.Node(g.On[at].Node)
		n := min(left, pv.PV.Extents-used[pv.ID])
		if n > 0 {
			lv.Segments = append(lv.Segments, manifest.Segment{Type: "linear", Start: extents - left, Extents: n, Stripes: 1,
				Areas: []manifest.Area{{PV: pv.ID, Start: used[pv.ID]}}})
			left -= n
		}
	}
	g.VG.Free -= extents
	return h.node(manifest.Node{ID: manifest.ID("lv:" + lv.UUID), Kind: manifest.KindLV, On: on(vg), Bytes: extents * extent, LV: lv})
}

// biosHost is one disk: BIOS-boot, /boot, and a fully allocated volume group.
func biosHost() *host {
	h := newHost("bios")
	d := h.disk(manifest.Disk{Serial: "OLD-1", Model: "OLDDISK", WWN: "naa.5000c50000000001", Bytes: 10 * gib, Transport: "sata"})
	t := h.gpt(d)
	h.m.Boot.BIOSBoot = []manifest.ID{h.part(t, 1, mib, mib, manifest.TypeBIOSBoot)}
	h.m.Boot.MBRCode = []manifest.ID{d}
	boot := h.part(t, 2, 2*mib, 512*mib, manifest.TypeLinux)
	lvm := h.part(t, 3, 514*mib, -1, manifest.TypeLVM)
	h.fs("ext4", boot, "/boot")
	v := h.vg("vg-a", h.pv(lvm, "vg-a"))
	h.fs("ext4", h.lv(v, "root", 1000), "/")
	h.swap(h.lv(v, "swap", 128))
	h.fs("xfs", h.lv(v, "data", h.m.Storage.Node(v).VG.Free), "/srv/data")
	return h
}

// uefiHost is one NVMe disk with an ESP.
func uefiHost() *host {
	h := newHost("uefi")
	d := h.disk(manifest.Disk{Serial: "NV-1", Model: "OLD NVME", WWN: "eui.0025385000000001", Bytes: 20 * gib, Transport: "nvme"})
	t := h.gpt(d)
	esp := h.part(t, 1, mib, 512*mib, manifest.TypeESP)
	root := h.part(t, 2, 513*mib, 15*gib, manifest.TypeLinux)
	h.fs("ext4", root, "/")
	h.fs("vfat", esp, "/boot/efi")
	h.swap(h.part(t, 3, 513*mib+15*gib, gib, manifest.TypeSwap))
	return h
}

// twoHost is a system disk, and a volume group over both disks.
func twoHost() *host {
	h := newHost("bios")
	a := h.disk(manifest.Disk{Serial: "OLD-1", Model: "OLDDISK", Bytes: 10 * gib, Transport: "sata"})
	b := h.disk(manifest.Disk{Serial: "OLD-2", Model: "OLDDISK", Bytes: 20 * gib, Transport: "sata"})
	t := h.gpt(a)
	h.m.Boot.BIOSBoot = []manifest.ID{h.part(t, 1, mib, mib, manifest.TypeBIOSBoot)}
	h.fs("ext4", h.part(t, 2, 2*mib, 4*gib, manifest.TypeLinux), "/")
	pa := h.pv(h.part(t, 3, 2*mib+4*gib, -1, manifest.TypeLVM), "data")
	pb := h.pv(h.part(h.gpt(b), 1, mib, -1, manifest.TypeLVM), "data")
	h.fs("xfs", h.lv(h.vg("data", pa, pb), "big", 5000), "/srv")
	return h
}

// machine is a rescue machine with everything the plans need.
func machine(firmware string, disks ...manifest.MachineDisk) *manifest.Machine {
	m := &manifest.Machine{Rescue: true, Memory: 2 * gib, Firmware: manifest.Firmware{Mode: firmware, NVRAM: "rw"},
		DMI: manifest.DMI{Vendor: "TEST", Product: "Machine", Serial: "M-1"}}
	for i := range disks {
		if disks[i].Name == "" {
			disks[i].Name = fmt.Sprintf("sd%c", 'a'+i)
		}
		if disks[i].DevNo == "" {
			disks[i].DevNo = fmt.Sprintf("8:%d", 16*i)
		}
		if disks[i].Disk.Logical == 0 {
			disks[i].Disk.Logical, disks[i].Disk.Physical = 512, 512
		}
	}
	m.Disks = disks
	for name := range probes {
		m.Tools = append(m.Tools, manifest.Tool{Name: name, Path: "/usr/sbin/" + name, Works: true})
	}
	m.Tools = append(m.Tools, manifest.Tool{Name: "tune2fs", Path: "/usr/sbin/tune2fs"})
	m.Tools = append(m.Tools, manifest.Tool{Name: "fsck.vfat", Path: "/usr/sbin/fsck.vfat"})
	m.Kernel = manifest.KernelInfo{Release: "6.1.0-1-amd64", Filesystems: []string{"ext2", "ext3", "ext4", "xfs", "vfat", "efivarfs"},
		Modules: []string{"dm_mod", "ext4", "xfs", "vfat", "nls_cp437", "nls_ascii", "nls_iso8859_1", "efivarfs"}}
	return m
}

func blank(serial string, bytes int64) manifest.MachineDisk {
	return manifest.MachineDisk{Disk: manifest.Disk{Serial: serial, Model: "NEWDISK", Bytes: bytes, Transport: "sata"}}
}

// full is a disk that holds something.
func full(d manifest.MachineDisk) manifest.MachineDisk {
	d.Table, d.TableID = "gpt", "AAAAAAAA-0000-4000-8000-000000000000"
	d.Signatures = []manifest.Signature{{Device: "sda1", Type: "ext4", UUID: "1234"}}
	return d
}

func protected(d manifest.MachineDisk, why, what string, chain ...string) manifest.MachineDisk {
	d.Protection = append(d.Protection, manifest.Protection{Why: why, What: what, Chain: chain})
	return d
}

// stick is a USB stick with the rescue medium.
func stick() manifest.MachineDisk {
	d := full(manifest.MachineDisk{Name: "sdu", DevNo: "65:64", Disk: manifest.Disk{Serial: "STICK-9", Model: "USB STICK", Bytes: 32 * gib, Transport: "usb", Removable: true}})
	return protected(d, manifest.ProtectMedium, "rescue medium", "sdu1", "sdu")
}
