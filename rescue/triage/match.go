package triage

import (
	"fmt"
	"slices"
	"strings"

	"lifeboat/manifest"
)

// layers compares disks, tables, partitions, groups and volumes by identity.
func (s *scene) layers() {
	wanted := s.wanted()
	for i := range s.m.Storage.Nodes {
		n := &s.m.Storage.Nodes[i]
		if !wanted[n.ID] {
			continue
		}
		l := Layer{ID: n.ID, Kind: n.Kind, State: Missing}
		is := s.found.Node(n.ID)
		if is != nil {
			l.State = Same
		}
		switch n.Kind {
		case manifest.KindDisk:
			l.Name = "disk " + strings.TrimSpace(n.Disk.Model+" "+n.Disk.Serial)
			if d := s.foundDisk(n.ID); d != nil {
				l.DevNo = s.devNo(d.Seen.Device)
				if is == nil {
					l.State, l.Detail = Changed, "another disk ("+d.Seen.Device+") holds what it held"
				}
			}
		case manifest.KindTable:
			l.Name = strings.ToUpper(n.Table.Type) + " partition table " + n.Table.UUID
			if is != nil {
				s.compareTable(n, is, &l)
			}
			if s.lost.has(n.ID) && l.State == Same {
				l.State, l.Detail = Damaged, "neither firmware nor kernel find it; what it holds lies in its captured places"
			}
		case manifest.KindPartition:
			l.Name = fmt.Sprintf("partition %d", n.Partition.Number)
			if is != nil && is.Partition != nil && (is.Partition.Start != n.Partition.Start || is.Partition.Size != n.Partition.Size) {
				l.State, l.Detail = Changed, "it has another place or size than captured"
			}
		case manifest.KindPV:
			l.Name = "LVM physical volume " + n.PV.UUID
		case manifest.KindVG:
			l.Name = "volume group " + n.VG.Name
			if is != nil && slices.ContainsFunc(is.On, func(e manifest.Edge) bool { return e.Node == "" }) {
				l.State, l.Detail = Changed, "a physical volume of it is missing"
			}
		case manifest.KindLV:
			l.Name = "logical volume " + n.LV.Name
		default:
			continue
		}
		s.facts.Layers = append(s.facts.Layers, l)
	}
}

// wanted are the captured nodes under what is mounted and what starts the
// host.
func (s *scene) wanted() map[manifest.ID]bool {
	out := map[manifest.ID]bool{}
	add := func(id manifest.ID) {
		for _, n := range s.m.Storage.Below(id) {
			out[n.ID] = true
		}
	}
	for _, mt := range s.m.Storage.Mounts {
		if mt.Backup != manifest.ScopeExclude {
			add(mt.Node)
		}
	}
	for _, list := range [][]manifest.ID{s.m.Boot.ESPs, s.m.Boot.BIOSBoot, s.m.Boot.MBRCode} {
		for _, id := range list {
			add(id)
		}
	}
	return out
}

// compareTable says where the partitions of a table that is there differ.
func (s *scene) compareTable(was, is *manifest.Node, l *Layer) {
	if is.Table == nil || is.Table.Type != was.Table.Type {
		l.State, l.Detail = Changed, "it is of another type"
		return
	}
	have := map[int]*manifest.Partition{}
	for _, n := range s.found.OfKind(manifest.KindPartition) {
		if len(n.On) == 1 && n.On[0].Node == is.ID {
			have[n.Partition.Number] = n.Partition
		}
	}
	var diff []string
	for _, n := range s.m.Storage.OfKind(manifest.KindPartition) {
		if len(n.On) != 1 || n.On[0].Node != was.ID {
			continue
		}
		p, ok := have[n.Partition.Number]
		switch {
		case !ok:
			diff = append(diff, fmt.Sprintf("partition %d is gone", n.Partition.Number))
		case p.Start != n.Partition.Start || p.Size != n.Partition.Size:
			diff = append(diff, fmt.Sprintf("partition %d has another place or size", n.Partition.Number))
		}
		delete(have, n.Partition.Number)
	}
	if len(have) > 0 {
		diff = append(diff, fmt.Sprintf("%d partitions are new", len(have)))
	}
	if len(diff) > 0 {
		l.State, l.Detail = Changed, strings.Join(diff, ", ")
	}
}

// findFilesystems finds each captured filesystem and swap by its id, else by
// its place.
func (s *scene) findFilesystems() {
	wanted := s.wanted()
	for i := range s.m.Storage.Nodes {
		n := &s.m.Storage.Nodes[i]
		if !wanted[n.ID] || n.Kind != manifest.KindFS && n.Kind != manifest.KindSwap {
			continue
		}
		f := Filesystem{ID: n.ID, Kind: n.Kind, Type: "swap", State: Missing, ESP: slices.Contains(s.m.Boot.ESPs, n.ID)}
		if n.FS != nil {
			f.Type, f.WasUUID = n.FS.Type, n.FS.UUID
		} else {
			f.WasUUID = n.Swap.UUID
		}
		for _, mt := range s.m.Storage.MountsOf(n.ID) {
			if mt.Path != "none" && mt.Bind == "" {
				f.Mounts = append(f.Mounts, string(mt.Path))
			}
			f.Data = f.Data || mt.Backup == manifest.ScopeFull && n.Kind == manifest.KindFS
		}
		s.find(n, &f)
		s.facts.Filesystems = append(s.facts.Filesystems, f)
	}
}

// idOf is the id by which a found filesystem or swap is known, and its type.
func idOf(n *manifest.Node) (uuid, typ string) {
	switch {
	case n.FS != nil:
		return n.FS.UUID, n.FS.Type
	case n.Swap != nil:
		return n.Swap.UUID, "swap"
	case n.Unknown != nil:
		// What could not be read in full still tells its id.
		base, _, _ := strings.Cut(string(n.ID), "@")
		for _, kind := range []string{"fs:", "swap:"} {
			if u, ok := strings.CutPrefix(base, kind); ok {
				return u, n.Unknown.What
			}
		}
	}
	return "", ""
}

func (s *scene) find(was *manifest.Node, f *Filesystem) {
	var same []*manifest.Node
	for i := range s.found.Nodes {
		if u, typ := idOf(&s.found.Nodes[i]); u != "" && strings.EqualFold(u, f.WasUUID) && typ == f.Type {
			same = append(same, &s.found.Nodes[i])
		}
	}
	if len(same) > 0 {
		// The one in the captured place first, where there is one.
		slices.SortStableFunc(same, func(a, b *manifest.Node) int { return s.strange(was, a) - s.strange(was, b) })
		f.State, f.Device, f.IsUUID = Same, same[0].Seen.Device, f.WasUUID
		if same[0].Unknown != nil {
			f.State, f.Detail = Damaged, same[0].Unknown.Reason
		}
		for _, t := range same[1:] {
			f.Twins = append(f.Twins, t.Seen.Device)
		}
		return
	}
	// What is behind a layer that is not opened here cannot be told missing.
	for _, b := range s.m.Storage.Below(was.ID) {
		switch b.Kind {
		case manifest.KindMD, manifest.KindLUKS, manifest.KindMultipath, manifest.KindSubvol, manifest.KindUnknown:
			f.State, f.Detail = Unseen, "it lies on a layer that is not opened for a look ("+string(b.Kind)+")"
			return
		}
	}
	if len(was.On) != 1 {
		return
	}
	place := s.found.Node(was.On[0].Node)
	if place == nil {
		return
	}
	f.Device = place.Seen.Device
	if place.Kind == manifest.KindLV && f.Device == "" {
		f.State, f.Detail = Unseen, "its logical volume could not be opened"
		return
	}
	for i := range s.found.Nodes {
		n := &s.found.Nodes[i]
		if !slices.ContainsFunc(n.On, func(e manifest.Edge) bool { return e.Node == place.ID }) {
			continue
		}
		uuid, typ := idOf(n)
		switch {
		case typ == f.Type:
			f.State, f.IsUUID = Changed, uuid
		case n.Unknown != nil && strings.Contains(n.Unknown.What, f.Device):
			// Unreadable, or of contradicting signatures: nobody knows.
			f.State, f.Detail = Unseen, n.Unknown.What+": "+n.Unknown.Reason
		case n.Unknown != nil:
			f.State, f.Detail = Missing, "its device holds "+n.Unknown.What
		default:
			f.State, f.Detail = Missing, "its device holds "+orText(typ, string(n.Kind))
		}
		return
	}
	f.State, f.Vacant, f.Detail = Missing, true, "its device holds nothing that is recognised"
}

// strange is 0 for a found node in the captured place.
func (s *scene) strange(was, is *manifest.Node) int {
	for _, a := range was.On {
		for _, b := range is.On {
			if a.Node == b.Node {
				return 0
			}
		}
	}
	return 1
}
