package plan

import (
	"testing"

	"lifeboat/report"
)

func TestDecodeMapping(t *testing.T) {
	m, err := DecodeMapping([]byte("disks:\n- {from: S1, to: S2}\n- from: wwn-1\n  to: \"0123\"\n"))
	if err != nil || len(m.Disks) != 2 || m.Disks[1].To != "0123" {
		t.Errorf("%+v, %v", m, err)
	}
	for _, bad := range []string{"", "disk: []", "disks: [{form: a, to: b}]", "disks: x", "disks: []\n---\ndisks: []", "\x00"} {
		if m, err := DecodeMapping([]byte(bad)); err == nil || report.ProblemOf(err).Code != report.CodeMapping {
			t.Errorf("%q: %+v, %v", bad, m, err)
		}
	}
}

func FuzzDecodeMapping(f *testing.F) {
	f.Add([]byte("disks:\n- {from: S1, to: S2}\n"))
	f.Fuzz(func(t *testing.T, b []byte) { _, _ = DecodeMapping(b) })
}
