//go:build machines

package machines

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"lifeboat/drill/qemu"
	"lifeboat/internal/handoff"
	"lifeboat/internal/loaders"
)

// markedFS is an image of a filesystem that holds the mark of an order at its
// top.
func markedFS(t *testing.T, order string, mebibytes int) string {
	t.Helper()
	dir := t.TempDir()
	tree, img := filepath.Join(dir, "tree"), filepath.Join(dir, "fs.img")
	if err := os.Mkdir(tree, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(tree, handoff.DoneFile(order)), []byte("done\n"), 0o644)
	tool(t, "mke2fs", "-q", "-t", "ext4", "-d", tree, img, strconv.Itoa(mebibytes)+"M")
	return img
}

// put copies an image into a disk.
func put(t *testing.T, img, disk, offset string) {
	t.Helper()
	tool(t, "dd", "status=none", "conv=notrunc,sparse", "bs=1M", "oflag=seek_bytes", "seek="+offset, "if="+img, "of="+disk)
}

// markedLVM is a disk whose boot sector starts, with the mark on a logical
// volume: what a BIOS's GRUB must be able to read. LVM's own tools lay it out;
// the volume is written where they say it lies.
func markedLVM(t *testing.T, order string) string {
	t.Helper()
	disk := biosDisk(t)
	if err := os.Truncate(disk, 64<<20); err != nil {
		t.Fatal(err)
	}
	tool(t, "sh", "-c", "echo '2048,,8e' | sfdisk -q --no-reread --wipe never "+disk)
	loop := strings.TrimSpace(tool(t, "losetup", "--find", "--show", "--offset", "1048576", disk))
	defer tool(t, "losetup", "--detach", loop)
	config := `devices{filter=["a|^` + loop + `$|","r|.*|"] use_devicesfile=0} global{activation=0} backup{backup=0 archive=0}`
	lvm := func(args ...string) string {
		return tool(t, "lvm", append([]string{args[0], "--config", config}, args[1:]...)...)
	}
	lvm("pvcreate", "-qy", "--dataalignment", "1m", loop)
	lvm("vgcreate", "-q", "vg-web", loop)
	lvm("lvcreate", "-qy", "-an", "-Zn", "-Wn", "-L", "32M", "-n", "root", "vg-web")
	start := strings.TrimSpace(lvm("pvs", "--noheadings", "--units", "b", "--nosuffix", "-o", "pe_start", loop))
	pe, err := strconv.Atoi(start)
	if err != nil {
		t.Fatal(err)
	}
	put(t, markedFS(t, order, 32), disk, strconv.Itoa(1<<20+pe))
	return disk
}

// doneCase is a machine with the medium as CD and one disk.
type doneCase struct {
	name     string
	firmware qemu.Firmware
	disk     string
	done     bool // its disk says that the order is done
}

// TestMenuOrderDone: a medium that would recover by itself starts the local
// disk when that carries the mark of its order, wherever a recovery puts it;
// with that of another order, it recovers.
func TestMenuOrderDone(t *testing.T) {
	onESP := uefiDisk(t, false)
	mark := filepath.Join(t.TempDir(), "mark")
	write(t, mark, []byte("done\n"), 0o644)
	tool(t, "mcopy", "-i", onESP+"@@50M", mark, "::"+handoff.DoneFile(bootBuildID))
	menuDone(t, []doneCase{
		{"bios-lvm", qemu.BIOS, markedLVM(t, bootBuildID), true},
		{"bios-other-order", qemu.BIOS, markedLVM(t, "another-order"), false},
		{"secureboot-esp", qemu.UEFISecureBoot, onESP, true},
	})
}

func menuDone(t *testing.T, cases []doneCase) {
	image := bootMedium(t, func(m *loaders.Menu) { m.Default, m.Timeout = loaders.Auto, 2*time.Second })
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
			defer cancel()
			v, err := qemu.Start(ctx, qemu.Config{
				Name: c.name, Dir: pictures(t), Firmware: c.firmware, Memory: 1 << 30, Log: t.Logf,
				Drives: []qemu.Drive{{File: image, Interface: qemu.CDROM, ReadOnly: true, Boot: 1}, {File: c.disk, Boot: 2}},
			})
			if err != nil {
				t.Fatal(err)
			}
			defer v.Kill()
			m, err := v.WaitSerialMatch(ctx, regexp.MustCompile(localText+`|CMDLINE .*lifeboat.recover=auto`))
			if err != nil {
				t.Fatal(err)
			}
			if got := m[0] == localText; got != c.done {
				t.Errorf("the local disk was started: %v, want %v", got, c.done)
			}
			text := v.Console().Text()
			if strings.Contains(text, "recovered by this medium already") != c.done {
				t.Errorf("the menu does not say rightly that the order is done:\n%s", text)
			}
			if strings.Contains(text, "Press any key") {
				t.Errorf("GRUB waits for a key:\n%s", text)
			}
		})
	}
}
