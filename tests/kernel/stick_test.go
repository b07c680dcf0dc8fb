//go:build kernel && deep

package kernel

import (
	"encoding/json"
	"io"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"lifeboat/archive"
	"lifeboat/backup"
	"lifeboat/builder"
	"lifeboat/drill"
	"lifeboat/drill/qemu"
	"lifeboat/images/usb"
	"lifeboat/internal/config"
	"lifeboat/internal/loaders"
	"lifeboat/manifest"
	"lifeboat/report"
)

// smallArchive is a real backup of a folder with one file.
func smallArchive(t *testing.T, m *manifest.Manifest) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	doc, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	p := filepath.Join(t.TempDir(), "arch")
	f, err := os.Create(p)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := archive.Create(t.Context(), f, archive.Options{HostID: backup.HostID(m), Started: m.Made, Manifest: doc}, []archive.Source{{Path: "/", At: dir}}); err != nil {
		t.Fatal(err)
	}
	return p
}

// TestStickInRescue: the rescue system finds its stick by the build, whatever
// other media there are, reads the backup there and leaves on it what
// happened; the stick is no target, and is clean afterwards.
func TestStickInRescue(t *testing.T) {
	image, _ := kernelImage(t)
	c := config.Default()
	c.OutputDir, c.Output, c.Backup.URL = t.TempDir(), []string{"usb"}, "usb:"
	c.Recover.Mode = "auto"
	m := &manifest.Manifest{Format: manifest.Format, Made: time.Date(2026, 5, 1, 3, 0, 0, 0, time.UTC), Host: manifest.Host{Name: "packed"}}
	arch := smallArchive(t, m)
	r, err := builder.Rescue(t.Context(), builder.Options{Manifest: m, Config: c, Kernel: strings.TrimPrefix(image, "/boot/vmlinuz-"),
		Archives: []usb.Archive{{Name: "packed/20260501T030000Z.lba", Path: arch}}})
	if err != nil {
		t.Fatal(err)
	}
	stick := r.Media[0].Path
	other := hostImage(t, "packed", time.Date(2026, 6, 1, 3, 0, 0, 0, time.UTC), 1<<20) // another build of this host
	vm := boot(t, setup{name: "stick", segments: [][]byte{initrdOf(t, stick)}, memory: 2 << 30,
		drives: []qemu.Drive{{File: other, Interface: qemu.USB, Removable: true, Serial: "OTHER"}, {File: stick, Interface: qemu.USB, Removable: true, Serial: "MINE"}},
		append: "lifeboat.recover=auto lifeboat.then=stay", ports: []qemu.Port{{Name: drill.PortEvents}}})
	// This host cannot be recovered as captured, so that nothing begins by itself.
	vm.expect(vm.Console(), 0, `What is to be done`)
	if _, err := vm.Console().Write([]byte("2\n")); err != nil {
		t.Fatal(err)
	}
	g, _ := vm.expect(vm.Port(drill.PortEvents), 0, `(?m)^(\{.*"kind":"`+string(report.Done)+`".*\})$`)
	text := vm.Port(drill.PortEvents).Text()
	var done report.Event
	var res report.Result
	if err := json.Unmarshal([]byte(g[1]), &done); err != nil || json.Unmarshal(done.Data, &res) != nil {
		t.Fatalf("%s: %v", g[1], err)
	}
	// A host without storage is no host: the plan refuses, after the backup was read.
	if !strings.Contains(text, "Backup: /run/lifeboat/medium/packed/20260501T030000Z.lba") || res.Exit == report.ExitOK {
		t.Errorf("result %+v\n%s", res, text)
	}
	if regexp.MustCompile(`"severity":"error"[^}]*backup`).MatchString(g[1]) {
		t.Errorf("the backup was not read: %s", g[1])
	}
	// The question comes after the stick is closed.
	vm.expect(vm.Console(), 0, `(?s)Restart this machine.*Restart this machine`)
	vm.Kill()
	img, err := usb.Open(stick)
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	list, err := img.List()
	if err != nil {
		t.Fatal(err)
	}
	kept := map[string]string{}
	for _, e := range list {
		if ok, _ := path.Match("/packed/recover-*/*", e.Path); ok {
			b, err := img.ReadFile(e.Path, 16<<20)
			if err != nil {
				t.Fatal(err)
			}
			kept[path.Base(e.Path)] = string(b)
		}
	}
	for name, want := range map[string]string{"events.jsonl": `"kind":"` + string(report.Done) + `"`, "report.json": `"exit":`, "log.txt": "", "order.json": r.BuildID} {
		if b, ok := kept[name]; !ok || !strings.Contains(b, want) {
			t.Errorf("the stick holds no %s with %q: %.300s", name, want, b)
		}
	}
	out := fsck(t, stick)
	if strings.Contains(out, "recovering journal") {
		t.Errorf("the stick was left open:\n%s", out)
	}
}

// initrdOf is the initramfs of the only host of a stick's image.
func initrdOf(t *testing.T, name string) []byte {
	t.Helper()
	img, err := usb.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	f, err := img.File(img.Hosts()[0].FilePath(loaders.InitrdPath))
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
