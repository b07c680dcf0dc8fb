package plan

import (
	"slices"

	"lifeboat/manifest"
	"lifeboat/report"
)

// slack is by how many bytes the layout of a captured disk can become
// smaller, added up from what stands on it.
func (j *judged) slack(c *manifest.Node, sec int64) int64 {
	g := &j.in.Manifest.Storage
	type part struct{ end, slack int64 }
	var parts []part
	var box, logical int64
	for _, n := range j.p.Target.Above(c.ID) {
		n = g.Node(n.ID)
		if p := n.Partition; p != nil && n.On[0].Node != c.ID {
			if p.Type == "05" {
				box = p.Start + p.Size
				continue
			}
			if p.Number > 4 && g.Node(n.On[0].Node).Table.Type == "dos" {
				logical = max(logical, p.Start+p.Size)
			}
			parts = append(parts, part{p.Start + p.Size, j.unused(n.ID, p.Size)})
		}
		if n.On[0].Node == c.ID && n.Kind == manifest.KindPV {
			size := n.PV.PEStart + n.PV.Extents*extent
			parts = append(parts, part{size, size - n.PV.PEStart - max(1, j.busy(n.ID))*extent})
		}
	}
	if logical > 0 {
		parts = append(parts, part{box, box - logical})
	}
	slices.SortStableFunc(parts, func(a, b part) int { return int(min(1, max(-1, b.end-a.end))) })
	sum := int64(0)
	for i, p := range parts {
		if i == 0 {
			sum += p.slack / sec * sec
		} else {
			sum += p.slack / mib * mib
		}
	}
	return sum
}

// unused is what the contents of a partition leave of it at the least.
func (j *judged) unused(part manifest.ID, size int64) int64 {
	for i := range j.p.Target.Nodes {
		n := j.in.Manifest.Storage.Node(j.p.Target.Nodes[i].ID)
		if len(n.On) != 1 || n.On[0].Node != part {
			continue
		}
		switch n.Kind {
		case manifest.KindFS:
			return size - n.Bytes
		case manifest.KindSwap:
			return size - (n.Bytes/2+mib-1)/mib*mib
		case manifest.KindPV:
			return size - n.PV.PEStart - max(1, j.busy(n.ID))*extent
		}
	}
	return 0
}

// busy counts the extents of a physical volume that must stay.
func (j *judged) busy(pv manifest.ID) int64 {
	sum := int64(0)
	for i := range j.p.Target.Nodes {
		lv := j.in.Manifest.Storage.Node(j.p.Target.Nodes[i].ID)
		if lv.LV == nil {
			continue
		}
		for _, s := range lv.LV.Segments {
			for _, a := range s.Areas {
				if a.PV != pv {
					continue
				}
				n := s.Extents / int64(len(s.Areas))
				if j.onlySwap(lv) {
					n -= n / 2
				}
				sum += n
			}
		}
	}
	return sum
}

func (j *judged) onlySwap(lv *manifest.Node) bool {
	swap := false
	for _, n := range j.in.Manifest.Storage.Nodes {
		swap = swap || n.Kind == manifest.KindSwap && n.On[0].Node == lv.ID
	}
	return swap && !slices.ContainsFunc(lv.LV.Segments, func(s manifest.Segment) bool { return len(s.Areas) > 1 })
}

// smaller: filesystems and other volumes are as large as captured, swap at
// least half, and nothing changed on a disk that is large enough.
func (j *judged) smaller() {
	g, changed := &j.in.Manifest.Storage, false
	short := map[manifest.ID]bool{}
	for _, a := range j.p.Assignments {
		if short[a.Node] = !j.room(g.Node(a.Node), j.disk(a.Disk.Name).Disk, false); short[a.Node] {
			j.waste(a.Node)
		}
	}
	for i := range j.p.Target.Nodes {
		n := &j.p.Target.Nodes[i]
		was := g.Node(n.ID)
		if n.Kind == manifest.KindDisk || n.Kind == manifest.KindTable {
			continue
		}
		on := slices.ContainsFunc(j.p.Target.Disks(n.ID), func(d *manifest.Node) bool { return short[d.ID] })
		less := was.Bytes - n.Bytes
		if n.LV != nil {
			less = max(less, j.moved(n, was))
		}
		if p := n.Partition; p != nil {
			begin := was.Partition.Start - p.Start
			if p.Size != was.Partition.Size-less || begin < 0 || begin%mib != 0 {
				j.bad("%s is at %d with %d bytes, was at %d with %d", n.ID, p.Start, p.Size, was.Partition.Start, was.Partition.Size)
			}
			less = max(less, begin)
		}
		if less < 0 || less > 0 && !on {
			j.bad("%s has %d bytes less, and its disks are large enough", n.ID, less)
		}
		changed = changed || less > 0
		if lost := was.Bytes - n.Bytes; lost > 0 && (n.Kind == manifest.KindFS || n.Kind == manifest.KindLV && !j.onlySwap(was) || n.Kind == manifest.KindSwap && 2*n.Bytes < was.Bytes) {
			j.bad("%s has %d bytes less", n.ID, lost)
		}
		if n.Kind == manifest.KindFS || n.Kind == manifest.KindSwap {
			if dev := j.p.Target.Node(n.On[0].Node); dev.Kind != manifest.KindDisk && n.Bytes > dev.Bytes {
				j.bad("%s has no room on its device", n.ID)
			}
		}
	}
	said := slices.ContainsFunc(j.p.Warnings, func(w report.Problem) bool { return w.Code == report.CodeShrunk && len(w.Details) > 0 })
	if said != changed {
		j.bad("something became smaller: %v; said: %v", changed, said)
	}
	j.groups()
}

// refused: a host that is valid makes no graph that is not, and a disk that
// has the room is never too small.
func (j *judged) refused() {
	codes := codes(j.p.Refusals)
	if slices.Contains(codes, report.CodeManifest) {
		j.bad("the manifest is valid: %+v", j.p.Refusals)
	}
	if !slices.Contains(codes, report.CodeDiskTooSmall) || len(j.p.Assignments) < len(j.p.Target.OfKind(manifest.KindDisk)) {
		return
	}
	for _, a := range j.p.Assignments {
		if !j.room(j.in.Manifest.Storage.Node(a.Node), j.disk(a.Disk.Name).Disk, true) {
			return
		}
	}
	j.bad("every disk has the room: %+v", j.p.Refusals)
}

// waste: what became smaller did so by as much as it had to, in whole MiB.
func (j *judged) waste(disk manifest.ID) {
	d, end, tail := j.p.Target.Node(disk).Disk, int64(0), int64(0)
	for _, n := range j.p.Target.Above(disk) {
		switch {
		case n.Partition != nil:
			end = max(end, n.Partition.Start+n.Partition.Size)
		case n.Table != nil && n.Table.Type == "gpt":
			tail = map[int64]int64{512: 33 * 512, 4096: 5 * 4096}[d.Logical]
		}
	}
	if end > 0 && end+tail <= d.Bytes/d.Logical*d.Logical-mib {
		j.bad("%s: the layout ends at %d of %d bytes, and something was made smaller", disk, end, d.Bytes)
	}
}

// moved is 1 when a volume lies elsewhere than captured. Its pieces must be
// the same ones in the same order.
func (j *judged) moved(n, was *manifest.Node) int64 {
	out := int64(0)
	if len(n.LV.Segments) != len(was.LV.Segments) {
		j.bad("%s is in %d pieces, was in %d", n.ID, len(n.LV.Segments), len(was.LV.Segments))
		return 0
	}
	for i, s := range n.LV.Segments {
		w := was.LV.Segments[i]
		if s.Extents != w.Extents && !j.onlySwap(was) || s.Type != w.Type || len(s.Areas) != len(w.Areas) {
			j.bad("%s: a piece is %+v, was %+v", n.ID, s, w)
			return 0
		}
		for k := range s.Areas {
			if s.Areas[k].PV != w.Areas[k].PV || s.Areas[k].Start > w.Areas[k].Start {
				j.bad("%s: a piece is at %+v, was at %+v", n.ID, s.Areas[k], w.Areas[k])
			}
			if s.Areas[k] != w.Areas[k] {
				out = 1
			}
		}
	}
	return out
}

// groups: the sums of each volume group are right.
func (j *judged) groups() {
	t := &j.p.Target
	for _, vg := range t.OfKind(manifest.KindVG) {
		total, used := int64(0), int64(0)
		for _, e := range vg.On {
			total += t.Node(e.Node).PV.Extents
		}
		for _, lv := range t.OfKind(manifest.KindLV) {
			used += lv.Bytes / extent
		}
		if vg.VG.Extents != total || vg.Bytes != total*extent || vg.VG.Free > total-used {
			j.bad("%s has %d extents, %d free; its volumes have %d, used are %d", vg.ID, vg.VG.Extents, vg.VG.Free, total, used)
		}
	}
}

// striped makes a volume over the first extents that are free on all of the
// group's physical volumes.
func (h *host) striped(vg manifest.ID, name string, each int64) manifest.ID {
	g, s := h.m.Storage.Node(vg), manifest.Segment{Type: "striped", Stripes: 0, StripeSize: 64 * kib}
	for _, e := range g.On {
		at := int64(0)
		for _, l := range h.m.Storage.OfKind(manifest.KindLV) {
			for _, sg := range l.LV.Segments {
				for _, a := range sg.Areas {
					if a.PV == e.Node {
						at += sg.Extents / int64(len(sg.Areas))
					}
				}
			}
		}
		s.Areas = append(s.Areas, manifest.Area{PV: e.Node, Start: at})
		s.Extents += each
		s.Stripes++
	}
	g.VG.Free -= s.Extents
	lv := &manifest.LV{Name: name, UUID: h.uuid(), Type: "striped", Segments: []manifest.Segment{s}}
	return h.node(manifest.Node{ID: manifest.ID("lv:" + lv.UUID), Kind: manifest.KindLV, On: on(vg), Bytes: s.Extents * extent, LV: lv})
}

// leastFree is how many extents every physical volume of a group has free.
func (h *host) leastFree(vg manifest.ID) int64 {
	out := int64(1 << 40)
	for _, e := range h.m.Storage.Node(vg).On {
		free := h.m.Storage.Node(e.Node).PV.Extents
		for _, l := range h.m.Storage.OfKind(manifest.KindLV) {
			for _, sg := range l.LV.Segments {
				for _, a := range sg.Areas {
					if a.PV == e.Node {
						free -= sg.Extents / int64(len(sg.Areas))
					}
				}
			}
		}
		out = min(out, free)
	}
	return out
}
