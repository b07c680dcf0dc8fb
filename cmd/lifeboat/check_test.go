package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lifeboat/builder"
	"lifeboat/internal/check"
	"lifeboat/internal/cli"
	"lifeboat/internal/config"
	"lifeboat/internal/handoff"
	"lifeboat/manifest"
	"lifeboat/report"
)

// TestCheckUnknown: a wrong call, or a wrong setting, is UNKNOWN to monitoring
// systems, never CRITICAL as the usual exit code 2 would read.
func TestCheckUnknown(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "lifeboat.yaml")
	if err := os.WriteFile(bad, []byte("check: {max_age_backup: soon}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"check", "--warning", "2"}, {"check", "web1"}, {"check", "--config", "/nonexistent"}, {"check", "--config", bad}, {"check", "-t", "x"}} {
		code, stdout, stderr := runApp(t, args...)
		if code != 3 || !strings.HasPrefix(stdout, "LIFEBOAT UNKNOWN - ") || stderr != "" {
			t.Errorf("%v: exit %d, %q, %q", args, code, stdout, stderr)
		}
	}
}

// TestChecked: one line with --quiet, one document with --json, and the exit
// code of the state.
func TestChecked(t *testing.T) {
	for _, c := range []struct {
		quiet, json bool
		lines       int
	}{{false, false, 2}, {true, false, 1}, {false, true, 0}} {
		var o, e bytes.Buffer
		a := &app{out: &cli.Out{Stdout: &o, Stderr: &e, Quiet: c.quiet, JSON: c.json}}
		code := a.out.Fail(a.checked(check.Judge(&check.Facts{Method: "none"}, config.Check{})))
		if code != 2 || e.Len() > 0 {
			t.Errorf("%+v: exit %d, %q", c, code, e.String())
		}
		var raw struct{ State string }
		switch {
		case c.json && (json.Unmarshal(o.Bytes(), &raw) != nil || raw.State != "CRITICAL"):
			t.Errorf("%+v: %q", c, o.String())
		case !c.json && strings.Count(o.String(), "\n") != c.lines:
			t.Errorf("%+v: %q", c, o.String())
		}
	}
}

func pack(t *testing.T) (*app, *config.Config, *manifest.Manifest, string) {
	t.Helper()
	iso := filepath.Join(t.TempDir(), "web1.iso")
	if err := os.WriteFile(iso, []byte("image"), 0o600); err != nil {
		t.Fatal(err)
	}
	a := &app{out: &cli.Out{Stdout: &bytes.Buffer{}, Stderr: &bytes.Buffer{}}, state: filepath.Join(t.TempDir(), "state")}
	m := &manifest.Manifest{Format: manifest.Format, Made: time.Now().UTC(), Host: manifest.Host{Name: "web1"}}
	m.Storage.Nodes = []manifest.Node{{ID: "disk:A", Kind: manifest.KindDisk, Disk: &manifest.Disk{Serial: "A"}},
		{ID: "fs:1", Kind: manifest.KindFS, On: []manifest.Edge{{Node: "disk:A", Role: manifest.RoleMember}}, FS: &manifest.FS{Type: "ext4"}}}
	m.Storage.Mounts = []manifest.Mount{{Path: "/", Node: "fs:1", Type: "ext4", Backup: manifest.ScopeFull}}
	return a, config.Default(), m, iso
}

// TestNoteAndKeep: what a run made is noted, also when the host ends it with 3,
// and the next run with --if-changed leaves the image as it is until the host
// or the settings change.
func TestNoteAndKeep(t *testing.T) {
	a, conf, m, iso := pack(t)
	r := rescueFlags{ifChanged: true}
	keep := func(way *wayOut) bool {
		t.Helper()
		media, err := a.unchanged(conf, m, r, way)
		if err != nil {
			t.Fatal(err)
		}
		return media != nil
	}
	if keep(&wayOut{}) {
		t.Error("an image that was never made is kept")
	}
	doc := made{Rescue: &builder.Result{BuildID: "b", Media: []builder.Medium{{Kind: "iso", Path: iso, Bytes: 5}}, Order: handoff.Order{Reason: "why"}},
		Backup: &builder.BackupResult{Name: "/srv/web1/x.lba", UUID: "u", Problems: []report.Problem{{Code: report.CodeFilesUnread, Details: []string{"/srv/a"}}}}}
	bare := report.Errorf(report.CodeUncovered, "", "cannot be recovered")
	if err := a.close(bare, &wayOut{}, doc, conf, m, r); !errors.Is(err, bare) || report.ExitOf(err) != report.ExitUncovered {
		t.Errorf("%v", err)
	}
	noted := made{noteErr: errors.New("disk full"), imageNoted: true}
	if err := a.close(nil, &wayOut{}, noted, conf, m, r); err == nil || !strings.Contains(err.Error(), "disk full") {
		t.Errorf("an image that could not be noted ends well: %v", err)
	}
	s, err := builder.LoadImage(a.state)
	if err != nil || s.BuildID != "b" || s.Reason != "why" {
		t.Fatalf("%+v, %v", s, err)
	}
	b, err := builder.LoadBackup(a.state)
	if err != nil || b.UUID != "u" || len(b.Unread) != 1 || b.Name != "/srv/web1/x.lba" {
		t.Fatalf("%+v, %v", b, err)
	}
	if !keep(&wayOut{}) {
		t.Error("an equal image is made again")
	}
	if keep(&wayOut{usb: true}) {
		t.Error("the backup goes into the image, and that is kept")
	}
	for what, change := range map[string]func() func(){
		"settings": func() func() { conf.Cmdline = "quiet"; return func() { conf.Cmdline = "" } },
		"host": func() func() {
			m.System.Kernels = []manifest.Kernel{{Version: "9"}}
			return func() { m.System.Kernels = nil }
		},
		"kernel": func() func() { r.kernel = "9"; return func() { r.kernel = "" } },
		"note": func() func() {
			p := filepath.Join(a.state, "image.json")
			was, _ := os.ReadFile(p)
			os.WriteFile(p, was[:len(was)/2], 0o600)
			return func() { os.WriteFile(p, was, 0o600) }
		},
	} {
		back := change()
		if keep(&wayOut{}) {
			t.Errorf("another %s, and the image is kept", what)
		}
		back()
		if !keep(&wayOut{}) {
			t.Errorf("the %s is as it was, and the image is made again", what)
		}
	}
}

// TestNoteOfStick: where a stick was mounted is no name for a backup.
func TestNoteOfStick(t *testing.T) {
	a, conf, m, _ := pack(t)
	conf.Backup.URL = "usb:"
	if err := a.noteBackup(made{Backup: &builder.BackupResult{Name: "/tmp/x/web1/20260101T000000Z.lba"}}, conf, m); err != nil {
		t.Fatal(err)
	}
	if b, err := builder.LoadBackup(a.state); err != nil || b.Name != "usb:web1/20260101T000000Z.lba" {
		t.Errorf("%+v, %v", b, err)
	}
	// Nothing was made, nothing is noted.
	if err := errors.Join(a.noteImage(&made{}, conf, m, rescueFlags{}), a.noteBackup(made{}, conf, m)); err != nil {
		t.Error(err)
	}
	if s, err := builder.LoadImage(a.state); s != nil || err != nil {
		t.Errorf("%+v, %v", s, err)
	}
}
