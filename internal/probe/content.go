package probe

import (
	"context"
	"errors"
	"slices"

	"lifeboat/internal/blockdev"
	"lifeboat/internal/disklabel"
	"lifeboat/internal/run"
	"lifeboat/internal/tools/ext"
	"lifeboat/internal/tools/lvm"
	"lifeboat/internal/tools/swap"
	"lifeboat/internal/tools/vfat"
	"lifeboat/internal/tools/xfs"
	"lifeboat/manifest"
)

// fsReaders read the parameters of the filesystems that can be rebuilt. This
// table and plan's and rescue/storage's say the same.
var fsReaders = map[string]func(context.Context, run.Runner, string) (*manifest.FS, error){
	"ext2": ext.Read, "ext3": ext.Read, "ext4": ext.Read, "xfs": xfs.Read, "vfat": vfat.Read,
}

const lvmMember = "LVM2_member"

// tables reads the partition tables.
func (r *Reading) tables(ctx context.Context) error {
	g := r.group()
	for name, c := range r.found {
		d := r.View.Device(name)
		if c.found != nil && (c.found.Table == disklabel.GPT || c.found.Table == disklabel.DOS) {
			g.Go(func() error { return r.table(d, c) })
		}
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return ctx.Err()
}

// details reads, at the same time, the parameters of filesystems and all of
// LVM.
func (r *Reading) details(ctx context.Context) error {
	g := r.group()
	g.Go(func() error { r.readLVM(ctx); return ctx.Err() })
	for name, c := range r.found {
		d := r.View.Device(name)
		if c.found != nil && c.found.Type != "" {
			g.Go(func() error { return r.filesystem(ctx, d, c) })
		}
	}
	return g.Wait()
}

// readLVM reads all of LVM by one call, once, if there is any. On a host its
// own configuration says what is a physical volume; in the rescue system
// there is none, and nobody but us names devices.
func (r *Reading) readLVM(ctx context.Context) {
	r.lvmOnce.Do(func() {
		members := r.memberNodes()
		if len(members) == 0 {
			return
		}
		t := lvm.Tool{Run: r.opt.Run, Host: !r.opt.Rescue}
		if r.opt.Rescue {
			t.Devices = members
		}
		r.lvm, r.lvmErr = t.Read(ctx)
	})
}

// memberNodes are the device nodes that hold physical volumes.
func (r *Reading) memberNodes() []string {
	var out []string
	for name, c := range r.found {
		if c.found != nil && c.found.Type == lvmMember {
			out = append(out, r.View.Node(r.View.Device(name)))
		}
	}
	slices.Sort(out)
	return out
}

// readTable is replaced by tests, whose disks are image files.
var readTable = disklabel.ReadDevice

func (r *Reading) table(d *blockdev.Device, c *content) error {
	l, err := readTable(r.View.Node(d))
	switch {
	case err == nil:
		c.label = l
	case errors.Is(err, disklabel.ErrNone):
		// blkid took something for a table that is none; it is not guessed at.
		c.err = errors.New("blkid sees a partition table where there is none")
	default:
		c.err = err
	}
	return nil
}

func (r *Reading) filesystem(ctx context.Context, d *blockdev.Device, c *content) error {
	node := r.View.Node(d)
	var err error
	switch read := fsReaders[c.found.Type]; {
	case read != nil:
		if c.fs, err = read(ctx, r.opt.Run, node); err == nil {
			c.bytes, err = fsBytes(c.fs, node)
		}
	case c.found.Type == "swap":
		if c.swap, err = swap.Read(ctx, r.opt.Run, node); err == nil {
			c.bytes, err = swap.Bytes(node)
		}
	}
	if err != nil {
		c.err = err
	}
	return ctx.Err()
}

// fsBytes is how much of its device a filesystem occupies.
func fsBytes(fs *manifest.FS, node string) (int64, error) {
	switch {
	case fs.Ext != nil:
		return fs.Ext.Blocks * fs.Ext.BlockSize, nil
	case fs.XFS != nil:
		return fs.XFS.Blocks * fs.XFS.BlockSize, nil
	}
	return vfat.Bytes(node)
}
