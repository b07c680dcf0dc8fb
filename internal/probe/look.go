package probe

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"lifeboat/internal/tools/lvm"
)

// lookOptions mount a filesystem so that not a byte of it is written, not
// even a journal replayed.
var lookOptions = map[string]string{"ext2": "noload", "ext3": "noload", "ext4": "noload", "xfs": "norecovery,nouuid", "btrfs": "nologreplay",
	"vfat": "errors=continue"} // an EFI system partition may carry the mark of an order

// ErrNotLooked: filesystems of that type are not mounted for a look, because
// nothing promises that it writes nothing.
var ErrNotLooked = errors.New("it cannot be opened without a write")

// Peek mounts a filesystem on dir strictly read-only: no journal is replayed,
// no time is written. A filesystem that was not unmounted shows what its last
// writes had not yet reached.
func Peek(node, typ, dir string) error {
	data, ok := lookOptions[typ]
	if !ok {
		return fmt.Errorf("look into %s (%s): %w", node, typ, ErrNotLooked)
	}
	const flags = unix.MS_RDONLY | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_NOSUID | unix.MS_NOATIME
	if err := unix.Mount(node, dir, typ, flags, data); err != nil {
		return fmt.Errorf("look into %s (%s): %w", node, typ, err)
	}
	return nil
}

// PeekRun is Peek for a system whose own programs are to run.
func PeekRun(node, typ, dir string) error {
	if err := Peek(node, typ, dir); err != nil {
		return err
	}
	// Only the mount's flags change: the filesystem stays as it was opened.
	at, err := os.Readlink(dir)
	if err != nil {
		at = dir // a plain path is no link
	}
	const flags = unix.MS_REMOUNT | unix.MS_BIND | unix.MS_RDONLY | unix.MS_NODEV | unix.MS_NOATIME
	if err := unix.Mount("", at, "", flags, ""); err != nil {
		return fmt.Errorf("let programs of %s run: %w", node, err)
	}
	return nil
}

// closedGroup is a volume group of which no volume is active.
type closedGroup struct {
	lvm.VG
	tool  lvm.Tool
	under []string // whole disks below it, by kernel name
	lvs   []lvm.LV // those whose activation writes nothing
}

// closedGroups lists the groups that nobody opened. Each has an lvm of its
// own: two may have the same name. A group that lacks a disk may still hold a
// whole root.
func (r *Reading) closedGroups(ctx context.Context) []closedGroup {
	r.readLVM(ctx)
	if r.lvm == nil {
		return nil
	}
	var out []closedGroup
	for _, vg := range r.lvm.VGs {
		if r.active(vg.UUID) {
			continue
		}
		g := closedGroup{VG: vg, tool: lvm.Tool{Run: r.opt.Run, Frozen: []string{vg.Name}}}
		for _, pv := range r.lvm.PVs {
			if d := r.View.ByNode(pv.Dev); pv.VGID == vg.UUID && d != nil {
				g.under = append(g.under, r.View.DisksUnder(d)...)
				g.tool.Devices = append(g.tool.Devices, r.View.Node(d))
			}
		}
		for _, lv := range r.lvm.LVs {
			if lv.VGID == vg.UUID && !lv.Hidden && (lv.Type == "linear" || lv.Type == "striped") {
				g.lvs = append(g.lvs, lv)
			}
		}
		if len(g.tool.Devices) > 0 {
			out = append(out, g)
		}
	}
	return out
}

// OpenVolumes makes the devices of all linear and striped logical volumes of
// groups that nobody opened, as devices that cannot be written, and returns
// what takes them down again. A new Read shows them. Volumes that did not open
// are in the error; the others are open all the same.
func (r *Reading) OpenVolumes(ctx context.Context) (closeAll func(context.Context) error, err error) {
	groups := r.closedGroups(ctx)
	var errs []error
	if r.lvmErr != nil {
		errs = append(errs, r.lvmErr)
	}
	for _, g := range groups {
		for _, lv := range g.lvs {
			if err := g.tool.Activate(ctx, g.Name, lv.Name); err != nil {
				errs = append(errs, err)
			}
		}
	}
	return func(ctx context.Context) error {
		var errs []error
		for _, g := range slices.Backward(groups) {
			errs = append(errs, g.tool.Deactivate(ctx, g.Name))
		}
		return errors.Join(errs...)
	}, errors.Join(errs...)
}
