package builder

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lifeboat/archive"
	"lifeboat/manifest"
	"lifeboat/report"
)

// TestUnreadableFilesAreAnError: the archive is written, but the run does not
// end well (rule 9). Files of sysfs that are write-only cannot be read by
// anybody, root included.
func TestUnreadableFilesAreAnError(t *testing.T) {
	pack := func(exclude ...string) *BackupResult {
		var b bytes.Buffer
		sum, err := archive.Create(context.Background(), &b, archive.Options{},
			[]archive.Source{{Path: "/", At: "/sys/bus/platform", Bare: true, Exclude: append(exclude, "/devices", "/drivers")}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := archive.Open(bytes.NewReader(b.Bytes()), int64(b.Len())); err != nil {
			t.Errorf("the archive was not written: %v", err)
		}
		return &BackupResult{Problems: problems(sum)}
	}
	err := pack().Err()
	if report.ExitOf(err) != report.ExitFailed {
		t.Fatalf("exit %d: %v", report.ExitOf(err), err)
	}
	p := report.ProblemOf(err)
	if !strings.Contains(p.Text, "2 files could not be read") || !strings.Contains(p.Text, "holds the rest") || !strings.Contains(p.Next, "backup.exclude") ||
		!strings.Contains(strings.Join(p.Details, "\n"), `"/uevent"`) {
		t.Errorf("%+v", p)
	}
	// A file that changed while it was read is a note only.
	r := pack("/uevent", "/drivers_probe")
	if err := r.Err(); err != nil || len(r.Problems) != 1 || r.Problems[0].Severity != report.Info {
		t.Errorf("%v, %+v", err, r.Problems)
	}
}

// TestFullStore: a place without room is said with what to do, and by the name
// that people know.
func TestFullStore(t *testing.T) {
	o := BackupOptions{URL: "/run/lifeboat-stick-1", Shown: "usb:"}
	err := unwritten(o.shown("/run/lifeboat-stick-1/web01/20261125T030000Z.lba"), fmt.Errorf("frame 7: %w", unix.ENOSPC))
	if p := report.ProblemOf(err); p.Code != report.CodeNoSpace || !strings.Contains(p.Text, "usb:web01/20261125T030000Z.lba: ") || !strings.Contains(p.Next, "remove old archives") {
		t.Errorf("%+v", p)
	}
	if err := unwritten("x", unix.EIO); report.ProblemOf(err).Code == report.CodeNoSpace {
		t.Errorf("a broken disk: %v", err)
	}
	for _, c := range []struct {
		o    BackupOptions
		name string
	}{{BackupOptions{URL: "/srv/backup"}, "/srv/backup/a/b.lba"}, {o, "/srv/other/a/b.lba"}, {BackupOptions{URL: "http://nas/x", Shown: "usb:"}, "/srv/a/b.lba"}} {
		if got := c.o.shown(c.name); got != c.name {
			t.Errorf("%s is shown as %s", c.name, got)
		}
	}
}

// TestEmptyMountIsRefused: a mount that counts as backed up whole is not
// packed as nothing.
func TestEmptyMountIsRefused(t *testing.T) {
	m := &manifest.Manifest{Storage: manifest.Storage{Mounts: []manifest.Mount{{Path: "/srv/data", Node: "fs:x", Live: true, Backup: manifest.ScopeFull}}}}
	_, _, err := sources(BackupOptions{Manifest: m, Exclude: []string{"/srv/d?ta"}})
	if p := report.ProblemOf(err); p.Code != report.CodeConfig || !strings.Contains(p.Text, "/srv/data is to be backed up") {
		t.Errorf("%v", err)
	}
}

// TestOutputOverMount: nor when the folder of the images is the mount itself
// by another name.
func TestOutputOverMount(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(t.TempDir(), "out")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	m := &manifest.Manifest{Storage: manifest.Storage{Mounts: []manifest.Mount{{Path: manifest.Bytes(dir), Node: "fs:x", Live: true, Backup: manifest.ScopeFull}}}}
	if _, _, err := sources(BackupOptions{Manifest: m, Output: link}); err == nil || !strings.Contains(err.Error(), "output_dir leaves out all") {
		t.Errorf("%v", err)
	}
}

// TestOutputIsNotPacked: the folder of the images is left out by the way that
// leads there, and by the folder itself where a bind mount leads there.
func TestOutputIsNotPacked(t *testing.T) {
	top := t.TempDir()
	real := filepath.Join(top, "a [1]", "out")
	if err := os.MkdirAll(real, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(real, "alpha.iso"), []byte("image"), 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(top, "link")
	if err := os.Symlink(filepath.Join(top, "a [1]"), link); err != nil {
		t.Fatal(err)
	}
	x, err := archive.NewExcludes(OutputExcludes(filepath.Join(link, "out")))
	if err != nil || !x.Match(real) || x.Match(filepath.Dir(real)) {
		t.Errorf("%v, %v", OutputExcludes(filepath.Join(link, "out")), err)
	}
	var b bytes.Buffer
	m := alpha("6.1.0")
	up := &buffer{Buffer: &b}
	sum, err := pack(context.Background(), up, BackupOptions{Manifest: m, Sink: report.Discard, Output: filepath.Join(link, "out")}, []archive.Source{{Path: "/elsewhere", At: top, Bare: true}}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if mt := sum.Mounts[0]; mt.Files != 0 || mt.Excluded != 1 || mt.Directories != 3 || mt.Others != 1 {
		t.Errorf("%+v", mt)
	}
}

// buffer is an upload into memory.
type buffer struct{ *bytes.Buffer }

func (b *buffer) Name() string    { return "memory" }
func (b *buffer) Local() *os.File { return nil }
func (b *buffer) Commit() error   { return nil }
func (b *buffer) Abort()          {}

// TestRecoveryMarksStayOut: what an earlier recovery left at the top of a mount
// is in no backup, and what is called like it elsewhere is.
func TestRecoveryMarksStayOut(t *testing.T) {
	src := t.TempDir()
	for _, name := range []string{".lifeboat-done-o1", "a/.lifeboat-done-o1", ".lifeboat-recover/journal.jsonl", "a/.lifeboat-recover/journal.jsonl"} {
		at := filepath.Join(src, name)
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var b bytes.Buffer
	_, err := archive.Create(t.Context(), &b, archive.Options{}, []archive.Source{{Path: "/", At: src, Bare: true, Exclude: recoveryMarks(manifest.Mount{Path: "/"})}})
	if err != nil {
		t.Fatal(err)
	}
	x, err := archive.Open(bytes.NewReader(b.Bytes()), int64(b.Len()))
	if err != nil {
		t.Fatal(err)
	}
	dst := t.TempDir()
	if _, err := x.Restore(t.Context(), dst, archive.RestoreOptions{}); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{".lifeboat-done-o1": false, "a/.lifeboat-done-o1": true, ".lifeboat-recover/journal.jsonl": false, "a/.lifeboat-recover/journal.jsonl": true} {
		if _, err := os.Lstat(filepath.Join(dst, name)); (err == nil) != want {
			t.Errorf("%s: %v", name, err)
		}
	}
}
