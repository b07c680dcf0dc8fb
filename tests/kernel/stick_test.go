//go:build kernel

package kernel

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lifeboat/archive"
	"lifeboat/backup"
	"lifeboat/builder"
	"lifeboat/drill"
	"lifeboat/drill/qemu"
	"lifeboat/images/usb"
	"lifeboat/internal/config"
	"lifeboat/internal/loaders"
	"lifeboat/internal/run"
	"lifeboat/manifest"
	"lifeboat/report"
)

// hostImage is the image of a stick for a host whose kernel and initramfs are
// made up, with a backup of that many bytes.
func hostImage(t *testing.T, host string, built time.Time, archive int64) string {
	t.Helper()
	dir := t.TempDir()
	rnd := rand.New(rand.NewSource(archive))
	for n, size := range map[string]int64{"vmlinuz": 3 << 20, "initrd": 5<<20 + 1, "arch": archive} {
		f, err := os.Create(filepath.Join(dir, n))
		if err == nil {
			_, err = io.CopyN(f, rnd, size)
		}
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	p := filepath.Join(dir, host+".usb.img")
	_, err := usb.Write(t.Context(), p, usb.Spec{
		Kernel: filepath.Join(dir, "vmlinuz"), Initrd: []string{filepath.Join(dir, "initrd")}, Manifest: []byte("{}\n"), OS: "debian", Loaders: loaders.Find("/"),
		Archives: []usb.Archive{{Name: host + "/" + built.Format("20060102T150405Z") + ".lba", Path: filepath.Join(dir, "arch")}},
		Menu:     loaders.Menu{BuildID: host + built.Format("-20060102"), Host: host, Kernel: "6.1.0-56-amd64", Built: built, Timeout: 5 * time.Second},
	}, run.Exec{})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// smallArchive is a real backup of a folder with one file.
func smallArchive(t *testing.T, m *manifest.Manifest) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	doc, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	p := filepath.Join(t.TempDir(), "arch")
	f, err := os.Create(p)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := archive.Create(t.Context(), f, archive.Options{HostID: backup.HostID(m), Started: m.Made, Manifest: doc}, []archive.Source{{Path: "/", At: dir}}); err != nil {
		t.Fatal(err)
	}
	return p
}

// lostHost is a host of one small disk, which is not in the machine.
func lostHost(kernel string) *manifest.Manifest {
	const mib = int64(1) << 20
	m := &manifest.Manifest{Format: manifest.Format, Made: time.Date(2026, 5, 1, 3, 0, 0, 0, time.UTC), By: "test",
		Host: manifest.Host{Name: "packed", MachineID: "0123456789abcdef0123456789abcdef", OS: manifest.OSRelease{ID: "debian", Arch: "amd64", Pretty: "Debian"}}}
	m.Machine.Firmware.Mode = "bios"
	m.System = manifest.System{Kernel: kernel, Initramfs: manifest.InitramfsTools, MergedUsr: true,
		Kernels: []manifest.Kernel{{Version: kernel, Image: "/boot/vmlinuz", Initramfs: "/boot/initrd.img", Default: true}}}
	disk := manifest.Disk{Serial: "LOST1", Bytes: 96 * mib, Logical: 512, Physical: 512}
	m.Machine.Disks = []manifest.MachineDisk{{Disk: disk, Name: "sda", DevNo: "8:0", Table: "gpt"}}
	on := func(id manifest.ID) []manifest.Edge { return []manifest.Edge{{Node: id, Role: manifest.RoleMember}} }
	part := func(n int, start, size int64, typ string) manifest.Node {
		u := fmt.Sprintf("00000002-0000-4000-8000-00000000000%d", n)
		return manifest.Node{ID: manifest.ID("part:" + u), Kind: manifest.KindPartition, Bytes: size, On: on("table:00000001-0000-4000-8000-000000000001"),
			Partition: &manifest.Partition{Number: n, Start: start, Size: size, Type: typ, UUID: u}}
	}
	boot, data := part(1, mib, mib, manifest.TypeBIOSBoot), part(2, 2*mib, 64*mib, manifest.TypeLinux)
	root := manifest.ID("fs:00000005-0000-4000-8000-000000000005")
	m.Storage.Nodes = []manifest.Node{
		{ID: "disk:LOST1", Kind: manifest.KindDisk, Bytes: disk.Bytes, Disk: &disk, Seen: manifest.Seen{Device: "sda"}},
		{ID: "table:00000001-0000-4000-8000-000000000001", Kind: manifest.KindTable, Bytes: disk.Bytes, On: on("disk:LOST1"),
			Table: &manifest.Table{Type: "gpt", UUID: "00000001-0000-4000-8000-000000000001", Entries: 128, FirstLBA: 34 * 512, LastLBA: disk.Bytes - 34*512}},
		boot, data,
		{ID: root, Kind: manifest.KindFS, Bytes: 64 * mib, On: on(data.ID), FS: &manifest.FS{Type: "ext4", UUID: "00000005-0000-4000-8000-000000000005",
			Ext: &manifest.Ext{BlockSize: 4096, Blocks: 64 * mib / 4096, Features: []string{"extent", "has_journal"}}}},
	}
	m.Storage.Mounts = []manifest.Mount{{Path: "/", Node: root, Type: "ext4", InFstab: true, Live: true, Backup: manifest.ScopeFull}}
	m.Boot = manifest.Boot{Firmware: "bios", Loader: "grub", BootFS: root, RootFS: root, BIOSBoot: []manifest.ID{boot.ID}, Consoles: []string{"ttyS0,115200"},
		GRUB: &manifest.GRUB{Prefix: "grub", Dir: "/boot/grub", Config: "/boot/grub/grub.cfg", Platforms: []string{"i386-pc"}}}
	return m
}

// TestStickInRescue: the rescue system finds its stick by the build, whatever
// other media there are, reads the backup there and leaves on it what
// happened; the stick is no target, and is clean afterwards.
func TestStickInRescue(t *testing.T) {
	image, _ := kernelImage(t)
	c := config.Default()
	c.OutputDir, c.Output, c.Backup.URL = t.TempDir(), []string{"usb"}, "usb:"
	c.Recover.Mode = "auto"
	m := lostHost(strings.TrimPrefix(image, "/boot/vmlinuz-"))
	arch := smallArchive(t, m)
	if data, err := m.Encode(); err != nil {
		t.Fatal(err)
	} else if _, err := manifest.Decode(data); err != nil {
		t.Fatal(err)
	}
	r, err := builder.Rescue(t.Context(), builder.Options{Manifest: m, Config: c, Kernel: strings.TrimPrefix(image, "/boot/vmlinuz-"),
		Archives: []usb.Archive{{Name: "packed/20260501T030000Z.lba", Path: arch}}})
	if err != nil {
		t.Fatal(err)
	}
	stick := r.Media[0].Path
	other := hostImage(t, "packed", time.Date(2026, 6, 1, 3, 0, 0, 0, time.UTC), 1<<20) // another build of this host
	vm := boot(t, setup{name: "stick", segments: [][]byte{initrdOf(t, stick)}, memory: 2 << 30,
		drives: []qemu.Drive{{File: other, Interface: qemu.USB, Removable: true, Serial: "OTHER"}, {File: stick, Interface: qemu.USB, Removable: true, Serial: "MINE"}},
		append: "lifeboat.recover=auto lifeboat.then=stay", ports: []qemu.Port{{Name: drill.PortEvents}}})
	g, _ := vm.expect(vm.Port(drill.PortEvents), 0, `(?m)^(\{.*"kind":"`+string(report.Done)+`".*\})$`)
	text := vm.Port(drill.PortEvents).Text()
	var done report.Event
	var res report.Result
	if err := json.Unmarshal([]byte(g[1]), &done); err != nil || json.Unmarshal(done.Data, &res) != nil {
		t.Fatalf("%s: %v", g[1], err)
	}
	// Its disk is not there, and no stick takes the place.
	if !strings.Contains(text, "Backup: /run/lifeboat/medium/packed/20260501T030000Z.lba") || res.Exit != report.ExitRefused || res.State != "refused" {
		t.Errorf("result %+v\n%s", res, text)
	}
	// The question comes after the stick is closed.
	vm.expect(vm.Console(), 0, `Restart this machine`)
	vm.Kill()
	img, err := usb.Open(stick)
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	list, err := img.List()
	if err != nil {
		t.Fatal(err)
	}
	kept := map[string]string{}
	for _, e := range list {
		if ok, _ := path.Match("/packed/recover-*/*", e.Path); ok {
			b, err := img.ReadFile(e.Path, 16<<20)
			if err != nil {
				t.Fatal(err)
			}
			kept[path.Base(e.Path)] = string(b)
		}
	}
	for name, want := range map[string]string{"events.jsonl": `"kind":"` + string(report.Done) + `"`, "report.json": `"exit":`, "log.txt": "", "order.json": r.BuildID, "plan.txt": "", "machine.json": "MINE"} {
		if b, ok := kept[name]; !ok || !strings.Contains(b, want) {
			t.Errorf("the stick holds no %s with %q: %.300s", name, want, b)
		}
	}
	out := fsck(t, stick)
	if strings.Contains(out, "recovering journal") {
		t.Errorf("the stick was left open:\n%s", out)
	}
}

// initrdOf is the initramfs of the only host of a stick's image.
func initrdOf(t *testing.T, name string) []byte {
	t.Helper()
	img, err := usb.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	f, err := img.File(img.Hosts()[0].FilePath(loaders.InitrdPath))
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// fsck judges the data partition of a stick's image, and writes nothing.
func fsck(t *testing.T, image string) string {
	t.Helper()
	return host(t, run.Cmd{Path: "e2fsck", Args: []string{"-fn", fmt.Sprintf("%s?offset=%d", image, usb.DataStart)}})
}
