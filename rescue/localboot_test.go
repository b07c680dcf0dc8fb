package rescue

import (
	"context"
	"errors"
	"testing"
	"time"

	"lifeboat/internal/handoff"
	"lifeboat/manifest"
	"lifeboat/report"
)

// TestInstalledInstead: when the order of this boot is refused, and the disks
// hold what it restored or a living system, that is the reason and leads to
// the local disk, exit 4; nobody is overruled who asked or pressed a key, and
// nothing is once writing has begun.
func TestInstalledInstead(t *testing.T) {
	made := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	marks := map[string][]manifest.Mark{"done": {{Order: "o"}}, "living": {{Host: "h", Newest: "2026-11-02T00:00:00Z"}}, "none": nil}
	notBlank := report.Errorf(report.CodeDiskNotBlank, "", "not blank")
	unreached := report.Errorf(report.CodeBackupMissing, "", "not reached")
	declined := report.Errorf(report.CodeDeclined, "", "a key")
	for name, c := range map[string]struct {
		marks   string
		err     error
		own     bool
		attempt int
		code    string
		leads   bool
	}{
		"done, disk without serial":  {"done", notBlank, true, 0, report.CodeOrderDone, true},
		"done, backup not reached":   {"done", unreached, true, 0, report.CodeOrderDone, true},
		"living, backup not reached": {"living", unreached, true, 0, report.CodeLiving, true},
		"nothing there":              {"none", unreached, true, 0, report.CodeBackupMissing, false},
		"a key":                      {"done", declined, true, 0, report.CodeDeclined, false},
		"asked for":                  {"done", notBlank, false, 0, report.CodeDiskNotBlank, false},
		"begun":                      {"done", notBlank, true, 1, report.CodeDiskNotBlank, false},
	} {
		s := &session{w: &Worker{J: NewJournal()}, own: c.own, attempt: c.attempt, order: handoff.Order{ID: "o"},
			manifest: &manifest.Manifest{Made: made, Host: manifest.Host{Name: "h"}},
			machine:  &manifest.Machine{Disks: []manifest.MachineDisk{{Marks: marks[c.marks]}}}}
		err := s.installedInstead(context.Background(), c.err)
		p := report.ProblemOf(err)
		res := &report.Result{State: "refused", Exit: report.ExitOf(err), Problems: []report.Problem{p}}
		if p.Code != c.code || leadsToInstalled(res) != c.leads {
			t.Errorf("%s: %+v, leads to the local disk: %v", name, p, leadsToInstalled(res))
		}
		if c.leads && (res.Exit != report.ExitRefused || !errors.Is(err, c.err)) {
			t.Errorf("%s: exit %d, %v", name, res.Exit, err)
		}
		res.State = "failed"
		if leadsToInstalled(res) {
			t.Errorf("%s: a recovery that failed leads to the local disk", name)
		}
	}
}
