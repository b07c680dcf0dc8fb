//go:build root

package wipe

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Whatever standard tools put onto a device, blkid and wipefs see nothing of
// it afterwards.
func TestNothingIsRecognised(t *testing.T) {
	for name, cmd := range map[string]string{
		"ext4": "mke2fs -q -F DEV", "xfs": "mkfs.xfs -q DEV", "vfat": "mkfs.vfat DEV", "swap": "mkswap DEV", "btrfs": "mkfs.btrfs -q DEV",
		"gpt": "sgdisk -n 1:0:0 DEV", "luks1": "cryptsetup luksFormat -q --type luks1 --pbkdf-force-iterations 1000 DEV KEY",
		"luks2": "cryptsetup luksFormat -q --type luks2 --luks2-metadata-size 4m --luks2-keyslots-size 16m --pbkdf pbkdf2 --pbkdf-force-iterations 1000 DEV KEY",
		"pv":    "lvm pvcreate --config global{activation=0}devices{use_devicesfile=0} DEV",
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			file, key := filepath.Join(dir, "disk"), filepath.Join(dir, "key")
			for p, size := range map[string]int64{file: 400 << 20, key: 512} {
				if err := os.WriteFile(p, nil, 0o600); err != nil {
					t.Fatal(err)
				}
				if err := os.Truncate(p, size); err != nil {
					t.Fatal(err)
				}
			}
			out, err := exec.Command("losetup", "--find", "--show", file).CombinedOutput()
			if err != nil {
				t.Fatalf("losetup: %v\n%s", err, out)
			}
			dev := strings.TrimSpace(string(out))
			defer exec.Command("losetup", "-d", dev).Run()
			args := strings.Fields(strings.NewReplacer("DEV", dev, "KEY", key).Replace(cmd))
			if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
				t.Fatalf("%v: %v\n%s", args, err, out)
			}
			if out, err := exec.Command("blkid", "-p", dev).CombinedOutput(); err != nil {
				t.Fatalf("blkid sees nothing before: %v\n%s", err, out)
			}
			f, err := os.OpenFile(dev, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			if err := Regions(f, []Span{{0, 400 << 20}}, nil); err != nil {
				t.Fatal(err)
			}
			f.Sync()
			f.Close()
			if out, err := exec.Command("blkid", "-p", dev).CombinedOutput(); err == nil {
				t.Errorf("blkid still sees %s", out)
			}
			if out, err := exec.Command("wipefs", dev).CombinedOutput(); err != nil || len(out) > 0 {
				t.Errorf("wipefs still sees %s (%v)", out, err)
			}
			if out, err := exec.Command("cryptsetup", "luksDump", dev).CombinedOutput(); strings.HasPrefix(name, "luks") && err == nil {
				t.Errorf("cryptsetup repairs the header from its second copy:\n%s", out)
			}
		})
	}
}
