package rescue

import (
	"bufio"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lifeboat/manifest"
	"lifeboat/plan"
	"lifeboat/report"
	"lifeboat/rescue/storage"
)

func keptDisk(claimPlan string) (*storage.Kept, *manifest.Machine) {
	ref := plan.DiskRef{Serial: "S1", Model: "M", Bytes: 1 << 30}
	k := &storage.Kept{Format: storage.KeptFormat, PlanID: "p1", Host: "alpha", Disks: []storage.KeptDisk{{Node: "disk:1", Disk: ref, ClaimAt: 4096}}}
	d := manifest.MachineDisk{Name: "sda", DevNo: "8:0", Disk: manifest.Disk{Serial: "S1", Model: "M", Bytes: 1 << 30}}
	if claimPlan != "" {
		d.Claim = &manifest.Claim{Order: "o", Node: "disk:1", PlanID: claimPlan}
	}
	return k, &manifest.Machine{Disks: []manifest.MachineDisk{d}}
}

// TestKept: what is kept is private, whole or not there, and is not believed
// once a filesystem was made.
func TestKept(t *testing.T) {
	k, m := keptDisk("p1")
	dir := filepath.Join(t.TempDir(), "a")
	if _, err := writeKept(dir, func(w *bufio.Writer) (*storage.Kept, error) { _, err := w.WriteString("data"); return k, err }); err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(t.TempDir(), "stick", "b")
	if err := copyKept(dir, to); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{dir, to} {
		for name, mode := range map[string]os.FileMode{"": 0o700, keptIndex: 0o600, keptData: 0o600} {
			st, err := os.Stat(filepath.Join(d, name))
			if err != nil || st.Mode().Perm() != mode {
				t.Errorf("%s/%s: %v, %v", d, name, st, err)
			}
		}
		u, err := openKept(d, m)
		if err != nil || u.plan.Assignments[0].Disk.DevNo != "8:0" {
			t.Errorf("%+v, %v", u, err)
		}
	}
	if err := writeWhole(to, keptSpent, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := openKept(to, m); report.ExitOf(err) != report.ExitRefused || !strings.Contains(err.Error(), "filesystems were made") {
		t.Errorf("spent: %v", err)
	}
	if _, err := writeKept(filepath.Join(dir, "c"), func(*bufio.Writer) (*storage.Kept, error) { return nil, errors.New("no room") }); err == nil {
		t.Error("a failure is none")
	}
	if _, err := os.Stat(filepath.Join(dir, "c")); err == nil {
		t.Error("a half is left")
	}
}

// TestUndoDisks: only the very disk, with the claim of that very recovery.
func TestUndoDisks(t *testing.T) {
	for name, change := range map[string]func(*manifest.Machine){
		"no claim":       func(m *manifest.Machine) { m.Disks[0].Claim = nil },
		"another claim":  func(m *manifest.Machine) { m.Disks[0].Claim.PlanID = "p2" },
		"another serial": func(m *manifest.Machine) { m.Disks[0].Disk.Serial = "S2" },
		"another size":   func(m *manifest.Machine) { m.Disks[0].Disk.Bytes++ },
		"a copy":         func(m *manifest.Machine) { m.Disks = append(m.Disks, m.Disks[0]) },
		"gone":           func(m *manifest.Machine) { m.Disks = nil },
	} {
		k, m := keptDisk("p1")
		change(m)
		if _, err := storage.UndoPlan(k, m); report.ExitOf(err) != report.ExitRefused {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRepairable(t *testing.T) {
	p := &plan.Plan{Kind: plan.KindRepair, Steps: []plan.Step{{Verb: plan.VerbMountRO, Arg: "/"}, {Verb: plan.VerbMount, Arg: "/boot"}, {Verb: plan.VerbMount, Arg: "/var"}}}
	for name, want := range map[string]bool{"/": false, "/etc": false, "/boot": true, "/boot/grub": true, "/bootx": false, "/var/log/x": true} {
		if writable(p, name) != want {
			t.Errorf("%s: %v", name, !want)
		}
	}
}
