package ui

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lifeboat/report"
	"lifeboat/rescue"
)

// TestBarRate: bytes are counted from the beginning of what they belong to,
// be it a step or not.
func TestBarRate(t *testing.T) {
	var out bytes.Buffer
	c := &Console{Out: &out}
	at := time.Date(2026, 5, 1, 3, 0, 0, 0, time.UTC)
	say := func(kind report.Kind, step string, after time.Duration, done int64) string {
		out.Reset()
		c.lastBar = time.Time{}
		c.show(report.Event{Kind: kind, Step: step, Time: at.Add(after), Done: done, Total: 100 << 20})
		return out.String()
	}
	say(report.Progress, "check", 0, 10<<20)
	if got := say(report.Progress, "check", 5*time.Second, 50<<20); !strings.Contains(got, "10.0 MiB/s, 5s left") {
		t.Errorf("a check that began with no event: %q", got)
	}
	say(report.Started, "restore", 60*time.Second, 0)
	if got := say(report.Progress, "restore", 65*time.Second, 50<<20); !strings.Contains(got, "10.0 MiB/s, 5s left") {
		t.Errorf("a step: %q", got)
	}
}

func TestWrapped(t *testing.T) {
	const text = "head\n  7  Repair what starts the installed system, touch no data (asks before it writes)\n\nend"
	want := "head\n  7  Repair what starts the installed system,\n    touch no data (asks before it writes)\n\nend"
	if got := wrapped(text, 50); got != want {
		t.Errorf("%q", got)
	}
	if got, want := wrapped("used after the backup of 2026-11-25T13:56:20Z (x)", 46), "used after the backup of\n  2026-11-25T13:56:20Z (x)"; got != want {
		t.Errorf("%q", got)
	}
	for _, width := range []int{0, 39, 200} {
		if got := wrapped(text, width); got != text {
			t.Errorf("of %d columns: %q", width, got)
		}
	}
}

// TestShellSaysSo: the worker knows of a person before the shell takes the
// screen.
func TestShellSaysSo(t *testing.T) {
	dir := t.TempDir()
	in, keys, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	defer keys.Close()
	told := make(chan rescue.Request, 1)
	talk := rescue.NewTalk(rescue.NewJournal())
	talk.Handle = func(r rescue.Request) rescue.Reply { told <- r; return rescue.Reply{OK: true} }
	sock := filepath.Join(dir, "answers")
	if err := talk.Serve(t.Context(), sock); err != nil {
		t.Fatal(err)
	}
	c := &Console{In: in, Out: new(bytes.Buffer), Name: "tty1", Events: filepath.Join(dir, "events"), Socket: sock}
	c.Shell = func() error {
		select {
		case r := <-told:
			if r.Do != "here" || r.From != "tty1" {
				t.Errorf("%+v", r)
			}
		default:
			t.Error("the shell is open, and nobody was told")
		}
		return nil
	}
	if _, err := keys.WriteString("s"); err != nil {
		t.Fatal(err)
	}
	if err := c.Run(t.Context()); err != nil {
		t.Error(err)
	}
}
