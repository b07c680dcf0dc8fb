package builder

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"lifeboat/images/usb"
	"lifeboat/internal/blockdev"
	"lifeboat/internal/run"
	"lifeboat/report"
)

// StickDisk is a removable disk that may be written: the one exception from
// the rule that disks are written under Lifeboat's own PID 1 only. All that is
// told of it was true when it was looked at; it is compared again when it is
// opened.
type StickDisk struct {
	Path   string // node
	Model  string
	Serial string // "" when it has none, or not its own
	Bytes  int64
	Found  *usb.Image // what is on it; nil when it is no stick of ours

	sys  blockdev.System
	no   blockdev.DevNo
	want blockdev.Identity
	part string // node of the data partition of Found
}

// FindStick looks at the disk at path and refuses what is no removable disk or
// is in use: exit 4, with the reason.
func FindStick(path string) (*StickDisk, error) { return findStick(blockdev.Live(), path) }

func findStick(sys blockdev.System, path string) (*StickDisk, error) {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil, report.Errorf(report.CodeUsage, "name the stick's disk, such as /dev/sdX", "look for the stick: %w", err)
	}
	v, err := sys.Scan()
	if err != nil {
		return nil, fmt.Errorf("look at the disks: %w", err)
	}
	d := v.ByNode(real)
	for _, i := range v.Ignored {
		if d == nil && filepath.Join(v.System.Dev, i.Name) == real {
			return nil, report.Errorf(report.CodeDiskProtected, "name a USB stick or another removable disk, with its medium in", "refused to write to %s: %s", path, i.Reason)
		}
	}
	if d == nil {
		return nil, report.Errorf(report.CodeUsage, "name the stick's disk, such as /dev/sdX", "%s is no block device of this machine", path)
	}
	if err := judgeStick(v, d); err != nil {
		return nil, err
	}
	s := &StickDisk{Path: v.Node(d), Model: strings.TrimSpace(d.Vendor + " " + d.Model), Serial: d.Serial, Bytes: d.Bytes,
		sys: sys, no: d.DevNo, want: blockdev.IdentityOf(d)}
	if twin := sameSerial(v, d); twin != "" {
		return nil, report.Errorf(report.CodeDiskAmbiguous, "take the other one out", "%s and %s have the same serial %q", s.Path, twin, d.Serial)
	}
	img, err := usb.Open(s.Path)
	switch {
	case err == nil:
		s.Found = img
		for _, n := range d.Partitions {
			if p := v.Device(n); p != nil && p.Number == usb.DataPart && p.Start == usb.DataStart {
				s.part = v.Node(p)
			}
		}
	case !errors.Is(err, usb.ErrNotStick):
		return nil, err
	}
	return s, nil
}

// judgeStick holds a disk against the rule: removable, and nothing uses it.
func judgeStick(v *blockdev.View, d *blockdev.Device) error {
	node := v.Node(d)
	refuse := func(next, format string, a ...any) error {
		return report.Errorf(report.CodeDiskProtected, next, "refused to write to "+node+": "+format, a...)
	}
	switch {
	case d.Kind == blockdev.Partition:
		return refuse("name the whole disk, "+filepath.Join(v.System.Dev, d.Parent), "it is a partition, and a stick is written as a whole")
	case d.Kind != blockdev.Disk:
		return refuse("name a USB stick or another removable disk", "it is a %s device, not a disk", d.Kind)
	case !d.Removable && d.Transport != "usb":
		return refuse("name a USB stick or another removable disk", "it is not removable (%s)", orWord(d.Transport, "no transport known"))
	case d.ReadOnly:
		return refuse("take the write protection off", "it is read-only")
	}
	if d.Logical != 512 {
		return refuse("use a stick with sectors of 512 bytes", "its sectors have %d bytes, and a BIOS starts no such stick", d.Logical)
	}
	for _, p := range v.Protections(blockdev.Uses{})[d.Name] {
		return refuse("unmount or stop what uses it", "it is in use: %s %s (%s)", p.Why, p.What, strings.Join(p.Chain, " on "))
	}
	return nil
}

func orWord(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// sameSerial names another disk with the same serial: what a person types
// would not say which one is meant.
func sameSerial(v *blockdev.View, d *blockdev.Device) string {
	for _, o := range v.Disks() {
		if o != d && d.Serial != "" && o.Serial == d.Serial && o.Bytes > 0 {
			return v.Node(o)
		}
	}
	return ""
}

// Close closes what was read.
func (s *StickDisk) Close() {
	if s.Found != nil {
		s.Found.Close()
	}
}

// Word is what a person must type to confirm: the serial, or the size in bytes
// of a disk without one.
func (s *StickDisk) Word() string {
	if s.Serial != "" {
		return s.Serial
	}
	return fmt.Sprint(s.Bytes)
}

// Stick is a stick whose data partition is mounted.
type Stick struct {
	Device string
	Bytes  int64
	Dir    string // mount point: a store of backups

	part string
	tree *usb.Tree
}

// Open mounts the data partition of a stick of ours.
func (s *StickDisk) Open() (*Stick, error) {
	if s.Found == nil {
		return nil, report.Errorf(report.CodeUsage, "prepare it with `lifeboat usb write "+s.Path+"`", "%s is no stick of Lifeboat yet", s.Path)
	}
	if s.part == "" {
		return nil, report.Errorf(report.CodeDiskChanged, "take the stick out and plug it in again", "the kernel does not show the data partition of %s", s.Path)
	}
	// Nothing is mounted that is not the disk which was shown.
	f, err := s.sys.OpenExclusive(s.no, s.want)
	if err != nil {
		return nil, err
	}
	f.Close()
	t, err := s.mount(s.part)
	if err != nil {
		return nil, err
	}
	if t.tree, err = usb.OpenTree(t.Dir, t.again); err != nil {
		t.unmount()
		return nil, err
	}
	if t.tree.Mark.ID != s.Found.Mark.ID {
		t.Close()
		return nil, report.Errorf(report.CodeDiskChanged, "start again", "%s is another stick than a moment ago", s.Path)
	}
	return t, nil
}

func (s *StickDisk) mount(part string) (*Stick, error) {
	dir, err := os.MkdirTemp("/run", "lifeboat-stick-")
	if err != nil {
		return nil, fmt.Errorf("mount the stick: %w", err)
	}
	t := &Stick{Device: s.Path, Bytes: s.Bytes, Dir: dir, part: part}
	if err := t.attach(); err != nil {
		os.Remove(dir)
		return nil, err
	}
	return t, nil
}

func (t *Stick) attach() error {
	if err := unix.Mount(t.part, t.Dir, "ext4", unix.MS_NODEV|unix.MS_NOSUID|unix.MS_NOEXEC|unix.MS_NOATIME, ""); err != nil {
		return report.Errorf(report.CodeFailed, "check it with e2fsck -f "+t.part, "mount the stick's data partition %s: %w", t.part, err)
	}
	return nil
}

// again unmounts and mounts: afterwards all is in its place, not only in the
// filesystem's journal, which no boot loader reads.
func (t *Stick) again() error {
	if err := unix.Unmount(t.Dir, 0); err != nil {
		return fmt.Errorf("unmount the stick: %w", err)
	}
	return t.attach()
}

func (t *Stick) unmount() error {
	err := unix.Unmount(t.Dir, 0)
	if err == nil {
		err = os.Remove(t.Dir)
	}
	return err
}

// Close unmounts; what was written is on the stick when it returns nil.
func (t *Stick) Close() error {
	if t.tree != nil {
		t.tree.Close()
	}
	if err := t.unmount(); err != nil {
		return fmt.Errorf("unmount the stick %s: %w; it must not be taken out", t.Device, err)
	}
	return nil
}

// Add puts one host onto the stick, with its archives.
func (t *Stick) Add(ctx context.Context, c *usb.Content, sink report.Sink) ([]report.Problem, error) {
	last := int64(-1)
	return t.tree.Add(ctx, c, func(done, total int64) {
		if part := done * 200 / max(total, 1); part != last {
			last = part
			sink.Emit(report.Event{Kind: report.Progress, Step: "usb", Text: "Writing " + c.Menu.Host + " to " + t.Device, Done: done, Total: total})
		}
	})
}

// wiped is how much is cleared at both ends: whatever was on the disk is not
// found again.
const wiped = 1 << 20

// Format makes a new stick of the whole disk, with the boot loaders of img.
// Everything on the disk is gone. The disk is opened exclusively and compared
// with what was shown before the first byte is written.
func (s *StickDisk) Format(ctx context.Context, r run.Runner, img *usb.Image) (*Stick, error) {
	parts, err := img.Boot()
	if err != nil {
		return nil, err
	}
	label, err := usb.Table(img.Mark.ID, s.Bytes)
	if err != nil {
		return nil, err
	}
	f, err := s.sys.OpenExclusive(s.no, s.want)
	if err != nil {
		return nil, err
	}
	zero := make([]byte, wiped)
	for _, at := range []int64{0, s.Bytes - wiped} {
		if _, err = f.WriteAt(zero, at); err != nil {
			break
		}
	}
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return nil, fmt.Errorf("clear the stick %s: %w", s.Path, err)
	}
	nodes, err := label.Commit(ctx, s.Path)
	if err != nil {
		return nil, err
	}
	// Each part by its own node: what a program has looked at there is not
	// read from an old cache afterwards.
	for node, b := range map[string][]byte{s.Path: parts.Sector, nodes[1]: parts.Core, nodes[2]: parts.EFI} {
		if err := putAt(node, b); err != nil {
			return nil, err
		}
	}
	part := nodes[usb.DataPart]
	args := append(usb.MkfsArgs(img.Mark.ID), "-i", "262144", "-E", "nodiscard", part) // large files: fewer inodes
	if _, err := r.Run(ctx, run.Cmd{Path: "mke2fs", Args: args, Env: run.HostEnv}); err != nil {
		return nil, fmt.Errorf("make the data filesystem on %s: %w", part, err)
	}
	t, err := s.mount(part)
	if err != nil {
		return nil, err
	}
	if t.tree, err = usb.NewTree(t.Dir, img.Mark, t.again); err != nil {
		t.unmount()
		return nil, err
	}
	return t, nil
}

// putAt writes to the beginning of a device.
func putAt(node string, b []byte) error {
	if len(b) == 0 {
		return nil
	}
	f, err := os.OpenFile(node, os.O_WRONLY|unix.O_EXCL, 0)
	if err != nil {
		return fmt.Errorf("write the boot loaders: %w", err)
	}
	defer f.Close()
	if _, err := f.WriteAt(b, 0); err != nil {
		return fmt.Errorf("write the boot loaders to %s: %w", node, err)
	}
	return f.Sync()
}
