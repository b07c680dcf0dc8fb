package plan

import (
	"strings"

	"lifeboat/manifest"
	"lifeboat/report"
)

// disks is short for a list.
func disks(d ...manifest.MachineDisk) []manifest.MachineDisk { return d }

func with(d manifest.MachineDisk, f func(*manifest.MachineDisk)) manifest.MachineDisk {
	f(&d)
	return d
}

func wwnOf(d manifest.MachineDisk, w string) manifest.MachineDisk {
	return with(d, func(d *manifest.MachineDisk) { d.Disk.WWN = w })
}

func claimed(in *Input, i int, node manifest.ID) *manifest.Claim {
	d := &in.Machine.Disks[i]
	d.Claim = &manifest.Claim{Order: in.Policy.Order, PlanID: "x", Manifest: in.Manifest.Digest(), Node: node,
		Host: "alpha", WWN: d.Disk.WWN, Serial: d.Disk.Serial, Bytes: d.Disk.Bytes, Time: "2026-05-02T00:00:00Z"}
	return d.Claim
}

func mapTo(from, to string) func(*Input) {
	return func(in *Input) { in.Mapping = &Mapping{Disks: []DiskMapping{{From: from, To: to}}} }
}

// marked is the host's own disk with a root on it.
func marked(m manifest.Mark) manifest.MachineDisk {
	return with(full(blank("OLD-1", 10*gib)), func(d *manifest.MachineDisk) { d.Marks = []manifest.Mark{m} })
}

// closed is the host's own disk with something that could not be looked into.
func closed(typ, uuid, why, text string) manifest.MachineDisk {
	return with(full(blank("OLD-1", 10*gib)), func(d *manifest.MachineDisk) {
		d.Unlooked = []manifest.Unlooked{{Device: "sda3", Type: typ, UUID: uuid, Why: why, Text: text}}
	})
}

// besideZFS has a pool on the system's own disk, whose loss is accepted.
func besideZFS() *host {
	h := uefiHost()
	t := h.m.Storage.OfKind(manifest.KindTable)[0].ID
	u := h.node(manifest.Node{ID: "zfs_member:77", Kind: manifest.KindUnknown, On: on(h.part(t, 4, 17*gib, gib, manifest.TypeLinux)), Bytes: gib,
		Unknown: &manifest.Unknown{What: "zfs_member", Reason: "ZFS cannot be rebuilt by this version"}})
	h.mount("/tank", u, "zfs", manifest.ScopeFull)
	h.m.Uncovered = []manifest.Uncovered{{Path: "/tank", Node: u, Reason: "x", Accepted: true}}
	return h
}

func fsAt(in *Input, path string) string {
	for _, m := range in.Manifest.Storage.Mounts {
		if string(m.Path) == path {
			return in.Manifest.Storage.Node(m.Node).FS.UUID
		}
	}
	return ""
}

// withZFS is biosHost with a disk of its own for zfs, mounted at /tank.
func withZFS(accepted bool) func() *host {
	return func() *host {
		h := biosHost()
		d := h.disk(manifest.Disk{Serial: "ZFS-1", Bytes: 4 * gib, Transport: "sata"})
		u := h.unknown(d, "zfs_member", "ZFS cannot be rebuilt by this version")
		h.mount("/tank", u, "zfs", manifest.ScopeFull)
		if accepted {
			h.m.Uncovered = []manifest.Uncovered{{Path: "/tank", Node: u, Reason: "x", Accepted: true}}
		}
		return h
	}
}

// onMD is a host whose root lies on a RAID 1 over two disks.
func onMD() *host {
	h := newHost("bios")
	a := h.disk(manifest.Disk{Serial: "MD-1", Bytes: 8 * gib})
	b := h.disk(manifest.Disk{Serial: "MD-2", Bytes: 8 * gib})
	pa, pb := h.part(h.gpt(a), 1, mib, -1, manifest.TypeRAID), h.part(h.gpt(b), 1, mib, -1, manifest.TypeRAID)
	h.m.Boot.MBRCode = []manifest.ID{a, b}
	md := h.node(manifest.Node{ID: "md:1", Kind: manifest.KindMD, On: on(pa, pb), Bytes: 7 * gib, MD: &manifest.MD{UUID: "1", Level: "raid1", Name: "md0", Devices: 2}})
	h.fs("ext4", md, "/")
	return h
}

// dataHost has a data disk that is left out of the backup, and half of a
// volume group on the system disk whose other half is on that data disk.
func dataHost(straddle bool) func() *host {
	return func() *host {
		h := newHost("bios")
		a := h.disk(manifest.Disk{Serial: "SYS-1", Bytes: 10 * gib})
		b := h.disk(manifest.Disk{Serial: "DATA-1", Bytes: 100 * gib})
		t := h.gpt(a)
		h.m.Boot.MBRCode = []manifest.ID{a}
		h.m.Boot.BIOSBoot = []manifest.ID{h.part(t, 1, mib, mib, manifest.TypeBIOSBoot)}
		h.fs("ext4", h.part(t, 2, 2*mib, 4*gib, manifest.TypeLinux), "/")
		pb := h.pv(h.part(h.gpt(b), 1, mib, -1, manifest.TypeLVM), "data")
		pvs := []manifest.ID{pb}
		if straddle {
			pvs = append(pvs, h.pv(h.part(t, 3, 5*gib, gib, manifest.TypeLVM), "data"))
		}
		fs := h.fs("xfs", h.lv(h.vg("data", pvs...), "lv", 1000), "")
		h.mount("/data", fs, "xfs", manifest.ScopeExclude)
		// Neither mounted nor in the backup, on the system disk.
		h.fs("ext4", h.part(t, 4, 7*gib, gib, manifest.TypeLinux), "")
		// Left out of the backup, on the system disk.
		h.mount("/scratch", h.fs("ext4", h.part(t, 5, 8*gib, gib, manifest.TypeLinux), ""), "ext4", manifest.ScopeExclude)
		return h
	}
}

// fourK is a host on a disk with sectors of 4096 bytes.
func fourK() *host {
	h := newHost("uefi")
	d := h.disk(manifest.Disk{Serial: "4K-1", Bytes: 64 * gib, Logical: 4096, Physical: 4096, Transport: "nvme"})
	t := h.gpt(d)
	esp := h.part(t, 1, mib, 512*mib, manifest.TypeESP)
	h.fs("ext4", h.part(t, 2, 513*mib, -1, manifest.TypeLinux), "/")
	h.m.Storage.Node(h.fs("vfat", esp, "/boot/efi")).FS.VFAT.SectorSize = 4096
	return h
}

// twins are two captured disks of the same model and size without serials.
func twins() *host {
	h := newHost("bios")
	a := h.disk(manifest.Disk{Model: "TWIN", Bytes: 10 * gib})
	b := h.disk(manifest.Disk{Model: "TWIN", Bytes: 10 * gib})
	h.m.Boot.MBRCode = []manifest.ID{a}
	t := h.gpt(a)
	h.m.Boot.BIOSBoot = []manifest.ID{h.part(t, 1, mib, mib, manifest.TypeBIOSBoot)}
	h.fs("ext4", h.part(t, 2, 2*mib, -1, manifest.TypeLinux), "/")
	h.fs("ext4", h.part(h.gpt(b), 1, mib, -1, manifest.TypeLinux), "/srv")
	return h
}

func logical4K(d manifest.MachineDisk) manifest.MachineDisk {
	return with(d, func(d *manifest.MachineDisk) { d.Disk.Logical, d.Disk.Physical = 4096, 4096 })
}

var backupDisk = protected(full(blank("BK-1", 500*gib)), manifest.ProtectBackup, "/backup/alpha.lba", "/backup", "dm-0", "sda1", "sda")

var scenarios = []scenario{
	{name: "bios-blank", host: biosHost, disks: disks(blank("", 10*gib)), match: map[string]string{"OLD-1": "sda"}, rule: ByBlank},
	{name: "uefi-blank", host: uefiHost, disks: disks(blank("NEW-1", 20*gib), stick()), match: map[string]string{"NV-1": "sda"}, rule: ByBlank},
	{name: "larger", host: biosHost, disks: disks(blank("NEW-1", 16*gib)), match: map[string]string{"OLD-1": "sda"}, rule: ByBlank},
	{name: "too-small-mib", host: tight, disks: disks(blank("", 10*gib-mib)), refuse: []string{report.CodeDiskTooSmall}},
	{name: "too-small-byte", host: whole, disks: disks(blank("", 10*gib-1)), refuse: []string{report.CodeDiskTooSmall}},
	{name: "too-small-serial", host: biosHost, disks: disks(blank("OLD-1", 9*gib)), refuse: []string{report.CodeDiskTooSmall}},
	{name: "two-disks", host: twoHost, disks: disks(blank("", 20*gib), blank("", 10*gib)), match: map[string]string{"OLD-1": "sdb", "OLD-2": "sda"}, rule: ByBlank},
	{name: "two-disks-both-large", host: twoHost, disks: disks(blank("", 20*gib), blank("", 20*gib)), refuse: []string{report.CodeDiskAmbiguous}},
	{name: "two-disks-one-there", host: twoHost, disks: disks(blank("", 20*gib)), refuse: []string{report.CodeDiskMissing}},
	{name: "two-disks-swapped", host: twoHost, disks: disks(full(blank("OLD-2", 20*gib)), full(blank("OLD-1", 10*gib))), match: map[string]string{"OLD-1": "sdb", "OLD-2": "sda"}, rule: BySerial},
	{name: "one-of-two-known", host: twoHost, disks: disks(full(blank("OLD-2", 20*gib)), blank("NEW-1", 30*gib)), match: map[string]string{"OLD-1": "sdb", "OLD-2": "sda"}},
	{name: "twins", host: twins, disks: disks(blank("", 10*gib), blank("", 10*gib)), refuse: []string{report.CodeDiskAmbiguous}},
	{name: "one-blank-too-many", host: biosHost, disks: disks(blank("", 10*gib), blank("NEW-2", 40*gib)), refuse: []string{report.CodeDiskAmbiguous}},
	{name: "no-disk", host: biosHost, disks: disks(stick()), refuse: []string{report.CodeDiskMissing}},
	{name: "protected", host: biosHost, disks: disks(protected(full(blank("OLD-1", 10*gib)), manifest.ProtectMounted, "/mnt/x", "/mnt/x", "dm-1", "sda3", "sda")), refuse: []string{report.CodeDiskProtected}},
	{name: "protected-lifted", host: biosHost, disks: disks(protected(full(blank("OLD-1", 10*gib)), manifest.ProtectMounted, "/mnt/x", "/mnt/x", "dm-1", "sda3", "sda")),
		change: func(in *Input) { in.Policy.Unprotect = []string{"OLD-1"} }, match: map[string]string{"OLD-1": "sda"}, rule: BySerial},
	{name: "backup-lifted", host: biosHost, disks: disks(protected(full(blank("OLD-1", 10*gib)), manifest.ProtectBackup, "/mnt/b.lba", "/mnt", "sda3", "sda")),
		change: func(in *Input) { in.Policy.Unprotect = []string{"OLD-1"} }, refuse: []string{report.CodeDiskProtected}},
	{name: "read-only", host: biosHost, disks: disks(with(full(blank("OLD-1", 10*gib)), func(d *manifest.MachineDisk) { d.Disk.ReadOnly = true })),
		change: func(in *Input) { in.Policy.Unprotect = []string{"OLD-1"} }, refuse: []string{report.CodeDiskProtected}},
	{name: "only-large-disk-holds-backup", host: biosHost, disks: disks(protected(blank("BK-1", 500*gib), manifest.ProtectBackup, "/backup/alpha.lba", "/backup", "dm-0", "sda1", "sda"), blank("", 4*gib)),
		refuse: []string{report.CodeDiskProtected}},
	{name: "backup-on-only-disk", host: biosHost, disks: disks(backupDisk, blank("", 4*gib)), refuse: []string{report.CodeDiskProtected}},
	{name: "backup-on-mapped-disk", host: biosHost, disks: disks(backupDisk), change: mapTo("OLD-1", "BK-1"), refuse: []string{report.CodeDiskProtected}},
	{name: "not-blank", host: biosHost, disks: disks(full(blank("NEW-1", 10*gib))), refuse: []string{report.CodeDiskNotBlank}},
	{name: "unread", host: biosHost, disks: disks(with(blank("NEW-1", 10*gib), func(d *manifest.MachineDisk) { d.Unread = "input/output error" })), refuse: []string{report.CodeDiskNotBlank}},
	{name: "serial-not-blank", host: biosHost, disks: disks(full(blank("old-1 ", 10*gib))), match: map[string]string{"OLD-1": "sda"}, rule: BySerial},
	{name: "wwn-before-serial", host: biosHost, disks: disks(full(blank("OLD-1", 10*gib)), full(wwnOf(blank("OTHER-1", 10*gib), "naa.5000C50000000001"))),
		match: map[string]string{"OLD-1": "sdb"}, rule: ByWWN},
	{name: "placeholder-serial", host: func() *host {
		h := biosHost()
		d := h.m.Storage.Nodes[0].Disk
		d.Serial, d.WWN = "QM00001", ""
		return h
	}, disks: disks(full(blank("QM00001", 10*gib))), refuse: []string{report.CodeDiskNotBlank}},
	{name: "serial-twice", host: biosHost, disks: disks(full(blank("OLD-1", 10*gib)), full(blank("OLD-1", 10*gib))), refuse: []string{report.CodeDiskNotBlank}},
	{name: "wwn-twice", host: biosHost, disks: disks(wwnOf(blank("", 10*gib), "naa.5000c500aaaaaaa1"), wwnOf(blank("", 9*gib), "naa.5000c500aaaaaaa1")), refuse: []string{report.CodeDiskMissing}},
	{name: "mapping-by-path", host: biosHost, disks: disks(with(full(blank("", 10*gib)), func(d *manifest.MachineDisk) { d.Links = []string{"by-path/pci-0000:00:05.0"} })),
		change: mapTo("disk:OLD-1", "/dev/disk/by-path/pci-0000:00:05.0"), match: map[string]string{"OLD-1": "sda"}, rule: ByMapping},
	{name: "mapping-kernel-name", host: biosHost, disks: disks(blank("", 10*gib)), change: mapTo("OLD-1", "/dev/sda"), refuse: []string{report.CodeMapping}},
	{name: "mapping-unknown", host: biosHost, disks: disks(blank("", 10*gib)), change: mapTo("OLD-7", "NEW-7"), refuse: []string{report.CodeMapping, report.CodeMapping}},
	{name: "mapping-twice", host: twoHost, disks: disks(blank("NEW-1", 20*gib), blank("NEW-2", 10*gib)), change: func(in *Input) {
		in.Mapping = &Mapping{Disks: []DiskMapping{{From: "OLD-1", To: "NEW-1"}, {From: "OLD-2", To: "NEW-1"}, {From: "OLD-1", To: "NEW-2"}}}
	}, refuse: []string{report.CodeMapping, report.CodeMapping}},
	{name: "mapping-takes-another", host: dataHost(false), disks: disks(full(blank("DATA-1", 100*gib))), change: mapTo("SYS-1", "DATA-1"), refuse: []string{report.CodeMapping}},
	{name: "firmware-mode", host: uefiHost, mode: "bios", disks: disks(blank("", 20*gib)), refuse: []string{report.CodeFirmwareMode}},
	{name: "secure-boot", host: uefiHost, disks: disks(blank("", 20*gib)), change: func(in *Input) { in.Machine.Firmware.SecureBoot = true }, refuse: []string{report.CodeFirmwareMode}},
	{name: "zfs", host: withZFS(false), disks: disks(blank("", 10*gib)), refuse: []string{report.CodeUncovered}},
	{name: "zfs-accepted", host: withZFS(true), disks: disks(blank("", 10*gib), full(blank("ZFS-1", 4*gib))), match: map[string]string{"OLD-1": "sda"}, rule: ByBlank},
	{name: "root-on-md", host: onMD, disks: disks(blank("MD-1", 8*gib), blank("MD-2", 8*gib)), refuse: []string{report.CodeUncovered}},
	{name: "data-disk", host: dataHost(false), disks: disks(blank("", 10*gib), full(blank("DATA-1", 100*gib))), match: map[string]string{"SYS-1": "sda"}, rule: ByBlank},
	{name: "data-disk-blank", host: dataHost(false), disks: disks(blank("DATA-1", 100*gib)), refuse: []string{report.CodeDiskMissing}},
	{name: "straddle", host: dataHost(true), disks: disks(blank("", 10*gib), full(blank("DATA-1", 100*gib))), refuse: []string{report.CodeUncovered}},
	{name: "4kn-same", host: fourK, disks: disks(logical4K(blank("", 64*gib))), match: map[string]string{"4K-1": "sda"}, rule: ByBlank},
	{name: "4kn-to-512", host: fourK, disks: disks(blank("", 64*gib)), match: map[string]string{"4K-1": "sda"}, rule: ByBlank},
	{name: "512-to-4kn", host: uefiHost, disks: disks(logical4K(blank("", 64*gib))), refuse: []string{report.CodeSectorSize}},
	{name: "living", host: biosHost, disks: disks(with(full(blank("OLD-1", 10*gib)), func(d *manifest.MachineDisk) {
		d.Marks = []manifest.Mark{{Device: "dm-0", Host: "alpha", Newest: "2026-05-03T10:00:00Z"}}
	})), refuse: []string{report.CodeLiving}},
	{name: "living-mended", host: biosHost, disks: disks(with(full(blank("OLD-1", 10*gib)), func(d *manifest.MachineDisk) {
		d.Marks = []manifest.Mark{{Device: "dm-0", Host: "alpha", Newest: "2026-05-03T10:00:00Z", Unfinished: true, Journal: "2026-05-01T10:00:00Z", Order: "order-1"}}
	})), refuse: []string{report.CodeOrderDone}},
	{name: "cut-off", host: biosHost, disks: disks(with(full(blank("OLD-1", 10*gib)), func(d *manifest.MachineDisk) {
		d.Marks = []manifest.Mark{{Device: "dm-0", Host: "alpha", Newest: "2026-05-03T10:05:00Z", Unfinished: true, Journal: "2026-05-03T10:00:00Z", Order: "order-1"}}
	})), match: map[string]string{"OLD-1": "sda"}, rule: BySerial},
	{name: "living-attended", host: biosHost, disks: disks(with(full(blank("OLD-1", 10*gib)), func(d *manifest.MachineDisk) {
		d.Marks = []manifest.Mark{{Device: "dm-0", Host: "alpha", Newest: "2026-05-03T10:00:00Z"}}
	})), change: func(in *Input) { in.Policy.Unattended, in.Policy.Armed = false, true }, match: map[string]string{"OLD-1": "sda"}, rule: BySerial},
	{name: "other-host", host: biosHost, disks: disks(marked(manifest.Mark{Device: "sda3", Host: "beta", MachineID: "beef", Newest: "2026-05-03T10:00:00Z"})), refuse: []string{report.CodeLiving}},
	{name: "other-host-by-wwn", host: biosHost, disks: disks(wwnOf(marked(manifest.Mark{Device: "sda3", MachineID: "beef", Newest: ""}), "naa.5000c50000000001")), refuse: []string{report.CodeLiving}},
	{name: "other-host-long-ago", host: biosHost, disks: disks(marked(manifest.Mark{Device: "sda3", Host: "beta", Newest: "2026-04-03T10:00:00Z"})), match: map[string]string{"OLD-1": "sda"}, rule: BySerial},
	{name: "other-host-attended", host: biosHost, disks: disks(marked(manifest.Mark{Device: "sda3", Host: "beta", Newest: "2026-05-03T10:00:00Z"})),
		change: func(in *Input) { in.Policy.Unattended = false }, match: map[string]string{"OLD-1": "sda"}, rule: BySerial},
	{name: "other-host-mapped", host: biosHost, disks: disks(with(marked(manifest.Mark{Device: "sda3", Host: "beta", Newest: "2026-05-03T10:00:00Z"}), func(d *manifest.MachineDisk) { d.Disk.Serial = "USED-1" })),
		change: mapTo("OLD-1", "USED-1"), match: map[string]string{"OLD-1": "sda"}, rule: ByMapping},
	{name: "other-order-only", host: biosHost, disks: disks(marked(manifest.Mark{Device: "sda2", Order: "order-0"})), match: map[string]string{"OLD-1": "sda"}, rule: BySerial},
	{name: "unlooked-tool", host: biosHost, disks: disks(closed("LVM2_member", "PV-1", manifest.UnlookedTool, "lvm: program not found")), refuse: []string{report.CodeUnlooked}},
	{name: "unlooked-driver", host: biosHost, disks: disks(closed("btrfs", "B-1", manifest.UnlookedDriver, "mount: no such device")), refuse: []string{report.CodeUnlooked}},
	{name: "unlooked-timeout", host: biosHost, disks: disks(closed("LVM2_member", "PV-1", manifest.UnlookedTimeout, "lvm: stopped after its time limit")), refuse: []string{report.CodeUnlooked}},
	{name: "unlooked-locked", host: biosHost, disks: disks(closed("crypto_LUKS", "L-1", manifest.UnlookedLocked, "")), refuse: []string{report.CodeUnlooked}},
	{name: "unlooked-other", host: biosHost, disks: disks(closed("", "", manifest.UnlookedOther, "signatures contradict each other")), refuse: []string{report.CodeUnlooked}},
	{name: "unlooked-attended", host: biosHost, disks: disks(closed("LVM2_member", "PV-1", manifest.UnlookedTool, "lvm: program not found")),
		change: func(in *Input) { in.Policy.Unattended = false }, match: map[string]string{"OLD-1": "sda"}, rule: BySerial},
	{name: "unlooked-mapped", host: biosHost, disks: disks(with(closed("linux_raid_member", "", manifest.UnlookedDriver, ""), func(d *manifest.MachineDisk) { d.Disk.Serial = "USED-1" })),
		change: mapTo("OLD-1", "USED-1"), refuse: []string{report.CodeUnlooked}},
	{name: "damaged-serial", host: biosHost, disks: disks(closed("LVM2_member", "PV-1", manifest.UnlookedDamaged, "checksum error")), match: map[string]string{"OLD-1": "sda"}, rule: BySerial},
	{name: "damaged-wwn", host: biosHost, disks: disks(wwnOf(closed("ext4", "E-1", manifest.UnlookedDamaged, "structure needs cleaning"), "naa.5000c50000000001")), match: map[string]string{"OLD-1": "sda"}, rule: ByWWN},
	{name: "damaged-mapped", host: biosHost, disks: disks(with(closed("xfs", "X-1", manifest.UnlookedDamaged, ""), func(d *manifest.MachineDisk) { d.Disk.Serial = "USED-1" })),
		change: mapTo("OLD-1", "USED-1"), match: map[string]string{"OLD-1": "sda"}, rule: ByMapping},
	{name: "unlooked-known-data", host: biosHost, disks: disks(closed("xfs", "", manifest.UnlookedDriver, "")), change: func(in *Input) {
		in.Machine.Disks[0].Unlooked[0].UUID = strings.ToLower(fsAt(in, "/srv/data"))
	}, match: map[string]string{"OLD-1": "sda"}, rule: BySerial},
	{name: "unlooked-accepted", host: besideZFS, disks: disks(with(closed("zfs_member", "77", manifest.UnlookedDriver, ""), func(d *manifest.MachineDisk) {
		d.Disk.Serial, d.Disk.Bytes, d.Disk.Transport = "NV-1", 20*gib, "nvme"
	})), match: map[string]string{"NV-1": "sda"}, rule: BySerial},
	{name: "unlooked-known-root", host: biosHost, disks: disks(closed("ext4", "", manifest.UnlookedDriver, "")), change: func(in *Input) {
		in.Machine.Disks[0].Unlooked[0].UUID = fsAt(in, "/")
	}, refuse: []string{report.CodeUnlooked}},
	{name: "unlooked-claimed", host: biosHost, disks: disks(closed("LVM2_member", "PV-1", manifest.UnlookedOther, "half written")), change: func(in *Input) {
		claimed(in, 0, "disk:OLD-1")
		in.Machine.Disks[0].TableID = in.Manifest.Storage.OfKind(manifest.KindTable)[0].Table.UUID
	}, match: map[string]string{"OLD-1": "sda"}, rule: BySerial},
	{name: "order-done", host: biosHost, disks: disks(with(full(blank("OLD-1", 10*gib)), func(d *manifest.MachineDisk) {
		d.Marks = []manifest.Mark{{Device: "dm-0", Host: "alpha", Newest: "2026-04-03T10:00:00Z", Order: "order-1"}}
	})), refuse: []string{report.CodeOrderDone}},
	{name: "order-lost-files", host: biosHost, disks: disks(with(full(blank("OLD-1", 10*gib)), func(d *manifest.MachineDisk) {
		d.Marks = []manifest.Mark{{Device: "dm-0", Host: "alpha", Newest: "2026-05-03T10:00:00Z", Order: "order-1", Lost: 2, Ended: "2026-05-03T10:00:00Z"}}
	})), refuse: []string{report.CodeAttempts}},
	{name: "order-lost-files-used", host: biosHost, disks: disks(with(full(blank("OLD-1", 10*gib)), func(d *manifest.MachineDisk) {
		d.Marks = []manifest.Mark{{Device: "dm-0", Host: "alpha", Newest: "2026-05-03T11:00:00Z", Order: "order-1", Lost: 2, Ended: "2026-05-03T10:00:00Z"}}
	})), refuse: []string{report.CodeLiving}},
	{name: "claimed", host: biosHost, disks: disks(full(blank("", 10*gib)), blank("", 10*gib)), change: func(in *Input) {
		claimed(in, 0, "disk:OLD-1")
		in.Machine.Disks[0].TableID = in.Manifest.Storage.OfKind(manifest.KindTable)[0].Table.UUID
	}, match: map[string]string{"OLD-1": "sda"}, rule: ByClaim},
	{name: "claim-of-other-table", host: biosHost, disks: disks(full(blank("", 10*gib))), change: func(in *Input) { claimed(in, 0, "disk:OLD-1") }, refuse: []string{report.CodeDiskNotBlank}},
	{name: "tool-missing", host: biosHost, disks: disks(blank("", 10*gib)), change: func(in *Input) {
		in.Machine.Tools = in.Machine.Tools[:0:0]
		in.Machine.Kernel.Modules, in.Machine.Kernel.Filesystems = []string{"dm_mod", "ext4"}, []string{"ext4"}
	}, refuse: []string{report.CodeToolMissing, report.CodeToolMissing, report.CodeToolMissing, report.CodeToolMissing, report.CodeToolMissing, report.CodeToolMissing, report.CodeToolMissing, report.CodeToolMissing, report.CodeToolMissing, report.CodeToolMissing, report.CodeModuleMissing, report.CodeKernelFeature}},
	{name: "own-hardware", host: withZFS(false), change: func(in *Input) {
		in.Policy = Policy{OwnHardware: true, Method: "archive"}
		in.Machine = &in.Manifest.Machine
	}, match: map[string]string{"OLD-1": "sda"}, rule: ByOwn, refuse: []string{report.CodeUncovered}},
	{name: "network-cards", host: biosHost, disks: disks(blank("NEW-1", 12*gib)), change: func(in *Input) {
		onCards(was("enp1s0", 1, 1), was("enp2s0", 2, 2))(in)
		in.Machine.NICs = []manifest.NIC{is(2, 1), is(7, 6)}
	}},
	{name: "network-doubt", host: biosHost, disks: disks(blank("NEW-1", 12*gib)), change: func(in *Input) {
		onCards(was("enp1s0", 1, 1), was("enp2s0", 2, 2))(in)
		in.Machine.NICs = []manifest.NIC{is(8, 6), is(9, 7)}
	}},
}
