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
	made, rules, refused := 0, map[Rule]int{}, map[string]int{}
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
	t.Logf("%d plans without refusal; rules %v; refusals %v", made, rules, refused)
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

type judged struct {
	in     Input
	p      *Plan
	faults []string
}

func (j *judged) bad(f string, a ...any) { j.faults = append(j.faults, fmt.Sprintf(f, a...)) }

func judge(in Input, p *Plan) []string {
	j := &judged{in: in, p: p}
	for _, r := range p.Refusals {
		known := slices.ContainsFunc(report.Codes, func(c report.Row) bool { return c.Code == r.Code && c.Exit != report.ExitOK })
		if !known || r.Object == "" || r.Text == "" || r.Next == "" || r.Severity != report.Error {
			j.bad("a refusal says too little: %+v", r)
		}
	}
	if p.Refused() {
		return j.faults
	}
	j.targets()
	j.blanks()
	j.layout()
	j.extents()
	j.steps()
	return j.faults
}

func (j *judged) disk(name string) *manifest.MachineDisk {
	for i := range j.in.Machine.Disks {
		if j.in.Machine.Disks[i].Name == name {
			return &j.in.Machine.Disks[i]
		}
	}
	return nil
}

func (j *judged) count(f func(d manifest.Disk) bool) (captured, here int) {
	for _, c := range j.in.Manifest.Storage.OfKind(manifest.KindDisk) {
		if f(*c.Disk) {
			captured++
		}
	}
	for _, d := range j.in.Machine.Disks {
		if f(d.Disk) {
			here++
		}
	}
	return captured, here
}

// exact tells whether two disks share an identity that only one disk of each
// side has.
func (j *judged) exact(a, b manifest.Disk) (byWWN, bySerial bool) {
	sameW := func(d manifest.Disk) bool { return strings.EqualFold(d.WWN, a.WWN) }
	sameS := func(d manifest.Disk) bool { return strings.EqualFold(d.Serial, a.Serial) }
	c, m := j.count(sameW)
	byWWN = manifest.UsableWWN(a.WWN) != "" && sameW(b) && c == 1 && m == 1
	c, m = j.count(sameS)
	bySerial = manifest.UsableSerial(a.Serial) != "" && sameS(b) && c == 1 && m == 1
	return byWWN, bySerial
}

// guarded tells whether a disk must not be written.
func (j *judged) guarded(d *manifest.MachineDisk) bool {
	_, n := j.count(func(x manifest.Disk) bool { return x.Serial == d.Disk.Serial })
	lifted := slices.Contains(j.in.Policy.Unprotect, d.Disk.Serial) && n == 1 && manifest.UsableSerial(d.Disk.Serial) != ""
	for _, p := range d.Protection {
		if !lifted || p.Why == manifest.ProtectBackup {
			return true
		}
	}
	return d.Disk.ReadOnly
}

// targets: each is one disk, none is guarded, and each was found by the
// highest rung that finds anything.
func (j *judged) targets() {
	used := map[string]bool{}
	for _, a := range j.p.Assignments {
		d, c := j.disk(a.Disk.Name), j.in.Manifest.Storage.Node(a.Node)
		if used[d.Name] {
			j.bad("%s takes two places", d.Name)
		}
		used[d.Name] = true
		if j.guarded(d) {
			j.bad("%s is protected and a target", d.Name)
		}
		w, s := j.exact(*c.Disk, d.Disk)
		ours := d.Claim != nil && d.Claim.Order == j.in.Policy.Order && d.Claim.Node == c.ID
		mapped := j.in.Mapping != nil && j.in.Mapping.Disks[0].From == string(c.ID)
		ok := map[Rule]bool{ByMapping: mapped, ByWWN: w && !mapped, BySerial: s && !mapped, ByClaim: ours && !w && !s && !mapped, ByBlank: d.Blank() && !mapped}[a.Rule]
		if !ok {
			j.bad("%s cannot be %s by %s", d.Name, a.Node, a.Rule)
		}
		if a.Rule == ByMapping {
			continue
		}
		for i := range j.in.Machine.Disks {
			m := &j.in.Machine.Disks[i]
			better, _ := j.exact(*c.Disk, m.Disk)
			mapTo := j.in.Mapping != nil && slices.ContainsFunc(j.p.Assignments, func(x Assignment) bool { return x.Rule == ByMapping && x.Disk.Name == m.Name })
			if better && a.Rule != ByWWN && !mapTo {
				j.bad("%s has the WWN of %s, and %s was taken by %s", m.Name, a.Node, d.Name, a.Rule)
			}
			for _, o := range j.in.Manifest.Storage.OfKind(manifest.KindDisk) {
				ow, os := j.exact(*o.Disk, d.Disk)
				if a.Rule == ByBlank && (ow || os) {
					j.bad("%s is the match of %s, and a candidate for %s", d.Name, o.ID, a.Node)
				}
			}
		}
	}
}

// blanks: by brute force, exactly one assignment of the blank disks exists.
func (j *judged) blanks() {
	var rest []*manifest.Node
	taken := map[string]bool{}
	for _, a := range j.p.Assignments {
		if a.Rule == ByBlank {
			rest = append(rest, j.in.Manifest.Storage.Node(a.Node))
		} else {
			taken[a.Disk.Name] = true
		}
	}
	if len(rest) == 0 {
		return
	}
	if j.in.Mapping != nil { // a disk that a mapping keeps for one that is not rebuilt
		to := j.in.Mapping.Disks[0].To
		for _, d := range j.in.Machine.Disks {
			taken[d.Name] = taken[d.Name] || to == d.Disk.Serial || slices.Contains(d.Links, to)
		}
	}
	ways := 0
	var walk func(i int)
	walk = func(i int) {
		if i == len(rest) {
			ways++
			return
		}
		for k := range j.in.Machine.Disks {
			d := &j.in.Machine.Disks[k]
			if !taken[d.Name] && j.candidate(rest[i], d) {
				taken[d.Name] = true
				walk(i + 1)
				taken[d.Name] = false
			}
		}
	}
	walk(0)
	if ways != 1 {
		j.bad("%d assignments of blank disks are possible, and one was taken", ways)
	}
}

func (j *judged) candidate(c *manifest.Node, d *manifest.MachineDisk) bool {
	if !d.Blank() || j.guarded(d) {
		return false
	}
	if _, n := j.count(func(x manifest.Disk) bool { return strings.EqualFold(x.WWN, d.Disk.WWN) }); n > 1 && manifest.UsableWWN(d.Disk.WWN) != "" {
		return false
	}
	for _, o := range j.in.Manifest.Storage.OfKind(manifest.KindDisk) {
		if w, s := j.exact(*o.Disk, d.Disk); w || s {
			return false
		}
	}
	if d.Disk.Transport == "usb" && c.Disk.Transport != "usb" {
		return false
	}
	return j.room(c, d.Disk)
}

// room tells whether the parts that the plan makes on c have room on d.
func (j *judged) room(c *manifest.Node, d manifest.Disk) bool {
	end, tail := int64(0), int64(0)
	for _, n := range j.p.Target.Above(c.ID) {
		n = j.in.Manifest.Storage.Node(n.ID)
		direct := n.On[0].Node == c.ID
		switch n.Kind {
		case manifest.KindTable:
			if n.Table.Type == "gpt" {
				tail = map[int64]int64{512: 33 * 512, 4096: 5 * 4096}[d.Logical]
			}
		case manifest.KindPartition:
			end = max(end, n.Partition.Start+n.Partition.Size)
			if n.Partition.Start%d.Logical != 0 || n.Partition.Size%d.Logical != 0 {
				return false
			}
		case manifest.KindPV:
			if direct {
				end = max(end, n.PV.PEStart+n.PV.Extents*extent)
			}
		case manifest.KindFS:
			if d.Logical != c.Disk.Logical && (n.FS.XFS != nil && d.Logical > 512 || n.FS.VFAT != nil && n.FS.VFAT.SectorSize < d.Logical) {
				return false
			}
		}
	}
	if d.Logical == 4096 && c.Disk.Logical != 4096 && j.in.Manifest.Boot.Firmware == "bios" && slices.Contains(j.in.Manifest.Boot.MBRCode, c.ID) {
		return false
	}
	end = (end + d.Logical - 1) / d.Logical * d.Logical
	return end+tail <= d.Bytes/d.Logical*d.Logical
}

// layout: nothing overlaps, nothing lies past the end, the table's ends are
// where this disk has them, and the claim lies where nothing else does.
func (j *judged) layout() {
	t := &j.p.Target
	for _, f := range t.Check() {
		j.bad("target: %s", f)
	}
	for _, tab := range t.OfKind(manifest.KindTable) {
		disk := t.Node(tab.On[0].Node)
		d := disk.Disk
		last := d.Bytes / d.Logical * d.Logical
		first := int64(512)
		if tab.Table.Type == "gpt" {
			last -= map[int64]int64{512: 33 * 512, 4096: 5 * 4096}[d.Logical]
			first = map[int64]int64{512: 34 * 512, 4096: 6 * 4096}[d.Logical]
			if tab.Table.LastLBA+d.Logical != last {
				j.bad("%s: the last usable sector ends at %d, not %d", tab.ID, tab.Table.LastLBA+d.Logical, last)
			}
			if tab.Table.FirstLBA < first {
				j.bad("%s: the first usable sector is at %d, before %d", tab.ID, tab.Table.FirstLBA, first)
			}
		}
		at := j.p.Assigned(disk.ID).ClaimAt
		if at != 0 && (at < first || at+manifest.ClaimSize > last) {
			j.bad("%s: the claim at %d lies in the table", tab.ID, at)
		}
		for _, p := range partitions(t, tab.ID) {
			begin, end := p.Partition.Start, p.Partition.Start+p.Partition.Size
			if begin < first || end > last {
				j.bad("%s lies at %d to %d, outside %d to %d", p.ID, begin, end, first, last)
			}
			if at != 0 && at < end && begin < at+manifest.ClaimSize {
				j.bad("%s: the claim at %d lies in it", p.ID, at)
			}
		}
	}
}

// extents: each extent of a PV belongs to one LV at most, and all of them lie
// in the PV, and the PV in its device.
func (j *judged) extents() {
	t := &j.p.Target
	type place struct {
		pv     manifest.ID
		extent int64
	}
	owner := map[place]manifest.ID{}
	for _, lv := range t.OfKind(manifest.KindLV) {
		sum := int64(0)
		for _, s := range lv.LV.Segments {
			sum += s.Extents
			pv := t.Node(s.Areas[0].PV)
			for x := s.Areas[0].Start; x < s.Areas[0].Start+s.Extents; x++ {
				key := place{pv.ID, x}
				if x >= pv.PV.Extents || owner[key] != "" {
					j.bad("extent %d of %s: past the end, or of %s too", x, pv.ID, owner[key])
					return
				}
				owner[key] = lv.ID
			}
		}
		if sum*extent != lv.Bytes {
			j.bad("%s has %d extents", lv.ID, sum)
		}
	}
	for _, pv := range t.OfKind(manifest.KindPV) {
		dev := t.Node(pv.On[0].Node)
		if pv.PV.PEStart+pv.PV.Extents*extent > dev.Bytes {
			j.bad("%s does not fit on %s", pv.ID, dev.ID)
		}
	}
}

// steps: each comes after what it needs, only targets are erased, and all
// that the backup holds is mounted.
func (j *judged) steps() {
	done := map[string]bool{}
	stage := 0
	for _, s := range j.p.Steps {
		at := slices.Index(Stages, s.Stage)
		if done[s.ID] || at < stage {
			j.bad("step %s is there twice or too late", s.ID)
		}
		stage = at
		for _, a := range s.After {
			if !done[a] {
				j.bad("step %s comes before %s", s.ID, a)
			}
		}
		done[s.ID] = true
		for _, e := range s.Erases {
			if j.p.Assigned(e) == nil {
				j.bad("step %s erases %s, which is no target", s.ID, e)
			}
		}
		if s.Node != "" && j.p.Target.Node(s.Node) == nil {
			j.bad("step %s names a node that is not in the target", s.ID)
		}
		if s.Text(&j.p.Target, j.p) == s.ID {
			j.bad("step %s has no text", s.ID)
		}
	}
	for _, d := range j.p.Target.OfKind(manifest.KindDisk) {
		if !done["wipe/"+string(d.ID)] || j.p.Assigned(d.ID) == nil {
			j.bad("%s is not wiped or not assigned", d.ID)
		}
	}
	for _, mt := range j.in.Manifest.Storage.Mounts {
		gone := slices.ContainsFunc(j.p.Uncovered, func(u manifest.Uncovered) bool { return u.Path == mt.Path && u.Accepted })
		if mt.Path != "none" && mt.Backup != manifest.ScopeExclude && !gone && !done["mount/"+string(mt.Node)+"/"+string(mt.Path)] {
			j.bad("%s is not mounted", mt.Path)
		}
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
				d.Marks = []manifest.Mark{{Device: "x1", Host: in.Manifest.Host.Name, Newest: "2030-01-01T00:00:00Z", Unfinished: a.ClaimAt == 0}}
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
