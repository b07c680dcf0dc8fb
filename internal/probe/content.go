package probe

import (
	"context"
	"errors"
	"slices"

	"lifeboat/internal/blockdev"
	"lifeboat/internal/disklabel"
	"lifeboat/internal/run"
	"lifeboat/internal/tools/blkid"
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

// signatures lists what lies on all devices that are looked at, and on all
// disks and partitions, by one call.
func (r *Reading) signatures(ctx context.Context) {
	var nodes []string
	for _, d := range r.View.Devices {
		c := r.found[d.Name]
		whole := d.Kind == blockdev.Disk || d.Kind == blockdev.Partition && d.Bytes > 1024 && !r.onLoop(d, 0)
		if whole || c != nil && c.err == nil {
			nodes = append(nodes, r.View.Node(d))
		}
	}
	r.sigs, r.sigErr = blkid.Signatures(ctx, r.opt.Run, nodes)
}

// recognise tells what lies on a device. Where all signatures say the same
// there is no doubt; in every other case, and where there are none, blkid
// judges.
func (r *Reading) recognise(ctx context.Context, d *blockdev.Device, c *content) {
	if c.err != nil {
		return
	}
	if l := r.opt.Assume[d.Name]; l != nil {
		c.found, c.label = &blkid.Found{Table: l.Table.Type, TableID: l.Table.UUID}, l
		return
	}
	node := r.View.Node(d)
	if c.found = plainly(r.sigs[node]); c.found == nil {
		c.found, c.err = blkid.Probe(ctx, r.opt.Run, node)
		if errors.Is(c.err, blkid.ErrNone) {
			c.err = nil
		}
	}
	if c.found != nil && (c.found.Table == disklabel.GPT || c.found.Table == disklabel.DOS) {
		r.table(d, c)
	}
}

// usual are the contents that one kind of signature proves: their parameters
// are read by their own tools anyway.
var usual = map[string]string{"ext2": "filesystem", "ext3": "filesystem", "ext4": "filesystem", "xfs": "filesystem", "vfat": "filesystem",
	"swap": "other", lvmMember: "raid"}

// plainly is what signatures of a single kind say; nil when blkid must judge.
func plainly(sigs []manifest.Signature) *blkid.Found {
	types := map[string]manifest.Signature{}
	for _, s := range sigs {
		types[s.Type] = s
	}
	if _, gpt := types[disklabel.GPT]; gpt {
		delete(types, "PMBR") // the protective table belongs to it
	}
	if len(types) != 1 {
		return nil
	}
	for t, s := range types {
		if t == disklabel.GPT || t == disklabel.DOS {
			return &blkid.Found{Table: t}
		}
		if u := usual[t]; u != "" {
			return &blkid.Found{Type: t, UUID: s.UUID, Label: s.Label, Usage: u}
		}
	}
	return nil
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

func (r *Reading) table(d *blockdev.Device, c *content) {
	l, err := readTable(r.View.Node(d))
	switch {
	case err == nil:
		c.label = l
		c.found.TableID = l.Table.UUID
	case errors.Is(err, disklabel.ErrNone):
		// What looks like a table is none; it is not guessed at.
		c.err = errors.New("a partition table was recognised where there is none")
	default:
		c.err = err
	}
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
