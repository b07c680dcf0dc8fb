package rescue

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"lifeboat/internal/handoff"
	"lifeboat/manifest"
	"lifeboat/plan"
	"lifeboat/report"
)

// TestAttemptsOverBoots: the claims on the disks count an order's attempts.
// Claims of another order, of another disk and on disks that are not written
// to do not count; an old claim without a number is the first attempt.
func TestAttemptsOverBoots(t *testing.T) {
	disk := func(devNo, serial string, c *manifest.Claim) manifest.MachineDisk {
		return manifest.MachineDisk{DevNo: devNo, Disk: manifest.Disk{Serial: serial, Bytes: 1 << 30}, Claim: c}
	}
	claim := func(order, serial string, n int) *manifest.Claim {
		return &manifest.Claim{Order: order, Serial: serial, Bytes: 1 << 30, Attempt: n}
	}
	for name, c := range map[string]struct {
		disks []manifest.MachineDisk
		want  int
	}{
		"blank":                    {[]manifest.MachineDisk{disk("8:0", "A", nil)}, 1},
		"old claim":                {[]manifest.MachineDisk{disk("8:0", "A", claim("o", "A", 0))}, 2},
		"second":                   {[]manifest.MachineDisk{disk("8:0", "A", claim("o", "A", 2))}, 3},
		"torn on one of two":       {[]manifest.MachineDisk{disk("8:0", "A", claim("o", "A", 2)), disk("8:16", "B", nil)}, 3},
		"another order":            {[]manifest.MachineDisk{disk("8:0", "A", claim("x", "A", 2))}, 1},
		"copied from another disk": {[]manifest.MachineDisk{disk("8:0", "A", claim("o", "Z", 2))}, 1},
		"disk of no concern":       {[]manifest.MachineDisk{disk("8:0", "A", nil), disk("8:32", "C", claim("o", "C", 3))}, 1},
		"used up":                  {[]manifest.MachineDisk{disk("8:0", "A", claim("o", "A", 3))}, 0},
	} {
		s := &session{order: handoff.Order{ID: "o"}, own: true, machine: &manifest.Machine{Disks: c.disks},
			plan: &plan.Plan{Assignments: []plan.Assignment{{Disk: plan.DiskRef{DevNo: "8:0"}}, {Disk: plan.DiskRef{DevNo: "8:16"}}}}}
		got, err := s.nextAttempt()
		if got != c.want || (err != nil) != (c.want == 0) {
			t.Errorf("%s: attempt %d, %v; want %d", name, got, err, c.want)
		}
		if err != nil && report.ExitOf(err) != report.ExitRefused {
			t.Errorf("%s: exit %d", name, report.ExitOf(err))
		}
		s.own = false // a person may try as often as they like
		if got, err := s.nextAttempt(); err != nil || c.want == 0 && got != 4 {
			t.Errorf("%s, asked for: attempt %d, %v", name, got, err)
		}
	}
}

// TestTryAgainSaysSo: once files were restored, the menu says what another try
// costs.
func TestTryAgainSaysSo(t *testing.T) {
	before, after := &report.Result{Phases: []report.Phase{{Name: "plan"}}}, &report.Result{Phases: []report.Phase{{Name: "plan"}, {Name: "restore"}}}
	for _, c := range []struct {
		last *report.Result
		want bool
	}{{nil, false}, {before, false}, {after, true}} {
		text := recoverChoice("web01", "step by step", "asks before it erases", restored(c.last))
		if strings.Contains(text, "lost") != c.want || !strings.Contains(text, "step by step (asks before it erases)") || strings.Contains(text, "Recover web01") == c.want {
			t.Errorf("%+v: %s", c.last, text)
		}
	}
}

// booted is the first worker of a boot with an automatic order.
func booted(t *testing.T) *Worker {
	t.Helper()
	was := bootDir
	bootDir = filepath.Join(t.TempDir(), "lifeboat")
	t.Cleanup(func() { bootDir = was })
	w := &Worker{J: NewJournal(), Start: 1, Order: handoff.Order{ID: "o", Host: "web01", Recover: handoff.Auto}}
	w.Exec.Log = t.Logf
	return w
}

// TestEndedStaysEnded: after a try that was refused or stopped by a person, a
// worker that is started again leaves the decision to a person, though nothing
// was written; one that was killed in the middle goes on by itself.
func TestEndedStaysEnded(t *testing.T) {
	gone, cancel := context.WithCancel(t.Context())
	cancel() // no disk is looked at
	restarted := func(w *Worker) (began, told bool) {
		again := &Worker{J: NewJournal(), Start: 2, Order: w.Order, Exec: w.Exec}
		again.autoStart(gone)
		for _, e := range again.J.Events() {
			began = began || e.Kind == report.Done
			told = told || strings.Contains(e.Text, "a person must decide now")
		}
		return began, told
	}
	t.Run("refused", func(t *testing.T) {
		w := booted(t)
		if res := w.autoStart(gone); res.State != "refused" {
			t.Fatalf("%+v", res)
		}
		if began, told := restarted(w); began || !told {
			t.Errorf("began %v, told %v", began, told)
		}
		if n := readAttempts(); n != 0 {
			t.Errorf("%d attempts, and nothing was written", n)
		}
	})
	t.Run("written to, then ended", func(t *testing.T) {
		w := booted(t)
		if err := errors.Join(writeAttempt(1), endAttempt()); err != nil {
			t.Fatal(err)
		}
		if began, told := restarted(w); began || !told || readAttempts() != -1 {
			t.Errorf("began %v, told %v, %d", began, told, readAttempts())
		}
	})
	t.Run("killed in the middle", func(t *testing.T) {
		w := booted(t)
		if err := errors.Join(endAttempt(), writeAttempt(1)); err != nil { // a person began after a refusal
			t.Fatal(err)
		}
		if began, told := restarted(w); !began || told {
			t.Errorf("began %v, told %v", began, told)
		}
	})
	t.Run("killed before", func(t *testing.T) {
		if began, told := restarted(booted(t)); !began || told {
			t.Errorf("began %v, told %v", began, told)
		}
	})
}
