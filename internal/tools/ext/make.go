package ext

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"lifeboat/internal/run"
	"lifeboat/manifest"
)

// Make makes the filesystem on dev, over whatever is there. Everything that
// mke2fs would take from its configuration or guess from the device is said:
// the filesystem has exactly the features and parameters of fs.
func Make(ctx context.Context, r run.Runner, dev string, fs *manifest.FS) error {
	if fs.Ext == nil {
		return fmt.Errorf("make %s on %s: its parameters are not known", fs.Type, dev)
	}
	if err := supported(fs.Ext); err != nil {
		return fmt.Errorf("make %s on %s: %w", fs.Type, dev, err)
	}
	if _, err := r.Run(ctx, run.Cmd{Path: "mke2fs", Args: mkeArgs(dev, fs)}); err != nil {
		return fmt.Errorf("make %s on %s: %w", fs.Type, dev, err)
	}
	if _, err := r.Run(ctx, run.Cmd{Path: "tune2fs", Args: tuneArgs(dev, fs.Ext)}); err != nil {
		return fmt.Errorf("set parameters of the %s on %s: %w", fs.Type, dev, err)
	}
	return nil
}

func supported(e *manifest.Ext) error {
	for _, f := range e.Features {
		// What e2fsprogs has no name for is printed as FEATURE_C12 or the like.
		if strings.HasPrefix(f, "FEATURE_") || f == "journal_dev" || f == "shared_blocks" {
			return fmt.Errorf("feature %s: %w", f, ErrUnsupported)
		}
	}
	if e.JournalUUID != "" {
		return fmt.Errorf("a journal on another device: %w", ErrUnsupported)
	}
	return nil
}

func (e ext) has(f string) bool { return slices.Contains(e.Features, f) }

// ext gives the parameters their derived values.
type ext struct{ *manifest.Ext }

func mkeArgs(dev string, fs *manifest.FS) []string {
	e := ext{fs.Ext}
	// "none" first: the features of a configuration file or a newer default
	// must not come in, and only names that the filesystem has are used.
	args := []string{"-q", "-F", "-O", strings.Join(append([]string{"none"}, e.Features...), ",")}
	add := func(flag, value string) { args = append(args, flag, value) }
	num := func(flag string, n int64) {
		if n > 0 {
			add(flag, strconv.FormatInt(n, 10))
		}
	}
	if e.Revision == "0" {
		add("-r", "0")
	}
	num("-b", e.BlockSize)
	if e.Revision != "0" {
		num("-I", e.InodeSize)
	}
	num("-N", e.Inodes)
	add("-m", "0") // tune2fs sets the exact number
	if e.has("bigalloc") {
		num("-C", e.ClusterSize)
	} else if e.GroupBlocks != defaultGroup(e.BlockSize) {
		num("-g", e.GroupBlocks)
	}
	if e.has("flex_bg") {
		num("-G", e.FlexBG)
	}
	if e.has("has_journal") && e.Journal >= 1<<20 {
		add("-J", fmt.Sprintf("size=%d", e.Journal>>20))
	}
	if fs.UUID != "" {
		add("-U", fs.UUID)
	}
	if fs.Label != "" {
		add("-L", fs.Label)
	}
	if e.LastMounted != "" {
		add("-M", e.LastMounted)
	}
	args = append(args, "-E", strings.Join(e.extended(), ","), dev)
	if e.Blocks > 0 {
		args = append(args, strconv.FormatInt(e.Blocks, 10))
	}
	return args
}

// defaultGroup is what mke2fs takes for blocks per group: one bitmap block,
// within 16 bits.
func defaultGroup(block int64) int64 { return min(block*8, 65528) }

func (e ext) extended() []string {
	// Discarding takes minutes on some disks and nothing depends on it.
	x := []string{"nodiscard"}
	if e.HashSeed != "" {
		x = append(x, "hash_seed="+e.HashSeed)
	}
	if e.Stride > 0 {
		x = append(x, fmt.Sprintf("stride=%d", e.Stride))
	}
	if e.StripeWidth > 0 {
		x = append(x, fmt.Sprintf("stripe_width=%d", e.StripeWidth))
	}
	if n := e.resize(); n > 0 {
		x = append(x, fmt.Sprintf("resize=%d", n))
	}
	if e.has("casefold") && e.Encoding != "" {
		x = append(x, "encoding="+e.Encoding)
		if e.Strict {
			x = append(x, "encoding_flags=strict")
		}
	}
	// Without it mke2fs makes those of users and groups.
	if e.has("quota") && len(e.Quotas) > 0 {
		x = append(x, "quotatype="+strings.Join(e.Quotas, ":"))
	}
	return x
}

// resize is the size, in blocks, up to which the filesystem can grow in
// place; it makes mke2fs reserve exactly ReservedGDT blocks: the descriptors
// of the groups that such a size has, less those already there.
func (e ext) resize() int64 {
	if !e.has("resize_inode") || e.ReservedGDT == 0 || e.Blocks == 0 || e.GroupBlocks == 0 || e.BlockSize == 0 {
		return 0
	}
	perBlock := e.BlockSize / 32
	if e.has("64bit") {
		perBlock = e.BlockSize / 64
	}
	group := e.GroupBlocks
	if e.has("bigalloc") {
		group = e.BlockSize * 8 // mke2fs counts so here, whatever the clusters are
	}
	groups := (e.Blocks + group - 1) / group
	descriptors := (groups + perBlock - 1) / perBlock
	n := (e.ReservedGDT + descriptors) * perBlock * group
	if n = min(n, 1<<32-1); n <= e.Blocks {
		return 0
	}
	return n
}

// mountFlags are the default mount options that mke2fs may have set by
// itself.
var mountFlags = []string{"debug", "bsdgroups", "user_xattr", "acl", "uid16", "nobarrier", "block_validity", "discard", "nodelalloc"}

func tuneArgs(dev string, e *manifest.Ext) []string {
	args := []string{"-c", strconv.FormatInt(e.MaxMounts, 10), "-i", fmt.Sprintf("%ds", e.CheckSeconds), "-r", strconv.FormatInt(e.Reserved, 10),
		"-u", strconv.FormatUint(uint64(e.ReservedUID), 10), "-g", strconv.FormatUint(uint64(e.ReservedGID), 10)}
	if e.Errors != "" {
		args = append(args, "-e", e.Errors)
	}
	var opts []string
	for _, f := range mountFlags {
		if !slices.Contains(e.MountOptions, f) {
			opts = append(opts, "^"+f)
		}
	}
	args = append(args, "-o", strings.Join(append(opts, e.MountOptions...), ","))
	// mke2fs takes the geometry of the device where it is told none.
	x := fmt.Sprintf("stride=%d,stripe_width=%d", e.Stride, e.StripeWidth)
	if e.HashAlg != "" {
		x += ",hash_alg=" + e.HashAlg
	}
	if e.MoreOptions != "" {
		x += ",mount_opts=" + e.MoreOptions // tune2fs hears the last -E only
	}
	return append(args, "-E", x, dev)
}

// Check mends what a machine that was switched off left half-written; what
// needs a person's decision is an error.
func Check(ctx context.Context, r run.Runner, dev string) error {
	// Status 1: errors were found and mended; 2 would ask for a restart of a
	// mounted root, which this is not.
	if _, err := r.Run(ctx, run.Cmd{Path: "e2fsck", Args: []string{"-p", dev}, OK: []int{0, 1}}); err != nil {
		return fmt.Errorf("check the ext filesystem on %s: %w", dev, err)
	}
	return nil
}
