package storage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"lifeboat/internal/blockdev"
	"lifeboat/internal/tools/lvm"
	"lifeboat/manifest"
	"lifeboat/plan"
	"lifeboat/report"
)

// release takes down every layer that stands on a target disk, top-down:
// what Lifeboat mounted, swap, and all of device mapper, md and loop. It
// writes to no disk. What also stands on a disk that is no target is left
// alone, and that is the end.
func (s *Storage) release(ctx context.Context, st plan.Step, _ func(int64, int64)) error {
	if err := s.underInit(); err != nil {
		return err
	}
	return s.releaseDisk(ctx, st.Node)
}

func (s *Storage) releaseDisk(ctx context.Context, id manifest.ID) error {
	v, err := s.system.Scan()
	if err != nil {
		return err
	}
	d, a, err := s.target(v, id)
	if err != nil {
		return err
	}
	if err := s.checkShared(v, d, a); err != nil {
		return err
	}
	if err := s.releaseMounts(ctx, d); err != nil {
		return err
	}
	return s.releaseDevices(ctx, d.Name)
}

// above returns a device and everything that stands on it, below before
// above.
func above(v *blockdev.View, d *blockdev.Device) []*blockdev.Device {
	var out []*blockdev.Device
	seen := map[string]bool{}
	var walk func(*blockdev.Device)
	walk = func(d *blockdev.Device) {
		if d == nil || seen[d.Name] {
			return
		}
		seen[d.Name] = true
		out = append(out, d)
		for _, n := range append(slices.Clone(d.Partitions), d.Holders...) {
			walk(v.Device(n))
		}
		// Loop devices do not show as holders: their file lies on a mount.
		for _, l := range v.Devices {
			if l.Kind != blockdev.Loop {
				continue
			}
			if slices.Contains(v.FileDevices(l), d) {
				walk(l)
			}
		}
	}
	walk(d)
	return out
}

// targets are the kernel names of the disks of all assignments.
func (s *Storage) targets(v *blockdev.View) map[string]bool {
	out := map[string]bool{}
	for _, a := range s.Plan.Assignments {
		if d, _, err := s.target(v, a.Node); err == nil {
			out[d.Name] = true
		}
	}
	return out
}

// multi are signatures of things that lie on several disks under one id.
var multi = []string{"linux_raid_member", "isw_raid_member", "ddf_raid_member", "btrfs", "zfs_member", "bcache"}

// checkShared stops when something on the disk reaches to a disk that is no
// target: wiping one half would damage the other.
func (s *Storage) checkShared(v *blockdev.View, d *blockdev.Device, a *plan.Assignment) error {
	targets := s.targets(v)
	for _, o := range above(v, d) {
		for _, name := range v.DisksUnder(o) {
			if !targets[name] {
				return shared(d, o.Name+" "+o.DMName, v.Device(name))
			}
		}
	}
	for _, other := range s.Plan.Untouched {
		for _, g := range a.Disk.Signatures {
			if !slices.Contains(multi, g.Type) || g.UUID == "" {
				continue
			}
			if slices.ContainsFunc(other.Signatures, func(o manifest.Signature) bool { return o.Type == g.Type && o.UUID == g.UUID }) {
				return shared(d, g.Type+" "+g.UUID, &blockdev.Device{Name: other.Name, Model: other.Model, Serial: other.Serial})
			}
		}
	}
	return s.checkGroups(v, d, targets)
}

func shared(d *blockdev.Device, what string, other *blockdev.Device) error {
	return report.Errorf(report.CodeDiskProtected, "take the other disk into the plan by a mapping file, or detach it",
		"%s on disk %s also lies on disk %s (%s, serial %q), which is not to be erased", strings.TrimSpace(what), d.Name, other.Name, other.Model, other.Serial)
}

// checkGroups reads the labels of all physical volumes, active or not: a
// volume group on a target must have no physical volume on another disk.
func (s *Storage) checkGroups(v *blockdev.View, d *blockdev.Device, targets map[string]bool) error {
	groups := map[string]string{} // id → name, of the target's physical volumes
	onTarget := map[string]bool{}
	for _, o := range above(v, d) {
		onTarget[o.Name] = true
		if l := s.lvmLabel(v, o); l != nil && l.VGUUID != "" {
			groups[l.VGUUID] = l.VG
		}
	}
	if len(groups) == 0 {
		return nil
	}
	for _, o := range v.Devices {
		if onTarget[o.Name] {
			continue
		}
		l := s.lvmLabel(v, o)
		if l == nil || groups[l.VGUUID] == "" {
			continue
		}
		for _, name := range v.DisksUnder(o) {
			if !targets[name] {
				return shared(d, "volume group "+l.VG, v.Device(name))
			}
		}
	}
	return nil
}

// lvmLabel reads what a device says as a physical volume; nil when it is
// none. A device that cannot be read cannot be a part of what is to be kept.
func (s *Storage) lvmLabel(v *blockdev.View, d *blockdev.Device) *lvm.Label {
	f, err := os.Open(v.Node(d))
	if err != nil {
		return nil
	}
	defer f.Close()
	l, err := lvm.ReadLabel(f)
	if err != nil {
		if !errors.Is(err, lvm.ErrNone) {
			s.note("%s: %v", d.Name, err)
		}
		return nil
	}
	return l
}

// releaseMounts unmounts, last mounted first, what Lifeboat itself mounted
// from the disk. Anything else that is mounted is somebody's.
func (s *Storage) releaseMounts(ctx context.Context, d *blockdev.Device) error {
	// The tree of the target is taken down as a whole: mounts from other disks
	// lie within it.
	if err := s.Unmount(ctx); err != nil {
		return err
	}
	v, err := s.system.Scan()
	if err != nil {
		return err
	}
	if d = v.Device(d.Name); d == nil {
		return errors.New("the disk is gone")
	}
	devices := above(v, d)
	on := func(list []*blockdev.Device) bool {
		return slices.ContainsFunc(list, func(o *blockdev.Device) bool { return slices.Contains(devices, o) })
	}
	for _, m := range slices.Backward(v.Mounts) {
		if !on(v.MountDevices(m)) {
			continue
		}
		if !s.ours(m.Path) {
			return report.Errorf(report.CodeDiskProtected, "unmount it, then try again", "disk %s is in use: %s is mounted from it, and not by Lifeboat", d.Name, m.Path)
		}
		if err := s.unmountPath(ctx, m.Path, true); err != nil {
			return err
		}
	}
	for _, w := range v.Swaps {
		o := v.ByNode(w.Path)
		if o == nil || !slices.Contains(devices, o) {
			continue
		}
		s.note("Swap on %s is switched off", w.Path)
		if err := swapoff(w.Path); err != nil {
			return fmt.Errorf("switch off the swap on %s: %w", w.Path, err)
		}
	}
	return nil
}

// ours tells whether Lifeboat made a mount.
func (s *Storage) ours(path string) bool {
	return slices.ContainsFunc(s.Own, func(dir string) bool { return blockdev.Under(path, dir) })
}

// releaseDevices removes what stands on the disk, topmost first, until only
// its partitions are left.
func (s *Storage) releaseDevices(ctx context.Context, disk string) error {
	for {
		v, err := s.system.Scan()
		if err != nil {
			return err
		}
		d := v.Device(disk)
		if d == nil {
			return report.Errorf(report.CodeDiskChanged, "make the plan again", "disk %s is gone", disk)
		}
		top := topmost(v, above(v, d))
		if top == nil {
			if all := above(v, d); len(all) > 1+len(d.Partitions) {
				return report.Errorf(report.CodeDiskBusy, "end what uses it, then try again", "%s stands on disk %s and cannot be taken down", all[len(all)-1].Name, disk)
			}
			return nil
		}
		if err := s.takeDown(ctx, v, top); err != nil {
			return err
		}
	}
}

// topmost is a layer of a list that nothing stands on, or nil.
func topmost(v *blockdev.View, list []*blockdev.Device) *blockdev.Device {
	for _, o := range slices.Backward(list) {
		if o.Kind != blockdev.Disk && o.Kind != blockdev.Partition && onlyPartitions(v, o) {
			return o
		}
	}
	return nil
}

// onlyPartitions tells whether nothing but partitions of itself, which go
// with it, stands on a device.
func onlyPartitions(v *blockdev.View, d *blockdev.Device) bool {
	return !slices.ContainsFunc(above(v, d)[1:], func(o *blockdev.Device) bool { return o.Kind != blockdev.Partition })
}

// takeDown removes one device that nothing stands on, trying for a while:
// who looked at it may still have it open.
func (s *Storage) takeDown(ctx context.Context, v *blockdev.View, d *blockdev.Device) error {
	down := map[blockdev.Kind]func(*blockdev.Device) error{blockdev.DM: s.removeDM, blockdev.MD: s.stopMD, blockdev.Loop: s.detachLoop}[d.Kind]
	if down == nil {
		return report.Errorf(report.CodeDiskBusy, "stop it, then try again", "%s (%s) stands on a target disk and Lifeboat does not know how to stop it", d.Name, d.Kind)
	}
	ctx, cancel := context.WithTimeout(ctx, settle)
	defer cancel()
	var last error
	err := blockdev.WaitFor(ctx, d.Name+" to go", func() (bool, error) {
		if now, err := s.system.Scan(); err == nil && !present(now, d) {
			return true, nil
		}
		last = down(d)
		if last != nil && !isBusy(last) {
			cancel() // no waiting helps
		}
		return false, last
	})
	if err != nil {
		return busy(fmt.Errorf("take down %s %s: %w", d.Name, d.DMName, err), d.Name, s.holders(v.Node(d)))
	}
	s.note("%s %s was taken down", d.Name, d.DMName)
	return nil
}

// present tells whether a device is still what it was; a loop or md device
// stays in sysfs without content.
func present(v *blockdev.View, d *blockdev.Device) bool {
	n := v.Device(d.Name)
	switch {
	case n == nil:
		return false
	case d.Kind == blockdev.Loop:
		return n.File == d.File
	case d.Kind == blockdev.MD:
		return len(n.Slaves) > 0
	}
	return n.DMUUID == d.DMUUID && n.DevNo == d.DevNo
}

func swapoff(path string) error {
	p, err := unix.BytePtrFromString(path)
	if err != nil {
		return err
	}
	if _, _, errno := unix.Syscall(unix.SYS_SWAPOFF, uintptr(unsafe.Pointer(p)), 0, 0); errno != 0 {
		return errno
	}
	return nil
}

// unmountPath unmounts one mount point, after everything on it reached the
// disk where it has one, and names who keeps it busy when that does not end.
func (s *Storage) unmountPath(ctx context.Context, path string, disk bool) error {
	if disk {
		if err := syncFS(path); err != nil {
			return fmt.Errorf("write out %s: %w", path, err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, settle)
	defer cancel()
	err := blockdev.WaitFor(ctx, path+" to be unmounted", func() (bool, error) {
		err := unix.Unmount(path, unix.UMOUNT_NOFOLLOW)
		if err != nil && !isBusy(err) {
			cancel()
		}
		return err == nil, err
	})
	if err != nil {
		dev := devOf(path)
		users := s.programs(func(st *unix.Stat_t, _ string) bool { return st.Dev == dev })
		return fmt.Errorf("unmount %s (used by %s): %w", path, join(users), err)
	}
	return nil
}

func devOf(path string) uint64 {
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil {
		return ^uint64(0)
	}
	return st.Dev
}

func syncFS(path string) error {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Syncfs(int(f.Fd()))
}
