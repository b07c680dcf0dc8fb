//go:build root

package lvm

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"lifeboat/internal/run"
	"lifeboat/manifest"
)

func loop(t *testing.T, bytes int64) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, bytes); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("losetup", "--find", "--show", file).CombinedOutput()
	if err != nil {
		t.Fatalf("losetup: %v\n%s", err, out)
	}
	dev := strings.TrimSpace(string(out))
	t.Cleanup(func() {
		if out, err := exec.Command("losetup", "-d", dev).CombinedOutput(); err != nil {
			t.Errorf("losetup: %v\n%s", err, out)
		}
	})
	return dev
}

// The metadata that we write is LVM's own: it is restored onto loop devices,
// and lvm reports every id, name, tag, size and extent as they were. Without
// device mapper, which a machine that runs tests may lack.
func TestMakeJudgedByLVM(t *testing.T) {
	a, b := loop(t, 100<<20), loop(t, 100<<20)
	x := Tool{Run: run.Exec{Log: t.Logf}, Devices: []string{a, b}, NoActivation: true}
	ctx := context.Background()
	g := group()
	g.VG.SystemID, g.VG.Alloc = "another-host", "cling"
	g.PVs[1].NoAlloc, g.PVs[1].BAStart, g.PVs[1].BASize, g.PVs[1].Tags = true, 1<<20, 1<<20, []string{"t1", "t2"}
	g.LVs[0].ReadOnly, g.LVs[0].Contiguous, g.LVs[0].ReadAhead = true, true, 1<<20
	g.LVs[1].Alloc = "anywhere"
	x.SystemID = g.VG.SystemID
	text, err := g.Text()
	if err != nil {
		t.Fatal(err)
	}
	for i, dev := range []string{a, b} {
		if err := x.CreatePV(ctx, dev, g.PVs[i], text); err != nil {
			t.Fatal(err)
		}
	}
	if err := x.RestoreVG(ctx, g.VG.Name, text); err != nil {
		t.Fatal(err)
	}
	r, err := x.Read(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.VGs) != 1 || len(r.PVs) != 2 || len(r.LVs) != 2 {
		t.Fatalf("lvm reports %+v", r)
	}
	if !reflect.DeepEqual(r.VGs[0].VG, g.VG) {
		t.Errorf("volume group\n got %+v\nwant %+v", r.VGs[0].VG, g.VG)
	}
	for i, pv := range r.PVs {
		pv.MDASize, g.PVs[i].MDASize = 0, 0 // fills what lies before the extents
		if !reflect.DeepEqual(pv.PV, g.PVs[i]) || pv.Dev != x.Devices[i] {
			t.Errorf("physical volume\n got %+v\nwant %+v", pv, g.PVs[i])
		}
	}
	for i, lv := range r.LVs {
		if !reflect.DeepEqual(lv.LV, g.LVs[i]) {
			t.Errorf("logical volume\n got %+v\nwant %+v", lv.LV, g.LVs[i])
		}
	}
	f, err := os.Open(b)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	l, err := ReadLabel(f)
	if err != nil || l.VG != g.VG.Name || l.VGUUID != g.VG.UUID || len(l.PVs) != 2 || l.UUID != pvB {
		t.Errorf("label %+v, %v", l, err)
	}
	if s, err := x.Backup(ctx, g.VG.Name); err != nil || !strings.Contains(s, `"another-host"`) {
		t.Errorf("backup %q, %v", s, err)
	}
}

// Physical volumes that lvm itself made with metadata areas of odd sizes and
// numbers are made again with the same.
func TestMetadataAreas(t *testing.T) {
	for _, opts := range [][]string{
		nil,
		{"--metadatasize", "4m"},
		{"--pvmetadatacopies", "2"},
		{"--pvmetadatacopies", "2", "--metadatasize", "4m"},
		{"--pvmetadatacopies", "2", "--metadatasize", "128k", "--dataalignment", "64k"},
		{"--bootloaderareasize", "1m", "--metadatasize", "3m"},
	} {
		a, b := loop(t, 100<<20), loop(t, 100<<20)
		ctx := context.Background()
		x := Tool{Run: run.Exec{Log: t.Logf}, Devices: []string{a}, NoActivation: true}
		if _, err := x.run(ctx, "pvcreate", append(append([]string{"--yes"}, opts...), a)...); err != nil {
			t.Fatal(err)
		}
		if _, err := x.run(ctx, "vgcreate", "--yes", "--alloc", "cling", "vgx", a); err != nil {
			t.Fatal(err)
		}
		was, err := x.Read(ctx)
		if err != nil {
			t.Fatal(err)
		}
		g := Group{VG: was.VGs[0].VG, PVs: []manifest.PV{was.PVs[0].PV}}
		text, err := g.Text()
		if err != nil {
			t.Fatal(err)
		}
		y := Tool{Run: run.Exec{Log: t.Logf}, Devices: []string{b}, NoActivation: true}
		if err := y.CreatePV(ctx, b, g.PVs[0], text); err != nil {
			t.Fatal(err)
		}
		if err := y.RestoreVG(ctx, "vgx", text); err != nil {
			t.Fatal(err)
		}
		is, err := y.Read(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(is.PVs[0].PV, was.PVs[0].PV) || !reflect.DeepEqual(is.VGs[0].VG, was.VGs[0].VG) {
			t.Errorf("%v:\n got %+v %+v\nwant %+v %+v", opts, is.PVs[0].PV, is.VGs[0].VG, was.PVs[0].PV, was.VGs[0].VG)
		}
		if s, err := y.Backup(ctx, "vgx"); err != nil || !strings.Contains(s, `allocation_policy = "cling"`) {
			t.Errorf("vgcfgbackup: %v\n%s", err, s)
		}
	}
}
