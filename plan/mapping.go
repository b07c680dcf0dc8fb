package plan

import (
	"slices"
	"strings"

	"lifeboat/manifest"
	"lifeboat/report"
)

// readMapping checks the mapping file against both sides and returns captured
// disk → index of the machine's disk.
func (k *maker) readMapping(f *finder) map[manifest.ID]int {
	out := map[manifest.ID]int{}
	if k.in.Mapping == nil {
		return out
	}
	used := map[int]string{}
	for _, e := range k.in.Mapping.Disks {
		c := k.mapFrom(f, e.From)
		j := k.mapTo(f, e.To)
		if c == nil || j < 0 {
			continue
		}
		if _, twice := out[c.ID]; twice {
			k.refuse(report.CodeMapping, "mapping: "+e.From, "keep one line for it", "the mapping names %s twice as captured disk", k.name(c.ID))
			continue
		}
		if by, twice := used[j]; twice {
			k.refuse(report.CodeMapping, "mapping: "+e.To, "give each its own disk", "the mapping gives %s to both %s and %s", diskText(ref(&f.disks[j])), by, e.From)
			continue
		}
		out[c.ID], used[j] = j, e.From
		if !k.need[c.ID] {
			k.warn(report.CodeMapping, e.From, "", "the mapping names %s, which the backup does not need: it is not touched", k.name(c.ID))
		}
	}
	k.mapOthers(f, out)
	return out
}

// mapOthers refuses a mapping that gives away the exact match of another
// captured disk which the mapping does not place itself.
func (k *maker) mapOthers(f *finder, out map[manifest.ID]int) {
	for _, c := range f.captured {
		j, ok := out[c.ID]
		if !ok {
			continue
		}
		other := f.known(j)
		if other == nil || other.ID == c.ID {
			continue
		}
		if _, placed := out[other.ID]; placed {
			continue
		}
		k.refuse(report.CodeMapping, c.ID, "correct the mapping, or place "+k.name(other.ID)+" in it too",
			"the mapping gives %s to %s, but it is the exact match of %s", diskText(ref(&f.disks[j])), k.name(c.ID), k.name(other.ID))
		delete(out, c.ID)
	}
}

// mapFrom finds the captured disk that a mapping names.
func (k *maker) mapFrom(f *finder, from string) *manifest.Node {
	var hits []*manifest.Node
	for _, c := range f.captured {
		if string(c.ID) == from {
			return c
		}
		if from != "" && (foldWWN(from) == wwn(*c.Disk) || fold(from) == serial(*c.Disk)) {
			hits = append(hits, c)
		}
	}
	switch len(hits) {
	case 1:
		return hits[0]
	case 0:
		k.refuse(report.CodeMapping, "mapping: "+from, "name a WWN, a serial or a disk's node ID of the manifest", "the mapping's %q is no captured disk", from)
	default:
		k.refuse(report.CodeMapping, "mapping: "+from, "name the disk by its WWN or node ID", "the mapping's %q fits %d captured disks", from, len(hits))
	}
	return nil
}

// mapTo finds the machine's disk that a mapping names. A kernel name is not
// taken: it may be another disk after the next boot.
func (k *maker) mapTo(f *finder, to string) int {
	link := strings.TrimPrefix(to, "/dev/disk/")
	var hits []int
	for j := range f.disks {
		d := &f.disks[j]
		if to != "" && (foldWWN(to) == wwn(d.Disk) || fold(to) == serial(d.Disk) ||
			slices.Contains(d.Links, link) || slices.Contains(d.Links, "by-path/"+to) || slices.Contains(d.Links, "by-id/"+to)) {
			hits = append(hits, j)
		}
	}
	if len(hits) == 1 {
		return hits[0]
	}
	next := "name a WWN, a serial or a by-path name of this machine"
	if len(hits) > 1 {
		k.refuse(report.CodeMapping, "mapping: "+to, next, "the mapping's %q fits %d disks of this machine", to, len(hits))
		return -1
	}
	for j := range f.disks {
		if name := f.disks[j].Name; name != "" && strings.TrimPrefix(to, "/dev/") == name {
			k.refuse(report.CodeMapping, "mapping: "+to, next, "the mapping's %q is a kernel name, which changes from boot to boot", to)
			return -1
		}
	}
	k.refuse(report.CodeMapping, "mapping: "+to, next, "the mapping's %q is no disk of this machine", to)
	return -1
}
