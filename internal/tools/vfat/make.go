package vfat

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"lifeboat/internal/run"
	"lifeboat/manifest"
)

// ErrUnsupported: the filesystem has something that mkfs.vfat cannot make.
var ErrUnsupported = errors.New("cannot be made again")

// idForm is a volume id as it is shown.
var idForm = regexp.MustCompile(`^[0-9A-F]{4}-[0-9A-F]{4}$`)

// Make makes the filesystem on dev, over whatever is there. bytes is the size
// of the filesystem; 0 is the whole device.
func Make(ctx context.Context, r run.Runner, dev string, fs *manifest.FS, bytes int64) error {
	v := fs.VFAT
	if v == nil || v.SectorSize == 0 {
		return fmt.Errorf("make vfat on %s: its parameters are not known", dev)
	}
	if !idForm.MatchString(fs.UUID) {
		return fmt.Errorf("make vfat on %s: %q is no volume id", dev, fs.UUID)
	}
	if len(fs.Label) > 11 || strings.ContainsFunc(fs.Label, func(c rune) bool { return c < ' ' || c > '~' }) {
		return fmt.Errorf("make vfat on %s: label %q: %w", dev, fs.Label, ErrUnsupported)
	}
	// -I: device mapper and md devices count as whole disks. -a: with it the
	// numbers below are taken as they are, not rounded for old floppy tools.
	args := []string{"-I", "-a", "-F", fmt.Sprint(v.Bits), "-S", fmt.Sprint(v.SectorSize), "-s", fmt.Sprint(v.ClusterSize / v.SectorSize),
		"-R", fmt.Sprint(v.Reserved), "-f", fmt.Sprint(v.FATs), "-h", fmt.Sprint(v.Hidden), "-i", strings.Replace(fs.UUID, "-", "", 1)}
	if v.Bits != 32 && v.RootEntries > 0 {
		args = append(args, "-r", fmt.Sprint(v.RootEntries))
	}
	if v.Media != 0 {
		args = append(args, "-M", fmt.Sprintf("0x%02x", v.Media))
	}
	if fs.Label != "" {
		args = append(args, "-n", fs.Label)
	}
	target := []string{dev}
	if bytes > 0 {
		target = append(target, fmt.Sprint(bytes>>10))
	}
	_, err := r.Run(ctx, run.Cmd{Path: "mkfs.vfat", Args: slices.Concat(args, chsArgs(v), target)})
	var e *run.Error
	if errors.As(err, &e) && v.CHS != nil && strings.Contains(e.Stderr, "invalid option") {
		// dosfstools before 4.2 take the geometry of the device. Nothing that
		// starts by UEFI reads it.
		_, err = r.Run(ctx, run.Cmd{Path: "mkfs.vfat", Args: slices.Concat(args, target)})
	}
	if err != nil {
		return fmt.Errorf("make vfat on %s: %w", dev, err)
	}
	return nil
}

func chsArgs(v *manifest.VFAT) []string {
	if v.CHS == nil {
		return nil
	}
	return []string{"-g", fmt.Sprintf("%d/%d", v.CHS.Heads, v.CHS.Sectors), "-D", fmt.Sprintf("0x%02x", v.CHS.Drive)}
}

// Check mends what a machine that was switched off left half-written; a
// filesystem that cannot be mended is an error. FAT has no journal.
func Check(ctx context.Context, r run.Runner, dev string) error {
	// Status 1: errors were found and mended.
	if _, err := r.Run(ctx, run.Cmd{Path: "fsck.vfat", Args: []string{"-a", dev}, OK: []int{0, 1}}); err != nil {
		return fmt.Errorf("check the vfat on %s: %w", dev, err)
	}
	return nil
}
