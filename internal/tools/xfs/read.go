// Package xfs reads and makes XFS by xfs_db and mkfs.xfs.
// Level 2: one external tool each: Read(dev) → manifest struct, Make(dev,
// struct); machine-readable output, typed errors; no other tool, no policy.
package xfs

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"lifeboat/internal/run"
	"lifeboat/manifest"
)

// ErrNone: the device holds no XFS.
var ErrNone = errors.New("no XFS")

// ErrUnsupported: the filesystem has something that mkfs.xfs cannot make.
var ErrUnsupported = errors.New("cannot be made again")

// Read reads the filesystem on dev, mounted or not. Source: the superblock as
// xfs_db prints it; its words mean the same in every version of the tools,
// which the prose of xfs_info does not.
func Read(ctx context.Context, r run.Runner, dev string) (*manifest.FS, error) {
	res, err := r.Run(ctx, run.Cmd{Path: "xfs_db", Args: []string{"-r", "-c", "sb 0", "-c", "print", dev}})
	// xfs_db ends with status 0 or 1 here, depending on its version.
	if strings.Contains(string(res.Stderr), "not a valid XFS") {
		return nil, fmt.Errorf("read %s: %w", dev, ErrNone)
	}
	if err != nil {
		return nil, fmt.Errorf("read the XFS on %s: %w", dev, err)
	}
	fs, err := parse(string(res.Stdout))
	if err != nil {
		return nil, fmt.Errorf("read the XFS on %s: %w", dev, err)
	}
	return fs, nil
}

// super is the printed superblock.
type super struct {
	words map[string]string
	err   error
}

func (s *super) need(key string) int64 {
	if _, ok := s.words[key]; !ok && s.err == nil {
		s.err = fmt.Errorf("xfs_db prints no %q", key)
	}
	return s.num(key)
}

// num reads a decimal or 0x number; a field that old tools do not print is 0.
func (s *super) num(key string) int64 {
	v, ok := s.words[key]
	if !ok || v == "null" {
		return 0
	}
	n, err := strconv.ParseInt(v, 0, 64)
	if err != nil && s.err == nil {
		s.err = fmt.Errorf("xfs_db prints %q for %q, no number", v, key)
	}
	return n
}

// Bits of the superblock (xfs_format.h); what mkfs.xfs calls them.
const (
	versionMask  = 0xf
	versionLog2  = 0x400
	versionDir2  = 0x2000
	versionCI    = 0x4000
	versionMore  = 0x8000
	morelazy     = 0x2
	moreAttr2    = 0x8
	moreProjid32 = 0x80
	moreFtype    = 0x200
)

// bit is one feature word's bit by mkfs.xfs's option name.
type bit struct {
	mask int64
	name string
}

var roCompat = []bit{{1, "finobt"}, {2, "rmapbt"}, {4, "reflink"}, {8, "inobtcount"}}

var incompat = []bit{
	{1, "ftype"}, {2, "sparse"}, {8, "bigtime"}, {0x20, "nrext64"}, {0x40, "exchange"},
	{0x80, "parent"}, {0x100, "metadir"}, {0x200, "zoned"},
}

// passing bits of the incompat word describe a state, not what mkfs is told:
// a UUID changed after mkfs, and a repair that is due.
const (
	incompatMetaUUID = 0x4
	incompatRepair   = 0x10
)

func parse(text string) (*manifest.FS, error) {
	s := &super{words: map[string]string{}}
	for line := range strings.Lines(text) {
		if k, v, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " = "); ok {
			s.words[k] = v
		}
	}
	if s.need("magicnum") != 0x58465342 && s.err == nil {
		s.err = ErrNone
	}
	x := &manifest.XFS{
		BlockSize: s.need("blocksize"), SectorSize: s.need("sectsize"), InodeSize: s.need("inodesize"), MaxPct: int(s.need("imax_pct")),
		AGCount: s.need("agcount"), AGBlocks: s.need("agblocks"), Blocks: s.need("dblocks"),
		LogBlocks: s.need("logblocks"), Realtime: s.need("rblocks") != 0,
		LogSector: s.num("logsectsize"), LogVersion: 1, DirVersion: 1, LogExternal: s.need("logstart") == 0,
	}
	x.SUnit, x.SWidth = s.need("unit")*x.BlockSize, s.need("width")*x.BlockSize
	if l := s.need("dirblklog"); l < 0 || l > 16 {
		return nil, fmt.Errorf("xfs_db prints %d for dirblklog", l)
	} else {
		x.DirBlock = x.BlockSize << l
	}
	version := s.need("versionnum")
	if version&versionLog2 != 0 {
		x.LogVersion = 2
	}
	if version&versionDir2 != 0 {
		x.DirVersion = 2
	}
	if x.LogSector == 0 {
		x.LogSector = 512 // the field is only set for other sizes
	}
	// 1 stands for "version 2, no stripe".
	if u := s.num("logsunit"); u > 1 {
		x.LogSUnit = u
	}
	x.Features = s.features(version)
	if s.err != nil {
		return nil, s.err
	}
	label, err := unquote(s.words["fname"])
	if err != nil {
		return nil, err
	}
	return &manifest.FS{Type: "xfs", UUID: s.words["uuid"], Label: label, XFS: x}, nil
}

func (s *super) features(version int64) map[string]bool {
	f := map[string]bool{}
	more := int64(0)
	if version&versionMore != 0 {
		more = s.num("features2")
	}
	crc := version&versionMask == 5
	f["crc"], f["ci"] = crc, version&versionCI != 0
	f["attr2"], f["projid32bit"] = more&moreAttr2 != 0, more&moreProjid32 != 0
	f["lazy-count"], f["ftype"] = more&morelazy != 0, more&moreFtype != 0
	for _, b := range roCompat {
		f[b.name] = crc && s.num("features_ro_compat")&b.mask != 0
	}
	for _, b := range incompat {
		f[b.name] = crc && s.num("features_incompat")&b.mask != 0 || b.name == "ftype" && f["ftype"]
	}
	if crc {
		unknown(f, "ro_compat", s.num("features_ro_compat"), roCompat, 0)
		unknown(f, "incompat", s.num("features_incompat"), incompat, incompatMetaUUID|incompatRepair)
	}
	return f
}

// unknown names every bit that this program does not know, so that nobody
// makes the filesystem again without it.
func unknown(f map[string]bool, word string, value int64, known []bit, passing int64) {
	for _, b := range known {
		value &^= b.mask
	}
	value &^= passing
	for i := range 32 {
		if value&(1<<i) != 0 {
			f[fmt.Sprintf("unknown-%s-%#x", word, int64(1)<<i)] = true
		}
	}
}

// unquote undoes xfs_db's C string: zeroes end the label, other bytes that
// are not printable are octal.
func unquote(q string) (string, error) {
	if len(q) < 2 || q[0] != '"' || q[len(q)-1] != '"' {
		return "", fmt.Errorf("xfs_db prints %s for the label", q)
	}
	q = q[1 : len(q)-1]
	var out []byte
	for len(q) > 0 {
		if q[0] == '\\' && len(q) >= 4 {
			n, err := strconv.ParseUint(q[1:4], 8, 8)
			if err == nil {
				if n == 0 {
					break
				}
				out, q = append(out, byte(n)), q[4:]
				continue
			}
		}
		if q[0] == '\\' && len(q) >= 2 {
			q = q[1:]
		}
		out, q = append(out, q[0]), q[1:]
	}
	return string(out), nil
}
