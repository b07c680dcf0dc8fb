//go:build kernel

package kernel

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"lifeboat/drill/qemu"
	"lifeboat/images/usb"
	"lifeboat/internal/cpio"
	"lifeboat/internal/run"
)

// commandPart is the lifeboat command of hosts.
func commandPart(t testing.TB) []byte {
	return part(t, "command", func(w *cpio.Writer) error {
		bin := filepath.Join(t.TempDir(), "lifeboat")
		host(t, run.Cmd{Path: "go", Args: []string{"build", "-trimpath", "-ldflags", "-s -w", "-o", bin, "../../cmd/lifeboat"}})
		return w.Copy("usr/bin/host-lifeboat", bin)
	})
}

// refusals are what usb write must not touch, each with a word of the reason.
var refusals = []struct{ name, before, disk, want, after string }{
	{"a disk that is not removable", "", "$fixed", "not removable", ""},
	{"a partition", "echo ',,L' | sfdisk -q $stick; until [ -b ${stick}1 ]; do sleep 0.1; done", "${stick}1", "it is a partition", ""},
	{"a mounted disk", "mke2fs -qF ${stick}1; mkdir -p /mnt/s; mount ${stick}1 /mnt/s", "$stick", "/mnt/s", "umount /mnt/s"},
	{"swap", "mkswap ${stick}1; swapon ${stick}1", "$stick", "swap", "swapoff ${stick}1"},
	{"a loop device on it", "losetup /dev/loop7 ${stick}1", "$stick", "loop7", "losetup -d /dev/loop7"},
	{"LVM", "pvcreate -qy ${stick}1; vgcreate -q g ${stick}1; lvcreate -qy -an -n v -L 8M g; vgchange -qay g", "$stick", "g-v", "vgchange -qan g"},
	{"a dm device on it", "echo 0 2048 linear ${stick}1 0 | dmsetup create --noudevsync d", "$stick", "dm-", "dmsetup remove --noudevsync d"},
	{"another serial", "", "$stick", "is not the serial", ""},
	{"another stick with this serial", "", "$twin", "have the same serial", ""},
}

// TestUSBWrite lets the command write a stick as it does on a host, and cuts
// it off. The judges are the standard tools and the bytes of the stick.
func TestUSBWrite(t *testing.T) {
	day := time.Date(2026, 11, 20, 3, 4, 5, 0, time.UTC)
	dir := t.TempDir()
	var drives []qemu.Drive
	for i, f := range []string{hostImage(t, "web01", day, 1<<20), hostImage(t, "db01", day, 400<<20)} {
		drives = append(drives, qemu.Drive{File: f, Serial: fmt.Sprintf("image%d", i), ReadOnly: true})
	}
	for name, d := range map[string]qemu.Drive{
		"fixed": {}, "stick": {Interface: qemu.USB, Serial: "STICK-0001", Removable: true}, "twin1": {Interface: qemu.USB, Serial: "TWIN", Removable: true}, "twin2": {Interface: qemu.USB, Serial: "TWIN", Removable: true}} {
		d.File = filepath.Join(dir, name)
		if err := qemu.CreateRaw(d.File, 1<<30); err != nil {
			t.Fatal(err)
		}
		drives = append(drives, d)
	}
	_, set := kernelImage(t)
	m := boot(t, setup{name: "usb", drives: drives, segments: [][]byte{modulesPart(t, set), toolsPart(t), guestPart(t), commandPart(t)}})
	m.Hello()
	find := `for x in virtio_blk xhci_pci usb_storage sd_mod loop; do modprobe $x; done
		usb() { for d in /sys/block/sd*; do for s in $d/device/../../../../serial $d/device/../../../../../serial; do [ -e $s ] && [ "$(cat $s)" = "$1" ] && echo /dev/$(basename $d) && return; done; done; false; }
		image() { for d in /dev/vd?; do if [ "$(cat /sys/block/$(basename $d)/serial)" = "$1" ]; then echo $d; return; fi; done; false; }
		until stick=$(usb STICK-0001) && twin=$(usb TWIN) && fixed=$(image "") && web=$(image image0) && db=$(image image1); do sleep 0.1; done
		lifeboat() { host-lifeboat "$@"; }
`
	for _, r := range refusals {
		t.Run(r.name, func(t *testing.T) {
			// The kernel counts what is written to a disk.
			count := `awk '{print $7}' $(readlink -f /sys/class/block/$(basename ` + r.disk + `))/stat`
			script := find + r.before + "\nsync; " + count + " >/tmp/before\n" +
				"code=0; lifeboat usb write " + r.disk + " --image $web --confirm WRONG >/tmp/out 2>&1 || code=$?\ncat /tmp/out\necho code $code\n" +
				"sync; " + count + " >/tmp/after; cmp /tmp/before /tmp/after\n" + r.after
			out, end := m.Run(patience, "bash", "-euc", script)
			if end != 0 || !strings.Contains(out, "code 4") || !strings.Contains(out, r.want) {
				t.Errorf("not refused with exit code 4 and %q:\n%s", r.want, out)
			}
		})
	}
	judge := `sfdisk --verify $stick; part=$(ls ${stick}3); e2fsck -fn $part; fsck.vfat -n ${stick}2; lifeboat usb list $stick --json; ! grep lifeboat-stick /proc/mounts
`
	out := m.Sh(find + "lifeboat usb write $stick --image $web --confirm STICK-0001\n" + judge + "cmp $web $stick -n 440")
	for _, want := range []string{"No errors detected", `"host": "web01"`, "web01/20261120T030405Z.lba"} {
		if !strings.Contains(out, want) {
			t.Errorf("the new stick: no %q in\n%s", want, out)
		}
	}
	// In the middle of the second host's backup the power goes.
	m.Sh(find + `lifeboat usb write $stick --image $db --confirm STICK-0001 >/dev/null 2>&1 &
		until [ "$(du -cm /run/lifeboat-stick-*/db01 2>/dev/null | tail -1 | cut -f1)" -gt 20 ] 2>/dev/null; do sleep 0.05; done`)
	m.Reset()
	checkStick(t, drives, "web01")
	out = m.Sh(find + "lifeboat usb write $stick --image $db --confirm STICK-0001\n" + judge + "mkdir -p /mnt/s; mount -o ro ${stick}3 /mnt/s; cat /mnt/s/boot/grub/grub.cfg; find /mnt/s -name '.*' -name '*lba*'; umount /mnt/s")
	for _, want := range []string{`"host": "web01"`, `"host": "db01"`, "submenu 'db01 (", "submenu 'web01 (", "db01/20261120T030405Z.lba"} {
		if !strings.Contains(out, want) {
			t.Errorf("two hosts: no %q in\n%s", want, out)
		}
	}
	if strings.Contains(out, "lba.lifeboat-") {
		t.Errorf("an unfinished backup stays:\n%s", out)
	}
	m.Kill()
	img := checkStick(t, drives, "db01", "web01")
	if img.Data.Start+img.Data.Size < img.Bytes-4<<20 {
		t.Errorf("the data partition ends at %d of %d bytes", img.Data.Start+img.Data.Size, img.Bytes)
	}
	src, err := usb.Open(drives[1].File)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	if a, b := sumArchive(t, img, "db01"), sumArchive(t, src, "db01"); !bytes.Equal(a, b) {
		t.Error("the backup on the stick differs")
	}
}

// checkStick reads the stick from outside of the machine, without the
// filesystem's journal, as boot loaders do: the menu leads to exactly these
// hosts, and all that it leads to is whole.
func checkStick(t *testing.T, drives []qemu.Drive, hosts ...string) *usb.Image {
	t.Helper()
	i := slices.IndexFunc(drives, func(d qemu.Drive) bool { return d.Serial == "STICK-0001" })
	img, err := usb.Open(drives[i].File)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { img.Close() })
	var have []string
	for _, h := range img.Hosts() {
		have = append(have, h.Name)
	}
	if err := img.Verify(t.Context()); err != nil || !slices.Equal(have, hosts) {
		t.Errorf("the stick offers %v: %v", have, err)
	}
	return img
}

func sumArchive(t *testing.T, i *usb.Image, host string) []byte {
	t.Helper()
	list := i.Archives(host)
	if len(list) != 1 {
		t.Fatalf("archives %+v", list)
	}
	r, err := i.File(list[0].Path)
	if err != nil {
		t.Fatal(err)
	}
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		t.Fatal(err)
	}
	return h.Sum(nil)
}
