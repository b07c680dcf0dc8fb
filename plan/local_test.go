package plan

import (
	"testing"
	"time"

	"lifeboat/manifest"
	"lifeboat/report"
)

// TestLocal: the system that is to be started in the place of a recovery is
// found on any disk; what was used before the backup only, is another host's
// or was cut off is none.
func TestLocal(t *testing.T) {
	m := &manifest.Manifest{Host: manifest.Host{Name: "web01", MachineID: "m1"}}
	since := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	const before, after = "2026-10-01T00:00:00Z", "2026-11-02T00:00:00Z"
	for name, c := range map[string]struct {
		marks []manifest.Mark
		want  string
	}{
		"nothing":                {nil, ""},
		"living":                 {[]manifest.Mark{{Host: "WEB01", Newest: after}}, report.CodeLiving},
		"by machine id":          {[]manifest.Mark{{Host: "renamed", MachineID: "m1", Newest: after}}, report.CodeLiving},
		"older than the backup":  {[]manifest.Mark{{Host: "web01", Newest: before}}, ""},
		"no time":                {[]manifest.Mark{{Host: "web01"}}, ""},
		"another host":           {[]manifest.Mark{{Host: "db", MachineID: "m2", Newest: after}}, ""},
		"done":                   {[]manifest.Mark{{Host: "web01", Newest: after}, {Order: "o1"}}, report.CodeOrderDone},
		"done, files lost":       {[]manifest.Mark{{Host: "web01", Order: "o1", Lost: 3, Newest: after, Ended: after}}, ""},
		"files lost, used since": {[]manifest.Mark{{Host: "web01", Order: "o1", Lost: 3, Newest: "2026-11-02T01:00:00Z", Ended: after}}, report.CodeLiving},
		"another order":          {[]manifest.Mark{{Order: "o2"}}, ""},
		"cut off":                {[]manifest.Mark{{Host: "web01", Order: "o1", Unfinished: true, Newest: after, Journal: after}}, ""},
	} {
		mach := &manifest.Machine{Disks: []manifest.MachineDisk{{Name: "sda"}, {Name: "sdb", Marks: c.marks}}}
		p := Local(m, mach, "o1", since)
		if got := ""; p != nil && p.Code != c.want || p == nil && c.want != got {
			t.Errorf("%s: %+v, want %q", name, p, c.want)
		}
	}
}
