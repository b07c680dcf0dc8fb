package storage

import (
	"context"
	"fmt"
	"io"
	"os"
	"path"
	"strconv"

	"golang.org/x/sys/unix"

	"lifeboat/internal/run"
	"lifeboat/internal/sysroot"
	"lifeboat/internal/tools/ext"
	"lifeboat/internal/tools/swap"
	"lifeboat/internal/tools/vfat"
	"lifeboat/internal/tools/xfs"
	"lifeboat/manifest"
	"lifeboat/plan"
	"lifeboat/report"
)

// maker makes and reads one type of filesystem.
type maker struct {
	make func(ctx context.Context, r run.Runner, dev string, fs *manifest.FS, bytes int64) error
	read func(ctx context.Context, r run.Runner, dev string) (*manifest.FS, error)
	// check mends one that was cut off; nil where mounting does that.
	check func(ctx context.Context, r run.Runner, dev string) error
}

func makeExt(ctx context.Context, r run.Runner, dev string, fs *manifest.FS, _ int64) error {
	return ext.Make(ctx, r, dev, fs)
}

func makeXFS(ctx context.Context, r run.Runner, dev string, fs *manifest.FS, _ int64) error {
	return xfs.Make(ctx, r, dev, fs)
}

// makers is the literal table of filesystems that can be made. plan's and
// probe's say the same.
var makers = map[string]maker{
	"ext2": {makeExt, ext.Read, ext.Check},
	"ext3": {makeExt, ext.Read, nil},
	"ext4": {makeExt, ext.Read, nil},
	"xfs":  {makeXFS, xfs.Read, nil},
	"vfat": {vfat.Make, vfat.Read, vfat.Check},
}

// mkfs makes a filesystem and reads it back: what decides its format must be
// what the graph has, an identity that could not be kept is a rename.
func (s *Storage) mkfs(ctx context.Context, st plan.Step, _ func(int64, int64)) error {
	if err := s.Claim(ctx); err != nil {
		return err
	}
	n, err := s.node(st.Node)
	if err != nil {
		return err
	}
	if n.FS == nil {
		return fmt.Errorf("%s is no filesystem", n.ID)
	}
	m, ok := makers[n.FS.Type]
	if !ok {
		return report.Errorf(report.CodeUnsupported, "", "filesystems of type %s are not made", n.FS.Type)
	}
	dev, err := s.device(ctx, n.ID)
	if err != nil {
		return err
	}
	if err := m.make(ctx, s.Run, dev, n.FS, n.Bytes); err != nil {
		return err
	}
	return s.sameFS(ctx, n, dev, m, true)
}

// sameFS reads a filesystem and compares it with its node. Differences that
// only place data are told when it was just made.
func (s *Storage) sameFS(ctx context.Context, n *manifest.Node, dev string, m maker, made bool) error {
	got, err := m.read(ctx, s.Run, dev)
	if err != nil {
		return err
	}
	d := compareFS(n.FS, got)
	if len(d.format) > 0 {
		return fmt.Errorf("the %s on %s is not as the plan has it: %s", n.FS.Type, dev, join(d.format))
	}
	if !made {
		if len(d.renames) > 0 {
			return fmt.Errorf("the %s on %s is another one: its %s is %q, not %q", n.FS.Type, dev, d.renames[0].Kind, d.renames[0].New, d.renames[0].Old)
		}
		return nil
	}
	s.rename(n, d.renames)
	if len(d.placing) > 0 {
		s.note("%s on %s: %s", n.FS.Type, dev, join(d.placing))
	}
	return nil
}

func (s *Storage) rename(n *manifest.Node, list []plan.Rename) {
	for _, r := range list {
		r.Node = n.ID
		s.renames = append(s.renames, r)
	}
}

func (s *Storage) mkswap(ctx context.Context, st plan.Step, _ func(int64, int64)) error {
	if err := s.Claim(ctx); err != nil {
		return err
	}
	n, err := s.node(st.Node)
	if err != nil {
		return err
	}
	if n.Swap == nil {
		return fmt.Errorf("%s is no swap area", n.ID)
	}
	dev, err := s.device(ctx, n.ID)
	if err != nil {
		return err
	}
	if err := swap.Make(ctx, s.Run, dev, n.Swap); err != nil {
		return err
	}
	return s.sameSwap(ctx, n, n.Swap, dev, true)
}

// readSwap is replaced by tests without devices.
var readSwap = swap.Read

func (s *Storage) sameSwap(ctx context.Context, n *manifest.Node, want *manifest.Swap, dev string, made bool) error {
	got, err := readSwap(ctx, s.Run, dev)
	if err != nil {
		return err
	}
	if want.PageSize > 0 && got.PageSize != want.PageSize {
		return fmt.Errorf("the swap on %s has pages of %d bytes, not %d", dev, got.PageSize, want.PageSize)
	}
	renames := identity("swap", want.UUID, got.UUID, want.Label, got.Label)
	if !made && len(renames) > 0 {
		return fmt.Errorf("the swap on %s is another one: its %s is %q, not %q", dev, renames[0].Kind, renames[0].New, renames[0].Old)
	}
	s.rename(n, renames)
	return nil
}

// swapFile makes a swap area in a file of a mounted filesystem. The file is
// written, not reserved: a swap file must have no hole, and what reserving
// leaves is one on some filesystems.
func (s *Storage) swapFile(ctx context.Context, st plan.Step, progress func(int64, int64)) error {
	if err := s.underInit(); err != nil {
		return err
	}
	n, err := s.node(st.Node)
	if err != nil {
		return err
	}
	if n.SwapFile == nil {
		return fmt.Errorf("%s is no swap file", n.ID)
	}
	root, err := sysroot.Open(s.Root)
	if err != nil {
		return err
	}
	defer root.Close()
	name := string(n.SwapFile.Path)
	if err := root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	// A file of an earlier try, or one that the backup brought.
	if err := root.Remove(name); err != nil && !os.IsNotExist(err) {
		return err
	}
	in := n.SwapFile.Inode
	mode, err := strconv.ParseUint(in.Mode, 8, 12)
	if err != nil {
		mode = 0o600
	}
	f, err := root.OpenFile(name, unix.O_CREAT|unix.O_EXCL|unix.O_RDWR|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := fill(ctx, f, n.Bytes, progress); err != nil {
		return fmt.Errorf("make the swap file %s: %w", name, err)
	}
	if err := f.Chown(int(in.UID), int(in.GID)); err != nil {
		return err
	}
	if err := unix.Fchmod(int(f.Fd()), uint32(mode)); err != nil {
		return fmt.Errorf("mode of %s: %w", name, err)
	}
	file, err := root.Host(name)
	if err != nil {
		return err
	}
	if err := swap.Make(ctx, s.Run, file, &n.SwapFile.Swap); err != nil {
		return err
	}
	return s.sameSwap(ctx, n, &n.SwapFile.Swap, file, true)
}

// fill writes zeroes.
func fill(ctx context.Context, w io.Writer, bytes int64, progress func(int64, int64)) error {
	b := make([]byte, 1<<20)
	for done := int64(0); done < bytes; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := w.Write(b[:min(int64(len(b)), bytes-done)])
		if err != nil {
			return err
		}
		done += int64(n)
		progress(done, bytes)
	}
	return nil
}
