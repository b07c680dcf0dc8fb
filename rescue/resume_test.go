package rescue

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lifeboat/archive"
	"lifeboat/plan"
	"lifeboat/report"
	"lifeboat/rescue/restore"
)

// tell writes what a try says into a journal file, as the worker does.
func tell(t *testing.T, j *Journal, plan string, resumed bool, events ...report.Event) {
	t.Helper()
	data, err := json.Marshal(planned{Plan: plan, Resumed: resumed})
	if err != nil {
		t.Fatal(err)
	}
	j.Emit(report.Event{Kind: report.Planned, Data: data})
	for _, e := range events {
		j.Emit(e)
	}
}

func saved(t *testing.T, done int) report.Event {
	t.Helper()
	data, err := json.Marshal(savePoint{At: archive.Checkpoint{Archive: "a1", Done: done}, Bytes: int64(done) << 20, Lost: restore.Lost{Count: 1, First: []string{"x"}}})
	if err != nil {
		t.Fatal(err)
	}
	return report.Event{Kind: report.Saved, Data: data}
}

func finished(step string) report.Event { return report.Event{Kind: report.Finished, Step: step} }

// TestReadEarlier: only what the same plan did, since all was wiped last, is
// gone on with.
func TestReadEarlier(t *testing.T) {
	for name, c := range map[string]struct {
		tell func(j *Journal)
		made bool
		done int
	}{
		"nothing":            {func(*Journal) {}, false, 0},
		"cut off in storage": {func(j *Journal) { tell(t, j, "p", false) }, false, 0},
		"cut off in restore": {func(j *Journal) { tell(t, j, "p", false, finished("s"), saved(t, 3), saved(t, 7)) }, true, 7},
		"gone on once": {func(j *Journal) {
			tell(t, j, "p", false, finished("s"), saved(t, 3))
			tell(t, j, "p", true, saved(t, 9))
		}, true, 9},
		"gone on, no further": {func(j *Journal) { tell(t, j, "p", false, finished("s"), saved(t, 3)); tell(t, j, "p", true) }, true, 3},
		"built again":         {func(j *Journal) { tell(t, j, "p", false, finished("s"), saved(t, 3)); tell(t, j, "p", false) }, false, 0},
		"another plan":        {func(j *Journal) { tell(t, j, "q", false, finished("s"), saved(t, 3)) }, false, 0},
		"another plan since": {func(j *Journal) {
			tell(t, j, "p", false, finished("s"), saved(t, 3))
			tell(t, j, "q", false, finished("s"))
		}, false, 0},
		"another plan's goes": {func(j *Journal) { tell(t, j, "q", false, saved(t, 3)); tell(t, j, "p", true, finished("s")) }, true, 0},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "journal")
			j := NewJournal()
			if err := j.AddFile(path, true); err != nil {
				t.Fatal(err)
			}
			c.tell(j)
			f, err := os.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			e, err := readEarlier(f, "p")
			if err != nil {
				t.Fatal(err)
			}
			p := &plan.Plan{Steps: []plan.Step{{ID: "s", Stage: plan.StageStorage}, {ID: "mount", Stage: plan.StageMount}}}
			if err := e.built(p); (err == nil) != c.made || e.last.At.Done != c.done || (c.done > 0) != (e.last.Lost.Count == 1) {
				t.Errorf("built: %v; goes on at %+v", err, e.last)
			}
		})
	}
}

// TestTornJournal: a line that was being written when the power went neither
// counts nor spoils what the next try appends.
func TestTornJournal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	j := NewJournal()
	if err := j.AddFile(path, true); err != nil {
		t.Fatal(err)
	}
	tell(t, j, "p", false, finished("s"), saved(t, 4))
	j.Drop(path)
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(`{"kind":"saved","data":{"at":{"archive":"a1","done":5`); err != nil {
		t.Fatal(err)
	}
	f.Close()
	j = NewJournal()
	tell(t, j, "p", true)
	if err := j.AddFile(path, true); err != nil {
		t.Fatal(err)
	}
	j.Emit(saved(t, 6))
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for cut, want := len(data), 6; ; cut-- {
		e, err := readEarlier(strings.NewReader(string(data[:cut])), "p")
		if err != nil {
			t.Fatal(err)
		}
		if cut < len(data) {
			want = min(want, e.last.At.Done) // never further than what was said
		}
		if e.last.At.Done != want && cut == len(data) || e.last.At.Done == 5 || e.last.At.Done > 6 {
			t.Fatalf("cut at %d of %d: goes on at %d", cut, len(data), e.last.At.Done)
		}
		if cut == 0 {
			break
		}
	}
}

func FuzzReadEarlier(f *testing.F) {
	f.Add(`{"kind":"planned","data":{"plan":"p"}}` + "\n" + `{"kind":"finished","step":"s"}` + "\n" + `{"kind":"saved","data":{"at":{"archive":"a","done":-1}}}` + "\n")
	f.Fuzz(func(t *testing.T, s string) {
		e, err := readEarlier(strings.NewReader(s), "p")
		if err != nil {
			t.Fatal(err)
		}
		if e.last.At.Done < 0 || e.last.Lost.Count < 0 {
			t.Errorf("goes on at %+v", e.last)
		}
	})
}
