package rescue

import (
	"errors"
	"strings"
	"testing"

	"lifeboat/report"
	"lifeboat/rescue/triage"
)

// TestLivesOn: with nobody watching, only a look that got to its end and found
// no newer file lets an installed system be erased.
func TestLivesOn(t *testing.T) {
	facts := func(f ...triage.Filesystem) *Triage {
		out := &Triage{Facts: &triage.Facts{Made: "2026-11-01T00:00:00Z", Filesystems: f}}
		for _, f := range f {
			out.Verdict.Newer += f.Newer
		}
		return out
	}
	root, srv := triage.Filesystem{Mounts: []string{"/"}}, triage.Filesystem{Mounts: []string{"/srv", "/home"}}
	late, holes, newer := srv, srv, srv
	late.AtLeast, holes.Unlisted, newer.Newer, newer.AtLeast = true, 2, 1, true
	cutOff := facts(root, late)
	cutOff.Facts.Root.Unfinished = true
	for name, c := range map[string]struct {
		t          *Triage
		err        error
		code, text string
	}{
		"nothing newer":           {facts(root, srv), nil, "", ""},
		"newer":                   {facts(root, newer), nil, report.CodeLiving, "2026-11-01"},
		"newer beside unlisted":   {facts(holes, newer), nil, report.CodeLiving, ""},
		"the look failed":         {nil, errors.New("lvm: no answer"), report.CodeUnlooked, "lvm: no answer"},
		"out of time":             {facts(root, late), nil, report.CodeUnlooked, "/srv, /home took too long"},
		"folders cannot be read":  {facts(root, holes), nil, report.CodeUnlooked, "2 folders of /srv, /home"},
		"a recovery was cut off":  {cutOff, nil, "", ""},
		"newer where it was that": {&Triage{Facts: cutOff.Facts, Verdict: triage.Verdict{Newer: 1}}, nil, "", ""},
	} {
		p := livesOn("web01", c.t, c.err)
		if (p == nil) != (c.code == "") || p != nil && (p.Code != c.code || !strings.Contains(p.Text, c.text) || p.Next == "" || report.ExitOfCode(p.Code) != report.ExitRefused) {
			t.Errorf("%s: %+v, want %q", name, p, c.code)
		}
	}
}
