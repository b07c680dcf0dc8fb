package plan

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"lifeboat/manifest"
	"lifeboat/report"
)

// A replacement disk that is a little smaller takes the layout all the same,
// if the layout has what nobody misses: room of a partition that its contents
// do not use, free extents, and up to half of each swap area. No filesystem
// and no other volume changes its size. What lies behind something that
// became smaller moves towards the beginning by the same number of bytes.

// cutUnit is what cuts are rounded to, bytes, so that whatever moves keeps the
// alignment that it was captured with.
const cutUnit = 1 << 20

// giver is a place on a disk that can become smaller: a partition, the room
// behind the last logical partition (by the id of the extended one), or the
// whole disk where no table is.
type giver struct {
	id   manifest.ID
	end  int64 // as captured, bytes
	give int64 // at most this much smaller, bytes
}

// givers lists what of a captured disk can become smaller, from its end
// towards its beginning. sec is the sector of the disk that takes its place.
func (k *maker) givers(c *manifest.Node, sec int64) []giver {
	var out []giver
	for _, t := range k.g.OfKind(manifest.KindTable) {
		if !k.kept[t.ID] || len(t.On) != 1 || t.On[0].Node != c.ID {
			continue
		}
		for _, p := range partitions(k.g, t.ID) {
			s := giver{p.ID, p.Partition.Start + p.Partition.Size, 0}
			if container(t, p) {
				s.give = tailOf(k.g, t.ID, p)
			} else {
				s.give = k.spare(p, p.Partition.Size)
			}
			out = append(out, s)
		}
	}
	if len(out) == 0 {
		// Without a table only what the contents need was asked for.
		need, _ := k.required(c, sec)
		out = append(out, giver{c.ID, need, k.spare(c, need)})
	}
	slices.SortStableFunc(out, func(a, b giver) int { return cmp.Compare(b.end, a.end) })
	for i := range out {
		unit := int64(cutUnit)
		if i == 0 {
			unit = sec // nothing lies behind it that could lose its alignment
		}
		out[i].give = max(0, out[i].give/unit*unit)
	}
	return out
}

// container tells of an extended partition, which holds the logical ones.
func container(t, p *manifest.Node) bool {
	if t.Table.Type != "dos" || p.Partition.Number > 4 {
		return false
	}
	switch p.Partition.Type {
	case "05", "0f", "0F", "85":
		return true
	}
	return false
}

func inside(p, box *manifest.Node) bool {
	return p.Partition.Number > 4 && p.Partition.Start > box.Partition.Start && p.Partition.Start < box.Partition.Start+box.Partition.Size
}

// tailOf is the room behind the last logical partition. A container that
// holds none is left as it is.
func tailOf(g *manifest.Storage, table manifest.ID, box *manifest.Node) int64 {
	last := int64(0)
	for _, p := range partitions(g, table) {
		if inside(p, box) {
			last = max(last, p.Partition.Start+p.Partition.Size)
		}
	}
	if last == 0 {
		return 0
	}
	return box.Partition.Start + box.Partition.Size - last
}

// spare is how much smaller a device of so many bytes may become. What holds
// nothing that is known and rebuilt stays as it is.
func (k *maker) spare(dev *manifest.Node, bytes int64) int64 {
	var over []*manifest.Node
	for i := range k.g.Nodes {
		if n := &k.g.Nodes[i]; slices.ContainsFunc(n.On, func(e manifest.Edge) bool { return e.Node == dev.ID }) {
			over = append(over, n)
		}
	}
	if len(over) != 1 || !k.kept[over[0].ID] || over[0].Bytes <= 0 {
		return 0
	}
	switch n := over[0]; n.Kind {
	case manifest.KindFS:
		return bytes - n.Bytes
	case manifest.KindSwap:
		return bytes - roundUp(n.Bytes/2, cutUnit)
	case manifest.KindPV:
		vg := k.groupOf(n.ID)
		if vg == nil || n.PV.MDACopies > 1 {
			return 0 // a second metadata area lies at the device's end
		}
		return bytes - n.PV.PEStart - times(max(1, k.leastExtents(vg, n.ID)), vg.VG.ExtentSize)
	}
	return 0
}

// groupOf is the volume group that stands on a physical volume and is rebuilt,
// or nil.
func (k *maker) groupOf(pv manifest.ID) *manifest.Node {
	for _, vg := range k.g.OfKind(manifest.KindVG) {
		if k.kept[vg.ID] && slices.ContainsFunc(vg.On, func(e manifest.Edge) bool { return e.Node == pv }) {
			return vg
		}
	}
	return nil
}

// leastExtents is how many extents of a physical volume its volumes need when
// each swap area gives up half of what lies there.
func (k *maker) leastExtents(vg *manifest.Node, pv manifest.ID) int64 {
	least := int64(0)
	for _, lv := range k.g.OfKind(manifest.KindLV) {
		if !k.kept[lv.ID] || lv.On[0].Node != vg.ID {
			continue
		}
		swap := isSwapLV(k.g, lv)
		for _, s := range lv.LV.Segments {
			for _, a := range s.Areas {
				n := s.Extents / int64(max(1, len(s.Areas)))
				if a.PV != pv {
					continue
				}
				if least += n; swap {
					least -= n / 2
				}
			}
		}
	}
	return least
}

// isSwapLV tells of a volume that holds swap and lies in one piece after the
// other: of a striped one nothing is cut.
func isSwapLV(g *manifest.Storage, lv *manifest.Node) bool {
	for _, s := range lv.LV.Segments {
		if len(s.Areas) != 1 {
			return false
		}
	}
	over := g.Above(lv.ID)
	return len(over) == 1 && over[0].Kind == manifest.KindSwap
}

// least is the smallest disk that a layout fits on, bytes, once everything is
// given up that can be.
func (k *maker) least(c *manifest.Node, sec int64) int64 {
	need, _ := k.required(c, sec)
	for _, s := range k.givers(c, sec) {
		need -= s.give
	}
	return need
}

// cuts says how much smaller each giver becomes on a disk; nil when the layout
// fits as it is, or not at all.
func (k *maker) cuts(c *manifest.Node, d manifest.Disk) map[manifest.ID]int64 {
	sec := sector(d)
	need, _ := k.required(c, sec)
	over := need - d.Bytes/sec*sec
	if over <= 0 || k.least(c, sec) > d.Bytes/sec*sec {
		return nil
	}
	out := map[manifest.ID]int64{}
	for _, s := range k.givers(c, sec) {
		if n := min(s.give, roundUp(over, cutUnit)); n > 0 && over > 0 {
			out[s.id] = n
			over -= n
		}
	}
	return out
}

// shrink makes the target graph fit on disks that are a little smaller than
// it was captured.
func (k *maker) shrink() {
	for _, c := range k.g.OfKind(manifest.KindDisk) {
		m, ok := k.to[c.ID]
		if !ok {
			continue
		}
		cut := k.cuts(c, m.disk.Disk)
		if len(cut) == 0 {
			continue
		}
		need, _ := k.required(c, sector(m.disk.Disk))
		p := report.Problem{Code: report.CodeShrunk, Severity: report.Warning, Object: string(c.ID),
			Text: fmt.Sprintf("%s is smaller than the captured layout: %s missing. No filesystem becomes smaller, only what is listed", diskText(ref(m.disk)), missing(need-m.disk.Disk.Bytes)),
			Next: "use a disk of the captured size if that will not do"}
		s := shrinker{k: k, cut: cut}
		s.partitions(c)
		for _, id := range slices.Sorted(maps.Keys(cut)) {
			s.contents(id)
		}
		p.Details = s.said
		k.p.Warnings = append(k.p.Warnings, p)
	}
}
