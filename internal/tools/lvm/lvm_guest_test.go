//go:build kernel && deep

package lvm

import (
	"context"
	"errors"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"lifeboat/internal/run"
	"lifeboat/manifest"
	"lifeboat/tests/kernel/inguest"
)

func sh(t *testing.T, script string) string {
	t.Helper()
	out, err := exec.Command("bash", "-euc", script).CombinedOutput()
	if err != nil {
		t.Fatalf("%s\n%v:\n%s", script, err, out)
	}
	return string(out)
}

// Every kind of volume, as it really is when active: what stands on what is
// told by ids, hidden parts are hidden, device numbers are the kernel's, and
// what our metadata cannot express is refused.
func TestReadActive(t *testing.T) {
	d := inguest.Disks(t, 2)
	sh(t, "pvcreate -qy "+d[0].Path+" "+d[1].Path+"; vgcreate -q vg-x "+d[0].Path+" "+d[1].Path+`
		lvcreate -qy -L 100M -n plain vg-x
		lvcreate -qy -L 64M --type striped -i 2 -I 32k -n stripes vg-x; lvm lvextend -qy -l +10 vg-x/plain
		lvcreate -qy -L 32M --type raid1 -m 1 -n mirror vg-x
		lvcreate -qy -Zn -L 200M --type thin-pool -n pool vg-x; lvcreate -qy -V 1G --thinpool pool -n thin vg-x
		lvcreate -qy -s -n thinsnap vg-x/thin; lvcreate -qy -s -L 16M -n snap vg-x/plain
		lvcreate -qy -an -L 16M -n off vg-x; lvcreate -qy -L 16M -pr -n ro vg-x`)
	x := Tool{Run: run.Exec{Log: t.Logf}, Devices: []string{d[0].Path, d[1].Path}}
	r, err := x.Read(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	find := func(name string) LV {
		i := slices.IndexFunc(r.LVs, func(l LV) bool { return l.Name == name })
		if i < 0 {
			t.Fatalf("%s is not reported: %+v", name, r.LVs)
		}
		return r.LVs[i]
	}
	for name, kind := range map[string]string{"plain": "linear", "stripes": "striped", "mirror": "raid1", "pool": "thin-pool", "thin": "thin", "thinsnap": "thin", "off": "linear", "ro": "linear"} {
		l := find(name)
		// Snapshots of thin volumes are made with the flag to skip activation.
		inactive := name == "off" || name == "thinsnap"
		if l.Type != kind || l.Hidden || l.VG != "vg-x" || l.Inactive != inactive || l.ReadOnly != (name == "ro") {
			t.Errorf("%s is %+v, not %s", name, l, kind)
		}
		want := strings.TrimSpace(sh(t, "lvs --noheadings -o lv_kernel_major,lv_kernel_minor --separator : vg-x/"+name))
		if inactive {
			want = ""
		}
		// A pool has two devices, and lvm's commands differ in which they name.
		if l.DevNo != want && name != "pool" {
			t.Errorf("%s has device number %s, not %s", name, l.DevNo, want)
		}
	}
	pool, thin := find("pool"), find("thin")
	if thin.Pool != pool.UUID || pool.Data != find("pool_tdata").UUID || pool.Metadata != find("pool_tmeta").UUID || find("thinsnap").Origin != thin.UUID || find("snap").Origin != find("plain").UUID {
		t.Errorf("pool %+v, thin %+v", pool, thin)
	}
	for _, name := range []string{"pool_tdata", "pool_tmeta", "mirror_rimage_0", "mirror_rmeta_1", "lvol0_pmspare"} {
		if l := find(name); !l.Hidden {
			t.Errorf("%s is not hidden: %+v", name, l)
		}
	}
	if s := find("plain").Segments; len(s) != 2 || s[0].Extents != 25 || s[1].Start != 25 || s[1].Extents != 10 || len(s[1].Areas) != 1 {
		t.Errorf("segments of plain: %+v", s)
	}
	for _, name := range []string{"mirror", "pool", "thin"} {
		g := Group{VG: r.VGs[0].VG, LVs: []manifest.LV{find(name).LV}}
		for _, pv := range r.PVs {
			g.PVs = append(g.PVs, pv.PV)
		}
		if _, err := g.Text(); !errors.Is(err, ErrUnsupported) {
			t.Errorf("%s can be made: %v", name, err)
		}
	}
	if err := x.Deactivate(context.Background(), "vg-x"); err != nil {
		t.Fatal(err)
	}
	if out := sh(t, "dmsetup ls"); strings.TrimSpace(out) != "No devices found" {
		t.Errorf("still active: %s", out)
	}
}
