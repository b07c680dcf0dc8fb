package plan

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"lifeboat/manifest"
)

// unsupported tells for each kind why a node of it cannot be rebuilt, "" when
// it can. A kind that is not here cannot be rebuilt at all. This table says
// what rescue/storage makes; the two must agree.
var unsupported = map[manifest.Kind]func(*manifest.Storage, *manifest.Node) string{
	manifest.KindDisk:      func(*manifest.Storage, *manifest.Node) string { return "" },
	manifest.KindTable:     tableReason,
	manifest.KindPartition: partReason,
	manifest.KindPV:        pvReason,
	manifest.KindVG:        vgReason,
	manifest.KindLV:        lvReason,
	manifest.KindFS:        fsReason,
	manifest.KindSwap:      swapReason,
	manifest.KindSwapFile:  swapFileReason,
}

// kindNames are the kinds for people, where "cannot be rebuilt yet" is said.
var kindNames = map[manifest.Kind]string{
	manifest.KindMultipath: "multipath map", manifest.KindMD: "software RAID", manifest.KindLUKS: "LUKS volume",
	manifest.KindSubvol: "btrfs subvolume",
}

// reason tells why one node cannot be rebuilt, "" when it can; what it stands
// on is not asked.
func reason(s *manifest.Storage, n *manifest.Node) string {
	if n.Kind == manifest.KindUnknown {
		if n.Unknown.Reason != "" {
			return n.Unknown.What + ": " + n.Unknown.Reason
		}
		return n.Unknown.What + " is not known"
	}
	f, ok := unsupported[n.Kind]
	if !ok {
		return "a " + kindNames[n.Kind] + " cannot be rebuilt by this version"
	}
	for _, e := range n.On {
		if e.Node == "" {
			return "a member was missing when the host was captured"
		}
	}
	return f(s, n)
}

// below tells of a layer that stands on a kind it is not made on.
func below(s *manifest.Storage, n *manifest.Node, kinds ...manifest.Kind) string {
	for _, e := range n.On {
		if b := s.Node(e.Node); b != nil && !slices.Contains(kinds, b.Kind) {
			return fmt.Sprintf("a %s on a %s cannot be rebuilt by this version", n.Kind, b.Kind)
		}
	}
	return ""
}

func tableReason(s *manifest.Storage, n *manifest.Node) string {
	if n.Table.Type != "gpt" && n.Table.Type != "dos" {
		return fmt.Sprintf("a partition table of type %q cannot be written", n.Table.Type)
	}
	if len(n.On) != 1 {
		return "a partition table stands on exactly one device"
	}
	seen := map[string]bool{}
	for _, p := range partitions(s, n.ID) {
		u := p.Partition.UUID
		if n.Table.Type == "gpt" && u != "" && seen[u] {
			return "two partitions have the same PARTUUID " + u
		}
		seen[u] = true
		if entries := n.Table.Entries; n.Table.Type == "gpt" && entries > 0 && p.Partition.Number > entries {
			return fmt.Sprintf("partition %d is past the table's %d entries", p.Partition.Number, entries)
		}
	}
	return below(s, n, manifest.KindDisk)
}

func partReason(s *manifest.Storage, n *manifest.Node) string {
	if len(n.On) != 1 {
		return "a partition stands on exactly one table"
	}
	return below(s, n, manifest.KindTable)
}

func swapReason(s *manifest.Storage, n *manifest.Node) string {
	if len(n.On) != 1 {
		return "a swap area stands on exactly one device"
	}
	return below(s, n, manifest.KindDisk, manifest.KindPartition, manifest.KindLV)
}

func pvReason(s *manifest.Storage, n *manifest.Node) string {
	if n.PV.Missing {
		return "the physical volume was missing when the host was captured"
	}
	if len(n.On) != 1 {
		return "a physical volume stands on exactly one device"
	}
	return below(s, n, manifest.KindDisk, manifest.KindPartition)
}

func vgReason(s *manifest.Storage, n *manifest.Node) string {
	switch {
	case n.VG.LockType != "" && n.VG.LockType != "none":
		return "a shared volume group (lock type " + n.VG.LockType + ") cannot be rebuilt by this version"
	case n.VG.SystemID != "":
		return "a volume group with a system ID cannot be rebuilt by this version"
	case n.VG.ExtentSize <= 0:
		return "its extent size is not known"
	}
	return below(s, n, manifest.KindPV)
}

// segmentTypes are the LVM segment types that are rebuilt.
var segmentTypes = []string{"linear", "striped"}

func lvReason(s *manifest.Storage, n *manifest.Node) string {
	types := []string{n.LV.Type}
	for _, g := range n.LV.Segments {
		types = append(types, g.Type)
	}
	for _, t := range types {
		if !slices.Contains(segmentTypes, t) {
			return fmt.Sprintf("a logical volume of type %q cannot be rebuilt by this version", t)
		}
	}
	if len(n.LV.Segments) == 0 || len(n.On) != 1 {
		return "where it lies was not captured"
	}
	return below(s, n, manifest.KindVG)
}

// extFeatures are the features of ext filesystems that mke2fs can give, and
// those that only tell a state.
var extFeatures = strings.Fields(`64bit bigalloc casefold dir_index dir_nlink ea_inode encrypt ext_attr extent
	extents extra_isize fast_commit filetype flex_bg has_journal huge_file inline_data large_dir large_file meta_bg
	metadata_csum metadata_csum_seed mmp needs_recovery orphan_file orphan_present project quota resize_inode
	sparse_super sparse_super2 stable_inodes uninit_bg verity`)

func fsReason(s *manifest.Storage, n *manifest.Node) string {
	if len(n.On) != 1 {
		return "a filesystem over several devices cannot be rebuilt by this version"
	}
	why := ""
	switch f := n.FS; f.Type {
	case "ext2", "ext3", "ext4":
		why = extReason(f.Ext)
	case "xfs":
		why = xfsReason(f.XFS)
	case "vfat":
		why = vfatReason(f)
	default:
		why = "a filesystem of type " + f.Type + " cannot be rebuilt by this version"
	}
	if why != "" {
		return why
	}
	return below(s, n, manifest.KindDisk, manifest.KindPartition, manifest.KindLV)
}

const notCaptured = "its parameters were not captured"

func extReason(e *manifest.Ext) string {
	if e == nil {
		return notCaptured
	}
	if e.JournalUUID != "" {
		return "an external journal cannot be rebuilt by this version"
	}
	for _, x := range e.Features {
		if !slices.Contains(extFeatures, x) {
			return "its feature " + x + " cannot be made by this version"
		}
	}
	return ""
}

// xfsFeatures are the features of XFS that mkfs.xfs can give.
var xfsFeatures = strings.Fields(`attr2 bigtime ci crc exchange finobt ftype inobtcount lazy-count metadir nrext64 parent
	projid32bit reflink rmapbt sparse`)

func xfsReason(x *manifest.XFS) string {
	switch {
	case x == nil || x.BlockSize <= 0:
		return notCaptured
	case x.LogExternal || x.Realtime:
		return "an external log or realtime device cannot be rebuilt by this version"
	case x.DirVersion == 1:
		return "directories of version 1 cannot be made any more"
	}
	for f, on := range x.Features {
		if on && !slices.Contains(xfsFeatures, f) {
			return "its feature " + f + " cannot be made by this version"
		}
	}
	return ""
}

// vfatID is a FAT volume id as it is shown.
var vfatID = regexp.MustCompile(`^[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}$`)

func vfatReason(f *manifest.FS) string {
	odd := func(c rune) bool { return c < ' ' || c > '~' }
	switch {
	case f.VFAT == nil || f.VFAT.SectorSize <= 0:
		return notCaptured
	case !vfatID.MatchString(f.UUID):
		return fmt.Sprintf("its volume id %q cannot be given again", f.UUID)
	case len(f.Label) > 11 || strings.ContainsFunc(f.Label, odd):
		return fmt.Sprintf("its label %q cannot be given again", f.Label)
	}
	return ""
}

func swapFileReason(s *manifest.Storage, n *manifest.Node) string {
	if len(n.On) != 1 {
		return "a swap file stands on exactly one filesystem"
	}
	return below(s, n, manifest.KindFS)
}
