package probe

import (
	"strings"

	"lifeboat/internal/blockdev"
	"lifeboat/internal/tools/lvm"
	"lifeboat/manifest"
)

// mappedLV is the logical volume of a dm device. A part of another volume
// offers nothing of its own.
func (g *grapher) mappedLV(d *blockdev.Device) *item {
	if g.r.lvm != nil {
		for _, lv := range g.r.lvm.LVs {
			if "LVM-"+plain(lv.VGID)+plain(lv.UUID) == d.DMUUID {
				if lv.Hidden {
					return nil
				}
				it := g.volume(lv)
				it.node.Seen.Device, it.node.Seen.Name = d.Name, "/dev/mapper/"+d.DMName
				return it
			}
		}
	}
	const visible = len("LVM-") + 64
	if len(d.DMUUID) > visible {
		return nil // LVM marks hidden parts by a suffix
	}
	return g.dm(d, "logical volume "+d.DMName, g.noLVM())
}

func (g *grapher) noLVM() string {
	if g.r.lvmErr != nil {
		return "LVM could not be read: " + g.r.lvmErr.Error()
	}
	return "LVM does not tell of it"
}

// plain is an LVM id without its dashes, as dm has it.
func plain(id string) string { return strings.ReplaceAll(id, "-", "") }

// group adds a volume group on all its physical volumes.
func (g *grapher) group(vg lvm.VG) *item {
	if it := g.vgs[vg.UUID]; it != nil {
		return it
	}
	it := &item{base: "vg:" + vg.UUID, node: manifest.Node{Kind: manifest.KindVG, Bytes: vg.Extents * vg.ExtentSize}}
	body := vg.VG
	it.node.VG = &body
	g.vgs[vg.UUID] = it
	for _, pv := range g.r.lvm.PVs {
		if pv.VGID != vg.UUID {
			continue
		}
		d := g.r.View.ByNode(pv.Dev)
		g.device(d)
		var below *item
		if d != nil && !pv.Missing {
			below = g.lay[d.Name]
		}
		it.on = append(it.on, edge{below, manifest.RoleMember})
	}
	return g.add(it)
}

// volume adds a logical volume on its group.
func (g *grapher) volume(lv lvm.LV) *item {
	if it := g.lvs[lv.UUID]; it != nil {
		return it
	}
	body := lv.LV
	it := &item{base: "lv:" + lv.UUID, node: manifest.Node{Kind: manifest.KindLV, Bytes: lv.Bytes, LV: &body, Seen: manifest.Seen{Name: lv.Path}}}
	g.lvs[lv.UUID] = it
	for _, vg := range g.r.lvm.VGs {
		if vg.UUID == lv.VGID {
			it.on = onto(g.group(vg))
		}
	}
	var hidden []string
	for _, o := range g.r.lvm.LVs {
		if o.Hidden && o.VGID == lv.VGID && strings.Trim(o.Parent, "[]") == lv.Name {
			hidden = append(hidden, strings.Trim(o.Name, "[]"))
		}
	}
	it.node.Seen.SubLVs = uniqueStrings(hidden)
	return g.add(it)
}
