package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"lifeboat/report"
)

func out(json bool) (*Out, *bytes.Buffer, *bytes.Buffer) {
	var o, e bytes.Buffer
	return &Out{Stdout: &o, Stderr: &e, JSON: json}, &o, &e
}

func TestFail(t *testing.T) {
	f := report.Errorf(report.CodeDiskNotBlank, "use a mapping file", "disk sda holds data: %w", errors.New("cause"))
	f.Details = []string{"ext4 on sda1"}
	for _, c := range []struct {
		err  error
		code int
		text string
	}{
		{nil, 0, ""},
		{f, 4, "lifeboat: disk sda holds data: cause; use a mapping file\n    ext4 on sda1\n"},
		{fmt.Errorf("plan: %w", f), 4, "lifeboat: plan: disk sda holds data: cause; use a mapping file\n    ext4 on sda1\n"},
		{errors.New("two\nlines"), 1, "lifeboat: two; lines\n"},
		{&Exit{Code: 3}, 3, ""},
		{report.Errorf(report.CodeUsage, "", "x"), 2, "lifeboat: x\n"},
	} {
		o, _, e := out(false)
		if got := o.Fail(c.err); got != c.code || e.String() != c.text {
			t.Errorf("%v: exit %d, %q", c.err, got, e.String())
		}
	}
}

func TestFailJSON(t *testing.T) {
	o, so, se := out(true)
	if code := o.Fail(report.Errorf(report.CodeBackupShort, "older", "cut")); code != 5 {
		t.Errorf("exit %d", code)
	}
	var doc struct {
		Error report.Problem
		Exit  int
	}
	if err := json.Unmarshal(so.Bytes(), &doc); err != nil || doc.Exit != 5 || doc.Error.Code != report.CodeBackupShort || doc.Error.Next != "older" {
		t.Errorf("%s %v", so, err)
	}
	if se.Len() != 0 {
		t.Errorf("standard error: %q", se)
	}
}

// TestEmitPlain: without a terminal there is a line for each step, and no
// flood of progress.
func TestEmitPlain(t *testing.T) {
	o, _, e := out(false)
	o.Emit(report.Event{Kind: report.Started, Text: "restore"})
	for i := range 100 {
		o.Emit(report.Event{Kind: report.Progress, Done: int64(i), Total: 100})
	}
	o.Emit(report.Event{Kind: report.Finished, Text: "restore", Millis: 1500})
	o.Emit(report.Event{Kind: report.Trouble, Problem: &report.Problem{Severity: report.Warning, Text: "t", Code: "c"}})
	want := "restore\nrestore (1.5 s)\nwarning: t [c]\n"
	if e.String() != want {
		t.Errorf("%q", e.String())
	}
	o, _, e = out(false)
	o.Quiet = true
	o.Emit(report.Event{Kind: report.Note, Text: "n"})
	if e.Len() != 0 {
		t.Errorf("quiet printed %q", e)
	}
}

func TestEmitJSON(t *testing.T) {
	o, so, se := out(true)
	o.Emit(report.Event{Kind: report.Note, Text: "a"})
	o.Emit(report.Event{Kind: report.Progress, Done: 1})
	if n := strings.Count(so.String(), "\n"); n != 2 || se.Len() != 0 {
		t.Errorf("%d lines, %q", n, se)
	}
}

func TestSizeAndBar(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB", 4 << 30: "4.0 GiB", 1 << 62: "4096.0 PiB"} {
		if got := Size(n); got != want {
			t.Errorf("%d: %s", n, got)
		}
	}
	if got := Bar(50<<20, 100<<20, 5*time.Second); got != " 50 %, 50.0 MiB of 100.0 MiB, 10.0 MiB/s, 5s left" {
		t.Error(got)
	}
	if got := Bar(6<<10, 600<<20, 14*time.Second); got != "  0 %, 6.0 KiB of 600.0 MiB" {
		t.Error(got)
	}
	if got := Bar(0, 0, 0); !strings.HasPrefix(got, "0 B") {
		t.Error(got)
	}
}

// TestOneDocument: a document stays the only thing on standard output; what
// follows lines is a line.
func TestOneDocument(t *testing.T) {
	var so, se bytes.Buffer
	o := &Out{Stdout: &so, Stderr: &se, JSON: true}
	if err := o.Document([]byte("{}\n")); err != nil {
		t.Fatal(err)
	}
	if code := o.Fail(report.Errorf(report.CodeUncovered, "", "no")); code != 3 || so.String() != "{}\n" || !strings.Contains(se.String(), `"exit": 3`) {
		t.Errorf("exit %d, %q, %q", code, &so, &se)
	}
	so.Reset()
	se.Reset()
	o = &Out{Stdout: &so, Stderr: &se, JSON: true}
	o.Emit(report.Event{Kind: report.Note, Text: "a"})
	_ = o.Value(map[string]any{"x": 1, "y": 2})
	o.Fail(report.Errorf(report.CodeFailed, "", "no"))
	lines := strings.Split(strings.TrimSpace(so.String()), "\n")
	if len(lines) != 3 || se.Len() != 0 || strings.Contains(lines[0], "0001-01-01") || !strings.Contains(lines[0], `"seq":1`) {
		t.Errorf("%q, %q", lines, &se)
	}
}

// TestProgressAlone: bytes that no event began with are counted from the first.
func TestProgressAlone(t *testing.T) {
	var se bytes.Buffer
	o := &Out{Stdout: io.Discard, Stderr: &se}
	o.Emit(report.Event{Kind: report.Progress, Text: "Verifying", Done: 1, Total: 100})
	if se.Len() != 0 || time.Since(o.start) > time.Minute {
		t.Errorf("%q, began %s", &se, o.start)
	}
}
