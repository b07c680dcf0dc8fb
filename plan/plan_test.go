package plan

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"lifeboat/manifest"
	"lifeboat/report"
)

var update = flag.Bool("update", false, "write the golden plans anew")

// scenario is one golden plan: what is given, the codes of the refusals
// expected, and, when there are none, which disk takes which place.
type scenario struct {
	name   string
	host   func() *host
	disks  []manifest.MachineDisk
	mode   string // firmware mode of the machine; "" the host's
	change func(*Input)
	refuse []string
	match  map[string]string // serial of the captured disk → name of the machine's
	rule   Rule
}

var auto = Policy{Unattended: true, Method: "archive", Order: "order-1"}

func (s scenario) input() Input {
	h := s.host()
	mode := s.mode
	if mode == "" {
		mode = h.m.Boot.Firmware
	}
	in := Input{Manifest: h.m, Machine: machine(mode, slices.Clone(s.disks)...), Policy: auto}
	if s.change != nil {
		s.change(&in)
	}
	return in
}

func codes(list []report.Problem) []string {
	var out []string
	for _, p := range list {
		out = append(out, p.Code)
	}
	return out
}

func TestGolden(t *testing.T) {
	for _, s := range scenarios {
		t.Run(s.name, func(t *testing.T) { s.run(t) })
	}
}

// run makes the plan and holds it against what is expected and kept.
func (s scenario) run(t *testing.T) {
	t.Helper()
	in := s.input()
	if err := in.Manifest.Validate(); err != nil {
		t.Fatalf("the fixture is not valid: %v", err)
	}
	p := Make(in)
	if got := codes(p.Refusals); !slices.Equal(got, s.refuse) {
		t.Errorf("refusals %v, want %v\n%s", got, s.refuse, p.Text())
	}
	for serial, name := range s.match {
		for _, a := range p.Assignments {
			if c := in.Manifest.Storage.Node(a.Node).Disk; c.Serial == serial {
				if a.Disk.Name != name || a.Rule != s.rule && s.rule != "" {
					t.Errorf("%s is %s by %s, want %s by %s", serial, a.Disk.Name, a.Rule, name, s.rule)
				}
				name = ""
			}
		}
		if name != "" {
			t.Errorf("%s is not assigned", serial)
		}
	}
	if faults := p.Target.Check(); len(faults) > 0 && !p.Refused() {
		t.Errorf("the target graph is not valid: %v", faults)
	}
	golden(t, s.name, p)
}

// golden compares text and JSON of the plan with what was kept.
func golden(t *testing.T, name string, p *Plan) {
	t.Helper()
	file := filepath.Join("testdata", name+".golden")
	// The id covers all of the manifest: it would change with each new field.
	got := []byte(strings.ReplaceAll(p.Text(), p.ID, "ID"))
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v; run go test ./plan -update and look at what it writes", err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("the plan differs from %s:\n%s", file, got)
	}
	data, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	back := new(Plan)
	if err := json.Unmarshal(data, back); err != nil {
		t.Fatal(err)
	}
	if back.Text() != p.Text() {
		t.Error("the plan reads differently after JSON")
	}
}
