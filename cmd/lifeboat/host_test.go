package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"lifeboat/builder"
	"lifeboat/internal/cli"
	"lifeboat/report"
)

// TestBackupWithLossesFails: mkbackup and mkbackuponly end with 1 when files
// are missing from a backup that is otherwise written, and with 3 when the
// host could not be recovered at all.
func TestBackupWithLossesFails(t *testing.T) {
	loss := report.Problem{Code: report.CodeFilesUnread, Severity: report.Error, Text: "1 file could not be read", Details: []string{`"/srv/a": open`}}
	note := report.Problem{Code: report.CodeFilesChanged, Severity: report.Info, Text: "1 file changed"}
	bare := report.Errorf(report.CodeUncovered, "", "cannot be recovered")
	for _, c := range []struct {
		problems  []report.Problem
		uncovered error
		json      bool
		exit      int
		stderr    string
	}{
		{nil, nil, false, 0, ""},
		{[]report.Problem{note}, nil, false, 0, ""},
		{[]report.Problem{note, loss}, nil, false, 1, `"/srv/a": open`},
		{[]report.Problem{loss}, nil, true, 1, ""},
		{[]report.Problem{loss}, bare, false, 3, "1 file could not be read"},
		{nil, bare, false, 3, "cannot be recovered"},
	} {
		var o, e bytes.Buffer
		a := &app{out: &cli.Out{Stdout: &o, Stderr: &e, JSON: c.json}}
		err := a.ended(made{Backup: &builder.BackupResult{Problems: c.problems}}, c.uncovered, time.Second)
		if got := a.out.Fail(err); got != c.exit {
			t.Errorf("%+v: exit %d", c, got)
		}
		if !strings.Contains(e.String(), c.stderr) || c.exit == 1 && strings.Contains(o.String(), "done in") {
			t.Errorf("%+v: %q, %q", c, e.String(), o.String())
		}
	}
	a := &app{out: &cli.Out{Stdout: &bytes.Buffer{}, Stderr: &bytes.Buffer{}}}
	if err := a.ended(made{}, errors.New("x"), 0); err == nil {
		t.Error("without a backup the host's own failure is lost")
	}
}
