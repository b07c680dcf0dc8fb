package rescue

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"lifeboat/manifest"
	"lifeboat/plan"
	"lifeboat/report"
)

func openTalk(t *testing.T) (*Journal, *Talk, string) {
	t.Helper()
	j := NewJournal()
	talk := NewTalk(j)
	sock := filepath.Join(t.TempDir(), "answers")
	if err := talk.Serve(t.Context(), sock); err != nil {
		t.Fatal(err)
	}
	return j, talk, sock
}

func TestAskFirstAnswerCounts(t *testing.T) {
	j, talk, sock := openTalk(t)
	ask := make(chan report.Event, 8)
	j.AddSink(report.SinkFunc(func(e report.Event) {
		if e.Kind == report.Ask {
			ask <- e
		}
	}))
	got := make(chan Request, 1)
	go func() {
		r, err := talk.Ask(t.Context(), Question{Kind: "type", Title: "name?"})
		if err != nil {
			t.Error(err)
		}
		got <- r
	}()
	var q Question
	if err := json.Unmarshal((<-ask).Data, &q); err != nil {
		t.Fatal(err)
	}
	if _, err := Send(sock, Request{Do: "answer", Ask: "another", Text: "x"}); err == nil {
		t.Error("an answer to no question was taken")
	}
	if _, err := Send(sock, Request{Do: "answer", Ask: q.ID, Text: "web1", From: "ttyS0"}); err != nil {
		t.Error(err)
	}
	if r := <-got; r.Text != "web1" || r.From != "ttyS0" {
		t.Errorf("%+v", r)
	}
	if _, err := Send(sock, Request{Do: "answer", Ask: q.ID, Text: "late"}); err == nil {
		t.Error("a second answer was taken")
	}
	if _, err := Send(sock, Request{Do: "erase everything"}); err == nil {
		t.Error("an unknown request was taken")
	}
}

func TestAskEndsWithContext(t *testing.T) {
	_, talk, _ := openTalk(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := talk.Ask(ctx, Question{Kind: "key"}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestJournal: a place that is added late holds everything, and one that
// fails does not stop the others.
func TestJournal(t *testing.T) {
	j := NewJournal()
	dir := t.TempDir()
	first, late := filepath.Join(dir, "first"), filepath.Join(dir, "sub", "late")
	if err := j.AddFile(first, false); err != nil {
		t.Fatal(err)
	}
	j.Note("one")
	j.Emit(report.Event{Kind: report.Progress, Done: 5})
	if err := j.AddFile(late, true); err != nil {
		t.Fatal(err)
	}
	j.Note("two")
	j.Drop(late)
	j.Note("three")
	for file, want := range map[string][]string{first: {"one", "", "two", "three"}, late: {"one", "two"}} {
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for in := bufio.NewScanner(f); in.Scan(); {
			var e report.Event
			if err := json.Unmarshal(in.Bytes(), &e); err != nil {
				t.Fatal(err)
			}
			got = append(got, e.Text)
		}
		f.Close()
		if len(got) != len(want) {
			t.Errorf("%s: %q, want %q", file, got, want)
		}
	}
	if st, _ := os.Stat(first); st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", st.Mode())
	}
}

func steps() *plan.Plan {
	return &plan.Plan{Target: manifest.Storage{}, Steps: []plan.Step{
		{ID: "restore", Verb: plan.VerbRestore, Stage: plan.StageRestore, Fatal: true},
		{ID: "points", Verb: plan.VerbPoints, Stage: plan.StageRestore, Fatal: true},
		{ID: "ids", Verb: plan.VerbIDs, Stage: plan.StageAdapt},
		{ID: "report", Verb: plan.VerbReport, Stage: plan.StageFinish, Fatal: true},
	}}
}

func acts(log *[]plan.Verb, fail map[plan.Verb]error) Acts {
	a := Acts{}
	for _, v := range []plan.Verb{plan.VerbRestore, plan.VerbPoints, plan.VerbIDs, plan.VerbReport} {
		a[v] = func(_ context.Context, s plan.Step, _ func(int64, int64)) error {
			*log = append(*log, s.Verb)
			if s.Verb == plan.VerbIDs && fail[s.Verb] == errPanic {
				panic("fault")
			}
			return fail[s.Verb]
		}
	}
	return a
}

var errPanic = errors.New("panic")

func TestSteps(t *testing.T) {
	boom := errors.New("boom")
	for _, c := range []struct {
		name     string
		fail     map[plan.Verb]error
		from, to plan.Stage
		ran      int
		failed   bool
		problems int
	}{
		{"all", nil, "", "", 4, false, 0},
		{"a fatal step stops", map[plan.Verb]error{plan.VerbPoints: boom}, "", "", 2, true, 1},
		{"another goes on", map[plan.Verb]error{plan.VerbIDs: boom}, "", "", 4, false, 1},
		{"a panic is a failure", map[plan.Verb]error{plan.VerbIDs: errPanic}, "", "", 4, false, 1},
		{"from", nil, plan.StageAdapt, "", 2, false, 0},
		{"to", nil, "", plan.StageRestore, 2, false, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			var log []plan.Verb
			problems, err := NewJournal().Steps(t.Context(), steps(), acts(&log, c.fail), c.from, c.to)
			if len(log) != c.ran || (err != nil) != c.failed || len(problems) != c.problems {
				t.Errorf("ran %v, %v, problems %v", log, err, problems)
			}
		})
	}
	var log []plan.Verb
	a := acts(&log, nil)
	delete(a, plan.VerbPoints)
	if _, err := NewJournal().Steps(t.Context(), steps(), a, "", ""); err == nil || len(log) != 0 {
		t.Errorf("an unknown verb was passed over: %v, %v", err, log)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	log = nil
	if _, err := NewJournal().Steps(ctx, steps(), acts(&log, nil), "", ""); report.ExitOf(err) != report.ExitFailed || len(log) != 0 {
		t.Errorf("went on after it was stopped: %v, %v", err, log)
	}
}
