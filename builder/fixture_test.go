package builder

import (
	"testing"
	"time"

	"lifeboat/internal/config"
	"lifeboat/manifest"
)

// alpha is a small host: GPT, BIOS, ext4 root and an xfs filesystem.
func alpha(kernel string) *manifest.Manifest {
	const mib = int64(1) << 20
	m := &manifest.Manifest{Format: manifest.Format, Made: time.Date(2026, 5, 1, 3, 0, 0, 0, time.UTC), By: "test",
		Host: manifest.Host{Name: "alpha", MachineID: "0123456789abcdef0123456789abcdef", OS: manifest.OSRelease{ID: "debian", Arch: "amd64", Pretty: "Debian"}}}
	m.Machine.Firmware.Mode = "bios"
	m.Machine.Modalias = []string{"pci:v00001AF4d00001001sv00001AF4sd00000002bc01sc00i00", "pci:v00008086d000010D3sv00008086sd00000000bc02sc00i00"}
	m.System = manifest.System{Kernel: kernel, Initramfs: manifest.InitramfsTools, MergedUsr: true,
		Kernels: []manifest.Kernel{{Version: kernel, Image: "/boot/vmlinuz", Initramfs: "/boot/initrd.img", Default: true}}}
	disk := manifest.Disk{Serial: "ALPHA1", Bytes: 4096 * mib, Logical: 512, Physical: 512}
	m.Machine.Disks = []manifest.MachineDisk{{Disk: disk, Name: "sda", DevNo: "8:0", Table: "gpt"}}
	add := func(n manifest.Node, below ...manifest.ID) manifest.ID {
		for _, b := range below {
			n.On = append(n.On, manifest.Edge{Node: b, Role: manifest.RoleMember})
		}
		m.Storage.Nodes = append(m.Storage.Nodes, n)
		return n.ID
	}
	part := func(num int, id string, start, size int64, typ string) manifest.Node {
		return manifest.Node{ID: manifest.ID("part:" + id), Kind: manifest.KindPartition, Bytes: size,
			Partition: &manifest.Partition{Number: num, Start: start, Size: size, Type: typ, UUID: id}}
	}
	d := add(manifest.Node{ID: "disk:ALPHA1", Kind: manifest.KindDisk, Bytes: disk.Bytes, Disk: &disk, Seen: manifest.Seen{Device: "sda"}})
	tb := add(manifest.Node{ID: "table:00000001-0000-4000-8000-000000000001", Kind: manifest.KindTable, Bytes: disk.Bytes,
		Table: &manifest.Table{Type: "gpt", UUID: "00000001-0000-4000-8000-000000000001", Entries: 128, FirstLBA: 34 * 512, LastLBA: disk.Bytes - 34*512}}, d)
	bb := add(part(1, "00000002-0000-4000-8000-000000000002", mib, mib, manifest.TypeBIOSBoot), tb)
	p2 := add(part(2, "00000003-0000-4000-8000-000000000003", 2*mib, 2048*mib, manifest.TypeLinux), tb)
	p3 := add(part(3, "00000004-0000-4000-8000-000000000004", 2050*mib, 1024*mib, manifest.TypeLinux), tb)
	root := add(manifest.Node{ID: "fs:00000005-0000-4000-8000-000000000005", Kind: manifest.KindFS, Bytes: 2048 * mib,
		FS: &manifest.FS{Type: "ext4", UUID: "00000005-0000-4000-8000-000000000005", Ext: &manifest.Ext{BlockSize: 4096, Blocks: 2048 * mib / 4096, Features: []string{"extent", "has_journal"}}}}, p2)
	data := add(manifest.Node{ID: "fs:00000006-0000-4000-8000-000000000006", Kind: manifest.KindFS, Bytes: 1024 * mib,
		FS: &manifest.FS{Type: "xfs", UUID: "00000006-0000-4000-8000-000000000006", XFS: &manifest.XFS{BlockSize: 4096, SectorSize: 512}}}, p3)
	for _, mt := range []manifest.Mount{{Path: "/", Node: root, Type: "ext4"}, {Path: "/srv", Node: data, Type: "xfs"}} {
		mt.InFstab, mt.Live, mt.Backup = true, true, manifest.ScopeFull
		m.Storage.Mounts = append(m.Storage.Mounts, mt)
	}
	m.Boot = manifest.Boot{Firmware: "bios", Loader: "grub", BootFS: root, RootFS: root, BIOSBoot: []manifest.ID{bb}, Consoles: []string{"ttyS0,115200"},
		GRUB: &manifest.GRUB{Prefix: "grub", Dir: "/boot/grub", Config: "/boot/grub/grub.cfg", Platforms: []string{"i386-pc"}}}
	return m
}

func settings(t testing.TB) *config.Config {
	t.Helper()
	c := config.Default()
	c.OutputDir = t.TempDir()
	c.Backup.URL = "https://backup.example/store"
	return c
}
