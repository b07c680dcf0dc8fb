package probe

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"lifeboat/internal/blockdev"
	"lifeboat/manifest"
)

// Graph is the storage of the whole system, with what has no place in it.
type Graph struct {
	Storage   manifest.Storage
	LeftOut   []manifest.LeftOut
	Uncovered []manifest.Uncovered // mounts that no node could be found for

	view *blockdev.View
	on   map[string]manifest.ID // kernel name → node that offers the device
	lies map[string]manifest.ID // kernel name → node that lies on the device
}

// Offers returns the node that offers a device, by kernel name, or "".
func (g *Graph) Offers(name string) manifest.ID { return g.on[name] }

// LiesOn returns the node that lies on a device, by kernel name, or "".
func (g *Graph) LiesOn(name string) manifest.ID { return g.lies[name] }

// item is a node in the making; its id is settled when all are there.
type item struct {
	base  string // id that the thing's own identity gives; "" when it has none
	short string // how an id without identity begins
	node  manifest.Node
	on    []edge
}

type edge struct {
	to   *item // nil: the member is missing
	role manifest.Role
}

// grapher builds the graph from below. It goes device by device, those that
// a device stands on first.
type grapher struct {
	r     *Reading
	items []*item
	offer map[string]*item // by kernel name: what offers the device
	lay   map[string]*item // what lies on it
	done  map[string]bool
	pools map[string]*item // filesystems and pools over several devices, by identity
	vgs   map[string]*item // by VG id
	lvs   map[string]*item // by LV id
	parts map[string]map[int]*item
}

// Graph reads what is on the devices in full and builds the storage graph.
// Mounts are added by AddMounts.
func (r *Reading) Graph(ctx context.Context) (*Graph, error) {
	if err := r.details(ctx); err != nil {
		return nil, err
	}
	changed, err := r.changed()
	if err == nil && changed != "" {
		err = changedError(changed)
	}
	if err != nil {
		return nil, err
	}
	return r.build(), nil
}

func (r *Reading) build() *Graph {
	g := &grapher{r: r, offer: map[string]*item{}, lay: map[string]*item{}, done: map[string]bool{}, pools: map[string]*item{},
		vgs: map[string]*item{}, lvs: map[string]*item{}, parts: map[string]map[int]*item{}}
	for _, d := range r.View.Devices {
		if !r.onLoop(d, 0) {
			g.device(d)
		}
	}
	if r.lvm != nil {
		for _, vg := range r.lvm.VGs {
			g.group(vg)
		}
		for _, lv := range r.lvm.LVs {
			if !lv.Hidden {
				g.volume(lv)
			}
		}
	}
	return g.finish()
}

func (g *grapher) add(it *item) *item {
	if it.short == "" {
		it.short = string(it.node.Kind)
	}
	g.items = append(g.items, it)
	return it
}

func onto(below *item) []edge { return []edge{{below, manifest.RoleMember}} }

// unknown adds something that cannot be rebuilt.
func (g *grapher) unknown(base, what, reason string, bytes int64, on ...edge) *item {
	return g.add(&item{base: base, on: on, node: manifest.Node{Kind: manifest.KindUnknown, Bytes: bytes,
		Unknown: &manifest.Unknown{What: what, Reason: reason}}})
}

// device adds what offers a device and what lies on it.
func (g *grapher) device(d *blockdev.Device) {
	if d == nil || g.done[d.Name] {
		return
	}
	g.done[d.Name] = true
	g.device(g.r.View.Device(d.Parent))
	for _, s := range d.Slaves {
		g.device(g.r.View.Device(s))
	}
	it := g.offered(d)
	if it == nil {
		return
	}
	g.offer[d.Name] = it
	if it.node.Seen.Device == "" {
		it.node.Seen.Device = d.Name
	}
	if c := g.r.found[d.Name]; c != nil {
		if top := g.content(d, c, it); top != nil {
			g.lay[d.Name] = top
		}
	}
}

// offered returns the node that offers a device; nil for a hidden part of
// another.
func (g *grapher) offered(d *blockdev.Device) *item {
	switch d.Kind {
	case blockdev.Disk:
		return g.disk(d)
	case blockdev.Partition:
		return g.partition(d)
	case blockdev.DM:
		return g.mapped(d)
	case blockdev.MD:
		return g.array(d)
	}
	what := "device " + d.Name
	if d.Kind == blockdev.Loop {
		what = "loop device on " + d.File
	}
	return g.unknown("", what, "it is made by software that Lifeboat does not set up", d.Bytes, g.slaves(d, manifest.RoleMember)...)
}

func (g *grapher) slaves(d *blockdev.Device, role manifest.Role) []edge {
	var out []edge
	for _, s := range d.Slaves {
		if it := g.offer[s]; it != nil {
			out = append(out, edge{it, role})
		}
	}
	return out
}

func (g *grapher) disk(d *blockdev.Device) *item {
	disk := DiskOf(d)
	it := &item{node: manifest.Node{Kind: manifest.KindDisk, Bytes: d.Bytes, Disk: &disk}}
	it.base = g.diskID(d, disk)
	return g.add(it)
}

// DiskOf is the identity of a device for the manifest.
func DiskOf(d *blockdev.Device) manifest.Disk {
	return manifest.Disk{
		WWN: d.WWN, Serial: d.Serial, Model: d.Model, Vendor: d.Vendor, Bytes: d.Bytes, Logical: d.Logical, Physical: d.Physical,
		Transport: d.Transport, Removable: d.Removable, Rotates: d.Rotates, ReadOnly: d.ReadOnly,
	}
}

// diskID names a disk by itself, else by what lies on it; only a disk that is
// blank and nameless is named by its place.
func (g *grapher) diskID(d *blockdev.Device, disk manifest.Disk) string {
	if w := manifest.UsableWWN(disk.WWN); w != "" {
		return "disk:wwn-" + w
	}
	if s := manifest.UsableSerial(disk.Serial); s != "" {
		return "disk:serial-" + strings.Join(strings.Fields(s), "_")
	}
	if c := g.r.found[d.Name]; c != nil && c.found != nil {
		if id := tableText(c.found); strings.Trim(strings.TrimPrefix(id, "0x"), "0-") != "" {
			return "disk:table-" + id
		}
		if c.found.UUID != "" {
			return "disk:holds-" + c.found.UUID
		}
	}
	return "disk:at-" + g.place(d)
}

func (g *grapher) place(d *blockdev.Device) string {
	for _, l := range g.r.View.Links(d) {
		if p, ok := strings.CutPrefix(l, "by-path/"); ok {
			return p
		}
	}
	return d.BusPath
}

// partition finds the partition in the table that was read: the kernel and
// the disk must say the same.
func (g *grapher) partition(d *blockdev.Device) *item {
	if it := g.parts[d.Parent][d.Number]; it != nil {
		return it
	}
	below := g.lay[d.Parent]
	if below == nil {
		below = g.offer[d.Parent]
	}
	if below == nil {
		return nil
	}
	it := g.unknown("", fmt.Sprintf("partition %d of %s", d.Number, d.Parent), "its partition table is not understood", d.Bytes, onto(below)...)
	it.short = fmt.Sprintf("part%d", d.Number)
	return it
}

func (g *grapher) array(d *blockdev.Device) *item {
	uuid := d.MDArr.UUID
	for _, s := range d.Slaves {
		if c := g.r.found[s]; uuid == "" && c != nil && c.found != nil {
			uuid = c.found.UUID
		}
	}
	base := ""
	if uuid != "" {
		base = "md:" + uuid
	}
	level := d.MDArr.Level
	if level == "" {
		level = "container"
	}
	it := g.unknown(base, "software RAID "+level, "software RAID cannot be rebuilt by this version", d.Bytes, g.slaves(d, manifest.RoleMember)...)
	if d.MDArr.Degraded > 0 {
		it.node.Seen.Health = fmt.Sprintf("degraded: %d missing", d.MDArr.Degraded)
	}
	it.short = "md"
	return it
}

// mapped tells what a dm device is, by the UUID that its maker gave it.
func (g *grapher) mapped(d *blockdev.Device) *item {
	kind, _, _ := strings.Cut(d.DMUUID, "-")
	switch {
	case kind == "LVM":
		return g.mappedLV(d)
	case kind == "CRYPT":
		for _, s := range d.Slaves {
			if it := g.lay[s]; it != nil && strings.HasPrefix(it.base, "luks:") {
				it.node.Seen.Name = "/dev/mapper/" + d.DMName
				return it
			}
		}
		return g.dm(d, "encrypted device "+d.DMName, "encryption cannot be rebuilt by this version")
	case kind == "mpath":
		it := g.unknown("multipath:"+strings.TrimPrefix(d.DMUUID, "mpath-"), "multipath map "+d.DMName, "multipath cannot be rebuilt by this version",
			d.Bytes, g.slaves(d, manifest.RolePath)...)
		it.node.Seen.Name = "/dev/mapper/" + d.DMName
		return it
	}
	if strings.Contains(d.DMUUID, "-mpath-") {
		return g.dm(d, "partition "+d.DMName+" of a multipath map", "multipath cannot be rebuilt by this version")
	}
	return g.dm(d, "device mapper map "+d.DMName, "it is made by software that Lifeboat does not set up ("+orNone(kind)+")")
}

func orNone(s string) string {
	if s == "" {
		return "no maker named"
	}
	return s
}

func (g *grapher) dm(d *blockdev.Device, what, reason string) *item {
	base := ""
	if d.DMUUID != "" {
		base = "dm:" + d.DMUUID
	}
	it := g.unknown(base, what, reason, d.Bytes, g.slaves(d, manifest.RoleMember)...)
	it.node.Seen.Name = "/dev/mapper/" + d.DMName
	return it
}

// finish settles ids and the order: below before above.
func (g *grapher) finish() *Graph {
	ids := g.settle()
	out := &Graph{view: g.r.View, on: map[string]manifest.ID{}, lies: map[string]manifest.ID{}}
	for n, it := range g.offer {
		out.on[n] = ids[it]
	}
	for n, it := range g.lay {
		out.lies[n] = ids[it]
	}
	emitted := map[*item]bool{}
	var emit func(*item)
	emit = func(it *item) {
		if it == nil || emitted[it] {
			return
		}
		emitted[it] = true
		for _, e := range it.on {
			emit(e.to)
		}
		n := it.node
		n.ID = ids[it]
		for i, e := range it.on {
			m := manifest.Edge{Role: e.role}
			if e.to == nil {
				m.Slot = &i
			} else {
				m.Node = ids[e.to]
			}
			n.On = append(n.On, m)
		}
		out.Storage.Nodes = append(out.Storage.Nodes, n)
	}
	for _, it := range g.items {
		emit(it)
	}
	return out
}

// settle gives each item its id. An identity that two things share (a copied
// disk, a filesystem without UUID) is told apart by what it stands on.
func (g *grapher) settle() map[*item]manifest.ID {
	count := map[string]int{}
	for _, it := range g.items {
		count[it.base]++
	}
	ids := map[*item]manifest.ID{}
	used := map[manifest.ID]bool{}
	var settle func(*item) manifest.ID
	settle = func(it *item) manifest.ID {
		if id, ok := ids[it]; ok {
			return id
		}
		id := it.base
		if id == "" {
			id = it.short + ":"
		}
		if it.base == "" || count[it.base] > 1 {
			at := "at-" + it.node.Seen.Device
			if it.node.Kind == manifest.KindDisk {
				at = "at-" + g.place(g.r.View.Device(it.node.Seen.Device))
			} else if len(it.on) > 0 && it.on[0].to != nil {
				at = string(settle(it.on[0].to))
			}
			id += "@" + at
		}
		for n, first := 2, id; used[manifest.ID(id)]; n++ {
			id = fmt.Sprintf("%s#%d", first, n)
		}
		used[manifest.ID(id)] = true
		ids[it] = manifest.ID(id)
		return ids[it]
	}
	for _, it := range g.items {
		settle(it)
	}
	return ids
}

// uniqueStrings keeps the first of equal strings.
func uniqueStrings(in []string) []string {
	var out []string
	for _, s := range in {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}
