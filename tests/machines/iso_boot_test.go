//go:build machines

package machines

import (
	"bytes"
	"context"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"lifeboat/drill/qemu"
	"lifeboat/images/iso"
	"lifeboat/internal/loaders"
	"lifeboat/internal/run"
)

const bootBuildID = "iso-boot-test-0001"

// bootISO makes a medium with the host's kernel and loaders, and a small
// initramfs that looks for the medium by its build id, reads every file on it
// and compares it with the list of sums.
func bootISO(t *testing.T) string { return bootMedium(t, func(*loaders.Menu) {}) }

// bootMedium is bootISO with another menu.
func bootMedium(t *testing.T, change func(*loaders.Menu)) string {
	t.Helper()
	kernel, version := hostKernel(t)
	initrd := miniInitrd(t, `
for i in $(seq 100); do
  for d in $(ls /sys/block); do
    mount -t iso9660 -o ro /dev/$d /mnt 2>/dev/null || continue
    [ -e /mnt/lifeboat/id-`+bootBuildID+` ] && break 2
    umount /mnt
  done
  sleep 0.2
done
say "MEDIUM $d $(cat /mnt/lifeboat/build-id)"
cd /mnt && sha256sum -s -c lifeboat/sha256sums && say "SUMS RIGHT" || say "SUMS WRONG"
`, "isofs", "sr_mod", "sd_mod", "ahci", "xhci_pci", "usb_storage")
	path := filepath.Join(t.TempDir(), "test.iso")
	menu := loaders.Menu{BuildID: bootBuildID, Host: "web01.example.com", Kernel: version, Timeout: -1,
		Built: time.Date(2026, 11, 25, 3, 0, 0, 0, time.UTC), Consoles: []string{"ttyS0,115200"}}
	change(&menu)
	res, err := iso.Write(t.Context(), path, iso.Spec{
		Kernel: kernel, Initrd: []iso.Source{{Path: initrd}}, Manifest: []byte("{}\n"),
		Files: []iso.File{{Name: "/backup/A long name with blanks.lba", Source: iso.Source{Data: bytes.Repeat([]byte("backup "), 100_000)}}},
		Menu:  menu, Loaders: loaders.Find("/"), Runner: run.Exec{Log: t.Logf},
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(res.Modes) != 3 {
		t.Fatalf("this host cannot make a medium for all firmwares: %+v", res.Missing)
	}
	t.Logf("%d bytes", res.Bytes)
	return path
}

// TestISOBoots is the whole table of media and firmwares: the menu is seen on
// the serial console, an entry is chosen there, and the system that starts
// finds its medium again by the build id.
func TestISOBoots(t *testing.T) {
	image := bootISO(t)
	for _, c := range []struct {
		name     string
		firmware qemu.Firmware
		as       qemu.Interface
	}{
		{"bios-cd", qemu.BIOS, qemu.CDROM},
		{"bios-usb", qemu.BIOS, qemu.USB},
		{"uefi-cd", qemu.UEFI, qemu.CDROM},
		{"uefi-usb", qemu.UEFI, qemu.USB},
		{"secureboot-cd", qemu.UEFISecureBoot, qemu.CDROM},
		{"secureboot-usb", qemu.UEFISecureBoot, qemu.USB},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
			defer cancel()
			dir := pictures(t)
			v, err := qemu.Start(ctx, qemu.Config{
				Name: c.name, Dir: dir, Firmware: c.firmware, Memory: 1 << 30, Log: t.Logf,
				Drives: []qemu.Drive{{File: image, Interface: c.as, ReadOnly: true, Boot: 1, Serial: "MEDIUM"}},
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
			if c.as == qemu.CDROM {
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

// bootedRight waits for what the small system says.
func bootedRight(t *testing.T, ctx context.Context, v *qemu.VM, f qemu.Firmware) {
	t.Helper()
	bootedAs(t, ctx, v, f, bootBuildID)
}

// bootedAs is bootedRight for a medium of another build.
func bootedAs(t *testing.T, ctx context.Context, v *qemu.VM, f qemu.Firmware, build string) {
	t.Helper()
	m, err := v.WaitSerialMatch(ctx, regexp.MustCompile(`CMDLINE (.*)\n`))
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range []string{"rootfstype=ramfs", "console=tty0 console=ttyS0,115200", "lifeboat.recover=menu"} {
		if !strings.Contains(m[1], w) {
			t.Errorf("kernel command line lacks %s: %s", w, m[1])
		}
	}
	if m, err = v.WaitSerialMatch(ctx, regexp.MustCompile(`MEDIUM (\w+) (\S+)\n`)); err != nil {
		t.Fatal(err)
	}
	if m[2] != build {
		t.Errorf("the medium on %s says %s", m[1], m[2])
	}
	if m, err = v.WaitSerialMatch(ctx, regexp.MustCompile(`SUMS (\w+)\n`)); err != nil || m[1] != "RIGHT" {
		t.Errorf("sums: %v, %v", m, err)
	}
	secure := strings.Contains(v.Console().Text(), "Secure boot enabled")
	if secure != (f == qemu.UEFISecureBoot) {
		t.Errorf("kernel says Secure Boot %v under %s", secure, f)
	}
}

const localText = "LOCAL-DISK-STARTED"

// biosDisk is a disk with a boot sector that writes to the serial port and
// asks for nothing.
func biosDisk(t *testing.T) string {
	code := []byte{
		0xfc, 0x31, 0xc0, 0x8e, 0xd8, // cld; ds = 0
		0xbe, 0x15, 0x7c, // si = text
		0xba, 0xf8, 0x03, // dx = first serial port
		0xac, 0x84, 0xc0, 0x74, 0x03, // next: al = [si++]; end at zero
		0xee, 0xeb, 0xf8, // write it; back to next
		0xeb, 0xfe, // stay here
	}
	sector := make([]byte, 512)
	copy(sector, append(code, localText+"\n"...))
	sector[510], sector[511] = 0x55, 0xaa
	disk := filepath.Join(t.TempDir(), "bios-disk")
	write(t, disk, append(sector, make([]byte, 8<<20)...), 0o600)
	return disk
}

// uefiDisk is a disk whose ESP holds an installed system that writes the same:
// with shim where the distribution puts it, or only where firmware falls back to.
func uefiDisk(t *testing.T, fallback bool) string {
	dir, set := t.TempDir(), loaders.Find("/")
	disk, cfg := filepath.Join(dir, "uefi-disk"), filepath.Join(dir, "grub.cfg")
	write(t, cfg, []byte("echo "+localText+"\nsleep 600\n"), 0o600)
	if err := qemu.CreateRaw(disk, 64<<20); err != nil {
		t.Fatal(err)
	}
	tool(t, "sgdisk", "-n", "1:2048:100000", "-t", "1:8300", "-n", "2:102400:0", "-t", "2:ef00", disk)
	esp := disk + "@@50M"
	tool(t, "mformat", "-i", esp, "-T", "28000", "-h", "16", "-s", "63", "::")
	tool(t, "mmd", "-i", esp, "::/EFI", "::/EFI/BOOT", "::/EFI/debian", "::/boot", "::/boot/grub")
	if fallback {
		tool(t, "mcopy", "-i", esp, set.Path(loaders.GrubCD), "::/EFI/BOOT/BOOTX64.EFI")
	} else {
		tool(t, "mcopy", "-i", esp, set.Path(loaders.Shim), "::/EFI/debian/shimx64.efi")
		tool(t, "mcopy", "-i", esp, set.Path(loaders.GrubCD), "::/EFI/debian/grubx64.efi")
	}
	tool(t, "mcopy", "-i", esp, cfg, "::/boot/grub/grub.cfg")
	return disk
}

// TestISOLocalDisk: the first entry starts the machine's own disk. In BIOS
// that has another number for a CD than for a stick; in UEFI the system's own
// loader is found, and never the medium's.
func TestISOLocalDisk(t *testing.T) {
	image, bios, uefi := bootISO(t), biosDisk(t), uefiDisk(t, false)
	for _, c := range []struct {
		name     string
		firmware qemu.Firmware
		as       qemu.Interface
		disk     string
	}{
		{"bios-cd", qemu.BIOS, qemu.CDROM, bios},
		{"bios-usb", qemu.BIOS, qemu.USB, bios},
		{"uefi-usb", qemu.UEFI, qemu.USB, uefi},
		{"uefi-usb-fallback", qemu.UEFI, qemu.USB, uefiDisk(t, true)},
		{"secureboot-cd", qemu.UEFISecureBoot, qemu.CDROM, uefi},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			dir := pictures(t)
			v, err := qemu.Start(ctx, qemu.Config{
				Name: c.name, Dir: dir, Firmware: c.firmware, Memory: 512 << 20, Log: t.Logf,
				Drives: []qemu.Drive{
					{File: image, Interface: c.as, ReadOnly: true, Boot: 1},
					{File: c.disk, Boot: 2},
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			defer v.Kill()
			if err := v.WaitSerial(ctx, "Shell, to look at web01"); err != nil {
				t.Fatal(err)
			}
			// A key that comes while the menu is drawn may be lost.
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
