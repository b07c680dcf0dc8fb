package storage

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"lifeboat/manifest"
	"lifeboat/plan"
)

// difference is what a filesystem has otherwise than its node.
type difference struct {
	renames []plan.Rename
	format  []string // what a driver or boot loader may stumble over: an error
	placing []string // where data lies and how much fits: told
}

// identity compares UUID and label.
func identity(kind, wasUUID, isUUID, wasLabel, isLabel string) []plan.Rename {
	var out []plan.Rename
	if wasUUID != "" && !strings.EqualFold(wasUUID, isUUID) {
		out = append(out, plan.Rename{Kind: kind + "-uuid", Old: wasUUID, New: isUUID})
	}
	if wasLabel != isLabel {
		out = append(out, plan.Rename{Kind: kind + "-label", Old: wasLabel, New: isLabel})
	}
	return out
}

// row is one parameter.
type row struct {
	name     string
	was, is  any
	optional bool // a zero was is "not said"
}

func (d *difference) rows(to *[]string, rows ...row) {
	for _, r := range rows {
		if r.was == r.is || r.optional && fmt.Sprint(r.was) == "0" {
			continue
		}
		*to = append(*to, fmt.Sprintf("%s is %v, not %v", r.name, r.is, r.was))
	}
}

func compareFS(was, is *manifest.FS) difference {
	d := difference{renames: identity("fs", was.UUID, is.UUID, was.Label, is.Label)}
	switch {
	case was.Ext != nil && is.Ext != nil:
		d.ext(was.Ext, is.Ext)
	case was.XFS != nil && is.XFS != nil:
		d.xfs(was.XFS, is.XFS)
	case was.VFAT != nil && is.VFAT != nil:
		d.vfat(was.VFAT, is.VFAT)
	default:
		d.format = append(d.format, fmt.Sprintf("it is %s, not %s", is.Type, was.Type))
	}
	return d
}

func (d *difference) ext(was, is *manifest.Ext) {
	lost, gained := minus(was.Features, is.Features), minus(is.Features, was.Features)
	if len(lost)+len(gained) > 0 {
		d.format = append(d.format, fmt.Sprintf("features lost: %s; gained: %s", join(lost), join(gained)))
	}
	d.rows(&d.format, row{"block size", was.BlockSize, is.BlockSize, true}, row{"inode size", was.InodeSize, is.InodeSize, true},
		row{"cluster size", was.ClusterSize, is.ClusterSize, true}, row{"revision", was.Revision, is.Revision, was.Revision == ""},
		row{"encoding", was.Encoding, is.Encoding, false}, row{"strict encoding", was.Strict, is.Strict, false})
	d.rows(&d.placing, row{"blocks", was.Blocks, is.Blocks, true}, row{"inodes", was.Inodes, is.Inodes, true}, row{"reserved blocks", was.Reserved, is.Reserved, false},
		row{"journal", was.Journal, is.Journal, true}, row{"reserved descriptors", was.ReservedGDT, is.ReservedGDT, true}, row{"stride", was.Stride, is.Stride, false},
		row{"stripe width", was.StripeWidth, is.StripeWidth, false}, row{"mount count", was.MaxMounts, is.MaxMounts, false},
		row{"check interval", was.CheckSeconds, is.CheckSeconds, false}, row{"errors", was.Errors, is.Errors, false},
		row{"hash", was.HashAlg, is.HashAlg, false})
	if len(was.Quotas) > 0 { // manifests of earlier versions do not tell
		d.rows(&d.placing, row{"quotas", join(was.Quotas), join(is.Quotas), false})
	}
}

// minus are the words of a that b lacks.
func minus(a, b []string) []string {
	var out []string
	for _, x := range a {
		if !slices.Contains(b, x) {
			out = append(out, x)
		}
	}
	return out
}

func (d *difference) xfs(was, is *manifest.XFS) {
	for _, f := range slices.Sorted(maps.Keys(was.Features)) {
		if was.Features[f] != is.Features[f] {
			d.format = append(d.format, fmt.Sprintf("feature %s is %v, not %v", f, is.Features[f], was.Features[f]))
		}
	}
	for _, f := range slices.Sorted(maps.Keys(is.Features)) {
		if _, known := was.Features[f]; !known && is.Features[f] {
			d.format = append(d.format, "feature "+f+" is on; the original did not have it")
		}
	}
	d.rows(&d.format, row{"block size", was.BlockSize, is.BlockSize, true}, row{"sector size", was.SectorSize, is.SectorSize, true},
		row{"inode size", was.InodeSize, is.InodeSize, true}, row{"directory block", was.DirBlock, is.DirBlock, true},
		row{"log version", was.LogVersion, is.LogVersion, true})
	d.rows(&d.placing, row{"blocks", was.Blocks, is.Blocks, true}, row{"allocation groups", was.AGCount, is.AGCount, true},
		row{"stripe unit", was.SUnit, is.SUnit, false}, row{"stripe width", was.SWidth, is.SWidth, false}, row{"log blocks", was.LogBlocks, is.LogBlocks, true},
		row{"log sector", was.LogSector, is.LogSector, true}, row{"log stripe unit", was.LogSUnit, is.LogSUnit, false}, row{"inode share", was.MaxPct, is.MaxPct, true})
}

func (d *difference) vfat(was, is *manifest.VFAT) {
	d.rows(&d.format, row{"table width", was.Bits, is.Bits, true}, row{"sector size", was.SectorSize, is.SectorSize, true}, row{"tables", was.FATs, is.FATs, true})
	d.rows(&d.placing, row{"cluster size", was.ClusterSize, is.ClusterSize, true}, row{"reserved sectors", was.Reserved, is.Reserved, true},
		row{"root entries", was.RootEntries, is.RootEntries, true})
	if was.CHS != nil && is.CHS != nil {
		d.rows(&d.placing, row{"geometry", *was.CHS, *is.CHS, false})
	}
}

func join(list []string) string {
	if len(list) == 0 {
		return "none"
	}
	return strings.Join(list, ", ")
}
