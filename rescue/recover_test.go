package rescue

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"lifeboat/internal/handoff"
	"lifeboat/plan"
	"lifeboat/report"
)

// TestRequestForOneTry: another archive or mapping counts for the try that
// names it, and the next one follows the order again.
func TestRequestForOneTry(t *testing.T) {
	w := &Worker{Order: handoff.Order{Mapping: "/etc/m.yaml", Backup: handoff.Backup{Method: "archive", URL: "http://s/h/1.lba", TokenFile: "/t"}}}
	s := w.newSession(Request{Do: "recover", Attended: true, Backup: "/mnt/h/2.lba", Mapping: "/m.yaml"})
	if want := (handoff.Backup{Method: "archive", URL: "/mnt/h/2.lba", TokenFile: "/t"}); s.order.Backup != want || s.order.Mapping != "/m.yaml" || !s.attended {
		t.Errorf("%+v, attended %v", s.order, s.attended)
	}
	if s = w.newSession(Request{Do: "recover"}); s.order.Backup != w.Order.Backup || s.order.Mapping != "/etc/m.yaml" || s.attended {
		t.Errorf("the next try: %+v, attended %v", s.order, s.attended)
	}
}

// TestReportSoFar: what lies in the restored system says which attempt made it
// by which plan, though the run has not ended yet.
func TestReportSoFar(t *testing.T) {
	s := &session{attempt: 2, plan: &plan.Plan{ID: "p1"}, phases: []report.Phase{{Name: "restore"}}, problems: []report.Problem{{Code: report.CodeClock}}}
	res := report.Result{Host: "h", Problems: []report.Problem{{Code: report.CodeNetwork}}}
	if r := s.soFar(res); r.Host != "h" || r.Attempt != 2 || r.PlanID != "p1" || len(r.Phases) != 1 || len(r.Problems) != 2 {
		t.Errorf("%+v", r)
	}
	if len(res.Problems) != 1 || res.Attempt != 0 {
		t.Errorf("the result itself changed: %+v", res)
	}
}

// TestProblemsReachTheResult: whatever a part tells on the way is in the
// result and in the report, once; what another try told is not.
func TestProblemsReachTheResult(t *testing.T) {
	w := &Worker{J: NewJournal()}
	p := func(code, text string) report.Problem {
		return report.Problem{Code: code, Severity: report.Warning, Text: text}
	}
	w.J.Problem(p(report.CodeModuleMissing, "a driver is missing")) // as the boot begins
	earlier := w.newSession(Request{})
	w.J.Problem(p(report.CodeLeftover, "of the earlier try"))
	_ = earlier

	s := w.newSession(Request{})
	s.plan = &plan.Plan{ID: "p", Steps: []plan.Step{{ID: "ids", Verb: plan.VerbIDs, Stage: plan.StageAdapt}, {ID: "points", Verb: plan.VerbPoints, Stage: plan.StageAdapt},
		{ID: "check", Verb: plan.VerbBootCheck, Stage: plan.StageAdapt, Fatal: true}}}
	lost := p(report.CodeRestoreFiles, "2 files lost")
	w.J.Problem(lost)
	acts := Acts{
		plan.VerbIDs: func(context.Context, plan.Step, func(int64, int64)) error {
			w.J.Problem(p(report.CodeLeftover, "an old identity is still named"))
			return nil
		},
		plan.VerbPoints: func(context.Context, plan.Step, func(int64, int64)) error {
			return report.Errorf(report.CodeBootloader, "", "NVRAM is full")
		},
		plan.VerbBootCheck: func(context.Context, plan.Step, func(int64, int64)) error {
			return report.Errorf(report.CodeBootloader, "", "no boot sector")
		},
	}
	a := &actor{s: s}
	err := a.stage(context.Background(), plan.StageAdapt, acts)
	if err == nil {
		t.Fatal("a fatal step did not end the stage")
	}
	res := report.Result{Problems: []report.Problem{lost}}
	s.finish(&res, err)
	var got []string
	for _, x := range res.Problems {
		got = append(got, x.Text)
	}
	want := []string{"no boot sector", "2 files lost", "NVRAM is full", "a driver is missing", "an old identity is still named"}
	for i := range want {
		if len(got) != len(want) || !strings.HasSuffix(got[i], want[i]) {
			t.Fatalf("problems:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
	// The last event is what --json prints.
	e := w.J.Events()
	var said report.Result
	if err := json.Unmarshal(e[len(e)-1].Data, &said); err != nil || len(said.Problems) != len(want) {
		t.Errorf("%v, %+v", err, said)
	}
}
