package rescue

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"lifeboat/internal/handoff"
	"lifeboat/internal/sysroot"
	"lifeboat/manifest"
	"lifeboat/plan"
)

// TestMarkForMenu: the mark lies on the root filesystem, on that of /boot and
// on EFI system partitions, once each; marks of other orders go.
func TestMarkForMenu(t *testing.T) {
	root := t.TempDir()
	for _, d := range []string{"boot/efi", "srv", "mnt"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []string{"boot/.lifeboat-done-old", "srv/.lifeboat-done-old", "boot/.lifeboat-done-"} {
		if err := os.WriteFile(filepath.Join(root, f), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	fs, err := sysroot.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	defer fs.Close()
	s := &session{w: &Worker{J: NewJournal(), Order: handoff.Order{ID: "new-1"}},
		manifest: &manifest.Manifest{Boot: manifest.Boot{BootFS: "fs:boot", ESPs: []manifest.ID{"fs:esp", "fs:esp2"}}},
		plan: &plan.Plan{Target: manifest.Storage{Mounts: []manifest.Mount{
			{Path: "/", Node: "fs:root"}, {Path: "/boot", Node: "fs:boot"}, {Path: "/boot/efi", Node: "fs:esp"},
			{Path: "/mnt", Node: "fs:boot", Bind: "/x"}, {Path: "/srv", Node: "fs:data"}, {Path: "none", Node: "swap:1"},
		}}}}
	s.markForMenu(fs, true)
	var got []string
	err = filepath.WalkDir(root, func(p string, d os.DirEntry, err error) error {
		if !d.IsDir() {
			got = append(got, strings.TrimPrefix(p, root))
		}
		return err
	})
	want := []string{"/.lifeboat-done-new-1", "/boot/.lifeboat-done-", "/boot/.lifeboat-done-new-1", "/boot/efi/.lifeboat-done-new-1", "/srv/.lifeboat-done-old"}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v\nwant %v", got, err, want)
	}
	// One filesystem for / and /boot: one mark.
	s.manifest.Boot = manifest.Boot{BootFS: "fs:root"}
	if got := menuMounts(s.manifest, &s.plan.Target); !slices.Equal(got, []string{"/"}) {
		t.Errorf("%v", got)
	}
}
