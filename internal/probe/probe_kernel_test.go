//go:build kernel

package probe

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lifeboat/internal/blockdev"
	"lifeboat/internal/run"
	"lifeboat/manifest"
	"lifeboat/tests/kernel/inguest"
)

// sh runs standard tools in the guest.
func sh(t *testing.T, script string) string {
	t.Helper()
	cmd := exec.Command("bash", "-euc", script)
	cmd.Env = append(os.Environ(), "DM_DISABLE_UDEV=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return string(out)
}

// mount mounts a device and unmounts it when the test ends.
func mount(t *testing.T, dev, typ string) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount(dev, dir, typ, 0, ""); err != nil {
		t.Fatalf("mount %s: %v", dev, err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

func marksOf(t *testing.T, m *manifest.Machine, name string) string {
	t.Helper()
	var out []string
	for _, k := range disk(t, m, name).Marks {
		out = append(out, k.Device+" "+k.Host+" "+k.MachineID+" "+k.Order)
	}
	return strings.Join(out, "; ")
}

// TestLivingVolume finds a root on a logical volume that nobody activated,
// and leaves every byte and the device mapper as they were (rule 4).
func TestLivingVolume(t *testing.T) {
	d := inguest.Disks(t, 3)
	sh(t, "pvcreate -q "+d[0].Path+" "+d[1].Path+"; vgcreate -q vg-a "+d[0].Path+" "+d[1].Path+
		"; lvcreate -q -y -n ro-ot -L 64M vg-a; lvcreate -q -y --type raid1 -m1 -n mirror -L 8M vg-a"+
		"; mke2fs -q -t ext4 /dev/vg-a/ro-ot; mke2fs -q -t ext4 -b 1024 "+d[2].Path+" 32M")
	root := mount(t, "/dev/vg-a/ro-ot", "ext4")
	for name, text := range map[string]string{"etc/os-release": "ID=debian\n", "etc/hostname": "alpha\n", "etc/machine-id": "0123\n", "etc/lifeboat/recovered.json": `{"order":"order-7"}`} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	look := func() *manifest.Machine {
		t.Helper()
		m, err := Machine(context.Background(), Options{Run: run.Exec{Log: t.Logf}, Rescue: true})
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	// Mounted: the disks of the group are protected.
	m := look()
	if len(disk(t, m, d[0].Name).Protection) == 0 {
		t.Errorf("%s: nothing protects it", d[0].Name)
	}
	if err := unix.Unmount(root, 0); err != nil {
		t.Fatal(err)
	}
	sh(t, "vgchange -q -an vg-a")
	// All that is in use lies before this end.
	digest := "for x in " + d[0].Path + " " + d[1].Path + " " + d[2].Path + "; do head -c 96M $x | md5sum; done"
	before := sh(t, digest)
	m = look()
	for _, n := range []string{d[0].Name, d[1].Name} {
		if got := marksOf(t, m, n); got != "vg-a/ro-ot alpha 0123 order-7" || len(disk(t, m, n).Protection) != 0 || disk(t, m, n).Blank() {
			t.Errorf("%s: marks %q, %+v", n, got, disk(t, m, n))
		}
	}
	// The mirror may hold a system as well: opening it would write.
	if u := disk(t, m, d[0].Name).Unlooked; len(u) != 1 || u[0].Device != "vg-a/mirror" || u[0].Why != manifest.UnlookedDriver {
		t.Errorf("not looked into: %+v", u)
	}
	if u := disk(t, m, d[2].Name).Unlooked; len(u) != 0 {
		t.Errorf("%s, an empty filesystem: %+v", d[2].Name, u)
	}
	if got := marksOf(t, m, d[2].Name); got != "" {
		t.Errorf("%s, an empty filesystem: marks %q", d[2].Name, got)
	}
	if after := sh(t, digest); after != before {
		t.Errorf("looking wrote to the disks:\n%s\n%s", before, after)
	}
	if left := strings.TrimSpace(sh(t, "dmsetup ls")); left != "No devices found" {
		t.Errorf("looking left devices open: %s", left)
	}
	for _, tool := range m.Tools {
		if slices.Contains([]string{"lvm", "mke2fs", "dumpe2fs", "mkfs.xfs", "xfs_db", "mkfs.vfat", "mkswap", "wipefs", "mdadm", "cryptsetup"}, tool.Name) && !tool.Works {
			t.Errorf("%s: %s", tool.Name, tool.Problem)
		}
	}
	for _, want := range []string{"dm_mod", "ext4", "xfs", "vfat"} {
		if !slices.Contains(m.Kernel.Modules, want) {
			t.Errorf("the module %s is not seen", want)
		}
	}
	if !slices.Contains(m.Kernel.Filesystems, "vfat") {
		t.Error("vfat is not seen as loadable")
	}
}

// TestStack reads a filesystem on LVM on LUKS on a RAID of partitions: the
// layers that cannot be rebuilt are there with their names, and the chain
// down to the disks is what lsblk says.
func TestStack(t *testing.T) {
	d := inguest.Disks(t, 2)
	script := "label: gpt\n1: size=16M,type=uefi\n7: size=600M\n"
	for _, x := range d {
		sh(t, "sfdisk -q --wipe always "+x.Path+" <<< '"+script+"'")
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var parts []string
	for _, x := range d {
		p, err := blockdev.Live().WaitPartition(ctx, x.Name, 7, 17<<20, 600<<20)
		if err != nil {
			t.Fatal(err)
		}
		parts = append(parts, p)
	}
	sh(t, "mdadm --create /dev/md5 -q -R --level=1 --metadata=1.2 --raid-devices=2 "+strings.Join(parts, " "))
	sh(t, "echo -n secret | cryptsetup luksFormat -q --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --uuid "+fsUUID(9)+" --key-file - /dev/md5"+
		"; echo -n secret | cryptsetup open --key-file - /dev/md5 crypt-a; pvcreate -q /dev/mapper/crypt-a; vgcreate -q vg-b /dev/mapper/crypt-a"+
		"; lvcreate -q -y -n data -L 400M vg-b; mkfs.xfs -q -m uuid="+fsUUID(1)+" /dev/vg-b/data")
	dir := mount(t, "/dev/vg-b/data", "xfs")
	root := t.TempDir()
	r, err := Read(ctx, Options{Run: run.Exec{}, Rescue: true, Root: root})
	if err != nil {
		t.Fatal(err)
	}
	g, err := r.Graph(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if f := g.Storage.Check(); len(f) > 0 {
		t.Errorf("the graph is not valid: %v", f)
	}
	var kinds []string
	for _, n := range g.Storage.Below(manifest.ID("fs:" + fsUUID(1))) {
		k := string(n.Kind)
		if n.Unknown != nil {
			k += " " + n.Unknown.What
		}
		kinds = append(kinds, k)
	}
	want := "fs, lv, vg, pv, unknown crypto_LUKS, unknown software RAID raid1, partition, table, disk, partition, table, disk"
	if got := strings.Join(kinds, ", "); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if n := g.Storage.Node("luks:" + manifest.ID(fsUUID(9))); n == nil || n.Seen.Name != "/dev/mapper/crypt-a" {
		t.Errorf("LUKS: %+v", n)
	}
	// The chain of devices, judged by lsblk.
	lsblk := strings.Fields(sh(t, "lsblk -nrso NAME /dev/mapper/vg--b-data | sort -u"))
	var ours []string
	for disk, list := range r.View.Protections(blockdev.Uses{}) {
		for _, p := range list {
			if p.What == dir {
				ours = append(ours, p.Chain[1:]...)
				if disk != p.Chain[len(p.Chain)-1] {
					t.Errorf("the chain %v does not end at %s", p.Chain, disk)
				}
			}
		}
	}
	for i, n := range ours {
		if dev := r.View.Device(n); dev != nil && dev.DMName != "" {
			ours[i] = dev.DMName
		}
	}
	slices.Sort(ours)
	ours = slices.Compact(ours)
	slices.Sort(lsblk)
	if !slices.Equal(ours, lsblk) {
		t.Errorf("chain %v, lsblk says %v", ours, lsblk)
	}
	// The ESP is empty, and nothing is claimed to lie there.
	for _, x := range d {
		if id := g.LiesOn(r.View.Device(x.Name).Partitions[0]); id != "" {
			t.Errorf("%s lies on the empty first partition of %s", id, x.Name)
		}
	}
}
