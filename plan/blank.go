package plan

import (
	"fmt"

	"lifeboat/manifest"
	"lifeboat/report"
)

// rejection says why a disk cannot take the place of a captured one; code is
// what the refusal says if this alone stood in the way.
type rejection struct{ code, why string }

// rungs of near misses: which of them a refusal names when several disks
// failed for one reason each.
var nearMiss = []string{report.CodeDiskProtected, report.CodeDiskNotBlank, report.CodeSectorSize, report.CodeDiskTooSmall}

// matchBlank assigns the disks that nothing identifies to blank disks, if
// that is possible in exactly one way. There is no guessing: two possible
// ways are none. Disks on which something would have to become smaller count
// only when there is no way without them.
func (k *maker) matchBlank(f *finder, rest []*manifest.Node, taken map[int]manifest.ID) {
	if len(rest) == 0 {
		return
	}
	why := k.rejections(f, rest, taken)
	ok := func(i, j int) bool { return len(why[i][j]) == 0 }
	whole := func(i, j int) bool { return ok(i, j) && k.fitsWhole(rest[i], f.disks[j].Disk) }
	first, ways := onlyMatching(len(rest), len(f.disks), whole)
	if ways == 0 {
		first, ways = onlyMatching(len(rest), len(f.disks), ok)
	}
	switch ways {
	case 1:
		for i, j := range first {
			k.to[rest[i].ID] = match{&f.disks[j], ByBlank, "the only possible assignment among the blank disks"}
		}
	case 2:
		k.refuseAmbiguous(f, rest, ok)
	default:
		k.refuseMissing(f, rest, why)
	}
}

// rejections lists for each captured disk what keeps each machine disk from
// its place.
func (k *maker) rejections(f *finder, rest []*manifest.Node, taken map[int]manifest.ID) [][][]rejection {
	why := make([][][]rejection, len(rest))
	for i, c := range rest {
		why[i] = make([][]rejection, len(f.disks))
		for j := range f.disks {
			why[i][j] = k.reject(f, c, j, taken)
		}
	}
	return why
}

// reject lists what keeps machine disk j from taking the place of c by
// blankness.
func (k *maker) reject(f *finder, c *manifest.Node, j int, taken map[int]manifest.ID) []rejection {
	d := &f.disks[j]
	var out []rejection
	no := func(code, format string, a ...any) { out = append(out, rejection{code, fmt.Sprintf(format, a...)}) }
	if other, ok := taken[j]; ok && !k.need[other] {
		no(report.CodeDiskMissing, "it is %s, which is not rebuilt", k.name(other))
	} else if ok {
		no(report.CodeDiskMissing, "it takes the place of %s", k.name(other))
	} else if other := f.known(j); other != nil {
		no(report.CodeDiskMissing, "its WWN or serial is that of %s", k.name(other.ID))
	}
	if f.shared(j) {
		no(report.CodeDiskMissing, "another disk has the same WWN")
	}
	// What carries the backup, or is mounted, is never blank: to say so as well
	// would hide the reason that counts.
	if p, _ := k.protection(d); p != "" {
		no(report.CodeDiskProtected, "%s", p)
	} else if !d.Blank() {
		no(report.CodeDiskNotBlank, "%s", contents(d))
	}
	if plugged(d.Disk) && !plugged(*c.Disk) {
		no(report.CodeDiskMissing, "it is a removable or USB disk, and the captured one was none")
	}
	if remote(d.Disk) && !remote(*c.Disk) {
		no(report.CodeDiskMissing, "it is reached over a network (%s), and the captured one was not", d.Disk.Transport)
	}
	for _, p := range k.fit(c, d.Disk, "it") {
		no(p.Code, "%s", p.Text)
	}
	return out
}

func plugged(d manifest.Disk) bool { return d.Removable || d.Transport == "usb" }

func remote(d manifest.Disk) bool {
	switch d.Transport {
	case "iscsi", "fc", "fcoe", "nbd":
		return true
	}
	return false
}

// contents says why a disk is not blank.
func contents(d *manifest.MachineDisk) string {
	switch {
	case d.Unread != "":
		return "what it holds could not be read: " + d.Unread
	case d.Table != "":
		return "it is not blank: it holds a partition table (" + d.Table + ")"
	}
	s := d.Signatures[0]
	return "it is not blank: it holds " + s.Type + " on " + s.Device
}

func (k *maker) refuseAmbiguous(f *finder, rest []*manifest.Node, ok func(i, j int) bool) {
	names := k.names(rest)
	p := k.refuse(report.CodeDiskAmbiguous, rest[0].ID, "name the disks in a mapping file, or unplug those that are not meant",
		"more than one assignment of blank disks is possible for %s", names)
	for i, c := range rest {
		for j := range f.disks {
			if ok(i, j) {
				p.Details = append(p.Details, fmt.Sprintf("%s could be %s", k.name(c.ID), diskText(ref(&f.disks[j]))))
			}
		}
	}
}

// refuseMissing names, for each captured disk that found no place, the
// nearest miss.
func (k *maker) refuseMissing(f *finder, rest []*manifest.Node, why [][][]rejection) {
	said := false
	for i, c := range rest {
		free := false
		near := map[string]int{}
		var details []string
		for j := range f.disks {
			r := why[i][j]
			free = free || len(r) == 0
			if len(r) == 1 {
				if _, have := near[r[0].code]; !have {
					near[r[0].code] = j
				}
			}
			for _, x := range r {
				details = append(details, fmt.Sprintf("%s: %s", diskText(ref(&f.disks[j])), x.why))
			}
		}
		if free {
			continue
		}
		said = true
		if p := k.refuseNear(f, c, i, near, why); len(details) > 1 || p.Code == report.CodeDiskMissing {
			p.Details = details
		}
	}
	if !said { // each has candidates, but not enough for all of them
		p := k.refuse(report.CodeDiskMissing, rest[0].ID, "add a blank disk, or name the disks in a mapping file",
			"there are not enough blank disks for %s", k.names(rest))
		for i, c := range rest {
			for j := range f.disks {
				if len(why[i][j]) == 0 {
					p.Details = append(p.Details, fmt.Sprintf("%s could be %s", k.name(c.ID), diskText(ref(&f.disks[j]))))
				}
			}
		}
	}
}

func (k *maker) refuseNear(f *finder, c *manifest.Node, i int, near map[string]int, why [][][]rejection) *report.Problem {
	next := map[string]string{
		report.CodeDiskProtected: "add a blank disk, or move the medium or backup off it",
		report.CodeDiskNotBlank:  "name it in a mapping file if its contents may be erased, or add a blank disk",
		report.CodeSectorSize:    "add a blank disk with sectors like the captured one's",
		report.CodeDiskTooSmall:  "add a blank disk that is large enough",
	}
	for _, code := range nearMiss {
		j, ok := near[code]
		if !ok {
			continue
		}
		d := &f.disks[j]
		return k.refuse(code, object(code, c, d), next[code], "%s cannot take the place of %s: %s", diskText(ref(d)), k.name(c.ID), why[i][j][0].why)
	}
	return k.refuse(report.CodeDiskMissing, c.ID, "add a blank disk that is large enough, or name a disk in a mapping file",
		"no disk of this machine can take the place of %s", k.name(c.ID))
}

// object of a refusal: the disk that is protected or not blank, else the
// captured disk whose layout does not fit.
func object(code string, c *manifest.Node, d *manifest.MachineDisk) string {
	if code == report.CodeDiskProtected || code == report.CodeDiskNotBlank {
		return d.Name
	}
	return string(c.ID)
}

// onlyMatching looks for an assignment of n things to different ones of m
// places. ways is 0, 1 or 2; 2 stands for more than one.
func onlyMatching(n, m int, ok func(i, j int) bool) (first []int, ways int) {
	first = saturate(n, m, ok)
	if first == nil {
		return nil, 0
	}
	// Unique if and only if leaving out any one pair leaves no assignment.
	for i := range n {
		without := func(a, b int) bool { return ok(a, b) && (a != i || b != first[i]) }
		if saturate(n, m, without) != nil {
			return first, 2
		}
	}
	return first, 1
}

// saturate finds places for all n, or nil, by augmenting paths.
func saturate(n, m int, ok func(i, j int) bool) []int {
	at := make([]int, m) // place → thing+1
	for i := range n {
		seen := make([]bool, m)
		var try func(int) bool
		try = func(i int) bool {
			for j := range m {
				if seen[j] || !ok(i, j) {
					continue
				}
				seen[j] = true
				if at[j] == 0 || try(at[j]-1) {
					at[j] = i + 1
					return true
				}
			}
			return false
		}
		if !try(i) {
			return nil
		}
	}
	out := make([]int, n)
	for j, i := range at {
		if i > 0 {
			out[i-1] = j
		}
	}
	return out
}
