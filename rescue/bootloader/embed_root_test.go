//go:build root

package bootloader

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"lifeboat/internal/chroot"
	"lifeboat/internal/run"
	"lifeboat/manifest"
	"lifeboat/plan"
	"lifeboat/report"
)

func tool(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// file makes an empty file and a loop device on it.
func file(t *testing.T, bytes int64, options ...string) (name, dev string) {
	t.Helper()
	name = filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(name, bytes); err != nil {
		t.Fatal(err)
	}
	dev = strings.TrimSpace(tool(t, "losetup", append(options, "--find", "--show", name)...))
	t.Cleanup(func() { tool(t, "losetup", "-d", dev) })
	return name, dev
}

// GRUB's own tool puts the images of an earlier installation back onto a disk
// whose boot code and BIOS boot partition were zeroed, out of a /boot that
// cannot be written.
func TestEmbedFromReadOnly(t *testing.T) {
	boot, bootDev := file(t, 32<<20)
	tool(t, "mke2fs", "-q", "-t", "ext4", bootDev)
	at := t.TempDir()
	dir := filepath.Join(at, "grub/i386-pc")
	tool(t, "mount", bootDev, at)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	tool(t, "grub-mkimage", "-O", "i386-pc", "-p", "/grub", "-o", dir+"/core.img", "biosdisk", "ext2", "part_gpt", "normal", "linux")
	tool(t, "cp", "/usr/lib/grub/i386-pc/boot.img", dir)
	tool(t, "umount", at)
	tool(t, "mount", "-o", "ro,noload", bootDev, at)
	t.Cleanup(func() { tool(t, "umount", at) })
	before, err := os.ReadFile(boot)
	if err != nil {
		t.Fatal(err)
	}
	disk, dev := file(t, 16<<20)
	const start, size = 2048 * 512, 4096 * 512
	sf := exec.Command("sfdisk", "-q", dev)
	sf.Stdin = strings.NewReader("label: gpt\nstart=2048,size=4096,type=" + manifest.TypeBIOSBoot + "\n")
	if out, err := sf.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	table := tool(t, "sfdisk", "-d", dev)

	root, err := chroot.At("/", run.Exec{Log: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	target := manifest.Storage{Nodes: []manifest.Node{{ID: "disk:1", Kind: manifest.KindDisk, Disk: &manifest.Disk{}},
		{ID: "part:1", Kind: manifest.KindPartition, On: []manifest.Edge{{Node: "disk:1"}}, Partition: &manifest.Partition{Number: 1, Start: start, Size: size, Type: manifest.TypeBIOSBoot}}}}
	l := &Loader{Root: root, Plan: &plan.Plan{Kind: plan.KindRepair, Target: target}, Run: run.Exec{}, Sink: report.Discard,
		Manifest: &manifest.Manifest{Boot: manifest.Boot{GRUB: &manifest.GRUB{Prefix: "grub", Dir: manifest.Bytes(filepath.Join(at, "grub"))}}}}
	// Not by InstallBIOS: this machine's own grub-install must be out of reach.
	if err := l.embed(context.Background(), "i386-pc", dev); err != nil {
		t.Fatal(err)
	}
	if err := l.checkSector("disk:1", dev); err != nil {
		t.Error(err)
	}
	tool(t, "sync")
	got, err := os.ReadFile(disk)
	if err != nil {
		t.Fatal(err)
	}
	core, err := os.ReadFile(dir + "/core.img")
	if err != nil {
		t.Fatal(err)
	}
	// The first sectors of the image tell where the rest lies and how it is
	// protected.
	const own = 4 << 10
	if len(core) < 2*own || !bytes.Equal(got[start+own:start+len(core)], core[own:]) {
		t.Errorf("the BIOS boot partition does not hold the image of %d bytes", len(core))
	}
	if now := tool(t, "sfdisk", "-d", dev); now != table {
		t.Errorf("the table is\n%s\nnot\n%s", now, table)
	}
	after, err := os.ReadFile(boot)
	if err != nil || !bytes.Equal(before, after) {
		t.Errorf("/boot was written to (%v)", err)
	}
}
