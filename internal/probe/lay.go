package probe

import (
	"errors"
	"fmt"
	"strings"

	"lifeboat/internal/blockdev"
	"lifeboat/internal/disklabel"
	"lifeboat/internal/tools/blkid"
	"lifeboat/manifest"
)

// reasons name what is recognised but not rebuilt, by blkid's type; on is what
// people call it.
var reasons = map[string]struct{ base, on string }{
	"crypto_LUKS":          {"luks:", "a LUKS volume"},
	"linux_raid_member":    {"md-member:", "a member of a software RAID"},
	"isw_raid_member":      {"raid-member:", "a member of an Intel firmware RAID"},
	"ddf_raid_member":      {"raid-member:", "a member of a firmware RAID (DDF)"},
	"btrfs":                {"fs:", "btrfs"},
	"zfs_member":           {"zfs:", "a ZFS pool"},
	"bcache":               {"bcache:", "a bcache device"},
	"bcachefs":             {"fs:", "bcachefs"},
	"mpath_member":         {"mpath-member:", "a multipath path"},
	"LVM1_member":          {"", "an LVM1 physical volume"},
	"vdo":                  {"", "a VDO volume"},
	"drbd":                 {"", "a DRBD device"},
	"jbd":                  {"jbd:", "an external journal of ext4"},
	"xfs_external_log":     {"", "an external log of xfs"},
	"BitLocker":            {"", "a BitLocker volume"},
	"DM_integrity":         {"", "a dm-integrity device"},
	"DM_verity_hash":       {"", "dm-verity hashes"},
	"swsuspend":            {"swap:", "swap that holds a hibernated system"},
	"ceph_bluestore":       {"", "a Ceph store"},
	"VMFS_volume_member":   {"", "a VMFS volume"},
	"stratis":              {"", "a Stratis pool"},
	"LVM2_member":          {"pv:", "an LVM physical volume"},
	"linux_raid_container": {"", "a RAID container"},
}

// pooled are types whose devices make up one thing together.
var pooled = map[string]bool{"btrfs": true, "zfs_member": true, "bcachefs": true}

// content adds what lies on a device and returns it; nil when nothing does.
func (g *grapher) content(d *blockdev.Device, c *content, below *item) *item {
	f := c.found
	if f == nil {
		switch {
		case errors.Is(c.err, blkid.ErrAmbivalent):
			return g.unknown("", "contradicting signatures on "+d.Name, "more than one kind of contents is recognised; wipefs lists them", d.Bytes, onto(below)...)
		case c.err != nil:
			return g.unknown("", "unreadable "+d.Name, c.err.Error(), d.Bytes, onto(below)...)
		case len(d.Partitions) > 0:
			return g.unknown("", "partitions of "+d.Name, "the kernel shows partitions, but no partition table is recognised", d.Bytes, onto(below)...)
		}
		return nil
	}
	if f.Table != "" && (f.Type == "" || len(d.Partitions) > 0) {
		return g.table(d, c, below)
	}
	if len(d.Partitions) > 0 {
		return g.unknown("", f.Type+" on "+d.Name, "the kernel shows partitions there as well", d.Bytes, onto(below)...)
	}
	return g.typed(d, c, below)
}

func (g *grapher) typed(d *blockdev.Device, c *content, below *item) *item {
	f := c.found
	id := func(kind string) string {
		if f.UUID == "" {
			return ""
		}
		return kind + f.UUID
	}
	node := manifest.Node{Bytes: c.bytes, Seen: manifest.Seen{Device: d.Name}}
	switch {
	case c.err == nil && c.fs != nil:
		node.Kind, node.FS = manifest.KindFS, c.fs
		return g.add(&item{base: id("fs:"), short: "fs:" + c.fs.Type, node: node, on: onto(below)})
	case c.err == nil && c.swap != nil:
		node.Kind, node.Swap = manifest.KindSwap, c.swap
		return g.add(&item{base: id("swap:"), node: node, on: onto(below)})
	case f.Type == lvmMember:
		return g.physical(d, f, below)
	case c.err != nil:
		return g.unknown(id("fs:"), f.Type, "its parameters could not be read: "+c.err.Error(), d.Bytes, onto(below)...)
	}
	what, base, reason := f.Type, "fs:", "a filesystem of type "+f.Type+" cannot be rebuilt by this version"
	if known, ok := reasons[f.Type]; ok {
		base, reason = known.base, known.on+" cannot be rebuilt by this version"
	} else if f.Usage != "filesystem" {
		base, reason = "", f.Type+" is not known"
	}
	if base == "" {
		base = f.Type + ":"
	}
	if pooled[f.Type] && f.UUID != "" {
		if it := g.pools[f.Type+f.UUID]; it != nil {
			it.on = append(it.on, edge{below, manifest.RoleMember})
			it.node.Bytes += d.Bytes
			return it
		}
	}
	it := g.unknown(id(base), what, reason, d.Bytes, onto(below)...)
	it.short = strings.TrimSuffix(base, ":")
	it.node.Seen.Device = d.Name
	if pooled[f.Type] {
		g.pools[f.Type+f.UUID] = it
		it.node.Seen.Name = f.Label // a pool is mounted by its name
	}
	return it
}

// physical adds an LVM physical volume as lvm tells of it.
func (g *grapher) physical(d *blockdev.Device, f *blkid.Found, below *item) *item {
	if g.r.lvm != nil {
		for _, pv := range g.r.lvm.PVs {
			if pv.UUID != f.UUID || g.r.View.ByNode(pv.Dev) != d {
				continue
			}
			if pv.Duplicate {
				return g.unknown("pv:"+pv.UUID, "LVM physical volume", "another device holds the same id", d.Bytes, onto(below)...)
			}
			body := pv.PV
			return g.add(&item{base: "pv:" + pv.UUID, on: onto(below), node: manifest.Node{Kind: manifest.KindPV, Bytes: pv.DevSize, PV: &body,
				Seen: manifest.Seen{Device: d.Name}}})
		}
	}
	return g.unknown("pv:"+f.UUID, "LVM physical volume", g.noLVM(), d.Bytes, onto(below)...)
}

// table adds a partition table and all its partitions.
func (g *grapher) table(d *blockdev.Device, c *content, below *item) *item {
	f := c.found
	if c.label == nil {
		reason := "a partition table of type " + f.Table + " cannot be rebuilt by this version"
		if c.err != nil {
			reason = "the partition table could not be read: " + c.err.Error()
		}
		return g.unknown("", "partition table "+f.Table, reason, d.Bytes, onto(below)...)
	}
	if diff := g.kernelDiffers(d, c.label); diff != "" {
		return g.unknown("", "partition table "+f.Table, "the kernel and the disk do not agree: "+diff+"; partprobe or a restart makes them", d.Bytes, onto(below)...)
	}
	t := c.label.Table
	id := tableID(t)
	base := ""
	if id != "" {
		base = "table:" + t.UUID
	}
	it := g.add(&item{base: base, on: onto(below), node: manifest.Node{Kind: manifest.KindTable, Bytes: d.Bytes, Table: &t}})
	g.parts[d.Name] = map[int]*item{}
	for _, p := range c.label.Partitions {
		g.parts[d.Name][p.Number] = g.add(&item{base: partID(t, p), on: onto(it), node: manifest.Node{Kind: manifest.KindPartition, Bytes: p.Size, Partition: &p}})
	}
	return it
}

// tableID is the id of a table, "" when nobody gave it one.
func tableID(t manifest.Table) string {
	if strings.Trim(strings.TrimPrefix(t.UUID, "0x"), "0-") == "" {
		return ""
	}
	return t.UUID
}

// partID is the PARTUUID: of an MBR partition the kernel makes it of the disk
// id and the number.
func partID(t manifest.Table, p manifest.Partition) string {
	switch {
	case t.Type == disklabel.GPT && strings.Trim(p.UUID, "0-") != "":
		return "part:" + p.UUID
	case t.Type == disklabel.DOS && tableID(t) != "":
		return "part:" + PartUUID(t, p)
	}
	return ""
}

// PartUUID is a partition's PARTUUID as PARTUUID= in fstab and on the kernel
// command line has it.
func PartUUID(t manifest.Table, p manifest.Partition) string {
	if t.Type == disklabel.GPT {
		return strings.ToLower(p.UUID)
	}
	return fmt.Sprintf("%s-%02x", strings.TrimPrefix(t.UUID, "0x"), p.Number)
}

// kernelDiffers compares the table with what the kernel shows of it.
func (g *grapher) kernelDiffers(d *blockdev.Device, l *disklabel.Label) string {
	have := map[int]manifest.Partition{}
	for _, p := range l.Partitions {
		have[p.Number] = p
	}
	for _, n := range d.Partitions {
		k := g.r.View.Device(n)
		p, ok := have[k.Number]
		switch {
		case !ok:
			return fmt.Sprintf("the kernel shows partition %d, the disk has none", k.Number)
		case k.Start != p.Start:
			return fmt.Sprintf("partition %d begins at byte %d for the kernel, at %d on the disk", k.Number, k.Start, p.Start)
		case k.Bytes != p.Size && k.Bytes > 1024: // an extended one is shown by a kilobyte
			return fmt.Sprintf("partition %d has %d bytes for the kernel, %d on the disk", k.Number, k.Bytes, p.Size)
		}
	}
	if len(d.Partitions) > 0 && len(d.Partitions) < len(l.Partitions) {
		return fmt.Sprintf("the disk has %d partitions, the kernel shows %d", len(l.Partitions), len(d.Partitions))
	}
	return ""
}
