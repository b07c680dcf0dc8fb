//go:build machines && deep

package machines

import (
	"path"
	"testing"
	"time"

	"lifeboat/drill"
	"lifeboat/drill/qemu"
	"lifeboat/tests/lab"
)

// depServer has an initramfs with the drivers of its own disk only.
func depServer() server {
	return server{name: "dep", layout: lab.BIOSLayout(), prepare: `sed -i 's/^MODULES=.*/MODULES=dep/' /etc/initramfs-tools/initramfs.conf
update-initramfs -u
lsinitramfs /boot/initrd.img-* | grep virtio_blk
! lsinitramfs /boot/initrd.img-* | grep ahci`}
}

// An initramfs that lacks the driver of the new machine's disk is built again;
// one that has it stays as it is, to the byte.
func TestOtherController(t *testing.T) {
	for _, c := range []struct {
		cell string
		bus  qemu.Interface
		same bool
	}{
		{"initramfs of virtio-blk only onto AHCI: built again, boots", qemu.AHCI, false},
		{"initramfs of virtio-blk only onto virtio-blk: untouched", qemu.Virtio, true},
	} {
		t.Run(string(c.bus), func(t *testing.T) {
			proven(t, c.cell)
			ctx, cancel := soon(t.Context(), 40*time.Minute)
			defer cancel()
			phase := phases(t)
			m := fixtureOf(ctx, t, depServer())
			phase("a server that backed itself up")
			res, err := drill.Run(ctx, drill.Options{Image: m.iso, Backup: m.store, Dir: t.TempDir(), Bus: c.bus, Between: func(disks []string) error {
				phase("recovery")
				ds, err := m.lab.Compare(ctx, m.disk, disks[0])
				if err != nil {
					return err
				}
				same := true
				rest, _ := ds.Except(allowed...)
				for _, d := range rest {
					if ok, _ := path.Match("initrd.img-*", d.Path); ok {
						same = same && d.What != "sha256"
						continue
					}
					t.Errorf("the restored disk differs from the server's: %v", d)
				}
				if same != c.same {
					t.Errorf("the initramfs is the same: %v, want %v\n%v", same, c.same, rest)
				}
				phase("comparing every file and identity")
				return nil
			}})
			if err != nil {
				t.Fatal(err)
			}
			phase("first boot")
			if !res.Passed || res.System.State != "running" {
				t.Fatalf("the drill did not pass: %s, %+v", res.Why, res.System)
			}
		})
	}
}
