package plan

import (
	"fmt"
	"slices"

	"lifeboat/manifest"
	"lifeboat/report"
)

// span is a run of extents of one physical volume.
type span struct {
	start, extents int64
	lv             manifest.ID
}

// checkSizes proves that filesystems and swap areas are not larger than what
// they stand on.
func (k *maker) checkSizes() {
	t := &k.p.Target
	for i := range t.Nodes {
		n := &t.Nodes[i]
		if n.Kind != manifest.KindFS && n.Kind != manifest.KindSwap {
			continue
		}
		if dev := deviceBytes(k.under(n)); n.Bytes > dev {
			k.refuse(report.CodeManifest, n.ID, "capture the host again", "%s has %d bytes, its device has %d", k.name(n.ID), n.Bytes, dev)
		}
	}
}

// under is what a node of the target stands on; a disk as captured, for
// whether another one has the room was judged where it was chosen.
func (k *maker) under(n *manifest.Node) *manifest.Node {
	on := k.p.Target.Node(n.On[0].Node)
	if on == nil || on.Kind == manifest.KindDisk {
		return k.g.Node(n.On[0].Node)
	}
	return on
}

// deviceBytes is the size of the device that a node offers.
func deviceBytes(n *manifest.Node) int64 {
	if n.Kind == manifest.KindPartition {
		return n.Partition.Size
	}
	return n.Bytes
}

// checkLVM proves that the volumes can be laid out as captured: every PV
// within its device, every segment within its PVs, no extent twice, and each
// LV as large as its segments.
func (k *maker) checkLVM() {
	t := &k.p.Target
	bad := func(id manifest.ID, format string, a ...any) {
		k.refuse(report.CodeManifest, id, "capture the host again", "%s: %s", k.name(id), fmt.Sprintf(format, a...))
	}
	for _, vg := range t.OfKind(manifest.KindVG) {
		pvs, total := map[manifest.ID]*manifest.Node{}, int64(0)
		for _, e := range vg.On {
			pv := t.Node(e.Node)
			pvs[pv.ID] = pv
			total += pv.PV.Extents
			dev := deviceBytes(k.under(pv))
			if need := pv.PV.PEStart + times(pv.PV.Extents, vg.VG.ExtentSize); need > dev {
				bad(pv.ID, "its %d extents need %d bytes, its device has %d", pv.PV.Extents, need, dev)
			}
		}
		if total != vg.VG.Extents {
			bad(vg.ID, "its physical volumes have %d extents together, not %d", total, vg.VG.Extents)
		}
		k.checkExtents(vg, pvs, bad)
		k.checkMixed(vg)
	}
}

func (k *maker) checkExtents(vg *manifest.Node, pvs map[manifest.ID]*manifest.Node, bad func(manifest.ID, string, ...any)) {
	t := &k.p.Target
	use := map[manifest.ID][]span{}
	for _, lv := range t.OfKind(manifest.KindLV) {
		if len(lv.On) == 0 || lv.On[0].Node != vg.ID {
			continue
		}
		sum := int64(0)
		for _, g := range lv.LV.Segments {
			if len(g.Areas) == 0 || g.Extents <= 0 || g.Extents%int64(len(g.Areas)) != 0 {
				bad(lv.ID, "a segment of %d extents lies on %d stripes", g.Extents, len(g.Areas))
				continue
			}
			if len(g.Areas) > 1 && (g.StripeSize < 512 || g.StripeSize%512 != 0) {
				bad(lv.ID, "stripes of %d bytes are impossible", g.StripeSize)
			}
			if g.Start != sum {
				bad(lv.ID, "a segment begins at extent %d, not at %d", g.Start, sum)
			}
			sum += g.Extents
			for _, a := range g.Areas {
				pv := pvs[a.PV]
				n := g.Extents / int64(len(g.Areas))
				if pv == nil {
					bad(lv.ID, "a segment lies on %s, which is not in its volume group", a.PV)
				} else if a.Start < 0 || a.Start > pv.PV.Extents-n {
					bad(lv.ID, "extents %d to %d lie past the %d extents of %s", a.Start, a.Start+n-1, pv.PV.Extents, k.name(pv.ID))
				} else {
					use[a.PV] = append(use[a.PV], span{a.Start, n, lv.ID})
				}
			}
		}
		if times(sum, vg.VG.ExtentSize) != lv.Bytes {
			bad(lv.ID, "its segments have %d extents, which is not its size of %d bytes", sum, lv.Bytes)
		}
	}
	for _, e := range vg.On {
		s := use[e.Node]
		slices.SortFunc(s, func(a, b span) int { return int(min(max(a.start-b.start, -1), 1)) })
		for i := 1; i < len(s); i++ {
			if s[i].start < s[i-1].start+s[i-1].extents {
				bad(s[i].lv, "extent %d of %s belongs to %s too", s[i].start, k.name(e.Node), k.name(s[i-1].lv))
			}
		}
	}
}

// checkMixed refuses a volume group over disks of different sectors: LVM
// does not make one.
func (k *maker) checkMixed(vg *manifest.Node) {
	was, now := map[int64]bool{}, map[int64]bool{}
	for _, d := range k.p.Target.Disks(vg.ID) {
		now[sector(*d.Disk)] = true
		was[sector(*k.g.Node(d.ID).Disk)] = true
	}
	if len(now) > 1 && len(was) == 1 {
		k.refuse(report.CodeSectorSize, vg.ID, "use disks with equal sectors", "%s would lie on disks of different sector sizes", k.name(vg.ID))
	}
}
