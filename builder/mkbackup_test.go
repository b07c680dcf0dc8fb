package builder

import (
	"bytes"
	"context"
	"strings"
	"testing"

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
