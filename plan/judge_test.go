package plan

import (
	"fmt"
	"slices"
	"strings"

	"lifeboat/manifest"
	"lifeboat/report"
)

// judged is a plan on trial: its rules worked out again without the
// planner's own means.
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
		j.refused()
		return j.faults
	}
	j.targets()
	j.living()
	j.blanks()
	j.layout()
	j.extents()
	j.smaller()
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

// living: nobody watches, and still no target holds what may be a system that
// lives: of this host or another that was used later, done by this order, or
// not to be looked into. The one exception is damage, and a target that this
// order had begun with.
func (j *judged) living() {
	if p := j.in.Policy; !p.Unattended || p.Armed || p.OwnHardware {
		return
	}
	for _, a := range j.p.Assignments {
		d := j.disk(a.Disk.Name)
		for _, m := range d.Marks {
			mine := m.Host == j.in.Manifest.Host.Name || m.MachineID == j.in.Manifest.Host.MachineID
			system := m.Host != "" || m.MachineID != ""
			old := m.Newest < "2026" && m.Newest != "?"
			if !m.Unfinished && (m.Order == j.in.Policy.Order || system && !old && (mine || a.Rule != ByMapping)) {
				j.bad("%s is erased by %s, and holds %+v", d.Name, a.Rule, m)
			}
		}
		begun := d.Claim != nil && d.Claim.Order == j.in.Policy.Order && d.Claim.Node == a.Node
		for _, u := range d.Unlooked {
			if u.Why != manifest.UnlookedDamaged && !begun {
				j.bad("%s is erased by %s, and nobody could look into %+v", d.Name, a.Rule, u)
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
	whole := j.ways(rest, taken, false)
	if whole > 1 || whole == 0 && j.ways(rest, taken, true) != 1 {
		j.bad("%d assignments of blank disks are possible, %d with something made smaller, and one was taken", whole, j.ways(rest, taken, true))
	}
	for _, c := range rest {
		if d := j.disk(j.p.Assigned(c.ID).Disk.Name); whole == 1 && !j.room(c, d.Disk, false) {
			j.bad("%s is made smaller on %s, and another assignment needs none of it", c.ID, d.Name)
		}
	}
}

// ways counts the assignments, by trying all.
func (j *judged) ways(rest []*manifest.Node, taken map[string]bool, smaller bool) int {
	if len(rest) == 0 {
		return 1
	}
	n := 0
	for k := range j.in.Machine.Disks {
		d := &j.in.Machine.Disks[k]
		if !taken[d.Name] && j.candidate(rest[0], d, smaller) {
			taken[d.Name] = true
			n += j.ways(rest[1:], taken, smaller)
			taken[d.Name] = false
		}
	}
	return n
}

func (j *judged) candidate(c *manifest.Node, d *manifest.MachineDisk, smaller bool) bool {
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
	return j.room(c, d.Disk, smaller)
}

// room tells whether the parts that the plan makes on c have room on d, as
// they are or with what can become smaller.
func (j *judged) room(c *manifest.Node, d manifest.Disk, smaller bool) bool {
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
	if smaller {
		end -= j.slack(c, d.Logical)
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
			for _, a := range s.Areas {
				pv := t.Node(a.PV)
				for x := a.Start; x < a.Start+s.Extents/int64(len(s.Areas)); x++ {
					key := place{pv.ID, x}
					if x < 0 || x >= pv.PV.Extents || owner[key] != "" {
						j.bad("extent %d of %s: past the end, or of %s too", x, pv.ID, owner[key])
						return
					}
					owner[key] = lv.ID
				}
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
		if s.Verb == VerbTable && slices.ContainsFunc(j.p.Target.OfKind(manifest.KindPV), func(n *manifest.Node) bool { return done["pv/"+string(n.ID)] }) {
			j.bad("step %s comes after physical volumes, whose group lvm cannot see whole", s.ID)
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
