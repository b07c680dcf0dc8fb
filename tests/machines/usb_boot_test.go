//go:build machines

package machines

import (
	"bytes"
	"context"
	"path/filepath"
	"testing"
	"time"

	"lifeboat/drill/qemu"
	"lifeboat/images/usb"
	"lifeboat/internal/loaders"
	"lifeboat/internal/run"
)

// bootUSB makes the image of a stick as bootISO makes a medium: its small
// system looks for the stick's data partition by the build id, and reads all
// of this host on it. The backup is any file; room is left free.
func bootUSB(t *testing.T, host, build, arch string, room int64) string {
	t.Helper()
	kernel, version := hostKernel(t)
	initrd := miniInitrd(t, `
for i in $(seq 100); do
  for d in $(ls /sys/class/block); do
    mount -t ext4 -o ro,noload /dev/$d /mnt 2>/dev/null || continue
    [ -e /mnt/lifeboat/id-`+build+` ] && break 2
    umount /mnt
  done
  sleep 0.2
done
say "MEDIUM $d $(cat /mnt/lifeboat/id-`+build+`)"
say "ARCHIVE $(cat /mnt/`+host+`/*.lba | sha256sum | cut -c1-64)"
cd /mnt/lifeboat/hosts/`+host+`/`+build+` && sha256sum -s -c sha256sums && say "SUMS RIGHT" || say "SUMS WRONG"
`, "ext4", "crc32c_generic", "crc32c_intel", "sd_mod", "ahci", "xhci_pci", "usb_storage", "virtio_pci", "virtio_blk")
	path := filepath.Join(t.TempDir(), host+".usb.img")
	res, err := usb.Write(t.Context(), path, usb.Spec{
		Kernel: kernel, Initrd: []string{initrd}, Manifest: []byte("{}\n"), OS: "debian",
		Room:     room,
		Archives: []usb.Archive{{Name: host + "/20261125T030000Z.lba", Path: arch}},
		Menu: loaders.Menu{BuildID: build, Host: host, Kernel: version, Timeout: -1,
			Built: time.Date(2026, 11, 25, 3, 0, 0, 0, time.UTC), Consoles: []string{"ttyS0,115200"}},
		Loaders: loaders.Find("/"),
	}, run.Exec{Log: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	if len(res.Modes) != 3 {
		t.Fatalf("this host cannot make a medium for all firmwares: %+v", res.Missing)
	}
	return path
}

// anyBackup is a file that takes the place of a backup.
func anyBackup(t *testing.T) string {
	t.Helper()
	arch := filepath.Join(t.TempDir(), "arch")
	write(t, arch, bytes.Repeat([]byte("backup "), 100_000), 0o600)
	return arch
}

// TestUSBBoots: the stick's menu and its rescue system, in every firmware, as
// a stick and as other disks.
func TestUSBBoots(t *testing.T) {
	image := bootUSB(t, "web01.example.com", bootBuildID, anyBackup(t), 0)
	for _, c := range []struct {
		name     string
		firmware qemu.Firmware
		as       qemu.Interface
	}{
		{"bios-usb", qemu.BIOS, qemu.USB},
		{"bios-virtio", qemu.BIOS, qemu.Virtio},
		{"bios-ahci", qemu.BIOS, qemu.AHCI},
		{"uefi-usb", qemu.UEFI, qemu.USB},
		{"uefi-ahci", qemu.UEFI, qemu.AHCI},
		{"secureboot-usb", qemu.UEFISecureBoot, qemu.USB},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
			defer cancel()
			dir := pictures(t)
			v, err := qemu.Start(ctx, qemu.Config{
				Name: c.name, Dir: dir, Firmware: c.firmware, Memory: 1 << 30, Log: t.Logf,
				Drives: []qemu.Drive{{File: image, Interface: c.as, Snapshot: true, Boot: 1, Removable: c.as == qemu.USB, Serial: "MEDIUM"}},
			})
			if err != nil {
				t.Fatal(err)
			}
			defer v.Kill()
			began := time.Now()
			for _, text := range []string{"Start this machine's local disk", "Recover web01 automatically (2026-11-25, Linux 6", "Recover web01 step by step", "Shell, to look at web01"} {
				if err := v.WaitSerial(ctx, text); err != nil {
					t.Fatal(err)
				}
			}
			t.Logf("menu after %.1f s", time.Since(began).Seconds())
			if err := v.SettledScreenshot(ctx, filepath.Join(dir, "menu.png")); err != nil {
				t.Fatal(err)
			}
			if c.firmware == qemu.BIOS {
				_, err = v.Console().Write([]byte("s"))
			} else {
				err = v.Type(ctx, "s") // the keyboard on the other half of the cases
			}
			if err != nil {
				t.Fatal(err)
			}
			bootedRight(t, ctx, v, c.firmware)
			t.Logf("medium verified after %.1f s", time.Since(began).Seconds())
		})
	}
}

// TestUSBLocalDisk: the first entry of a stick starts the machine's own disk,
// and never the stick again.
func TestUSBLocalDisk(t *testing.T) {
	image := bootUSB(t, "web01.example.com", bootBuildID, anyBackup(t), 0)
	for _, c := range []struct {
		name     string
		firmware qemu.Firmware
		disk     string
	}{
		{"bios", qemu.BIOS, biosDisk(t)},
		{"uefi-fallback", qemu.UEFI, uefiDisk(t, true)},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			dir := pictures(t)
			v, err := qemu.Start(ctx, qemu.Config{
				Name: c.name, Dir: dir, Firmware: c.firmware, Memory: 512 << 20, Log: t.Logf,
				Drives: []qemu.Drive{{File: image, Interface: qemu.USB, Snapshot: true, Boot: 1}, {File: c.disk, Boot: 2}},
			})
			if err != nil {
				t.Fatal(err)
			}
			defer v.Kill()
			if err := v.WaitSerial(ctx, "Shell, to look at web01"); err != nil {
				t.Fatal(err)
			}
			if err := v.SettledScreenshot(ctx, filepath.Join(dir, "menu.png")); err != nil {
				t.Fatal(err)
			}
			if _, err := v.Console().Write([]byte("l")); err != nil {
				t.Fatal(err)
			}
			if err := v.WaitSerial(ctx, localText); err != nil {
				t.Fatal(err)
			}
		})
	}
}
