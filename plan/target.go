package plan

import (
	"slices"
	"strings"

	"lifeboat/manifest"
	"lifeboat/report"
)

// makeTarget makes the graph as it will be: what is kept of the captured one,
// on the disks that were found. Sizes stay; only what belongs to the disk
// itself is new.
func (k *maker) makeTarget() {
	t := &k.p.Target
	for i := range k.g.Nodes {
		n := k.g.Nodes[i]
		if !k.kept[n.ID] {
			continue
		}
		n.Seen = manifest.Seen{Used: n.Seen.Used}
		switch n.Kind {
		case manifest.KindDisk:
			n = k.targetDisk(n)
		case manifest.KindTable:
			n = k.targetTable(n)
		}
		t.Nodes = append(t.Nodes, n)
	}
	for _, mt := range k.g.Mounts {
		if !k.kept[mt.Node] || k.gone[mt.Path] {
			continue
		}
		if k.empty[mt.Path] {
			mt.Backup = manifest.ScopeNone
		}
		t.Mounts = append(t.Mounts, mt)
	}
	// A child before its parent would be mounted over.
	slices.SortStableFunc(t.Mounts, func(a, b manifest.Mount) int { return depth(a) - depth(b) })
}

// depth orders mounts from the root up, swap last.
func depth(mt manifest.Mount) int {
	switch {
	case isSwap(mt):
		return 1 << 16
	case mt.Path == "/":
		return 0
	}
	return strings.Count(string(mt.Path), "/")
}

func (k *maker) targetDisk(n manifest.Node) manifest.Node {
	m, ok := k.to[n.ID]
	if !ok {
		return n
	}
	d := m.disk.Disk
	n.Disk, n.Bytes = &d, d.Bytes
	return n
}

// targetTable puts the ends of a GPT to where the new disk has them. On a
// disk of the captured size and sectors nothing changes, even what another
// tool would have written differently.
func (k *maker) targetTable(n manifest.Node) manifest.Node {
	c := k.g.Node(n.On[0].Node)
	m, ok := k.to[c.ID]
	if !ok {
		return n
	}
	d := m.disk.Disk
	if d.Bytes == c.Disk.Bytes && sector(d) == sector(*c.Disk) {
		return n
	}
	t, sec := *n.Table, sector(d)
	n.Bytes += d.Bytes - c.Disk.Bytes
	if t.Type == "gpt" {
		t.LastLBA = d.Bytes/sec*sec - gptTail(&t, sec) - sec
		if sec != sector(*c.Disk) || t.FirstLBA < gptFirst(&t, sec) {
			t.FirstLBA = max(roundUp(t.FirstLBA, sec), gptFirst(&t, sec))
		}
		if first := firstStart(k.g, n.ID); first >= gptFirst(&t, sec) {
			t.FirstLBA = min(t.FirstLBA, first)
		}
	}
	n.Table = &t
	return n
}

// assign lists the assignments in the graph's order.
func (k *maker) assign() {
	for _, c := range k.g.OfKind(manifest.KindDisk) {
		m, ok := k.to[c.ID]
		if !ok {
			continue
		}
		a := Assignment{Node: c.ID, Was: diskText(capturedRef(c)), Disk: ref(m.disk), Rule: m.rule, Why: m.why, Lost: k.lost[c.ID]}
		a.ClaimAt = k.claimAt(c.ID, m.disk.Disk)
		if a.ClaimAt == 0 && m.rule == ByBlank && wwn(m.disk.Disk) == "" && serial(m.disk.Disk) == "" {
			k.warn(report.CodeInterrupted, c.ID, "name the disk in a mapping file",
				"%s has no serial and its layout leaves no room for a mark: a recovery that is cut off would not find it again", diskText(a.Disk))
		}
		k.p.Assignments = append(k.p.Assignments, a)
	}
}

// claimAt finds the place for the claim on a target disk: one that no part of
// the layout uses; 0 when there is none.
func (k *maker) claimAt(disk manifest.ID, d manifest.Disk) int64 {
	t := tableOn(&k.p.Target, disk)
	if t == nil {
		return 0 // a volume on the whole disk uses all of it
	}
	sec := sector(d)
	for _, off := range manifest.ClaimPlaces(d.Bytes) {
		free := true
		if t.Table.Type == "gpt" {
			free = off >= gptFirst(t.Table, sec) && off+manifest.ClaimSize <= d.Bytes/sec*sec-gptTail(t.Table, sec)
		}
		for _, p := range partitions(&k.p.Target, t.ID) {
			// A logical partition has its EBR in the sectors before it.
			begin, end := p.Partition.Start, p.Partition.Start+p.Partition.Size
			free = free && (off >= end || off+manifest.ClaimSize <= begin)
		}
		if free {
			return off
		}
	}
	return 0
}

// listDisks sorts the machine's disks into those that are erased and those
// that are not, with the reason.
func (k *maker) listDisks() {
	erased := map[*manifest.MachineDisk]bool{}
	for _, a := range k.p.Assignments {
		k.p.Erased = append(k.p.Erased, a.Disk)
		erased[k.to[a.Node].disk] = true
	}
	if k.mach == nil || k.in.Policy.OwnHardware {
		return
	}
	var f *finder
	if k.g != nil {
		f = newFinder(k.g, k.mach)
	}
	for i := range k.mach.Disks {
		d := &k.mach.Disks[i]
		if erased[d] {
			continue
		}
		r := ref(d)
		r.Reason = k.whyNot(f, i)
		k.p.Untouched = append(k.p.Untouched, r)
	}
	slices.SortFunc(k.p.Untouched, compareRefs)
}

// whyNot says why machine disk i is not touched.
func (k *maker) whyNot(f *finder, i int) string {
	if why, _ := k.protection(&k.mach.Disks[i]); why != "" {
		return why
	}
	var c *manifest.Node
	if f != nil {
		c = f.known(i)
	}
	switch {
	case c != nil && !k.need[c.ID]:
		return "it is " + k.name(c.ID) + ", which is not rebuilt"
	case c != nil:
		return "its WWN or serial is that of " + k.name(c.ID) + ", whose place it does not take"
	}
	return "it takes no captured disk's place"
}
