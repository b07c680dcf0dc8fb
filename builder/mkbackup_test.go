package builder

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"lifeboat/archive"
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
