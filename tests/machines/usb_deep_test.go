//go:build machines && deep

package machines

import (
	"context"
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"lifeboat/drill/qemu"
	"lifeboat/images/usb"
)

// addToImage puts the host of another image onto the stick in an image, as
// `usb write` does to one that is plugged in.
func addToImage(t *testing.T, image, other string) {
	t.Helper()
	dir := t.TempDir()
	mount := func() error {
		tool(t, "mount", "-t", "ext4", "-o", fmt.Sprintf("loop,offset=%d", usb.DataStart), image, dir)
		return nil
	}
	_ = mount()
	defer tool(t, "umount", dir)
	tree, err := usb.OpenTree(dir, func() error { tool(t, "umount", dir); return mount() })
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	img, err := usb.Open(other)
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	c, err := img.Content(img.Hosts()[0])
	if err != nil {
		t.Fatal(err)
	}
	if notes, err := tree.Add(t.Context(), c, nil); err != nil || len(notes) > 0 {
		t.Fatal(notes, err)
	}
}

// TestUSBTwoHosts: each host of a stick starts from its own submenu, with its
// own kernel, initramfs and backup; the first entry is the local disk.
func TestUSBTwoHosts(t *testing.T) {
	proven(t, "a stick with two hosts starts each of them, in BIOS, UEFI and under Secure Boot")
	builds := map[string]string{"db01": "usb-test-db01", "web01": "usb-test-web01"}
	image := bootUSB(t, "web01", builds["web01"], anyBackup(t), 600<<20)
	addToImage(t, image, bootUSB(t, "db01", builds["db01"], anyBackup(t), 0))
	for _, c := range []struct {
		host     string
		key      string
		firmware qemu.Firmware
	}{{"db01", "1", qemu.BIOS}, {"web01", "2", qemu.UEFI}, {"web01", "2", qemu.UEFISecureBoot}} {
		t.Run(c.host+"-"+string(c.firmware), func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
			defer cancel()
			dir := pictures(t)
			v, err := qemu.Start(ctx, qemu.Config{Name: c.host, Dir: dir, Firmware: c.firmware, Memory: 1 << 30, Log: t.Logf,
				Drives: []qemu.Drive{{File: image, Interface: qemu.USB, Removable: true, Snapshot: true, Boot: 1}}})
			if err != nil {
				t.Fatal(err)
			}
			defer v.Kill()
			for i, step := range []struct{ text, key string }{{"web01 (2026-11-25", c.key}, {"Shell, to look at " + c.host, "s"}} {
				if err := v.WaitSerial(ctx, step.text); err != nil {
					t.Fatal(err)
				}
				// A key that comes while the menu is drawn may be lost.
				if err := v.SettledScreenshot(ctx, filepath.Join(dir, fmt.Sprintf("menu%d.png", i))); err != nil {
					t.Fatal(err)
				}
				if _, err := v.Console().Write([]byte(step.key)); err != nil {
					t.Fatal(err)
				}
			}
			bootedAs(t, ctx, v, c.firmware, builds[c.host])
		})
	}
}

// TestUSBLargeBackup: a backup above 4 GiB lies on a stick, and is read there
// byte by byte by others' programs.
func TestUSBLargeBackup(t *testing.T) {
	proven(t, "a stick that carries a backup of 6 GiB starts, and the backup is read on it")
	arch := filepath.Join(t.TempDir(), "arch")
	f, err := os.Create(arch)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 1<<20)
	rnd := rand.New(rand.NewSource(6))
	for at := int64(0); at < 6<<30; at += 512 << 20 {
		rnd.Read(b)
		if _, err := f.WriteAt(b, at+rnd.Int63n(1<<20)); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Truncate(6<<30 + 12345); err != nil {
		t.Fatal(err)
	}
	want := strings.Fields(tool(t, "sha256sum", arch))[0]
	image := bootUSB(t, "web01", bootBuildID, arch, 0)
	tool(t, "e2fsck", "-fn", fmt.Sprintf("%s?offset=%d", image, usb.DataStart))
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	v, err := qemu.Start(ctx, qemu.Config{Name: "large", Dir: pictures(t), Firmware: qemu.UEFI, Memory: 1 << 30, Log: t.Logf,
		Drives: []qemu.Drive{{File: image, Interface: qemu.USB, Removable: true, Snapshot: true, Boot: 1}}})
	if err != nil {
		t.Fatal(err)
	}
	defer v.Kill()
	if err := v.WaitSerial(ctx, "Shell, to look at web01"); err != nil {
		t.Fatal(err)
	}
	if err := v.SettledScreenshot(ctx, filepath.Join(t.TempDir(), "menu.png")); err != nil {
		t.Fatal(err)
	}
	if _, err := v.Console().Write([]byte("s")); err != nil {
		t.Fatal(err)
	}
	m, err := v.WaitSerialMatch(ctx, regexp.MustCompile(`ARCHIVE (\w{64})\n`))
	if err != nil || m[1] != want {
		t.Errorf("the backup is read as %v instead of %s: %v", m, want, err)
	}
	bootedRight(t, ctx, v, qemu.UEFI)
}
