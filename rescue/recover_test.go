package rescue

import (
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
