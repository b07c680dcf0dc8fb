package storage

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"lifeboat/internal/blockdev"
	"lifeboat/internal/disklabel"
	"lifeboat/internal/probe"
	"lifeboat/internal/tools/blkid"
	"lifeboat/internal/tools/lvm"
	"lifeboat/manifest"
	"lifeboat/plan"
	"lifeboat/report"
)

// RepairActs is the literal table of what the storage verbs of a repair do.
// None of them erases data: the only filesystem that is made is an EFI system
// partition that holds none, the only table that is written is the captured
// one over itself.
func (s *Storage) RepairActs() map[plan.Verb]Act {
	return map[plan.Verb]Act{
		plan.VerbOpen:      s.openRepair,
		plan.VerbMendTable: s.mendTable,
		plan.VerbActivate:  s.activateOne,
		plan.VerbMkfs:      s.remakeESP,
		plan.VerbMount:     s.mountRepair,
		plan.VerbMountRO:   s.mountReadOnly,
		plan.VerbUnmount:   s.leave,
	}
}

// openRepair compares every disk of the plan with what is there, and leaves a
// disk alone that anything else uses. Nothing is claimed: a repair that is cut
// off is simply done again.
func (s *Storage) openRepair(_ context.Context, _ plan.Step, _ func(int64, int64)) error {
	if err := s.underInit(); err != nil {
		return err
	}
	if s.Plan.Kind != plan.KindRepair {
		return errors.New("this is no plan of a repair")
	}
	v, err := s.system.Scan()
	if err != nil {
		return err
	}
	for i := range s.Plan.Assignments {
		if _, _, err := s.target(v, s.Plan.Assignments[i].Node); err != nil {
			return err
		}
	}
	if err := s.protected(v); err != nil {
		return err
	}
	s.claimed = true // the steps of a repair that write ask for it
	return nil
}

// mendTable writes a table as it was captured. It must be the very table, or
// what is left of it: nothing of the disk but the table itself is touched.
func (s *Storage) mendTable(ctx context.Context, st plan.Step, _ func(int64, int64)) error {
	if err := s.opened(); err != nil {
		return err
	}
	n, err := s.node(st.Node)
	if err != nil {
		return err
	}
	if n.Table == nil || len(n.On) != 1 {
		return fmt.Errorf("%s is no partition table on one disk", st.Node)
	}
	dev, err := s.device(ctx, n.On[0].Node)
	if err != nil {
		return err
	}
	want := disklabel.Of(&s.Plan.Target, n)
	switch is, err := disklabel.ReadDevice(dev); {
	case err != nil:
		// Nothing leads to the partitions: their contents must.
		if _, err := probe.LostTable(ctx, s.Run, dev, &s.Plan.Target, n); err != nil {
			return report.Errorf(report.CodeDiskChanged, "look at the disk in a shell", "the captured partition table is not written to %s: %w", dev, err)
		}
	case is.Differs(want) != "":
		return report.Errorf(report.CodeDiskChanged, "look at the disk in a shell", "%s holds another partition table: %s", dev, is.Differs(want))
	case len(is.Warnings) == 0:
		return s.sameTable(dev, want)
	}
	if _, err := want.Commit(ctx, dev); err != nil {
		return busy(err, dev, s.holders(dev))
	}
	return s.sameTable(dev, want)
}

func (s *Storage) opened() error {
	if err := s.underInit(); err != nil {
		return err
	}
	if !s.claimed {
		return errors.New("the disks were not compared with the plan yet")
	}
	return nil
}

// activateOne makes the device of one logical volume; of one that is not to
// be written a device that cannot be.
func (s *Storage) activateOne(ctx context.Context, st plan.Step, _ func(int64, int64)) error {
	if err := s.opened(); err != nil {
		return err
	}
	n, err := s.node(st.Node)
	if err != nil {
		return err
	}
	vg, err := s.vgOf(n)
	if err != nil {
		return err
	}
	t, err := s.lvmOf(ctx, vg)
	if err != nil {
		return err
	}
	if st.Arg == "ro" {
		t.Frozen = []string{vg.VG.Name + "/" + n.LV.Name}
	}
	if err := t.Activate(ctx, vg.VG.Name, n.LV.Name); err != nil {
		return err
	}
	_, err = s.device(ctx, n.ID)
	return err
}

// lvmOf is lvm as it may see the physical volumes of one group and nothing
// else: those of other groups may lie on disks that the plan does not name.
func (s *Storage) lvmOf(ctx context.Context, vg *manifest.Node) (lvm.Tool, error) {
	t := lvm.Tool{Run: s.Run, SystemID: vg.VG.SystemID}
	for _, e := range vg.On {
		dev, err := s.device(ctx, e.Node)
		if err != nil {
			return t, err
		}
		t.Devices = append(t.Devices, dev)
	}
	return t, nil
}

// remakeESP makes the filesystem of an EFI system partition whose own is
// gone. What is there and recognised, but is no FAT, is somebody's.
func (s *Storage) remakeESP(ctx context.Context, st plan.Step, progress func(int64, int64)) error {
	if err := s.opened(); err != nil {
		return err
	}
	n, err := s.node(st.Node)
	if err != nil {
		return err
	}
	if n.FS == nil || n.FS.Type != "vfat" || !s.onESP(n) {
		return fmt.Errorf("%s is no EFI system partition: a repair does not make it", st.Node)
	}
	dev, err := s.device(ctx, n.ID)
	if err != nil {
		return err
	}
	switch f, err := blkid.Probe(ctx, s.Run, dev); {
	case errors.Is(err, blkid.ErrNone):
	case err != nil:
		return err
	case f.Type != "vfat":
		return report.Errorf(report.CodeDiskNotBlank, "look at it in a shell", "%s holds %s where the EFI system partition was; it is left alone", dev, f.Type)
	}
	return s.mkfs(ctx, st, progress)
}

func (s *Storage) onESP(n *manifest.Node) bool {
	return slices.ContainsFunc(n.On, func(e manifest.Edge) bool {
		p := s.Plan.Target.Node(e.Node)
		return p != nil && p.Partition != nil && (strings.EqualFold(p.Partition.Type, manifest.TypeESP) || strings.EqualFold(p.Partition.Type, "ef"))
	})
}

// mountRepair mounts one filesystem for writing, after its own checker mended
// what mounting does not.
func (s *Storage) mountRepair(ctx context.Context, st plan.Step, progress func(int64, int64)) error {
	if err := s.opened(); err != nil {
		return err
	}
	n, dev, err := s.sameAsFound(ctx, st)
	if err != nil {
		return err
	}
	if check := makers[n.FS.Type].check; check != nil && !s.isMounted(dev) {
		if err := check(ctx, s.Run, dev); err != nil {
			return err
		}
	}
	return s.mount(ctx, st, progress)
}

// sameAsFound is the node of a mount and its device, which must hold the
// filesystem that the plan has there.
func (s *Storage) sameAsFound(ctx context.Context, st plan.Step) (*manifest.Node, string, error) {
	n, err := s.node(st.Node)
	if err != nil {
		return nil, "", err
	}
	if n.FS == nil {
		return nil, "", fmt.Errorf("%s is no filesystem", n.ID)
	}
	dev, err := s.device(ctx, n.ID)
	if err != nil {
		return nil, "", err
	}
	f, err := blkid.Probe(ctx, s.Run, dev)
	if err != nil {
		return nil, "", err
	}
	if f.Type != n.FS.Type || !strings.EqualFold(f.UUID, n.FS.UUID) {
		return nil, "", report.Errorf(report.CodeDiskChanged, "look again: lifeboat diagnose", "%s holds %s %s, not %s %s", dev, f.Type, f.UUID, n.FS.Type, n.FS.UUID)
	}
	return n, dev, nil
}

func (s *Storage) isMounted(dev string) bool {
	v, err := s.system.Scan()
	if err != nil {
		return false
	}
	d := v.ByNode(dev)
	return d != nil && slices.ContainsFunc(v.Mounts, func(m blockdev.Mount) bool { return slices.Contains(v.MountDevices(m), d) })
}

// mountReadOnly mounts a filesystem at its place so that not a byte of it is
// written. Its mount point must be there.
func (s *Storage) mountReadOnly(ctx context.Context, st plan.Step, _ func(int64, int64)) error {
	if err := s.opened(); err != nil {
		return err
	}
	n, dev, err := s.sameAsFound(ctx, st)
	if err != nil {
		return err
	}
	var at manifest.Bytes
	if err := at.UnmarshalText([]byte(st.Arg)); err != nil {
		return err
	}
	point, err := s.mountPoint(string(at), manifest.Inode{})
	if err != nil {
		return fmt.Errorf("the mount point %s: %w", at, err)
	}
	defer point.Close()
	if done, err := s.mounted(point, dev); done || err != nil {
		return err
	}
	err = probe.PeekRun(dev, n.FS.Type, fdPath(point))
	if errors.Is(err, unix.ENODEV) {
		return report.Errorf(report.CodeKernelFeature, "build the image with the module "+n.FS.Type, "%w", err)
	}
	return err
}

// leave unmounts everything and takes the volumes down.
func (s *Storage) leave(ctx context.Context, _ plan.Step, _ func(int64, int64)) error {
	if err := s.underInit(); err != nil {
		return err
	}
	if err := s.Unmount(ctx); err != nil {
		return err
	}
	done := map[manifest.ID]bool{}
	for _, st := range s.Plan.Steps {
		if st.Verb != plan.VerbActivate {
			continue
		}
		n, err := s.node(st.Node)
		if err != nil {
			return err
		}
		vg, err := s.vgOf(n)
		if err != nil {
			return err
		}
		if done[vg.ID] {
			continue
		}
		done[vg.ID] = true
		t, err := s.lvmOf(ctx, vg)
		if err != nil {
			return err
		}
		if err := t.Deactivate(ctx, vg.VG.Name); err != nil {
			return err
		}
	}
	return nil
}
