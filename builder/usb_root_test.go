//go:build root

package builder

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"lifeboat/images/usb"
	"lifeboat/report"
)

// TestRescueUSB: the image of a stick holds what the ISO holds, and is looked
// into the same way.
func TestRescueUSB(t *testing.T) {
	arch := filepath.Join(t.TempDir(), "x")
	if err := os.WriteFile(arch, []byte("no real backup"), 0o600); err != nil {
		t.Fatal(err)
	}
	make := func() *Result {
		return rescue(t, func(o *Options) {
			o.Config.Modules, o.Config.Output, o.Config.Backup.URL = "host", []string{"iso", "usb"}, "usb:"
			o.Archives = []usb.Archive{{Name: "alpha/20261125T030405Z.lba", Path: arch}}
		})
	}
	r := make()
	if len(r.Media) != 2 || r.Media[1].Kind != "usb" || !strings.HasSuffix(r.Media[1].Path, "/alpha.usb.img") {
		t.Fatalf("media %+v", r.Media)
	}
	if !slices.Equal(r.Media[0].Boots, r.Media[1].Boots) {
		t.Errorf("the ISO starts by %v, the stick by %v", r.Media[0].Boots, r.Media[1].Boots)
	}
	var files [2][]File
	for n, m := range r.Media {
		i, err := OpenImage(m.Path)
		if err != nil {
			t.Fatal(err)
		}
		defer i.Close()
		if err := i.Verify(context.Background()); err != nil {
			t.Errorf("%s: %v", m.Kind, err)
		}
		s, err := i.Summary()
		if err != nil || s.Kind != m.Kind || s.BuildID != r.BuildID || s.Host != "alpha" || s.Order.Backup.URL != "usb:" || s.Bytes != m.Bytes {
			t.Errorf("%s: summary %+v, %v", m.Kind, s, err)
		}
		files[n] = slices.DeleteFunc(i.Files(), func(f File) bool { return strings.HasPrefix(f.Path, mediumPrefix) })
		if secrets, err := i.Secrets(); err != nil {
			t.Errorf("%s: %v, %v", m.Kind, secrets, err)
		}
	}
	if !slices.Equal(files[0], files[1]) || len(files[0]) < 100 {
		t.Errorf("ISO and stick hold different rescue systems: %d and %d files", len(files[0]), len(files[1]))
	}
	list, err := ListStick(r.Media[1].Path)
	if err != nil || len(list.Hosts) != 1 || !slices.Equal(list.Hosts[0].Archives, []string{"alpha/20261125T030405Z.lba"}) || list.Free < 64<<20 {
		t.Errorf("list %+v, %v", list, err)
	}
	if _, err := OpenHost(r.Media[1].Path, "beta"); err == nil || !strings.Contains(err.Error(), "no rescue system of beta") {
		t.Errorf("another host: %v", err)
	}
	one, err := os.ReadFile(r.Media[1].Path)
	if err != nil {
		t.Fatal(err)
	}
	two, err := os.ReadFile(make().Media[1].Path)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(one, two) {
		t.Error("equal input gave different images")
	}
}

// TestStickRefused: what is no removable disk of its own is never opened.
func TestStickRefused(t *testing.T) {
	img := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(img, make([]byte, 4<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	loop := strings.TrimSpace(run1(t, "losetup", "--find", "--show", img))
	t.Cleanup(func() { run1(t, "losetup", "-d", loop) })
	for name, want := range map[string]report.Exit{loop: report.ExitRefused, img: report.ExitUsage, "/dev/no-such-disk": report.ExitUsage} {
		_, err := FindStick(name)
		if err == nil || report.ExitOf(err) != want {
			t.Errorf("%s: %v (exit %d)", name, err, report.ExitOf(err))
		}
	}
}
