package rescue

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lifeboat/archive"
	"lifeboat/internal/handoff"
	"lifeboat/manifest"
	"lifeboat/plan"
	"lifeboat/report"
	"lifeboat/rescue/restore"
)

// store is an archive in memory whose reads may begin to fail.
type store struct {
	*bytes.Reader
	broken bool
}

func (s *store) ReadAt(b []byte, off int64) (int, error) {
	if s.broken {
		return 0, errors.New("the cable is out")
	}
	return s.Reader.ReadAt(b, off)
}

// acting is an actor behind the mount steps: a real small archive, and a
// folder for the target.
func acting(t *testing.T) (*actor, *store) {
	t.Helper()
	src := t.TempDir()
	for name, text := range map[string]string{"etc/hostname": "alpha\n", "srv/a": strings.Repeat("a", 3000)} {
		p := filepath.Join(src, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	var b bytes.Buffer
	if _, err := archive.Create(context.Background(), &b, archive.Options{HostID: "m"}, []archive.Source{{Path: "/", At: src, Bare: true}}); err != nil {
		t.Fatal(err)
	}
	st := &store{Reader: bytes.NewReader(b.Bytes())}
	x, err := archive.Open(st, int64(b.Len()))
	if err != nil {
		t.Fatal(err)
	}
	w := &Worker{J: NewJournal(), Target: t.TempDir(), Order: handoff.Order{ID: "order-1", Host: "alpha"}}
	s := w.newSession(Request{})
	s.archive, s.attempt = x, 2
	s.manifest = &manifest.Manifest{Host: manifest.Host{Name: "alpha"}, Dirs: []manifest.Dir{{Path: "/tmp", Inode: manifest.Inode{Type: "dir", Mode: "1777", UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}}}}
	s.machine = &manifest.Machine{}
	s.plan = &plan.Plan{ID: "plan-1", Host: "alpha", Target: manifest.Storage{Mounts: []manifest.Mount{{Path: "/", Backup: manifest.ScopeFull}}}}
	return &actor{s: s, res: &report.Result{Host: "alpha", State: "failed", Started: time.Now()}}, st
}

func notes(a *actor) string {
	var b strings.Builder
	for _, e := range a.s.w.J.Events() {
		b.WriteString(e.Text + "\n")
	}
	return b.String()
}

func TestActRestore(t *testing.T) {
	a, _ := acting(t)
	if err := a.restore(context.Background(), plan.Step{}, func(int64, int64) {}); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(a.s.w.Target, "etc/hostname"))
	if err != nil || string(got) != "alpha\n" {
		t.Errorf("%q, %v", got, err)
	}
	if a.res.Bytes == 0 || a.lost != nil || len(a.res.Problems) != 0 || !strings.Contains(notes(a), "Restored: ") {
		t.Errorf("%+v, lost %v\n%s", a.res, a.lost, notes(a))
	}
}

// TestActRestoreWithout: what has no filesystem in the target does not fill
// the one above it, and is named.
func TestActRestoreWithout(t *testing.T) {
	a, _ := acting(t)
	a.s.plan.Target.Mounts = []manifest.Mount{{Path: "/srv", Backup: manifest.ScopeFull}, {Path: "/", Backup: manifest.ScopeExclude}}
	if err := a.restore(context.Background(), plan.Step{}, func(int64, int64) {}); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(a.s.w.Target)
	if err != nil || len(left) != 0 || !strings.Contains(notes(a), "/ is in the backup, but has no filesystem") {
		t.Errorf("%v, %v\n%s", left, err, notes(a))
	}
}

// TestActRestoreLoses: files that are lost do not stop the steps that make the
// system start, and are not forgotten.
func TestActRestoreLoses(t *testing.T) {
	a, _ := acting(t)
	a.earlier.last.Lost = restore.Lost{Count: 1, First: []string{`"/srv/b": input/output error`}}
	if err := a.restore(context.Background(), plan.Step{}, func(int64, int64) {}); err != nil {
		t.Fatal(err)
	}
	if report.ExitOf(a.lost) != report.ExitBackup || a.res.Bytes == 0 {
		t.Errorf("lost %v, %+v", a.lost, a.res)
	}
	if p := a.s.soFar(*a.res).Problems; len(p) != 1 || p[0].Code != report.CodeRestoreFiles || !strings.Contains(p[0].Text, "/srv/b") {
		t.Errorf("%+v", p)
	}
	if err := a.report(context.Background(), plan.Step{}, nil); err != nil {
		t.Fatal(err)
	}
	if r := left(t, a); r.State != "failed" || r.Exit != report.ExitBackup {
		t.Errorf("the report in the system says %+v", r)
	}
	if m := markLeft(t, a); m.State != handoff.MarkFailed || m.Lost != 1 || m.Order != "order-1" {
		t.Errorf("the mark says %+v", m)
	}
	if _, err := os.Lstat(filepath.Join(a.s.w.Target, handoff.DoneFile("order-1"))); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the boot menu is told that the order is done (%v)", err)
	}
}

// markLeft is the order's mark in the target.
func markLeft(t *testing.T, a *actor) (m Mark) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(a.s.w.Target, handoff.MarkInTarget))
	if err == nil {
		err = json.Unmarshal(data, &m)
	}
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestActRestoreFails: a backup that goes away in the middle has no result,
// and that is the error.
func TestActRestoreFails(t *testing.T) {
	for name, f := range map[string]func(a *actor, st *store) context.Context{
		"store": func(_ *actor, st *store) context.Context { st.broken = true; return context.Background() },
		"interrupted": func(*actor, *store) context.Context {
			c, stop := context.WithCancel(context.Background())
			stop()
			return c
		},
		"target gone": func(a *actor, _ *store) context.Context {
			a.s.w.Target = filepath.Join(a.s.w.Target, "gone", "x")
			return context.Background()
		},
	} {
		a, st := acting(t)
		ctx, cancel := context.WithTimeout(f(a, st), 20*time.Second)
		err := a.restore(ctx, plan.Step{}, func(int64, int64) {})
		cancel()
		if err == nil || a.lost != nil || len(a.res.Problems) != 0 {
			t.Errorf("%s: %v, lost %v, %+v", name, err, a.lost, a.res)
		}
	}
}

func TestActPoints(t *testing.T) {
	a, _ := acting(t)
	for range 2 { // a resumed run makes nothing twice
		if err := a.points(context.Background(), plan.Step{}, nil); err != nil {
			t.Fatal(err)
		}
	}
	st, err := os.Stat(filepath.Join(a.s.w.Target, "tmp"))
	if err != nil || st.Mode() != os.ModeDir|os.ModeSticky|0o777 {
		t.Errorf("%v, %v", st, err)
	}
	if n := strings.Count(notes(a), "Made 1 mount points"); n != 1 {
		t.Errorf("told %d times", n)
	}
	a.s.w.Target = filepath.Join(a.s.w.Target, "gone")
	if err := a.points(context.Background(), plan.Step{}, nil); err == nil {
		t.Error("a target that is gone is no error")
	}
}

// left is the report that lies in the target.
func left(t *testing.T, a *actor) (r report.Result) {
	t.Helper()
	found, _ := filepath.Glob(filepath.Join(a.s.w.Target, TargetLogs, "recover-*", "report.json"))
	if len(found) != 1 {
		t.Fatalf("reports: %v", found)
	}
	data, err := os.ReadFile(found[0])
	if err == nil {
		err = json.Unmarshal(data, &r)
	}
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestActReport: what lies in the system says all that was told, and by which
// order it was made.
func TestActReport(t *testing.T) {
	a, _ := acting(t)
	a.s.w.J.Problem(report.Problem{Code: report.CodeLeftover, Severity: report.Warning, Text: "an old name"})
	a.s.problems = []report.Problem{{Code: report.CodeBootloader, Text: "no entry"}}
	if err := a.report(context.Background(), plan.Step{}, nil); err != nil {
		t.Fatal(err)
	}
	r := left(t, a)
	if r.State != "done" || r.Exit != 0 || r.Attempt != 2 || r.PlanID != "plan-1" || len(r.Problems) != 2 {
		t.Errorf("%+v", r)
	}
	if a.res.State != "failed" {
		t.Error("the run has not ended, and is called done")
	}
	if m := markLeft(t, a); m.Order != "order-1" || m.PlanID != "plan-1" || m.Attempt != 2 || m.Backup != a.s.archive.Info().UUID.String() || m.State != "done" || m.Lost != 0 {
		t.Errorf("%+v", m)
	}
	if _, err := os.Lstat(filepath.Join(a.s.w.Target, handoff.DoneFile("order-1"))); err != nil {
		t.Errorf("the boot menu is not told that the order is done: %v", err)
	}
	dirs, _ := filepath.Glob(filepath.Join(a.s.w.Target, TargetLogs, "recover-*"))
	for _, f := range []string{"plan.json", "plan.txt", "machine.json", "order.json", "events.jsonl"} {
		if st, err := os.Stat(filepath.Join(dirs[0], f)); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", f, st, err)
		}
	}
}
