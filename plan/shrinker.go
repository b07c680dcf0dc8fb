package plan

import (
	"cmp"
	"fmt"
	"slices"

	"lifeboat/manifest"
)

// shrinker changes the target graph by the cuts of one disk. Nodes share what
// they point to with the captured graph, so each is copied before it changes.
type shrinker struct {
	k    *maker
	cut  map[manifest.ID]int64
	said []string // what changed, for people
}

func (s *shrinker) say(format string, a ...any) { s.said = append(s.said, fmt.Sprintf(format, a...)) }

// partitions moves and shortens the partitions of a captured disk.
func (s *shrinker) partitions(c *manifest.Node) {
	t := tableOn(&s.k.p.Target, c.ID)
	if t == nil {
		return
	}
	was := partitions(s.k.g, t.ID)
	for _, p := range was {
		moved, less := int64(0), s.cut[p.ID]
		for _, q := range was {
			if q.Partition.Start+q.Partition.Size <= p.Partition.Start {
				moved += s.cut[q.ID]
			}
			if container(t, p) && inside(q, p) {
				less += s.cut[q.ID]
			}
		}
		if moved == 0 && less == 0 {
			continue
		}
		n, part := s.k.p.Target.Node(p.ID), *p.Partition
		if n == nil {
			continue
		}
		part.Start -= moved
		part.Size -= less
		n.Bytes -= less
		n.Partition = &part
		if less > 0 {
			s.say("%s has %s less: %s", s.k.name(p.ID), size(less), size(part.Size))
		}
		if moved > 0 {
			s.say("%s begins %s earlier", s.k.name(p.ID), size(moved))
			s.hidden(p, part.Start)
		}
	}
}

// hidden keeps the number of sectors before a FAT true: firmware and old
// loaders believe it.
func (s *shrinker) hidden(p *manifest.Node, start int64) {
	for _, n := range s.k.p.Target.OfKind(manifest.KindFS) {
		if n.FS.VFAT == nil || n.On[0].Node != p.ID || n.FS.VFAT.SectorSize <= 0 {
			continue
		}
		fs, v := *n.FS, *n.FS.VFAT
		if v.Hidden*v.SectorSize == p.Partition.Start {
			v.Hidden = start / v.SectorSize
		}
		fs.VFAT, n.FS = &v, &fs
	}
}

// contents makes what stands on a shortened device fit into it. Filesystems
// lost nothing but room that they did not use.
func (s *shrinker) contents(id manifest.ID) {
	t := &s.k.p.Target
	dev := t.Node(id)
	for i := range t.Nodes {
		n := &t.Nodes[i]
		if dev == nil || len(n.On) != 1 || n.On[0].Node != id {
			continue
		}
		switch n.Kind {
		case manifest.KindSwap:
			s.swap(n, deviceBytes(dev))
		case manifest.KindPV:
			if vg := s.k.groupOf(n.ID); vg != nil {
				s.pv(n, t.Node(vg.ID), deviceBytes(dev))
			}
		}
	}
}

func (s *shrinker) swap(n *manifest.Node, room int64) {
	if n.Bytes <= room {
		return
	}
	s.say("%s shrinks from %s to %s", s.k.name(n.ID), size(n.Bytes), size(room))
	n.Bytes = room
}

// pv takes extents off the end of a physical volume: free ones, then those
// that swap gives up. What lay there moves down, each piece only as far as it
// must.
func (s *shrinker) pv(n, vg *manifest.Node, room int64) {
	pv, g := *n.PV, *vg.VG
	was := pv.Extents
	pv.Extents = min(was, (room-pv.PEStart)/g.ExtentSize)
	pv.DevSize, n.Bytes, n.PV = room, room, &pv
	lost := was - pv.Extents
	if lost == 0 {
		return
	}
	areas := s.areas(vg.ID, n.ID)
	used := int64(0)
	for _, a := range areas {
		used += a.extents()
	}
	short := max(0, used-pv.Extents)
	g.Extents -= lost
	g.Free = max(0, g.Free-(lost-short))
	g.Backup = "" // it tells of extents that are no more
	vg.VG, vg.Bytes = &g, g.Extents*g.ExtentSize
	if lost > short {
		s.say("%s has %d free extents (%s) less", s.k.name(vg.ID), lost-short, size((lost-short)*g.ExtentSize))
	}
	for _, a := range areas {
		if isSwapLV(&s.k.p.Target, a.lv) {
			take := min(a.extents()/2, short)
			short -= take
			s.less(a, take, g.ExtentSize)
		}
	}
	slices.SortFunc(areas, func(a, b piece) int { return cmp.Compare(b.area().Start, a.area().Start) })
	end := pv.Extents
	for _, a := range areas {
		if at := a.area(); at.Start > end-a.extents() {
			at.Start = end - a.extents()
		}
		end = a.area().Start
	}
}

// less takes extents off a piece of a swap volume, and off the swap on it.
func (s *shrinker) less(a piece, extents, extentSize int64) {
	if extents == 0 {
		return
	}
	a.lv.LV.Segments[a.segment].Extents -= extents
	at := int64(0)
	for i := range a.lv.LV.Segments {
		a.lv.LV.Segments[i].Start = at
		at += a.lv.LV.Segments[i].Extents
	}
	a.lv.Bytes = at * extentSize
	for _, n := range s.k.p.Target.OfKind(manifest.KindSwap) {
		if n.On[0].Node == a.lv.ID {
			s.swap(n, a.lv.Bytes)
		}
	}
}

// piece is one area of a logical volume of the target graph.
type piece struct {
	lv              *manifest.Node
	segment, stripe int
}

func (p piece) area() *manifest.Area { return &p.lv.LV.Segments[p.segment].Areas[p.stripe] }

func (p piece) extents() int64 {
	g := p.lv.LV.Segments[p.segment]
	return g.Extents / int64(len(g.Areas))
}

// areas lists what the target's volumes have on a physical volume, ready to
// be changed.
func (s *shrinker) areas(vg, pv manifest.ID) []piece {
	var out []piece
	for _, lv := range s.k.p.Target.OfKind(manifest.KindLV) {
		if lv.On[0].Node != vg {
			continue
		}
		body := *lv.LV
		body.Segments = slices.Clone(body.Segments)
		for i := range body.Segments {
			body.Segments[i].Areas = slices.Clone(body.Segments[i].Areas)
			for j, a := range body.Segments[i].Areas {
				if a.PV == pv {
					out = append(out, piece{lv, i, j})
				}
			}
		}
		lv.LV = &body
	}
	return out
}
