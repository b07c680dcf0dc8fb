package usb

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"lifeboat/internal/loaders"
	"lifeboat/report"
)

// TestModesOfStick: a stick starts by the boot loaders that it was made with,
// whatever the host has that renews its rescue system.
func TestModesOfStick(t *testing.T) {
	s := spec(t, "web01", 20)
	img, r := mustWrite(t, s)
	if len(r.Modes) != 2 { // the kernel of made-up bytes has no signature
		t.Fatalf("the image starts by %v", r.Modes)
	}
	i, err := Open(img)
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	if !slices.Equal(i.Mark.Boots, loaders.Modes) {
		t.Errorf("the stick says that it has boot loaders for %v", i.Mark.Boots)
	}
	bare := loaders.Find(t.TempDir())
	for name, c := range map[string]struct {
		mark  Mark
		os    string
		host  loaders.Set
		modes []loaders.Mode
		notes []string
	}{
		"full stick, bare host":     {i.Mark, "debian", bare, []loaders.Mode{loaders.BIOS, loaders.UEFI}, []string{"is not signed"}},
		"full stick, other kernel":  {i.Mark, "ubuntu", bare, []loaders.Mode{loaders.BIOS, loaders.UEFI}, nil},
		"poor stick, full host":     {Mark{OS: "debian", Boots: []loaders.Mode{loaders.UEFI}}, "debian", s.Loaders, []loaders.Mode{loaders.UEFI}, []string{"does not start by bios", "does not start by uefi-secureboot"}},
		"poor stick, bare host":     {Mark{OS: "debian", Boots: []loaders.Mode{loaders.UEFI}}, "debian", bare, []loaders.Mode{loaders.UEFI}, []string{"install grub-pc-bin grub-common, make", "install shim-signed"}},
		"stick of earlier versions": {Mark{OS: "debian"}, "debian", s.Loaders, []loaders.Mode{loaders.BIOS, loaders.UEFI}, []string{"is not signed"}},
	} {
		modes, notes, err := c.mark.Judge(c.os, s.Kernel, c.host)
		if err != nil || !slices.Equal(modes, c.modes) || len(notes) != len(c.notes) {
			t.Errorf("%s: %v, %+v, %v", name, modes, notes, err)
			continue
		}
		for n, want := range c.notes {
			if text := notes[n].Text + "; " + notes[n].Next; !strings.Contains(text, want) || notes[n].Severity != report.Warning {
				t.Errorf("%s: %q lacks %q", name, text, want)
			}
		}
	}
}

// TestLargeInitrd: what an image's size is warned of is warned of on a stick,
// and what nothing loads is refused before anything is written.
func TestLargeInitrd(t *testing.T) {
	if note, err := checkInitrd([]source{{name: "/lifeboat/hosts/web01/x/initrd.img", size: 450 << 20}}); err != nil || note == nil || note.Severity != report.Warning {
		t.Errorf("450 MiB: %v, %v", note, err)
	}
	tree, dir := newTree(t, nil)
	c := content(t, "web01", 20)
	for i := range c.files {
		if filepath.Base(c.files[i].name) == fileInit {
			c.files[i].size = 4 << 30
		}
	}
	if _, err := tree.Add(t.Context(), c, nil); err == nil || !strings.Contains(err.Error(), "no boot loader loads more") {
		t.Errorf("an initramfs of 4 GiB: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, menuPath)); err == nil {
		t.Error("the menu was written")
	}
}
