package bootloader

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lifeboat/internal/chroot"
	"lifeboat/internal/run"
	"lifeboat/manifest"
	"lifeboat/plan"
	"lifeboat/report"
)

// A repair that leaves GRUB's folder alone puts the images that lie there onto
// the disk; every other installation is grub-install's.
func TestInstallBIOS(t *testing.T) {
	sector := make([]byte, 512)
	copy(sector[0x180:], "GRUB")
	sector[510], sector[511] = 0x55, 0xaa
	disk := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(disk, sector, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		frozen bool
		tool   string // that the system has
		want   string
	}{
		{true, "usr/sbin/grub-bios-setup", "/usr/sbin/grub-bios-setup --directory=/boot/grub/i386-pc " + disk},
		{true, "usr/lib/grub/i386-pc/grub-bios-setup", "/usr/lib/grub/i386-pc/grub-bios-setup --directory=/boot/grub/i386-pc " + disk},
		{false, "usr/sbin/grub-install", "/usr/sbin/grub-install --target=i386-pc --recheck --no-floppy " + disk},
	} {
		dir := t.TempDir()
		if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(c.tool)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, c.tool), nil, 0o755); err != nil {
			t.Fatal(err)
		}
		fake := &run.Fake{}
		root, err := chroot.At(dir, fake)
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		l := &Loader{Root: root, Frozen: c.frozen, Plan: &plan.Plan{}, Run: fake, Sink: report.Discard,
			Manifest: &manifest.Manifest{Boot: manifest.Boot{GRUB: &manifest.GRUB{Prefix: "grub", Dir: "/boot/grub"}}},
			Device:   func(manifest.ID) (string, error) { return disk, nil }}
		if err := l.InstallBIOS(context.Background(), plan.Step{Node: "disk:1", Arg: "i386-pc"}); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(fake.Calls(), "\n"); got != c.want {
			t.Errorf("%s: ran %q, not %q", c.tool, got, c.want)
		}
	}
}
