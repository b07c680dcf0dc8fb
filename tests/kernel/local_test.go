//go:build kernel

package kernel

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"lifeboat/drill"
	"lifeboat/drill/qemu"
	"lifeboat/internal/cpio"
	"lifeboat/manifest"
	"lifeboat/report"
)

// installedInit is the whole installed system: it says how it was started, and
// switches the machine off.
const installedInit = `#!/usr/bin/busybox sh
/usr/bin/busybox mkdir -p /proc /dev
/usr/bin/busybox mount -t proc none /proc
/usr/bin/busybox mount -t devtmpfs none /dev
echo "INSTALLED-SYSTEM $(/usr/bin/busybox cat /proc/cmdline)" > /dev/ttyS0
/usr/bin/busybox poweroff -f
`

// installedConfig starts it; the second entry is never the default.
const installedConfig = `set default="0"
if [ x"${feature_menuentry_id}" = xy ]; then menuentry_id_option="--id"; else menuentry_id_option=""; fi
menuentry 'Installed GNU/Linux' --class gnu $menuentry_id_option 'simple' {
	search --no-floppy --fs-uuid --set=root --hint='lvmid/x' 0a0b0c0d-1111-2222-3333-444455556666
	linux	/boot/vmlinuz-1 root=/dev/mapper/vg--web-root ro console=ttyS0 word=installed
	initrd	/boot/early.img /boot/initrd.img-1
}
menuentry 'Another' { linux /boot/vmlinuz-1 word=another }
`

// installedDisks is a disk on whose logical volume lies a system with its own
// kernel, carrying the mark of an order.
func installedDisks(t *testing.T, order string) []qemu.Drive {
	t.Helper()
	kernel, set := kernelImage(t)
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Fatalf("busybox is missing: run tests/setup.sh: %v", err)
	}
	system := func(w *cpio.Writer) error {
		if err := w.File("usr/bin/busybox", 0o755, busybox); err != nil {
			return err
		}
		return w.File("init", 0o755, []byte(installedInit))
	}
	initrd := makePart(t, system)
	early := makePart(t, func(w *cpio.Writer) error { return w.File("early", 0o644, []byte("x")) })
	files := makePart(t, func(w *cpio.Writer) error {
		for name, data := range map[string][]byte{"initrd.img-1": initrd, "early.img": early, "grub/grub.cfg": []byte(installedConfig)} {
			if err := w.File("test/boot/"+name, 0o644, data); err != nil {
				return err
			}
		}
		for name, text := range map[string]string{"os-release": "ID=debian\n", "hostname": "packed\n", "fstab": "", "lifeboat/recovered.json": `{"order":"` + order + `"}`} {
			if err := w.File("test/etc/"+name, 0o644, []byte(text)); err != nil {
				return err
			}
		}
		return w.Copy("test/boot/vmlinuz-1", kernel)
	})
	m := boot(t, setup{name: "install", disks: 1, segments: [][]byte{modulesPart(t, set), toolsPart(t), guestPart(t), files}})
	m.Hello()
	m.Sh(`until [ -b /dev/vda ]; do sleep 0.1; done
		echo ',,8e' | sfdisk -q /dev/vda; until [ -b /dev/vda1 ]; do sleep 0.1; done; export DM_DISABLE_UDEV=1
		pvcreate -qy /dev/vda1; vgcreate -q vg-web /dev/vda1; lvcreate -qy -L 256M -n root vg-web
		mke2fs -q -t ext4 -U 0a0b0c0d-1111-2222-3333-444455556666 /dev/vg-web/root; mount -t ext4 /dev/vg-web/root /mnt
		cp -r /test/boot /test/etc /mnt; umount /mnt; vgchange -qan vg-web; sync`)
	m.start(nil, "poweroff")
	if err := m.Wait(m.ctx()); err != nil {
		t.Fatal(err)
	}
	return m.drives
}

func digest(t *testing.T, file string) string {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}

// oneDisk is the manifest of a host with one filesystem on one disk.
func oneDisk(t *testing.T, host string) []byte {
	t.Helper()
	const gib = 1 << 30
	dir := manifest.Inode{Type: "dir", Mode: "0755"}
	m := &manifest.Manifest{Format: manifest.Format, Made: time.Date(2026, 5, 1, 3, 0, 0, 0, time.UTC), Host: manifest.Host{Name: host},
		Storage: manifest.Storage{
			Nodes: []manifest.Node{
				{ID: "disk:serial-S", Kind: manifest.KindDisk, Bytes: 8 * gib, Disk: &manifest.Disk{Serial: "S", Bytes: 8 * gib, Logical: 512, Physical: 512}},
				{ID: "fs:aaaa", Kind: manifest.KindFS, Bytes: 8 * gib, On: []manifest.Edge{{Node: "disk:serial-S"}}, FS: &manifest.FS{Type: "ext4", UUID: "aaaa"}},
			},
			Mounts: []manifest.Mount{{Path: "/", Node: "fs:aaaa", Type: "ext4", Live: true, InFstab: true, Point: dir, Top: dir, Backup: manifest.ScopeFull}},
		}}
	b, err := m.Encode()
	if err == nil {
		_, err = manifest.Decode(b)
	}
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestInstalledSystem: a rescue system that has nothing to recover starts the
// system on the disks by that system's own kernel, initramfs and arguments,
// and changes no byte: with nobody there, or from the menu for a person who
// pressed a key.
func TestInstalledSystem(t *testing.T) {
	image, _ := kernelImage(t)
	disks := installedDisks(t, "order-1")
	before := digest(t, disks[0].File)
	packed := packedSegment(t, strings.TrimPrefix(image, "/boot/vmlinuz-"))
	start := func(name, host, order, words string) *Machine {
		return boot(t, setup{name: name, segments: [][]byte{packed, orderPart(t, host, order)}, drives: disks, memory: 2 << 30,
			append: words, ports: []qemu.Port{{Name: drill.PortEvents}}})
	}
	finish := func(m *Machine) {
		t.Helper()
		g, _ := m.expect(m.Console(), 0, `INSTALLED-SYSTEM (.*)\n`)
		if want := "BOOT_IMAGE=/boot/vmlinuz-1 root=/dev/mapper/vg--web-root ro console=ttyS0 word=installed"; strings.TrimSpace(g[1]) != want {
			t.Errorf("it was started by %q, want %q", g[1], want)
		}
		if err := m.Wait(m.ctx()); err != nil {
			t.Error(err)
		}
		if digest(t, disks[0].File) != before {
			t.Error("the disk was changed")
		}
	}
	t.Run("order done", func(t *testing.T) {
		m := start("order-done", "packed", "order-1", "")
		m.expect(m.Console(), 0, `The installed system is started in 10 s; any key`)
		finish(m)
		orderDone(t, m.Port(drill.PortEvents).Text())
	})
	t.Run("off, a person stays, then the menu", func(t *testing.T) {
		m := start("off", "packed", "order-1", "lifeboat.recover=off")
		m.expect(m.Console(), 0, `any key stops`)
		if _, err := m.Console().Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		m.expect(m.Console(), 0, `9  Start the installed system(.*\n)+> `)
		if strings.Contains(m.Console().Text(), "INSTALLED-SYSTEM") {
			t.Fatal("the key did not keep the rescue system")
		}
		if _, err := m.Console().Write([]byte("9\n")); err != nil {
			t.Fatal(err)
		}
		finish(m)
	})
	t.Run("living", func(t *testing.T) {
		m := start("living", "packed", "order-2", "")
		m.expect(m.Console(), 0, `holds a system of packed \(on .*\) that was used after the backup`)
		finish(m)
	})
	t.Run("another host's", func(t *testing.T) {
		m := start("other-host", "other", "order-2", "")
		m.expect(m.Console(), 0, `9  Start the installed system`)
		if strings.Contains(m.Console().Text(), "is started in") {
			t.Error("another host's system is started")
		}
	})
}

// orderPart is what an image holds of its order and its host.
func orderPart(t *testing.T, host, id string) []byte {
	return makePart(t, func(w *cpio.Writer) error {
		if err := w.File("etc/lifeboat/manifest.json", 0o600, oneDisk(t, host)); err != nil {
			return err
		}
		return w.File("etc/lifeboat/order.json", 0o600, []byte(`{"id":"`+id+`","build_id":"b1","host":"`+host+`","built":"2026-05-01T03:00:00Z","recover":"auto","then":"reboot","verify":"","backup":{"method":"archive","url":"file:///nowhere/none.lba"},"net":{}}`))
	})
}

// orderDone looks for the result and what was said before the machine went.
func orderDone(t *testing.T, events string) {
	t.Helper()
	said, exit := false, report.Exit(-1)
	for l := range strings.Lines(events) {
		var e report.Event
		var r report.Result
		if json.Unmarshal([]byte(l), &e) != nil {
			continue
		}
		said = said || e.Kind == report.Note && strings.Contains(e.Text, `Starting the installed system: "Installed GNU/Linux"`)
		if e.Kind == report.Done && json.Unmarshal(e.Data, &r) == nil && len(r.Problems) > 0 && r.Problems[0].Code == report.CodeOrderDone {
			exit = r.Exit
		}
	}
	if !said || exit != report.ExitRefused {
		t.Errorf("said %v, exit code %d:\n%s", said, exit, events)
	}
}

// TestKexecWithoutKernel: PID 1 that is to start a kernel which nobody loaded
// restarts the machine: it must not stay down.
func TestKexecWithoutKernel(t *testing.T) {
	m := boot(t, setup{name: "kexec-none"})
	m.Hello()
	mark, port := m.Console().Mark(), m.Port(portName).Mark()
	m.start(nil, "bash", "-c", "kill -40 1")
	m.expect(m.Console(), mark, "Starting the kernel that was loaded")
	m.mark = port
	m.Hello()
}
