package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"

	"lifeboat/internal/disklabel"
	"lifeboat/internal/tools/wipe"
	"lifeboat/manifest"
	"lifeboat/plan"
	"lifeboat/report"
)

// wipe makes everything on a disk unrecognisable, inner layers first. The
// claim stays.
func (s *Storage) wipe(ctx context.Context, st plan.Step, _ func(int64, int64)) error {
	if err := s.Claim(ctx); err != nil {
		return err
	}
	v, err := s.system.Scan()
	if err != nil {
		return err
	}
	d, a, err := s.target(v, st.Node)
	if err != nil {
		return err
	}
	dev := v.Node(d)
	// Where partitions are and were: the kernel's view and the table may
	// differ, and both may lead to something.
	var regions []wipe.Span
	for _, name := range d.Partitions {
		p := v.Device(name)
		regions = append(regions, wipe.Span{Start: p.Start, Len: p.Bytes})
	}
	if l, err := disklabel.ReadDevice(dev); err == nil {
		for _, p := range l.Partitions {
			regions = append(regions, wipe.Span{Start: p.Start, Len: p.Size})
		}
	} else if !errors.Is(err, disklabel.ErrNone) {
		s.note("%s: %v; it is wiped all the same", d.Name, err)
	}
	regions = append(regions, wipe.Span{Len: d.Bytes})
	if err := s.zero(a, regions); err != nil {
		return err
	}
	if err := disklabel.Forget(ctx, dev); err != nil {
		return busy(err, d.Name, s.holders(dev))
	}
	return nil
}

// zero opens a target disk exclusively and zeroes regions of it.
func (s *Storage) zero(a *plan.Assignment, regions []wipe.Span) error {
	f, err := s.openExclusive(a)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := wipe.Regions(f, regions, claimSpan(a)); err != nil {
		return fmt.Errorf("wipe %s: %w", f.Name(), err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("wipe %s: %w", f.Name(), err)
	}
	return nil
}

// cleanDevice makes a device that was just made unrecognisable: its blocks
// belonged to something else before.
func cleanDevice(dev string) error {
	f, err := os.OpenFile(dev, os.O_RDWR|os.O_EXCL, 0)
	if err != nil {
		return fmt.Errorf("wipe %s: %w", dev, err)
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("wipe %s: %w", dev, err)
	}
	if err := wipe.Regions(f, []wipe.Span{{Len: size}}, nil); err != nil {
		return fmt.Errorf("wipe %s: %w", dev, err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("wipe %s: %w", dev, err)
	}
	return nil
}

// table writes a partition table and waits for exactly its partitions. Where
// they will lie is zeroed before anything can look at them.
func (s *Storage) table(ctx context.Context, st plan.Step, _ func(int64, int64)) error {
	if err := s.Claim(ctx); err != nil {
		return err
	}
	n, err := s.node(st.Node)
	if err != nil {
		return err
	}
	if n.Table == nil || len(n.On) != 1 {
		return fmt.Errorf("%s is no partition table on one disk", st.Node)
	}
	v, err := s.system.Scan()
	if err != nil {
		return err
	}
	d, a, err := s.target(v, n.On[0].Node)
	if err != nil {
		return err
	}
	l := disklabel.Of(&s.Plan.Target, n)
	if _, err := l.Encode(d.Bytes, d.Logical); err != nil {
		return fmt.Errorf("%s: %w", d.Name, err) // before the first byte is written
	}
	var regions []wipe.Span
	for _, p := range l.Partitions {
		regions = append(regions, wipe.Span{Start: p.Start, Len: p.Size})
	}
	if err := s.zero(a, regions); err != nil {
		return err
	}
	if _, err := l.Commit(ctx, v.Node(d)); err != nil {
		return busy(err, d.Name, s.holders(v.Node(d)))
	}
	return s.sameTable(v.Node(d), l)
}

// sameTable reads a table back and compares it with what was to be written.
func (s *Storage) sameTable(dev string, want *disklabel.Label) error {
	got, err := disklabel.ReadDevice(dev)
	if err != nil {
		return fmt.Errorf("read the table back: %w", err)
	}
	if len(got.Warnings) > 0 {
		return fmt.Errorf("the table of %s: %s", dev, got.Warnings[0])
	}
	if got.Table.Type != want.Table.Type || !strings.EqualFold(got.Table.UUID, want.Table.UUID) || got.Table.PMBRBoot != want.Table.PMBRBoot {
		return fmt.Errorf("the table of %s is %s %s, not %s %s", dev, got.Table.Type, got.Table.UUID, want.Table.Type, want.Table.UUID)
	}
	mine := map[int]manifest.Partition{}
	for _, p := range want.Partitions {
		if want.Table.Type == disklabel.DOS {
			p.UUID, p.Name, p.Attrs = "", "", 0 // not stored in an MBR
			p.Type = strings.ToLower(p.Type)
		} else {
			p.Active = false
			p.Type, p.UUID = strings.ToUpper(p.Type), strings.ToUpper(p.UUID)
		}
		mine[p.Number] = p
	}
	for _, p := range got.Partitions {
		if !reflect.DeepEqual(mine[p.Number], p) {
			return fmt.Errorf("partition %d of %s is %+v, not %+v", p.Number, dev, p, mine[p.Number])
		}
		delete(mine, p.Number)
	}
	for n := range mine {
		return fmt.Errorf("partition %d is not on %s", n, dev)
	}
	return nil
}

// busy names who holds a disk.
func busy(err error, disk string, holders []string) error {
	if !isBusy(err) {
		return err
	}
	who := "nobody that the kernel names"
	if len(holders) > 0 {
		who = join(holders)
	}
	return report.Errorf(report.CodeDiskBusy, "end what uses it, then try again", "%s is in use by %s: %w", disk, who, err)
}
