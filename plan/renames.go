package plan

import (
	"strings"

	"lifeboat/manifest"
)

// makeRenames lists what differs between a captured disk and the one that
// takes its place, for the one table from which references are rewritten.
func (k *maker) makeRenames() {
	if k.in.Policy.OwnHardware {
		return
	}
	for _, c := range k.g.OfKind(manifest.KindDisk) {
		m, ok := k.to[c.ID]
		if !ok {
			continue
		}
		add := func(kind, old, new string) {
			if old != "" && fold(old) != fold(new) {
				k.p.Renames = append(k.p.Renames, Rename{Kind: kind, Old: old, New: new, Node: c.ID})
			}
		}
		add("wwn", c.Disk.WWN, m.disk.Disk.WWN)
		add("disk-serial", c.Disk.Serial, m.disk.Disk.Serial)
		for _, old := range k.capturedLinks(c) {
			kind, name, ok := strings.Cut(old, "/")
			if !ok {
				continue
			}
			add(kind, name, counterpart(kind, name, m.disk.Links))
		}
	}
}

// capturedLinks are the stable names that a captured disk had.
func (k *maker) capturedLinks(c *manifest.Node) []string {
	for _, d := range k.m.Machine.Disks {
		if d.Name != "" && d.Name == c.Seen.Device && d.Disk.Bytes == c.Disk.Bytes {
			return d.Links
		}
	}
	return nil
}

// counterpart is the new disk's link that stands for an old one: the same
// name if it has it, else one made by the same scheme (wwn-, nvme-, scsi- …),
// else its first of the same folder, else "".
func counterpart(kind, old string, links []string) string {
	scheme, _, _ := strings.Cut(old, "-")
	first, same := "", ""
	for _, l := range links {
		k, name, _ := strings.Cut(l, "/")
		if k != kind {
			continue
		}
		if name == old {
			return old
		}
		if first == "" {
			first = name
		}
		if same == "" && strings.HasPrefix(name, scheme+"-") {
			same = name
		}
	}
	if same != "" {
		return same
	}
	return first
}
