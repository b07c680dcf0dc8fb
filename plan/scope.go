package plan

import (
	"fmt"

	"lifeboat/manifest"
	"lifeboat/report"
)

// root is something that the backup needs: a mount, a swap area, or a node of
// the boot path. What lies below it is rebuilt, and nothing else's disk.
type root struct {
	node      manifest.ID
	path      manifest.Bytes // mount point, or the name for people
	mount     bool           // path is a mount point
	left      bool           // the backup leaves it out, and its loss is accepted by name
	essential bool           // the system does not start without it: its loss cannot be accepted
}

// roots lists what the backup needs, in the order of mounts, then boot.
func (k *maker) roots(accepted map[manifest.Bytes]bool) []root {
	b := &k.m.Boot
	boot := map[manifest.ID]bool{b.RootFS: true, b.BootFS: true}
	if b.Firmware == manifest.FirmwareUEFI {
		for _, id := range b.ESPs {
			boot[id] = true
		}
	}
	var out []root
	have := map[manifest.ID]bool{}
	for _, mt := range k.g.Mounts {
		r := root{node: mt.Node, path: mt.Path, mount: mt.Path != "none", left: !needed(mt)}
		if !r.mount {
			r.path = manifest.Bytes(k.name(mt.Node))
		}
		r.essential = mt.Path == "/" || mt.Path == "/usr" || mt.Path == "/boot" || boot[mt.Node]
		if r.left && (r.essential || !accepted[mt.Path]) {
			continue
		}
		have[mt.Node] = have[mt.Node] || !r.left
		out = append(out, r)
	}
	ids := append(append([]manifest.ID{b.RootFS, b.BootFS}, b.ESPs...), b.BIOSBoot...)
	for _, id := range ids {
		if id == "" || have[id] {
			continue
		}
		have[id] = true
		if k.g.Node(id) == nil {
			k.refuse(report.CodeManifest, id, "capture the host again", "the boot part names %s, which is not in the storage graph", id)
			continue
		}
		out = append(out, root{node: id, path: manifest.Bytes(k.name(id)), essential: true})
	}
	return out
}

// needed tells whether a mount makes the backup need its node.
func needed(mt manifest.Mount) bool {
	if isSwap(mt) {
		return mt.Backup != manifest.ScopeExclude && (mt.Live || mt.InFstab)
	}
	return mt.Backup != manifest.ScopeExclude
}

func isSwap(mt manifest.Mount) bool { return mt.Type == "swap" || mt.Path == "none" }

// scope finds which disks and nodes are rebuilt, what cannot be, and what
// would be lost.
func (k *maker) scope() {
	k.need, k.kept = map[manifest.ID]bool{}, map[manifest.ID]bool{}
	k.empty, k.gone = map[manifest.Bytes]bool{}, map[manifest.Bytes]bool{}
	k.lost = map[manifest.ID][]string{}
	accepted := map[manifest.Bytes]bool{}
	for _, u := range k.m.Uncovered {
		accepted[u.Path] = u.Accepted
	}
	wanted := map[manifest.ID]bool{}
	for _, r := range k.roots(accepted) {
		if bad, why := k.blocked(r.node); bad != "" {
			k.uncover(r, bad, why, accepted[r.path] && !r.essential)
			continue
		}
		if r.left {
			continue // it could be rebuilt, and stays what the backup makes of it
		}
		wanted[r.node] = true
		for _, d := range k.g.Disks(r.node) {
			k.need[d.ID] = true
		}
	}
	k.keep(wanted)
	k.straddles(accepted)
	k.excluded(accepted)
	k.notInGraph()
	k.findLost()
	for _, t := range k.g.OfKind(manifest.KindTable) {
		if k.kept[t.ID] && t.Table.Hybrid {
			k.warn(report.CodeIdentity, t.ID, "", "%s had a hybrid MBR beside it, which is not made again", k.name(t.ID))
		}
	}
}

// blocked returns the lowest node under id that cannot be rebuilt, and why.
func (k *maker) blocked(id manifest.ID) (manifest.ID, string) {
	var bad manifest.ID
	why := ""
	for _, n := range k.g.Below(id) {
		if r := reason(k.g, n); r != "" {
			bad, why = n.ID, r
		}
	}
	if bad == "" && len(k.g.Disks(id)) == 0 {
		return id, "it stands on no disk"
	}
	if bad != "" && bad != id {
		why = "it stands on " + k.name(bad) + ": " + why
	}
	return bad, why
}

// uncover records what cannot be rebuilt: a warning when its loss is
// accepted, else a refusal.
func (k *maker) uncover(r root, bad manifest.ID, why string, accepted bool) {
	k.p.Uncovered = append(k.p.Uncovered, manifest.Uncovered{Path: r.path, Node: bad, Reason: why, Accepted: accepted})
	if accepted {
		if r.mount {
			k.gone[r.path] = true
		}
		k.warn(report.CodeUncovered, r.path, "", "%s is left out, as accepted: %s", r.path, why)
		return
	}
	code, next := report.CodeUncovered, "accept its loss by name (uncovered: ["+r.path.String()+"]), or move it to something that can be rebuilt"
	if !r.mount {
		code = report.CodeUnsupported
	}
	if r.essential {
		next = "the system does not start without it: move it to something that can be rebuilt"
	}
	k.refuse(code, r.path, next, "%s cannot be recovered: %s", r.path, why)
}

// keep marks what is rebuilt: all that lies whole on needed disks and can be
// made, filesystems only if the backup or the boot names them.
func (k *maker) keep(wanted map[manifest.ID]bool) {
	mounted := map[manifest.ID]bool{}
	for _, mt := range k.g.Mounts {
		mounted[mt.Node] = mounted[mt.Node] || !k.gone[mt.Path]
	}
	for i := range k.g.Nodes {
		n := &k.g.Nodes[i]
		ok := n.Kind == manifest.KindDisk && k.need[n.ID]
		if n.Kind != manifest.KindDisk {
			ok = len(n.On) > 0 && reason(k.g, n) == ""
			for _, e := range n.On {
				ok = ok && k.kept[e.Node]
			}
		}
		switch n.Kind {
		case manifest.KindFS, manifest.KindSwapFile:
			ok = ok && (wanted[n.ID] || mounted[n.ID])
		}
		if ok {
			k.kept[n.ID] = true
		}
	}
	for _, pv := range k.g.OfKind(manifest.KindPV) {
		if pv.PV.VG == "" {
			continue
		}
		whole := false
		for _, n := range k.g.Above(pv.ID) {
			whole = whole || n.Kind == manifest.KindVG && k.kept[n.ID]
		}
		if !whole {
			delete(k.kept, pv.ID) // half of a volume group is of no use to anyone
		}
	}
	for _, mt := range k.g.Mounts {
		if k.kept[mt.Node] && !needed(mt) && !wanted[mt.Node] && !isSwap(mt) {
			k.empty[mt.Path] = true
		}
	}
}

// straddles finds what stands on a disk that is rebuilt and on one that is
// not: it cannot come back, and erasing one half must not go unsaid.
func (k *maker) straddles(accepted map[manifest.Bytes]bool) {
	said := map[manifest.ID]bool{}
	for i := range k.g.Nodes {
		n := &k.g.Nodes[i]
		in, out := false, false
		for _, d := range k.g.Disks(n.ID) {
			in, out = in || k.need[d.ID], out || !k.need[d.ID]
		}
		if !in || !out || said[n.ID] || k.inUncovered(n.ID) {
			continue
		}
		r := root{node: n.ID, path: manifest.Bytes(k.name(n.ID))}
		for _, a := range k.g.Above(n.ID) {
			said[a.ID] = true
		}
		for _, mt := range k.g.Mounts {
			if !isSwap(mt) && (mt.Node == n.ID || said[mt.Node]) {
				r.path, r.mount = mt.Path, true
				break
			}
		}
		k.uncover(r, n.ID, k.name(n.ID)+" lies partly on a disk that is erased and partly on one that the backup does not need", accepted[r.path])
	}
}

// excluded finds mounts that the backup leaves out, that lie on a disk which
// is erased, and that could not even be made again empty: fstab would name
// what is no more, and the system would not start.
func (k *maker) excluded(accepted map[manifest.Bytes]bool) {
	for _, mt := range k.g.Mounts {
		if needed(mt) || k.kept[mt.Node] || k.inUncovered(mt.Node) {
			continue
		}
		for _, d := range k.g.Disks(mt.Node) {
			if k.need[d.ID] {
				bad, why := k.blocked(mt.Node)
				r := root{node: mt.Node, path: mt.Path, mount: !isSwap(mt)}
				if isSwap(mt) {
					r.path = manifest.Bytes(k.name(mt.Node))
				}
				k.uncover(r, bad, why, accepted[r.path])
				break
			}
		}
	}
}

func (k *maker) inUncovered(id manifest.ID) bool {
	for _, u := range k.p.Uncovered {
		for _, n := range k.g.Below(id) {
			if u.Node == n.ID {
				return true
			}
		}
	}
	return false
}

// notInGraph keeps what capture found uncovered and could not even put into
// the graph.
func (k *maker) notInGraph() {
	have := map[manifest.Bytes]bool{}
	for _, mt := range k.g.Mounts {
		have[mt.Path] = true
	}
	for _, u := range k.p.Uncovered {
		have[u.Path] = true
	}
	for _, u := range k.m.Uncovered {
		if have[u.Path] || u.Node != "" && k.g.Node(u.Node) != nil {
			continue
		}
		have[u.Path] = true
		k.uncover(root{path: u.Path, mount: true}, u.Node, u.Reason, u.Accepted)
	}
}

// findLost names what lies on needed disks and is in no backup.
func (k *maker) findLost() {
	gone := map[manifest.ID]bool{}
	lose := func(id manifest.ID, text string) {
		hit := false
		gone[id] = true
		for _, d := range k.g.Disks(id) {
			if k.need[d.ID] {
				k.lost[d.ID] = append(k.lost[d.ID], text)
				hit = true
			}
		}
		if hit {
			k.warn(report.CodeNotInBackup, id, "", "%s", text)
		}
	}
	for _, mt := range k.g.Mounts {
		if k.empty[mt.Path] {
			lose(mt.Node, fmt.Sprintf("%s is not in the backup and comes back empty", mt.Path))
		}
	}
	for i := range k.g.Nodes {
		n := &k.g.Nodes[i]
		under := false
		for _, b := range k.g.Below(n.ID) {
			under = under || gone[b.ID]
		}
		if under || k.kept[n.ID] || k.inUncovered(n.ID) || len(k.g.MountsOf(n.ID)) > 0 {
			continue
		}
		switch n.Kind {
		case manifest.KindFS, manifest.KindUnknown, manifest.KindMD, manifest.KindLUKS, manifest.KindLV, manifest.KindMultipath:
			lose(n.ID, fmt.Sprintf("%s is not in the backup and is not made again", k.name(n.ID)))
		}
	}
}
