//go:build root

package probe

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"lifeboat/internal/run"
	"lifeboat/internal/tools/blkid"
	"lifeboat/manifest"
)

// TestLookCause: the kernel's and the tools' own words for a filesystem that
// is damaged, and for one that is only newer than they are.
func TestLookCause(t *testing.T) {
	for _, c := range []struct{ name, typ, script, why string }{
		{"whole", "ext4", "mkfs.ext4 -q $D", ""},
		{"descriptors gone", "ext4", "mkfs.ext4 -q -b 4096 $D; dd if=/dev/urandom of=$D bs=4096 seek=1 count=8 conv=notrunc status=none", manifest.UnlookedDamaged},
		{"superblock nonsense", "ext4", "mkfs.ext4 -q -O ^metadata_csum $D; printf '\\377\\377\\377\\177' | dd of=$D bs=1 seek=$((1024+0x18)) conv=notrunc status=none", manifest.UnlookedDamaged},
		{"newer than the driver", "ext4", "mkfs.ext4 -q -O ^metadata_csum $D; printf '\\200' | dd of=$D bs=1 seek=$((1024+0x63)) conv=notrunc status=none", manifest.UnlookedOther},
		{"log and tree gone", "xfs", "mkfs.xfs -q $D; dd if=/dev/urandom of=$D bs=512 seek=1 count=2000 conv=notrunc status=none", manifest.UnlookedDamaged},
	} {
		img := filepath.Join(t.TempDir(), "img")
		if err := os.WriteFile(img, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(img, 320<<20); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("bash", "-euc", c.script)
		cmd.Env = append(os.Environ(), "D="+img)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", c.name, err, out)
		}
		out, err := exec.Command("losetup", "-f", "--show", img).Output()
		if err != nil {
			t.Fatal(err)
		}
		dev := strings.TrimSpace(string(out))
		disks := []manifest.MachineDisk{{Name: "sda"}}
		r := &Reading{opt: Options{Run: run.Exec{Log: t.Logf}}}
		r.lookInto(context.Background(), disks, []string{"sda"}, "sda1", dev, &blkid.Found{Type: c.typ, UUID: "u"})
		if out, err := exec.Command("losetup", "-d", dev).CombinedOutput(); err != nil {
			t.Errorf("%v %s", err, out)
		}
		why := ""
		for _, u := range disks[0].Unlooked {
			why += u.Why
			t.Logf("%s: %+v", c.name, u)
		}
		if why != c.why {
			t.Errorf("%s: %q, not %q", c.name, why, c.why)
		}
	}
}
