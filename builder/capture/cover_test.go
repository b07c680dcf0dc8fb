package capture

import (
	"errors"
	"strings"
	"testing"

	"lifeboat/manifest"
	"lifeboat/plan"
	"lifeboat/report"
)

const mib = 1 << 20

func edge(ids ...manifest.ID) []manifest.Edge {
	var out []manifest.Edge
	for _, id := range ids {
		out = append(out, manifest.Edge{Node: id, Role: manifest.RoleMember})
	}
	return out
}

// plain is a host with root on one disk and, on another, a btrfs at /data.
func plain(t *testing.T) *host {
	h := tree(t, nil)
	m := h.m
	m.Host = manifest.Host{Name: "alpha", MachineID: "0123", OS: manifest.OSRelease{ID: "debian", Arch: "amd64"}}
	m.Machine.Firmware.Mode = manifest.FirmwareBIOS
	disk := func(id manifest.ID, dev string) manifest.Node {
		return manifest.Node{ID: id, Kind: manifest.KindDisk, Bytes: 1024 * mib, Disk: &manifest.Disk{Bytes: 1024 * mib, Logical: 512, Physical: 512, Serial: string(id)}, Seen: manifest.Seen{Device: dev}}
	}
	m.Storage.Nodes = []manifest.Node{
		disk("disk:a", "sda"),
		{ID: "table:a", Kind: manifest.KindTable, On: edge("disk:a"), Bytes: 1024 * mib, Table: &manifest.Table{Type: "gpt", UUID: "A", Entries: 128, FirstLBA: 34 * 512, LastLBA: 1024*mib - 34*512, BootCode: true}},
		{ID: "part:1", Kind: manifest.KindPartition, On: edge("table:a"), Bytes: mib, Partition: &manifest.Partition{Number: 1, Start: mib, Size: mib, Type: manifest.TypeBIOSBoot, UUID: "P1"}},
		{ID: "part:2", Kind: manifest.KindPartition, On: edge("table:a"), Bytes: 900 * mib, Partition: &manifest.Partition{Number: 2, Start: 2 * mib, Size: 900 * mib, Type: manifest.TypeLinux, UUID: "P2"}},
		{ID: "fs:root", Kind: manifest.KindFS, On: edge("part:2"), Bytes: 900 * mib, FS: &manifest.FS{Type: "ext4", UUID: "R", Ext: &manifest.Ext{BlockSize: 4096, Blocks: 900 * mib / 4096, Features: []string{"extent"}}}},
		disk("disk:b", "sdb"),
		{ID: "fs:data", Kind: manifest.KindUnknown, On: edge("disk:b"), Bytes: 1024 * mib, Unknown: &manifest.Unknown{What: "btrfs", Reason: "btrfs cannot be rebuilt by this version"}},
	}
	m.Storage.Mounts = []manifest.Mount{
		{Path: "/", Node: "fs:root", Type: "ext4", InFstab: true, Live: true, Backup: manifest.ScopeFull},
		{Path: "/data", Node: "fs:data", Type: "btrfs", InFstab: true, Live: true, Backup: manifest.ScopeFull},
	}
	for _, n := range []string{"sda", "sdb"} {
		m.Machine.Disks = append(m.Machine.Disks, manifest.MachineDisk{Name: n, Disk: manifest.Disk{Bytes: 1024 * mib, Logical: 512, Physical: 512, Serial: "disk:" + n[2:]}})
	}
	m.System.Kernels = []manifest.Kernel{{Version: "6.1", Image: "/boot/vmlinuz-6.1", Default: true}}
	m.Boot = manifest.Boot{Firmware: "bios", Loader: "grub", RootFS: "fs:root", BootFS: "fs:root", BIOSBoot: []manifest.ID{"part:1"}, MBRCode: []manifest.ID{"disk:a"},
		GRUB: &manifest.GRUB{Prefix: "grub", Platforms: []string{"i386-pc"}, Dir: "/boot/grub", Config: "/boot/grub/grub.cfg"}}
	return h
}

// TestCover names each mount that cannot come back (C50), and takes the names
// of the configuration.
func TestCover(t *testing.T) {
	h := plain(t)
	if err := h.cover(); err != nil {
		t.Fatal(err)
	}
	if u := h.m.Uncovered; len(u) != 1 || u[0].Path != "/data" || u[0].Accepted || !strings.Contains(u[0].Reason, "btrfs") {
		t.Errorf("%+v", u)
	}
	if err := h.m.Validate(); err != nil {
		t.Error(err)
	}
	h = plain(t)
	h.opt.Accept = []string{"/data"}
	if err := h.cover(); err != nil {
		t.Fatal(err)
	}
	if u := h.m.Uncovered; len(u) != 1 || u[0].Path != "/data" || !u[0].Accepted {
		t.Errorf("%+v", u)
	}
	// It is in no backup, and the plan of a recovery still says that it is left
	// out: its fstab line must go.
	if s := h.m.Storage.Mounts[1].Backup; s != manifest.ScopeExclude {
		t.Errorf("/data: %s", s)
	}
	p := plan.Make(plan.Input{Manifest: h.m, Machine: &h.m.Machine, Policy: plan.Policy{OwnHardware: true}})
	if p.Refused() || len(p.Uncovered) != 1 || !p.Uncovered[0].Accepted || len(p.Target.Mounts) != 1 || len(p.Erased) != 1 {
		t.Errorf("%+v", p)
	}
	// A mount that has no node at all is named too, and so is what is accepted
	// of it.
	h = plain(t)
	h.m.Storage.Mounts = h.m.Storage.Mounts[:1]
	h.m.Uncovered = []manifest.Uncovered{{Path: "/tank", Reason: "a filesystem of type zfs cannot be rebuilt by this version"}}
	if err := h.cover(); err != nil {
		t.Fatal(err)
	}
	if u := h.m.Uncovered; len(u) != 1 || u[0].Path != "/tank" || u[0].Accepted {
		t.Errorf("%+v", u)
	}
}

// TestCovered: nothing is uncovered on a host that can come back.
func TestCovered(t *testing.T) {
	h := plain(t)
	h.m.Storage.Mounts = h.m.Storage.Mounts[:1]
	if err := h.cover(); err != nil {
		t.Fatal(err)
	}
	if h.m.Uncovered == nil || len(h.m.Uncovered) != 0 {
		t.Errorf("%+v", h.m.Uncovered)
	}
}

// TestBootLoader: a loader that cannot be installed again is named.
func TestBootLoader(t *testing.T) {
	h := plain(t)
	h.m.Storage.Mounts = h.m.Storage.Mounts[:1]
	h.m.Boot.GRUB.Platforms = nil
	if err := h.cover(); err != nil {
		t.Fatal(err)
	}
	if u := h.m.Uncovered; len(u) != 1 || !strings.Contains(u[0].Reason, "i386-pc") {
		t.Errorf("%+v", u)
	}
}

// TestNoRoot: without / nothing is captured, whatever led there (C51).
func TestNoRoot(t *testing.T) {
	h := plain(t)
	h.m.Storage.Mounts = h.m.Storage.Mounts[1:]
	h.m.Uncovered = []manifest.Uncovered{{Path: "/", Reason: "the root filesystem is of type overlay, which lies on no disk"}}
	err := h.cover()
	var f *report.Fault
	if !errors.As(err, &f) || f.Code != report.CodeUncovered || !strings.Contains(f.Text, "overlay") || report.ExitOf(err) != report.ExitUncovered {
		t.Errorf("%v", err)
	}
}

// TestBootNodes: boot code on an old system disk kept for its data does not
// make that disk one of the boot path (C15).
func TestBootNodes(t *testing.T) {
	h := plain(t)
	h.m.Storage.Nodes = append(h.m.Storage.Nodes[:6:6],
		manifest.Node{ID: "table:b", Kind: manifest.KindTable, On: edge("disk:b"), Bytes: 1024 * mib, Table: &manifest.Table{Type: "dos", UUID: "0x1", BootCode: true}},
		manifest.Node{ID: "part:b1", Kind: manifest.KindPartition, On: edge("table:b"), Bytes: mib, Partition: &manifest.Partition{Number: 1, Start: mib, Size: mib, Type: manifest.TypeBIOSBoot}})
	h.m.Storage.Mounts = h.m.Storage.Mounts[:1]
	h.m.Boot = manifest.Boot{}
	if err := h.boot(""); err != nil {
		t.Fatal(err)
	}
	b := h.m.Boot
	if len(b.BIOSBoot) != 1 || b.BIOSBoot[0] != "part:1" || len(b.MBRCode) != 1 || b.MBRCode[0] != "disk:a" || b.RootFS != "fs:root" || b.BootFS != "fs:root" {
		t.Errorf("%+v", b)
	}
}

// TestESP reads what lies on an ESP whatever the case of names.
func TestESP(t *testing.T) {
	h := tree(t, map[string]string{
		"boot/grub/grub.cfg": "x", "usr/lib/grub/x86_64-efi/modinfo.sh": "", "usr/lib/grub/grub-mkconfig_lib": "", "usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed": "",
		"boot/efi/efi/Debian/SHIMX64.EFI": "", "boot/efi/efi/boot/BootX64.efi": "",
	})
	h.m.Machine.Firmware = manifest.Firmware{Mode: manifest.FirmwareUEFI, SecureBoot: true}
	h.m.System.Cmdline = `quiet console=tty0 console=ttyS0,115200n8`
	h.m.Storage.Nodes = []manifest.Node{
		{ID: "disk:a", Kind: manifest.KindDisk, Disk: &manifest.Disk{}},
		{ID: "table:a", Kind: manifest.KindTable, On: edge("disk:a"), Table: &manifest.Table{Type: "gpt"}},
		{ID: "part:1", Kind: manifest.KindPartition, On: edge("table:a"), Partition: &manifest.Partition{Number: 1, Type: manifest.TypeESP}},
		{ID: "part:2", Kind: manifest.KindPartition, On: edge("table:a"), Partition: &manifest.Partition{Number: 2, Type: manifest.TypeLinux}},
		{ID: "fs:E", Kind: manifest.KindFS, On: edge("part:1"), FS: &manifest.FS{Type: "vfat"}},
		{ID: "fs:R", Kind: manifest.KindFS, On: edge("part:2"), FS: &manifest.FS{Type: "ext4"}},
	}
	h.m.Storage.Mounts = []manifest.Mount{{Path: "/", Node: "fs:R", Live: true}, {Path: "/boot/efi", Node: "fs:E", Live: true}}
	if err := h.boot("grub-install (GRUB) 2.06"); err != nil {
		t.Fatal(err)
	}
	b := h.m.Boot
	if len(b.ESPs) != 1 || b.ESPs[0] != "fs:E" || strings.Join(b.Consoles, " ") != "tty0 ttyS0,115200n8" || b.Loader != "grub" {
		t.Errorf("%+v", b)
	}
	if g := b.GRUB; !g.Signed || !g.Removable || strings.Join(g.EFIDirs, " ") != "Debian boot" || strings.Join(g.Platforms, " ") != "x86_64-efi" || g.Prefix != "grub" {
		t.Errorf("%+v", g)
	}
}
