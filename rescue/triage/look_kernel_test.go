//go:build kernel

package triage

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"lifeboat/internal/probe"
	"lifeboat/internal/run"
	"lifeboat/manifest"
	"lifeboat/tests/kernel/inguest"
)

func sh(t *testing.T, script string) string {
	t.Helper()
	c := exec.Command("bash", "-euo", "pipefail", "-c", script)
	c.Env = append(os.Environ(), "LC_ALL=C", "DM_DISABLE_UDEV=1")
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%s\n%v:\n%s", script, err, out)
	}
	return string(out)
}

// TestLookAtVolumes judges a system on LVM over two disks, with an ESP, as the
// rescue system finds it: nothing is active. Not a byte changes, nothing stays
// open, and the volumes cannot be written while they are looked at.
func TestLookAtVolumes(t *testing.T) {
	d := inguest.Disks(t, 3)
	sh(t, fmt.Sprintf(`
		printf 'label: gpt\nstart=1MiB,size=64MiB,type=U\nstart=100MiB,size=500MiB,type=E6D6D379-F507-44C2-A23C-238F2A3DF928\n' | sfdisk -q -W always %[1]s
		part() { lsblk -nrpo NAME,TYPE $1 | awk -v n=$2 '$2 == "part" && ++i == n {print $1}'; }
		mkfs.vfat -F 32 -s 1 -n ESP $(part %[1]s 1) >/dev/null
		pvcreate -q $(part %[1]s 2) %[2]s; vgcreate -q vg-s $(part %[1]s 2) %[2]s; lvcreate -qy -Wn -L 200M -n ro-ot vg-s; lvcreate -qy -Wn -i 2 -L 400M -n data vg-s
		mke2fs -q -t ext4 /dev/vg-s/ro-ot; mkfs.xfs -q /dev/vg-s/data
		mkdir -p /mnt/i; mount /dev/vg-s/ro-ot /mnt/i; cd /mnt/i; mkdir -p boot/efi srv etc sbin; mount $(part %[1]s 1) boot/efi; mount /dev/vg-s/data srv
		mkdir -p boot/efi/EFI/BOOT; echo precious > srv/file; echo alpha > etc/hostname; echo 0123 > etc/machine-id; echo 'PRETTY_NAME="Test OS"' > etc/os-release
		touch sbin/init; cd /; umount -R /mnt/i; sync`, d[0].Path, d[1].Path))
	ctx := context.Background()
	opt := probe.Options{Run: run.Exec{}, Rescue: true}
	r, err := probe.Read(ctx, opt)
	if err != nil {
		t.Fatal(err)
	}
	g, err := r.Graph(ctx)
	if err != nil {
		t.Fatal(err)
	}
	sh(t, "vgchange -qan vg-s")
	m := &manifest.Manifest{Host: manifest.Host{Name: "alpha", MachineID: "0123"}, Storage: g.Storage, Boot: manifest.Boot{Firmware: "uefi", Loader: "none"}}
	for _, n := range m.Storage.OfKind(manifest.KindFS) {
		at := map[string]string{"vfat": "/boot/efi", "xfs": "/srv", "ext4": "/"}[n.FS.Type]
		m.Storage.Mounts = append(m.Storage.Mounts, manifest.Mount{Path: manifest.Bytes(at), Node: n.ID, Type: n.FS.Type, Backup: manifest.ScopeFull})
		if at == "/boot/efi" {
			m.Boot.ESPs = []manifest.ID{n.ID}
		}
	}
	if len(m.Storage.Mounts) != 3 {
		t.Fatalf("%+v", m.Storage.Nodes)
	}
	sum := func() string {
		return sh(t, fmt.Sprintf("sync; for x in %s %s; do blockdev --flushbufs $x; head -c 700M $x | md5sum; done", d[0].Path, d[1].Path))
	}
	look := func() (*Facts, string) {
		t.Helper()
		before := sum()
		f, err := Look(ctx, Options{Run: run.Exec{Log: t.Logf}, Manifest: m, Probe: opt})
		if err != nil {
			t.Fatal(err)
		}
		if sum() != before {
			t.Error("looking wrote to the disks")
		}
		if left := strings.TrimSpace(sh(t, "dmsetup ls; findmnt -rn -o TARGET | grep triage || true")); left != "No devices found" {
			t.Errorf("looking left open: %s", left)
		}
		return f, strings.Join(Decide(f).Lines(), "\n")
	}
	expect := func(what string, texts ...string) *Facts {
		t.Helper()
		f, all := look()
		for _, x := range texts {
			if !strings.Contains(all, x) {
				t.Errorf("%s: %q is not said:\n%s", what, x, all)
			}
		}
		return f
	}
	f := expect("whole", "ext4 of / on dm-", "xfs of /srv on dm-", "volume group vg-s: as captured", "holds Test OS of alpha")
	for _, x := range f.Filesystems {
		if !x.Readable {
			t.Errorf("%+v", x)
		}
	}
	if len(f.Disks()) != 2 {
		t.Errorf("disks: %v", f.Disks())
	}
	sh(t, `p=$(lsblk -nrpo NAME,TYPE `+d[0].Path+` | awk '$2 == "part" {print $1}' | head -1); dd if=/dev/zero of=$p bs=1M count=64 conv=fsync status=none`)
	f = expect("no ESP", "holds no filesystem any more")
	if v := Decide(f); len(v.Repair.MakeESPs) != 1 {
		t.Errorf("%+v", v.Repair)
	}
	// One disk of the group is gone: what lies on it is not there, the rest is
	// not taken for a whole system.
	sh(t, "wipefs -qaf "+d[1].Path)
	expect("half a group", "xfs of /srv")
	if _, all := look(); strings.Contains(all, "healthy") || strings.Contains(all, "intact") {
		t.Errorf("half a group:\n%s", all)
	}
}
