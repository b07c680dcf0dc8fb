//go:build root

package builder

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"lifeboat/internal/blockdev"
	"lifeboat/manifest"
	"lifeboat/plan"
	"lifeboat/report"
)

// onDisk is a host whose one disk is that of a folder of this machine.
func onDisk(t *testing.T, dir string) *manifest.Manifest {
	t.Helper()
	v, err := blockdev.Live().Scan()
	if err != nil {
		t.Fatal(err)
	}
	under := v.DisksOfPath(dir)
	if len(under) == 0 {
		t.Fatalf("%s lies on no disk: set TMPDIR to a folder on one", dir)
	}
	m := alpha("6.1.0")
	for i := range m.Storage.Nodes {
		if m.Storage.Nodes[i].Kind == manifest.KindDisk {
			m.Storage.Nodes[i].Seen.Device = under[0]
		}
	}
	m.Machine.Disks[0].Name = under[0]
	return m
}

// TestBackupOntoOwnDisk: a store on a disk that is rebuilt is refused, however
// the way there looks, and nothing is left in it.
func TestBackupOntoOwnDisk(t *testing.T) {
	disk := t.TempDir()
	m := onDisk(t, disk)
	away := t.TempDir() // stands for a mounted NAS
	if err := unix.Mount("tmpfs", away, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(away, unix.MNT_DETACH) })
	sub := func(name string) string {
		p := filepath.Join(away, name)
		if err := os.Mkdir(p, 0o755); err != nil {
			t.Fatal(err)
		}
		return p
	}
	bind := sub("bind")
	if err := unix.Mount(disk, bind, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(away, "link")
	host := sub("nas")
	for _, l := range []string{link, filepath.Join(host, m.Host.Name)} {
		if err := os.Symlink(disk, l); err != nil {
			t.Fatal(err)
		}
	}
	for what, url := range map[string]string{"the folder itself": disk, "by URL": "file://" + disk, "a bind mount": bind, "a link": link,
		"a link in the place of the host's folder": host, "one archive": filepath.Join(link, "alpha", "20260101T000000Z.lba")} {
		_, err := Backup(context.Background(), BackupOptions{Manifest: m, URL: url})
		if report.ExitOf(err) != report.ExitUsage || err == nil || !strings.Contains(err.Error(), "which a recovery of this host erases") {
			t.Errorf("%s (%s): exit %d, %v", what, url, report.ExitOf(err), err)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(disk, "*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if left, _ := filepath.Glob(filepath.Join(disk, ".*.partial-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if err := checkOutside(away, m); err != nil {
		t.Errorf("another filesystem: %v", err)
	}
}

// TestBackupOntoUncoveredDisk: a disk that no plan erases, since what lies on
// it cannot be rebuilt, holds what is backed up all the same.
func TestBackupOntoUncoveredDisk(t *testing.T) {
	disk := t.TempDir()
	m := onDisk(t, disk)
	for i, n := range m.Storage.Nodes {
		if n.Kind == manifest.KindFS {
			m.Storage.Nodes[i].Kind, m.Storage.Nodes[i].FS = manifest.KindUnknown, nil
			m.Storage.Nodes[i].Unknown = &manifest.Unknown{What: "zfs", Reason: "ZFS cannot be rebuilt by this version"}
		}
	}
	m.Boot = manifest.Boot{Firmware: m.Boot.Firmware}
	p := plan.Make(plan.Input{Manifest: m, Machine: &m.Machine, Policy: plan.Policy{OwnHardware: true}})
	if len(p.Erased) > 0 {
		t.Fatalf("the plan erases %+v", p.Erased)
	}
	err := checkOutside(disk, m)
	if report.ExitOf(err) != report.ExitUsage || err == nil || !strings.Contains(err.Error(), "which holds what is backed up") {
		t.Errorf("exit %d, %v", report.ExitOf(err), err)
	}
}
