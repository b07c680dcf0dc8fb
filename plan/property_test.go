package plan

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"lifeboat/manifest"
	"lifeboat/report"
)

var seed = flag.Uint64("seed", 0, "seed of the generated machines; 0 takes another one each time")

const pairs = 12000

// TestProperties makes plans for generated pairs of host and machine and
// judges each by what must hold, worked out here anew and in the plainest
// way.
func TestProperties(t *testing.T) {
	s := *seed
	if s == 0 {
		s = rand.Uint64()
	}
	t.Logf("seed %d (go test ./plan -run TestProperties -seed %d)", s, s)
	made, shrunk, rules, refused := 0, 0, map[Rule]int{}, map[string]int{}
	for i := range pairs {
		g := gen{rand.New(rand.NewPCG(s, uint64(i)))}
		h := g.host()
		if err := h.m.Validate(); err != nil {
			t.Fatalf("pair %d: the generated host is not valid: %v", i, err)
		}
		in := g.machine(h)
		p := Make(in)
		faults := judge(in, p)
		if i%3 == 0 {
			faults = append(faults, judgeAgain(g, in, p)...)
		}
		if !p.Refused() {
			made++
			if slices.Contains(codes(p.Warnings), report.CodeShrunk) {
				shrunk++
			}
			for _, a := range p.Assignments {
				rules[a.Rule]++
			}
			faults = append(faults, judgeResume(g, in, p)...)
		}
		for _, r := range p.Refusals {
			refused[r.Code]++
		}
		if len(faults) > 0 {
			data, _ := json.Marshal(in.Machine.Disks)
			t.Fatalf("pair %d of seed %d:\n%s\n\n%s\nmachine: %s", i, s, strings.Join(faults, "\n"), p.Text(), data)
		}
	}
	t.Logf("%d plans without refusal, %d of them made something smaller; rules %v; refusals %v", made, shrunk, rules, refused)
	if shrunk < pairs/200 {
		t.Errorf("only %d plans made something smaller", shrunk)
	}
	if made < pairs/10 || made > pairs*9/10 {
		t.Errorf("%d of %d plans had no refusal: the generator no longer tests both", made, pairs)
	}
	for _, r := range []Rule{ByMapping, ByWWN, BySerial, ByClaim, ByBlank} {
		if rules[r] == 0 {
			t.Errorf("no disk was assigned by %s", r)
		}
	}
}

// TestSameMachine: on the machine that it was captured on, whatever lies on
// its disks, a host gets the very same layout.
func TestSameMachine(t *testing.T) {
	s := *seed
	if s == 0 {
		s = rand.Uint64()
	}
	t.Logf("seed %d", s)
	checked := 0
	for i := range 2000 {
		g := gen{rand.New(rand.NewPCG(s, uint64(i)))}
		h := g.host()
		var list []manifest.MachineDisk
		for j := range h.m.Storage.Nodes {
			if n := &h.m.Storage.Nodes[j]; n.Kind == manifest.KindDisk {
				n.Disk.Serial = "OWN-" + string(n.ID)
				list = append(list, full(manifest.MachineDisk{Disk: *n.Disk}))
			}
		}
		g.Shuffle(len(list), func(a, b int) { list[a], list[b] = list[b], list[a] })
		p := Make(Input{Manifest: h.m, Machine: machine(h.m.Boot.Firmware, list...), Policy: auto})
		own := Make(Input{Manifest: h.m, Machine: &h.m.Machine, Policy: Policy{OwnHardware: true}})
		if got, want := codes(p.Refusals), codes(own.Refusals); !slices.Equal(got, want) {
			t.Fatalf("seed %d host %d: refused %v, capture would say %v\n%s", s, i, got, want, p.Text())
		}
		for _, n := range p.Target.Nodes {
			c := *h.m.Storage.Node(n.ID)
			c.Seen, n.Seen = manifest.Seen{}, manifest.Seen{}
			if !reflect.DeepEqual(c, n) {
				t.Fatalf("seed %d host %d: %s differs:\n%+v\n%+v", s, i, n.ID, c, n)
			}
		}
		if !p.Refused() {
			checked++
		}
	}
	if checked < 500 {
		t.Errorf("only %d layouts were compared", checked)
	}
}

// judgeAgain: the same input makes the same plan, whatever order the disks
// were found in; other kernel names, other boots of the same machine and who
// watches do not change the id.
func judgeAgain(g gen, in Input, p *Plan) []string {
	var faults []string
	other := in
	m := *in.Machine
	m.Disks = slices.Clone(m.Disks)
	g.Shuffle(len(m.Disks), func(a, b int) { m.Disks[a], m.Disks[b] = m.Disks[b], m.Disks[a] })
	other.Machine = &m
	q := Make(other)
	a, _ := json.Marshal(p)
	b, _ := json.Marshal(q)
	if !p.Refused() && !bytes.Equal(a, b) || p.ID != q.ID {
		faults = append(faults, "another order of disks makes another plan")
	}
	for i := range m.Disks {
		m.Disks[i].Name, m.Disks[i].DevNo = fmt.Sprintf("vd%c", 'z'-i), fmt.Sprint("253:", i)
	}
	m.Memory += 4096
	other.Policy.Unattended = !other.Policy.Unattended
	if r := Make(other); r.ID != p.ID {
		faults = append(faults, "other kernel names make another id")
	}
	return faults
}

// judgeResume: after a reset at any point the same disks are found again with
// nobody typing, and the plan has the same id.
func judgeResume(g gen, in Input, p *Plan) []string {
	m := *in.Machine
	m.Disks = slices.Clone(m.Disks)
	// Each target got its claim, if there is room for one, and then as much
	// as the run came to. A disk that was not reached is as it was.
	reached := g.IntN(len(p.Assignments) + 1)
	where := map[manifest.ID]string{}
	room := true
	for n, a := range p.Assignments {
		for i := range m.Disks {
			d := &m.Disks[i]
			if d.Name != a.Disk.Name {
				continue
			}
			where[a.Node] = fmt.Sprint("vd", i)
			if n >= reached {
				continue
			}
			if a.ClaimAt == 0 {
				room = room && a.Rule != ByBlank && a.Rule != ByClaim
			} else {
				d.Claim = &manifest.Claim{Order: in.Policy.Order, PlanID: p.ID, Manifest: in.Manifest.Digest(), Node: a.Node, WWN: d.Disk.WWN, Serial: d.Disk.Serial, Bytes: d.Disk.Bytes}
			}
			d.Table, d.TableID, d.Signatures, d.Unread = "", "", nil, ""
			if t := tableOn(&p.Target, a.Node); t != nil && g.chance(70) {
				d.Table, d.TableID = t.Table.Type, strings.ToLower(t.Table.UUID)
				d.Signatures = []manifest.Signature{{Device: "x1", Type: "ext4"}}
				d.Marks = []manifest.Mark{{Device: "x1", Host: in.Manifest.Host.Name, Newest: "2030-01-01T00:05:00Z", Journal: "2030-01-01T00:00:00Z", Unfinished: true}}
			} else if t == nil {
				d.Signatures = []manifest.Signature{{Device: "x", Type: "LVM2_member"}}
			}
		}
	}
	for i := range m.Disks {
		m.Disks[i].Name = fmt.Sprint("vd", i)
	}
	g.Shuffle(len(m.Disks), func(a, b int) { m.Disks[a], m.Disks[b] = m.Disks[b], m.Disks[a] })
	in.Machine = &m
	q := Make(in)
	if !room {
		return nil // the plan warned of it
	}
	var faults []string
	if q.Refused() || q.ID != p.ID {
		faults = append(faults, fmt.Sprintf("cut off after %d disks, the plan is another or refused: %v %s\n%s", reached, codes(q.Refusals), q.ID, q.Text()))
	}
	for _, a := range q.Assignments {
		if a.Disk.Name != where[a.Node] {
			faults = append(faults, fmt.Sprintf("cut off, %s is now on %s, not %s", a.Node, a.Disk.Name, where[a.Node]))
		}
	}
	return faults
}
