package plan

import (
	"fmt"
	"math"
	"strings"

	"lifeboat/manifest"
	"lifeboat/report"
)

// gptEntry is the size of one GPT entry, bytes (UEFI specification, 5.3.3).
const gptEntry = 128

// sector is a logical sector size; a size that nobody could read is 512.
func sector(d manifest.Disk) int64 {
	if d.Logical <= 0 {
		return 512
	}
	return d.Logical
}

// gptEntrySectors is the number of sectors of the entries' array.
func gptEntrySectors(entries int, sec int64) int64 {
	if entries <= 0 {
		entries = 128
	}
	return (int64(entries)*gptEntry + sec - 1) / sec
}

// gptTail is what a GPT keeps free at the end of a disk: the backup entries
// and the backup header, bytes. 33 sectors of 512, 5 of 4096.
func gptTail(t *manifest.Table, sec int64) int64 { return (gptEntrySectors(t.Entries, sec) + 1) * sec }

// gptFirst is the start of the first usable sector, bytes: after the
// protective MBR, the header and the entries.
func gptFirst(t *manifest.Table, sec int64) int64 {
	return (gptEntrySectors(t.Entries, sec) + 2) * sec
}

// fit lists what keeps the layout of a captured disk from fitting on a disk,
// naming each object. who is the disk for people.
func (k *maker) fit(c *manifest.Node, d manifest.Disk, who string) []report.Problem {
	var out []report.Problem
	no := func(code string, object manifest.ID, format string, a ...any) {
		out = append(out, report.Problem{Code: code, Severity: report.Error, Object: string(object),
			Text: fmt.Sprintf(format, a...), Next: "use a disk like the captured one"})
	}
	if sector(d) != sector(*c.Disk) {
		if id, why := k.inexact(c, sector(d)); why != "" {
			no(report.CodeSectorSize, id, "%s has sectors of %d bytes, the captured disk of %d: %s", who, sector(d), sector(*c.Disk), why)
			return out
		}
	}
	need, last := k.required(c, sector(d))
	least := k.least(c, sector(d))
	if whole := d.Bytes - d.Bytes%sector(d); whole < least {
		spared := ""
		if least < need {
			spared = fmt.Sprintf(", with %s of free room and swap given up", size(need-least))
		}
		no(report.CodeDiskTooSmall, last, "%s has %d bytes and the layout needs %d%s: %s missing for %s",
			who, d.Bytes, least, spared, missing(least-d.Bytes), k.name(last)+k.holds(last))
	}
	return out
}

// fitsWhole tells whether the layout of a captured disk has room on another
// one with nothing made smaller.
func (k *maker) fitsWhole(c *manifest.Node, d manifest.Disk) bool {
	need, _ := k.required(c, sector(d))
	return d.Bytes-d.Bytes%sector(d) >= need
}

// holds says what people know an object by: the mount points and volume
// groups on it.
func (k *maker) holds(id manifest.ID) string {
	var s []string
	for _, n := range append(k.g.Above(id), k.g.Node(id)) {
		if n.Kind == manifest.KindVG {
			return " (" + k.name(n.ID) + ")"
		}
		for _, mt := range k.g.MountsOf(n.ID) {
			if mt.Path != "none" {
				s = append(s, mt.Path.String())
			}
		}
	}
	if len(s) == 0 {
		return ""
	}
	return " (" + strings.Join(s, ", ") + ")"
}

func missing(n int64) string {
	if n == 1 {
		return "1 byte is"
	}
	if n < 1<<20 {
		return fmt.Sprintf("%d bytes are", n)
	}
	return fmt.Sprintf("%d bytes (%s) are", n, size(n))
}

// required is the smallest disk, in bytes, that the layout of c fits on, and
// the object that lies last.
func (k *maker) required(c *manifest.Node, sec int64) (int64, manifest.ID) {
	need, last := int64(0), c.ID
	for i := range k.g.Nodes {
		n := &k.g.Nodes[i]
		if !k.kept[n.ID] || len(n.On) != 1 || n.On[0].Node != c.ID {
			continue
		}
		switch n.Kind {
		case manifest.KindTable:
			for _, p := range partitions(k.g, n.ID) {
				if end := p.Partition.Start + p.Partition.Size; end > need {
					need, last = end, p.ID
				}
			}
			if n.Table.Type == "gpt" {
				need = max(need, gptFirst(n.Table, sec))
				need = roundUp(need, sec) + gptTail(n.Table, sec)
			}
		case manifest.KindPV:
			need, last = max(need, k.pvBytes(n)), n.ID
		default: // a filesystem or swap on the whole disk
			need, last = max(need, n.Bytes), n.ID
		}
	}
	return need, last
}

func partitions(g *manifest.Storage, table manifest.ID) []*manifest.Node {
	var out []*manifest.Node
	for _, p := range g.OfKind(manifest.KindPartition) {
		if len(p.On) == 1 && p.On[0].Node == table {
			out = append(out, p)
		}
	}
	return out
}

// times multiplies counts that someone else wrote: what does not fit becomes
// a size that no disk has, instead of a small one.
func times(a, b int64) int64 {
	if a < 0 || b < 0 || b > 0 && a > math.MaxInt64/4/b {
		return math.MaxInt64 / 4
	}
	return a * b
}

func roundUp(n, to int64) int64 { return (n + to - 1) / to * to }

// pvBytes is what a physical volume needs of its device.
func (k *maker) pvBytes(pv *manifest.Node) int64 {
	for _, vg := range k.g.OfKind(manifest.KindVG) {
		for _, e := range vg.On {
			if e.Node == pv.ID {
				return pv.PV.PEStart + times(pv.PV.Extents, vg.VG.ExtentSize)
			}
		}
	}
	return pv.PV.PEStart
}

// inexact tells what of a disk's layout cannot be the same with sectors of
// another size: everything must begin and end on a whole sector, and no
// filesystem may use smaller ones.
func (k *maker) inexact(c *manifest.Node, sec int64) (manifest.ID, string) {
	for _, n := range k.g.Above(c.ID) {
		if !k.kept[n.ID] {
			continue
		}
		switch n.Kind {
		case manifest.KindPartition:
			if why := partitionInexact(n.Partition, sec); why != "" {
				return n.ID, k.name(n.ID) + " " + why
			}
		case manifest.KindTable:
			if n.Table.Type == "gpt" && len(partitions(k.g, n.ID)) > 0 && gptFirst(n.Table, sec) > firstStart(k.g, n.ID) {
				return n.ID, "the table with larger sectors would reach into the first partition"
			}
			if n.Table.Type == "dos" && tooFar(k.g, n.ID, sec) {
				return n.ID, "an MBR table cannot count that many sectors"
			}
		case manifest.KindPV:
			if n.PV.PEStart%sec != 0 {
				return n.ID, k.name(n.ID) + " begins its data inside a sector"
			}
		case manifest.KindFS:
			if s := fsSector(n.FS); s > 0 && s < sec {
				return n.ID, fmt.Sprintf("%s uses units of %d bytes", k.name(n.ID), s)
			}
		}
	}
	for _, id := range k.m.Boot.MBRCode {
		if id == c.ID && k.m.Boot.Firmware == manifest.FirmwareBIOS && sec != 512 {
			return c.ID, "a BIOS starts only from sectors of 512 bytes"
		}
	}
	return "", ""
}

func partitionInexact(p *manifest.Partition, sec int64) string {
	switch {
	case p.Start%sec != 0:
		return fmt.Sprintf("begins at byte %d, inside a sector", p.Start)
	case p.Size%sec != 0:
		return fmt.Sprintf("has %d bytes, not whole sectors", p.Size)
	}
	return ""
}

func firstStart(g *manifest.Storage, table manifest.ID) int64 {
	first := int64(-1)
	for _, p := range partitions(g, table) {
		if first < 0 || p.Partition.Start < first {
			first = p.Partition.Start
		}
	}
	return first
}

// tooFar tells whether an MBR table's 32-bit numbers are too small.
func tooFar(g *manifest.Storage, table manifest.ID, sec int64) bool {
	for _, p := range partitions(g, table) {
		if p.Partition.Start/sec > 1<<32-1 || p.Partition.Size/sec > 1<<32-1 {
			return true
		}
	}
	return false
}

// fsSector is the smallest unit that a filesystem writes, 0 when any fits.
func fsSector(f *manifest.FS) int64 {
	switch {
	case f.Ext != nil:
		return f.Ext.BlockSize
	case f.XFS != nil:
		if f.XFS.LogSector > 0 {
			return min(f.XFS.SectorSize, f.XFS.LogSector)
		}
		return f.XFS.SectorSize
	case f.VFAT != nil:
		return f.VFAT.SectorSize
	}
	return 0
}
