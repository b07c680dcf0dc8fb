// Package bootlocal starts the system that is installed on the machine's own
// disks: by its own kernel, else by the firmware's entry for it. It writes to
// no disk.
// Level 4: part of a recovery.
package bootlocal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"lifeboat/internal/probe"
	"lifeboat/internal/sysroot"
	"lifeboat/manifest"
)

// Options say where to look.
type Options struct {
	Probe    probe.Options
	Manifest *manifest.Manifest // of the host; its /boot comes first. nil: any
}

// filesystem is one that is open for reading.
type filesystem struct {
	id, label string // UUID as GRUB compares it, and label
	node      *manifest.Node
	root      *sysroot.Root
	dir       string
}

// Disks are the machine's filesystems, open for reading only, without those
// of the rescue medium.
type Disks struct {
	graph    *probe.Graph
	firmware manifest.Firmware
	fs       []*filesystem
	dir      string
	opt      Options
	closers  []func(context.Context) error
}

// Open mounts every filesystem that can be read without a write. What cannot
// be read is passed over. Close must be called.
func Open(ctx context.Context, opt Options) (*Disks, error) {
	r, err := probe.Read(ctx, opt.Probe)
	if err != nil {
		return nil, fmt.Errorf("look for an installed system: %w", err)
	}
	d := &Disks{opt: opt}
	closeVolumes, _ := r.OpenVolumes(ctx)
	d.closers = append(d.closers, closeVolumes)
	if err := d.open(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("look for an installed system: %w", err), d.Close(ctx))
	}
	return d, nil
}

func (d *Disks) open(ctx context.Context) error {
	r, err := probe.Read(ctx, d.opt.Probe)
	if err != nil {
		return err
	}
	if d.graph, err = r.Graph(ctx); err != nil {
		return err
	}
	d.firmware = r.Firmware()
	if d.dir, err = os.MkdirTemp("/run", "lifeboat-local-"); err != nil {
		return err
	}
	var medium []string
	for _, p := range d.opt.Probe.Medium {
		medium = append(medium, r.View.DisksOfPath(p)...)
	}
	for i := range d.graph.Storage.Nodes {
		n := &d.graph.Storage.Nodes[i]
		dev := r.View.Device(n.Seen.Device)
		if n.Kind != manifest.KindFS || n.FS == nil || dev == nil {
			continue
		}
		if slices.ContainsFunc(r.View.DisksUnder(dev), func(name string) bool { return slices.Contains(medium, name) }) {
			continue
		}
		d.mount(n, r.View.Node(dev))
	}
	return nil
}

func (d *Disks) mount(n *manifest.Node, node string) {
	dir, err := os.MkdirTemp(d.dir, "fs-")
	if err != nil {
		return
	}
	if probe.Peek(node, n.FS.Type, dir) != nil {
		_ = os.Remove(dir)
		return
	}
	root, err := sysroot.Open(dir)
	if err != nil {
		_ = unix.Unmount(dir, unix.MNT_DETACH)
		return
	}
	d.fs = append(d.fs, &filesystem{id: strings.ToLower(n.FS.UUID), label: n.FS.Label, node: n, root: root, dir: dir})
}

// Close unmounts everything and takes down the volumes that Open made.
func (d *Disks) Close(ctx context.Context) error {
	var errs []error
	for _, f := range d.fs {
		errs = append(errs, f.root.Close())
		if err := unix.Unmount(f.dir, unix.UMOUNT_NOFOLLOW); err != nil {
			errs = append(errs, fmt.Errorf("unmount %s: %w", f.dir, err))
		}
	}
	d.fs = nil
	if d.dir != "" {
		left, _ := filepath.Glob(d.dir + "/*")
		for _, p := range append(left, d.dir) {
			_ = os.Remove(p) // only empty folders go
		}
	}
	for _, c := range slices.Backward(d.closers) {
		errs = append(errs, c(context.WithoutCancel(ctx)))
	}
	d.closers = nil
	return errors.Join(errs...)
}

// device is the kernel's name of where a filesystem lies, for people.
func (f *filesystem) device() string {
	if f.node.Seen.Name != "" {
		return f.node.Seen.Name
	}
	return f.node.Seen.Device
}
