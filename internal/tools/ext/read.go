// Package ext reads and makes ext2, ext3 and ext4 by dumpe2fs, mke2fs and
// tune2fs.
// Level 2: one external tool each: Read(dev) → manifest struct, Make(dev,
// struct); machine-readable output, typed errors; no other tool, no policy.
package ext

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"lifeboat/internal/run"
	"lifeboat/manifest"
)

// ErrNone: the device holds no ext filesystem, or one too damaged to read.
var ErrNone = errors.New("no ext2, ext3 or ext4")

// ErrUnsupported: the filesystem has something that mke2fs cannot make.
var ErrUnsupported = errors.New("cannot be made again")

// Read reads the filesystem on dev, mounted or not. Source: dumpe2fs -h.
func Read(ctx context.Context, r run.Runner, dev string) (*manifest.FS, error) {
	res, err := r.Run(ctx, run.Cmd{Path: "dumpe2fs", Args: []string{"-h", dev}})
	if err != nil {
		var e *run.Error
		if errors.As(err, &e) && strings.Contains(e.Stderr, "Bad magic number") {
			return nil, fmt.Errorf("read %s: %w", dev, ErrNone)
		}
		return nil, fmt.Errorf("read the ext filesystem on %s: %w", dev, err)
	}
	fs, err := parse(string(res.Stdout))
	if err == nil && fs.Ext.Encoding != "" {
		fs.Ext.Strict, err = strict(dev)
	}
	if err != nil {
		return nil, fmt.Errorf("read the ext filesystem on %s: %w", dev, err)
	}
	return fs, nil
}

// strict reads the flags of a file name encoding, which no tool prints
// (ext4 disk layout: s_encoding_flags).
func strict(dev string) (bool, error) {
	f, err := os.Open(dev)
	if err != nil {
		return false, err
	}
	defer f.Close()
	const superblock, magic, flags = 1024, 0x38, 0x27e
	b := make([]byte, 1024)
	if _, err := f.ReadAt(b, superblock); err != nil {
		return false, err
	}
	if binary.LittleEndian.Uint16(b[magic:]) != 0xef53 {
		return false, ErrNone
	}
	return binary.LittleEndian.Uint16(b[flags:])&1 != 0, nil
}

// header is dumpe2fs's output by key. Values keep their blanks: a label may
// end in one.
type header map[string]string

// column is where dumpe2fs begins its values; short keys are padded to it.
const column = 26

func split(text string) header {
	h := header{}
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		key, value, ok := strings.Cut(line, ":")
		if !ok || key == "" || key[0] == ' ' {
			continue
		}
		if len(key) < column && len(line) >= column && strings.Trim(line[len(key)+1:column], " ") == "" {
			value = line[column:]
		} else {
			value = strings.TrimSpace(value) // "Inode size:" is followed by a tab
		}
		if _, twice := h[key]; !twice {
			h[key] = value
		}
	}
	return h
}

// reader collects the first fault of reading numbers.
type reader struct {
	h   header
	err error
}

func (r *reader) need(key string) int64 {
	if _, ok := r.h[key]; !ok && r.err == nil {
		r.err = fmt.Errorf("dumpe2fs prints no %q", key)
	}
	return r.num(key)
}

// num reads the leading number of a value; a key that is not there is 0.
func (r *reader) num(key string) int64 {
	f := strings.Fields(r.h[key])
	if len(f) == 0 {
		return 0
	}
	n, err := strconv.ParseInt(f[0], 0, 64)
	if err != nil && r.err == nil {
		r.err = fmt.Errorf("dumpe2fs prints %q for %q, no number", r.h[key], key)
	}
	return n
}

// text is a value, "" for the words that dumpe2fs prints instead of nothing.
func (h header) text(key string) string {
	switch v := h[key]; v {
	case "<none>", "<not available>", "(none)":
		return ""
	default:
		return v
	}
}

// transient features come and go with mounting and are no intent.
var transient = []string{"needs_recovery", "orphan_present"}

func parse(text string) (*manifest.FS, error) {
	r := &reader{h: split(text)}
	h := r.h
	e := &manifest.Ext{
		BlockSize: r.need("Block size"), Blocks: r.need("Block count"), Inodes: r.need("Inode count"),
		Reserved: r.need("Reserved block count"), MaxMounts: r.num("Maximum mount count"), CheckSeconds: r.num("Check interval"),
		ReservedUID: uint32(r.num("Reserved blocks uid")), ReservedGID: uint32(r.num("Reserved blocks gid")),
		Stride: r.num("RAID stride"), StripeWidth: r.num("RAID stripe width"), FlexBG: r.num("Flex block group size"),
		ClusterSize: r.num("Cluster size"), ReservedGDT: r.num("Reserved GDT blocks"), GroupBlocks: r.need("Blocks per group"),
		HashSeed: strings.TrimSpace(h.text("Directory Hash Seed")), HashAlg: strings.TrimSpace(h.text("Default directory hash")),
		ChecksumSeed: strings.TrimSpace(h.text("Checksum seed")), Encoding: strings.TrimSpace(h.text("Character encoding")),
		JournalUUID: strings.TrimSpace(h.text("Journal UUID")), LastMounted: h.text("Last mounted on"),
		Errors: errorsOf(h.text("Errors behavior")), InodeSize: r.num("Inode size"),
	}
	for _, q := range [][2]string{{"User quota inode", "usrquota"}, {"Group quota inode", "grpquota"}, {"Project quota inode", "prjquota"}} {
		if r.num(q[0]) > 0 {
			e.Quotas = append(e.Quotas, q[1])
		}
	}
	e.Revision = strings.TrimSpace(strings.SplitN(h["Filesystem revision #"], "(", 2)[0])
	if e.InodeSize == 0 {
		e.InodeSize = 128 // revision 0 has no field for it
	}
	for _, f := range strings.Fields(h.text("Filesystem features")) {
		if !slices.Contains(transient, f) {
			e.Features = append(e.Features, f)
		}
	}
	slices.Sort(e.Features)
	e.MountOptions = strings.Fields(h.text("Default mount options"))
	// tune2fs can set one extended option; a list, which only debugfs writes,
	// is a default that fstab does better, and is not kept.
	if o := h.text("Mount options"); !strings.Contains(o, ",") {
		e.MoreOptions = o
	}
	e.Journal = r.journal(e)
	if e.JournalUUID == "" && slices.Contains(e.Features, "has_journal") && r.num("Journal inode") == 0 && h["Journal device"] != "" {
		e.JournalUUID = "unknown"
	}
	if r.err != nil {
		return nil, r.err
	}
	return &manifest.FS{Type: typeOf(e.Features), UUID: strings.TrimSpace(h.text("Filesystem UUID")), Label: h.text("Filesystem volume name"), Ext: e}, nil
}

// journal is the size of the journal without its fast commit area, which
// mke2fs adds by itself.
func (r *reader) journal(e *manifest.Ext) int64 {
	if n := r.num("Total journal blocks"); n > 0 {
		return (n - r.num("Fast commit length")) * e.BlockSize
	}
	for _, key := range []string{"Total journal size", "Journal size"} {
		v := strings.TrimSpace(r.h[key])
		unit := int64(1)
		switch {
		case strings.HasSuffix(v, "k"):
			unit = 1 << 10
		case strings.HasSuffix(v, "M"):
			unit = 1 << 20
		case strings.HasSuffix(v, "G"):
			unit = 1 << 30
		}
		if n, err := strconv.ParseInt(strings.TrimRight(v, "kMG"), 10, 64); err == nil {
			return n * unit
		}
	}
	return 0
}

func errorsOf(v string) string {
	switch strings.TrimSpace(v) {
	case "Continue":
		return "continue"
	case "Remount read-only":
		return "remount-ro"
	case "Panic":
		return "panic"
	}
	return ""
}

// compatible are the features that ext2 and ext3 drivers accept, beside those
// that any driver may ignore.
var compatible = []string{
	"filetype", "meta_bg", "sparse_super", "large_file", "has_journal", "ext_attr", "resize_inode",
	"dir_index", "dir_prealloc", "imagic_inodes", "sparse_super2",
}

// typeOf names the driver as blkid does: the least that reads the features.
func typeOf(features []string) string {
	for _, f := range features {
		if !slices.Contains(compatible, f) {
			return "ext4"
		}
	}
	if slices.Contains(features, "has_journal") {
		return "ext3"
	}
	return "ext2"
}
