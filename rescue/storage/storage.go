// Package storage carries out the storage steps of a plan: release, wipe,
// build, open, mount and unmount. It makes what the target graph says and
// decides nothing.
// Level 4: its own job.
package storage

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"lifeboat/internal/blockdev"
	"lifeboat/internal/probe"
	"lifeboat/internal/run"
	"lifeboat/manifest"
	"lifeboat/plan"
	"lifeboat/report"
)

// Options are what the storage steps are given.
type Options struct {
	Run  run.Runner
	Plan *plan.Plan
	Root string // where the target tree is mounted
	Sink report.Sink
	// Medium and Backup are mount points, files or device nodes that carry the
	// rescue medium and the backup in use.
	Medium, Backup []string
	// Own are folders below which Lifeboat mounted things itself, beside Root.
	Own []string
	// Unprotected are serials of disks whose protection a person lifted.
	Unprotected []string
	// Claim is written onto every target disk before it is erased: Order,
	// Manifest, Host and Time; the rest is filled in here.
	Claim manifest.Claim
}

// Storage carries out the storage steps of one plan.
type Storage struct {
	Options
	system  blockdev.System
	claimed bool
	renames []plan.Rename

	// What tests replace: they stand in no rescue system, or have no disks.
	underInit func() error
	device    func(ctx context.Context, id manifest.ID) (string, error)
	clean     func(dev string) error
}

// Act carries one step out. It may tell bytes done; started, finished and
// failed are said by the caller.
type Act = func(ctx context.Context, s plan.Step, progress func(done, total int64)) error

// New prepares the steps of a plan. Nothing is opened yet.
func New(o Options) (*Storage, error) {
	if len(o.Plan.Refusals) > 0 {
		return nil, fmt.Errorf("the plan holds a refusal: %s", o.Plan.Refusals[0].Line())
	}
	if !filepath.IsAbs(o.Root) || filepath.Clean(o.Root) == "/" {
		return nil, fmt.Errorf("%q cannot be the root of the target", o.Root)
	}
	if o.Sink == nil {
		o.Sink = report.Discard
	}
	s := &Storage{Options: o, system: blockdev.Live(), underInit: underInit, clean: cleanDevice}
	s.device = s.find
	return s, nil
}

// Acts is the literal table of what each storage verb does.
func (s *Storage) Acts() map[plan.Verb]Act {
	return map[plan.Verb]Act{
		plan.VerbRelease:  s.release,
		plan.VerbWipe:     s.wipe,
		plan.VerbTable:    s.table,
		plan.VerbPV:       s.pv,
		plan.VerbVG:       s.vg,
		plan.VerbLV:       s.lv,
		plan.VerbMkfs:     s.mkfs,
		plan.VerbMkswap:   s.mkswap,
		plan.VerbMount:    s.mount,
		plan.VerbSwapFile: s.swapFile,
		plan.VerbUnmount:  s.unmount,
	}
}

// Renames are the identities that a tool could not keep so far.
func (s *Storage) Renames() []plan.Rename { return s.renames }

// Device returns the device node of a node of the target graph: of a disk,
// partition or logical volume itself, of anything else what it stands on. It
// is found by identity each time, never by a remembered name.
func (s *Storage) Device(ctx context.Context, id manifest.ID) (string, error) {
	return s.device(ctx, id)
}

func (s *Storage) node(id manifest.ID) (*manifest.Node, error) {
	n := s.Plan.Target.Node(id)
	if n == nil {
		return nil, fmt.Errorf("%s is not in the plan's graph", id)
	}
	return n, nil
}

func (s *Storage) note(format string, a ...any) {
	s.Sink.Emit(report.Event{Kind: report.Note, Time: time.Now(), Text: fmt.Sprintf(format, a...)})
}

// settle bounds how long a device is waited for.
const settle = 30 * time.Second

// find is Device on the running system.
func (s *Storage) find(ctx context.Context, id manifest.ID) (string, error) {
	n, err := s.node(id)
	if err != nil {
		return "", err
	}
	switch n.Kind {
	case manifest.KindDisk:
		v, err := s.system.Scan()
		if err != nil {
			return "", err
		}
		d, _, err := s.target(v, id)
		if err != nil {
			return "", err
		}
		return v.Node(d), nil
	case manifest.KindPartition:
		return s.findPartition(ctx, n)
	case manifest.KindLV:
		return s.findLV(ctx, n)
	}
	if len(n.On) == 0 {
		return "", fmt.Errorf("%s stands on nothing", id)
	}
	return s.find(ctx, n.On[0].Node)
}

// target finds the disk that takes the place of a disk node: by what the plan
// knew of it, all of which must still be so.
func (s *Storage) target(v *blockdev.View, id manifest.ID) (*blockdev.Device, *plan.Assignment, error) {
	for i := range s.Plan.Assignments {
		a := &s.Plan.Assignments[i]
		if a.Node != id {
			continue
		}
		var found *blockdev.Device
		for _, d := range v.Disks() {
			if d.WWN != a.Disk.WWN || d.Serial != a.Disk.Serial || d.Model != a.Disk.Model || d.Bytes != a.Disk.Bytes {
				continue
			}
			// Disks that nothing tells apart are told apart by the place that
			// they had when the plan was made.
			if found == nil || d.DevNo.String() == a.Disk.DevNo {
				found = d
			}
		}
		if found == nil || found.DevNo.String() != a.Disk.DevNo {
			return nil, nil, report.Errorf(report.CodeDiskChanged, "make the plan again", "disk %s (serial %q, %d bytes) is not where the plan saw it (%s)",
				a.Disk.Name, a.Disk.Serial, a.Disk.Bytes, a.Disk.DevNo)
		}
		return found, a, nil
	}
	return nil, nil, fmt.Errorf("no disk is assigned to %s", id)
}

// tableOf returns the table that a partition stands on and the disk below it.
func (s *Storage) tableOf(part *manifest.Node) (table, disk *manifest.Node, err error) {
	if len(part.On) == 1 {
		table = s.Plan.Target.Node(part.On[0].Node)
	}
	if table == nil || table.Table == nil || len(table.On) != 1 {
		return nil, nil, fmt.Errorf("%s does not stand on a partition table", part.ID)
	}
	if disk = s.Plan.Target.Node(table.On[0].Node); disk == nil || disk.Kind != manifest.KindDisk {
		return nil, nil, fmt.Errorf("%s does not stand on a disk", table.ID)
	}
	return table, disk, nil
}

func (s *Storage) findPartition(ctx context.Context, n *manifest.Node) (string, error) {
	_, disk, err := s.tableOf(n)
	if err != nil {
		return "", err
	}
	v, err := s.system.Scan()
	if err != nil {
		return "", err
	}
	d, _, err := s.target(v, disk.ID)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, settle)
	defer cancel()
	return s.system.WaitPartition(ctx, d.Name, n.Partition.Number, n.Partition.Start, n.Partition.Size)
}

// dmUUID is what device mapper calls a logical volume: names may be anything.
func dmUUID(vg *manifest.VG, lv *manifest.LV) string {
	return "LVM-" + strings.ReplaceAll(vg.UUID, "-", "") + strings.ReplaceAll(lv.UUID, "-", "")
}

func (s *Storage) findLV(ctx context.Context, n *manifest.Node) (string, error) {
	vg, err := s.vgOf(n)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, settle)
	defer cancel()
	want, path := dmUUID(vg.VG, n.LV), ""
	err = blockdev.WaitFor(ctx, "logical volume "+vg.VG.Name+"/"+n.LV.Name, func() (bool, error) {
		v, err := s.system.Scan()
		if err != nil {
			return false, err
		}
		for _, d := range v.Devices {
			if d.DMUUID == want {
				path, err = s.dmNode(d)
				return err == nil, err
			}
		}
		return false, errors.New("device mapper does not show it")
	})
	return path, err
}

// dmNode prefers the name below /dev/mapper: boot loaders and people know
// devices by it, and mount tables should show it.
func (s *Storage) dmNode(d *blockdev.Device) (string, error) {
	var st unix.Stat_t
	path := filepath.Join(s.system.Dev, "mapper", d.DMName)
	if err := unix.Stat(path, &st); err == nil && st.Rdev == unix.Mkdev(d.DevNo.Major, d.DevNo.Minor) {
		return path, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	return s.system.WaitNode(ctx, d.Name)
}

func (s *Storage) vgOf(n *manifest.Node) (*manifest.Node, error) {
	for _, e := range n.On {
		if o := s.Plan.Target.Node(e.Node); o != nil && o.VG != nil {
			return o, nil
		}
	}
	return nil, fmt.Errorf("%s stands on no volume group", n.ID)
}

// probeOptions reads the disks as the planner saw them. Without Rescue, for
// nothing else is asked, and no root on a disk is mounted to look for marks.
func (s *Storage) probeOptions() probe.Options {
	return probe.Options{Run: s.Run, System: s.system, Medium: s.Medium, Backup: s.Backup, OpenedMounts: append([]string{s.Root}, s.Own...)}
}
