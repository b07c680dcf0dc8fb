// Package probe reads a live machine: its hardware and firmware, its disks
// with what they hold and what protects them, and the storage graph from the
// disks up.
// Level 3: reading a live machine.
package probe

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"lifeboat/internal/blockdev"
	"lifeboat/internal/disklabel"
	"lifeboat/internal/run"
	"lifeboat/internal/tools/blkid"
	"lifeboat/internal/tools/lvm"
	"lifeboat/manifest"
	"lifeboat/report"
)

// Options say what is read, and from where.
type Options struct {
	Run run.Runner
	// System is where the kernel shows itself; the zero value is the running
	// one.
	System blockdev.System
	// Root is the folder that holds the host's files; "" is "/".
	Root string
	// Rescue: found by the rescue system under its own PID 1. Tools, modules,
	// claims and the roots of other systems are looked for too.
	Rescue bool
	// Medium and Backup are mount points, files or device nodes that carry the
	// rescue medium and the backup in use.
	Medium, Backup []string
	// OpenedMounts and OpenedDevices are what Lifeboat itself opened: mount
	// points with all below them, kernel names of dm, md and loop devices.
	OpenedMounts, OpenedDevices []string
	// Assume are tables that disks have lost and that LostTable found, by
	// kernel name of the disk.
	Assume map[string]*disklabel.Label
}

func (o Options) defaults() Options {
	if o.System == (blockdev.System{}) {
		o.System = blockdev.Live()
	}
	if o.Root == "" {
		o.Root = "/"
	}
	if o.Run == nil {
		o.Run = run.Exec{}
	}
	return o
}

// parallel is how many programs run at once: they mostly wait for disks.
const parallel = 8

// Reading is one reading of the machine's block devices and of what lies on
// them, consistent in itself.
type Reading struct {
	View *blockdev.View

	opt     Options
	found   map[string]*content // by kernel name
	lvm     *lvm.Report
	lvmErr  error
	lvmOnce sync.Once

	sigs   map[string][]manifest.Signature // by node
	sigErr map[string]error

	pciOnce sync.Once
	pciName func(vendor, device string) string
}

// content is what lies on one device.
type content struct {
	found *blkid.Found     // nil: nothing
	err   error            // why it could not be told
	label *disklabel.Label // when it carries a GPT or MBR
	fs    *manifest.FS     // when it is a filesystem that can be rebuilt
	swap  *manifest.Swap
	bytes int64 // occupied by fs or swap
}

// Read reads block devices and what lies on them. Devices that come, go or
// change meanwhile make it start again once; then it is an error that names
// the device.
func Read(ctx context.Context, opt Options) (*Reading, error) {
	opt = opt.defaults()
	if err := opt.wake(ctx); err != nil {
		return nil, err
	}
	for try := 0; ; try++ {
		r := &Reading{opt: opt, found: map[string]*content{}}
		err := r.read(ctx)
		if err != nil {
			return nil, err
		}
		changed, err := r.changed()
		if err != nil {
			return nil, err
		}
		if changed == "" {
			return r, nil
		}
		if try > 0 {
			return nil, changedError(changed)
		}
	}
}

func changedError(what string) error {
	return report.Errorf(report.CodeFailed, "try again when the disks are at rest", "block devices changed while they were read: %s", what)
}

// Machine reads everything that the planner sees of a machine.
func Machine(ctx context.Context, opt Options) (*manifest.Machine, error) {
	r, err := Read(ctx, opt)
	if err != nil {
		return nil, err
	}
	return r.Machine(ctx)
}

func (r *Reading) read(ctx context.Context) error {
	var err error
	if r.View, err = r.opt.System.Scan(); err != nil {
		return fmt.Errorf("read block devices: %w", err)
	}
	for _, d := range r.View.Devices {
		if r.readable(d) {
			c := &content{}
			r.found[d.Name] = c
			if d.Suspended { // a read would wait until somebody resumes it
				c.err = errors.New("the device is suspended")
			}
		}
	}
	r.signatures(ctx)
	g := r.group()
	for name, c := range r.found {
		d := r.View.Device(name)
		g.Go(func() error { r.recognise(ctx, d, c); return ctx.Err() })
	}
	return g.Wait()
}

func (r *Reading) group() *errgroup.Group {
	g := &errgroup.Group{}
	g.SetLimit(parallel)
	return g
}

// readable tells whether a device's content is looked at.
func (r *Reading) readable(d *blockdev.Device) bool {
	if d.Bytes < 1024 || r.onLoop(d, 0) {
		return false // an extended partition is shown by its first kilobyte
	}
	if d.Kind == blockdev.Partition && d.Bytes == 1024 {
		return false
	}
	for _, h := range d.Holders {
		if o := r.View.Device(h); o != nil && (o.Kind == blockdev.MD || isPath(o) || sameGroup(d, o)) {
			return false // it is a member: what it seems to hold is the holder's
		}
	}
	return true
}

// isPath tells whether a dm device joins paths to one disk.
func isPath(d *blockdev.Device) bool { return strings.HasPrefix(d.DMUUID, "mpath-") }

// sameGroup tells whether one LVM volume stands on another of its own group:
// the lower one is a hidden part of the upper.
func sameGroup(below, above *blockdev.Device) bool {
	const head = len("LVM-") + 32
	return len(below.DMUUID) >= head && len(above.DMUUID) >= head && strings.HasPrefix(below.DMUUID, "LVM-") &&
		below.DMUUID[:head] == above.DMUUID[:head]
}

// onLoop tells whether a device stands on loop devices alone. Those lie in
// files of other filesystems: they are no storage of their own.
func (r *Reading) onLoop(d *blockdev.Device, depth int) bool {
	switch {
	case d.Kind == blockdev.Loop:
		return true
	case d.Kind == blockdev.Partition:
		p := r.View.Device(d.Parent)
		return p != nil && r.onLoop(p, depth+1)
	case len(d.Slaves) == 0 || depth > 32:
		return false
	}
	for _, s := range d.Slaves {
		if o := r.View.Device(s); o == nil || !r.onLoop(o, depth+1) {
			return false
		}
	}
	return true
}

// changed reads the devices once more and names one that differs.
func (r *Reading) changed() (string, error) {
	now, err := r.opt.System.Scan()
	if err != nil {
		return "", fmt.Errorf("read block devices again: %w", err)
	}
	for name := range r.found {
		was, is := r.View.Device(name), now.Device(name)
		switch {
		case is == nil:
			return name + " vanished", nil
		case is.DevNo != was.DevNo || is.Bytes != was.Bytes || is.Start != was.Start || is.DMUUID != was.DMUUID:
			return name + " changed", nil
		}
	}
	for _, d := range now.Devices {
		if r.View.Device(d.Name) == nil && !r.onLoop(d, 0) && d.Kind != blockdev.Loop && d.Kind != blockdev.Partition {
			return d.Name + " appeared", nil
		}
	}
	return "", nil
}

// path is a file of the host.
func (r *Reading) path(name string) string { return filepath.Join(r.opt.Root, name) }
