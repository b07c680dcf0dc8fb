// Package vfat reads and makes FAT12, FAT16 and FAT32; making is mkfs.vfat's
// job.
// Level 2: one external tool each: Read(dev) → manifest struct, Make(dev,
// struct); machine-readable output, typed errors; no other tool, no policy.
package vfat

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"lifeboat/internal/run"
	"lifeboat/manifest"
)

// ErrNone: the device holds no FAT filesystem.
var ErrNone = errors.New("no FAT filesystem")

// Read reads the filesystem on dev, mounted or not. Source: the boot sector
// and the root directory.
func Read(_ context.Context, _ run.Runner, dev string) (*manifest.FS, error) {
	fs, _, err := read(dev)
	return fs, err
}

// Bytes tells how many bytes of dev the filesystem occupies.
func Bytes(dev string) (int64, error) {
	_, n, err := read(dev)
	return n, err
}

func read(dev string) (*manifest.FS, int64, error) {
	f, err := os.Open(dev)
	if err != nil {
		return nil, 0, fmt.Errorf("read the FAT filesystem: %w", err)
	}
	defer f.Close()
	fs, size, err := parse(f)
	if err != nil {
		return nil, 0, fmt.Errorf("read %s: %w", dev, err)
	}
	return fs, size, nil
}

// boot is the boot sector (FAT specification, "BPB").
type boot struct {
	sector, perCluster, reserved, fats, rootEntries, media int64
	total, hidden, fatSectors, rootCluster                 int64
	bits                                                   int
	chs                                                    *manifest.CHS
	id                                                     uint32
	label                                                  string
}

func parse(r io.ReaderAt) (*manifest.FS, int64, error) {
	b := make([]byte, 512)
	if _, err := r.ReadAt(b, 0); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, 0, ErrNone
		}
		return nil, 0, err
	}
	v, err := parseBoot(b)
	if err != nil {
		return nil, 0, err
	}
	label, err := v.rootLabel(r)
	if err != nil {
		return nil, 0, err
	}
	if label == "" {
		label = v.label
	}
	return &manifest.FS{
		Type: "vfat", UUID: fmt.Sprintf("%04X-%04X", v.id>>16, v.id&0xffff), Label: label,
		VFAT: &manifest.VFAT{
			Bits: v.bits, SectorSize: v.sector, ClusterSize: v.sector * v.perCluster, Reserved: int(v.reserved), FATs: int(v.fats),
			RootEntries: int(v.rootEntries), Media: int(v.media), Hidden: v.hidden, CHS: v.chs,
		},
	}, v.total * v.sector, nil
}

func parseBoot(b []byte) (*boot, error) {
	le := binary.LittleEndian
	v := &boot{
		sector: int64(le.Uint16(b[11:])), perCluster: int64(b[13]), reserved: int64(le.Uint16(b[14:])), fats: int64(b[16]),
		rootEntries: int64(le.Uint16(b[17:])), total: int64(le.Uint16(b[19:])), media: int64(b[21]),
		fatSectors: int64(le.Uint16(b[22:])), hidden: int64(le.Uint32(b[28:])),
	}
	if v.total == 0 {
		v.total = int64(le.Uint32(b[32:]))
	}
	jump := b[0] == 0xe9 || b[0] == 0xeb
	power := func(n int64) bool { return n > 0 && n&(n-1) == 0 }
	if !jump || !power(v.sector) || v.sector < 512 || v.sector > 4096 || !power(v.perCluster) ||
		v.reserved == 0 || v.fats < 1 || v.fats > 2 || v.total == 0 || v.media < 0xf0 || le.Uint16(b[510:]) != 0xaa55 {
		return nil, ErrNone
	}
	at := 36 // of the extended part, which FAT32 has further back
	if v.fatSectors == 0 {
		v.fatSectors, v.rootCluster, at = int64(le.Uint32(b[36:])), int64(le.Uint32(b[44:])), 64
	}
	if s, h := int(le.Uint16(b[24:])), int(le.Uint16(b[26:])); s > 0 && h > 0 {
		v.chs = &manifest.CHS{Heads: h, Sectors: s, Drive: int(b[at])}
	}
	if sig := b[at+2]; sig == 0x29 || sig == 0x28 {
		v.id = le.Uint32(b[at+3:])
		if sig == 0x29 {
			v.label = labelOf(b[at+7 : at+18])
		}
	}
	rootSectors := (v.rootEntries*32 + v.sector - 1) / v.sector
	data := v.total - v.reserved - v.fats*v.fatSectors - rootSectors
	if v.fatSectors == 0 || data <= 0 {
		return nil, ErrNone
	}
	// The number of clusters alone decides what the filesystem is, but for
	// FAT32, which has no root area.
	switch clusters := data / v.perCluster; {
	case at == 64:
		v.bits = 32
	case clusters < 4085:
		v.bits = 12
	default:
		v.bits = 16
	}
	return v, nil
}

// labelOf trims a label of eleven bytes; the words of nothing are nothing.
func labelOf(b []byte) string {
	s := strings.TrimRight(string(b), " \x00")
	if s == "NO NAME" {
		return ""
	}
	if s != "" && s[0] == 0x05 {
		s = "\xe5" + s[1:] // 0xE5 would mean a deleted entry
	}
	return s
}

// rootLabel finds the volume entry of the root directory, which is the label
// that every system shows; the one in the boot sector is a copy.
func (v *boot) rootLabel(r io.ReaderAt) (string, error) {
	first := v.reserved + v.fats*v.fatSectors
	if v.bits != 32 {
		label, _, err := scanRoot(r, first*v.sector, v.rootEntries)
		return label, err
	}
	perCluster := v.sector * v.perCluster
	cluster := v.rootCluster
	// A damaged chain may be a ring: no root directory has more clusters.
	for range 2 << 20 / perCluster * 2 {
		if cluster < 2 || cluster >= 0x0ffffff7 {
			break
		}
		label, end, err := scanRoot(r, first*v.sector+(cluster-2)*perCluster, perCluster/32)
		if label != "" || end || err != nil {
			return label, err
		}
		next := make([]byte, 4)
		if _, err := r.ReadAt(next, v.reserved*v.sector+cluster*4); err != nil {
			return "", fmt.Errorf("read the allocation table: %w", err)
		}
		cluster = int64(binary.LittleEndian.Uint32(next) & 0x0fffffff)
	}
	return "", nil
}

// scanRoot looks through directory entries; end tells that the last one was
// met.
func scanRoot(r io.ReaderAt, off, entries int64) (label string, end bool, err error) {
	b := make([]byte, entries*32)
	if n, err := r.ReadAt(b, off); err != nil && n < 32 {
		return "", true, fmt.Errorf("read the root directory: %w", err)
	} else if n < len(b) {
		b = b[:n/32*32]
	}
	for ; len(b) >= 32; b = b[32:] {
		const volume, long = 0x08, 0x0f
		switch {
		case b[0] == 0:
			return "", true, nil
		case b[0] == 0xe5 || b[11]&long == long:
		case b[11]&volume != 0:
			return labelOf(b[:11]), true, nil
		}
	}
	return "", false, nil
}
