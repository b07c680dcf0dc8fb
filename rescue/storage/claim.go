package storage

import (
	"context"
	"debug/buildinfo"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"lifeboat/internal/blockdev"
	"lifeboat/internal/probe"
	"lifeboat/internal/tools/wipe"
	"lifeboat/manifest"
	"lifeboat/plan"
	"lifeboat/report"
)

// initPackage is what the Go linker writes into Lifeboat's own PID 1.
const initPackage = "lifeboat/init"

// underInit is nil only where PID 1 is Lifeboat's own. A system that somebody
// lives in is never that.
func underInit() error {
	refuse := func(why string) error {
		return report.Errorf(report.CodeNotPID1, "boot the image and recover there", "disks are written only in Lifeboat's rescue system: %s", why)
	}
	info, err := buildinfo.ReadFile("/proc/1/exe")
	if err != nil {
		return refuse("PID 1 is another program")
	}
	if info.Path != initPackage {
		return refuse("PID 1 is " + info.Path)
	}
	return nil
}

// Claim compares every target disk with the plan just before the first write
// (rule 6): what Lifeboat itself opened is released, the disk is opened
// exclusively, its identity, table and signatures are those that the plan was
// made for, and nothing protects it. Then it carries the claim of this order.
// It is called by the first step that writes, if not before.
func (s *Storage) Claim(ctx context.Context) error {
	if err := s.underInit(); err != nil {
		return err
	}
	if s.claimed {
		return nil
	}
	// What an earlier try left open would only look like somebody's.
	for _, a := range s.Plan.Assignments {
		if err := s.releaseDisk(ctx, a.Node); err != nil {
			return err
		}
	}
	now, err := probe.Machine(ctx, s.probeOptions())
	if err != nil {
		return fmt.Errorf("look at the disks again before writing: %w", err)
	}
	for i := range s.Plan.Assignments {
		a := &s.Plan.Assignments[i]
		if err := s.compare(a, now); err != nil {
			return err
		}
	}
	// All of them are held before any is written: a fault of the last one
	// must not find the first one changed.
	var files []*os.File
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	for i := range s.Plan.Assignments {
		f, err := s.openExclusive(&s.Plan.Assignments[i])
		if err != nil {
			return err
		}
		files = append(files, f)
	}
	for i := range s.Plan.Assignments {
		if err := s.writeClaim(files[i], &s.Plan.Assignments[i]); err != nil {
			return err
		}
	}
	s.claimed = true
	return nil
}

func (s *Storage) openExclusive(a *plan.Assignment) (*os.File, error) {
	no, err := blockdev.ParseDevNo(a.Disk.DevNo)
	if err != nil {
		return nil, err
	}
	return s.system.OpenExclusive(no, blockdev.Identity{WWN: a.Disk.WWN, Serial: a.Disk.Serial, Model: a.Disk.Model, Bytes: a.Disk.Bytes})
}

// compare holds a disk, as just probed, against what the plan knew.
func (s *Storage) compare(a *plan.Assignment, now *manifest.Machine) error {
	ref := a.Disk
	changed := func(format string, args ...any) error {
		f := report.Errorf(report.CodeDiskChanged, "nothing was written; make the plan again", "disk %s (%s, serial %q) is not as the plan saw it: %s",
			ref.Name, ref.Model, ref.Serial, fmt.Sprintf(format, args...))
		f.Object = string(a.Node)
		return f
	}
	i := slices.IndexFunc(now.Disks, func(d manifest.MachineDisk) bool { return d.DevNo == ref.DevNo })
	if i < 0 {
		return changed("device %s is gone", ref.DevNo)
	}
	d := now.Disks[i]
	is := plan.DiskRef{WWN: d.Disk.WWN, Serial: d.Disk.Serial, Model: d.Disk.Model, Bytes: d.Disk.Bytes, Table: d.Table, TableID: d.TableID}
	was := plan.DiskRef{WWN: ref.WWN, Serial: ref.Serial, Model: ref.Model, Bytes: ref.Bytes, Table: ref.Table, TableID: ref.TableID}
	for _, f := range []struct{ what, was, is string }{
		{"WWN", was.WWN, is.WWN}, {"serial", was.Serial, is.Serial}, {"model", was.Model, is.Model},
		{"size", fmt.Sprint(was.Bytes), fmt.Sprint(is.Bytes)}, {"table", was.Table, is.Table}, {"table id", was.TableID, is.TableID},
	} {
		if f.was != f.is {
			return changed("%s was %q, is %q", f.what, f.was, f.is)
		}
	}
	if was, is := signatures(ref.Signatures), signatures(d.Signatures); !slices.Equal(was, is) {
		return changed("signatures were %s, are %s", strings.Join(was, ", "), strings.Join(is, ", "))
	}
	if d.Disk.ReadOnly {
		return report.Errorf(report.CodeDiskProtected, "take the write protection off", "disk %s is read-only", d.Name)
	}
	for _, p := range d.Protection {
		if p.Why != manifest.ProtectBackup && slices.Contains(s.Unprotected, d.Disk.Serial) && d.Disk.Serial != "" {
			continue
		}
		return report.Errorf(report.CodeDiskProtected, "unmount or stop what uses it, then try again", "disk %s carries %s (%s)", d.Name, p.What, strings.Join(p.Chain, " → "))
	}
	return nil
}

// signatures makes lists comparable. The device's name does not count: it may
// differ from boot to boot.
func signatures(list []manifest.Signature) []string {
	out := []string{}
	for _, g := range list {
		out = append(out, fmt.Sprintf("%s %s at %d", g.Type, g.UUID, g.Offset))
	}
	slices.Sort(out)
	return out
}

// writeClaim marks the disk as being written for this order.
func (s *Storage) writeClaim(f *os.File, a *plan.Assignment) error {
	if a.ClaimAt == 0 {
		return nil
	}
	c := s.Options.Claim
	c.PlanID, c.Node, c.WWN, c.Serial, c.Bytes = s.Plan.ID, a.Node, a.Disk.WWN, a.Disk.Serial, a.Disk.Bytes
	b, err := c.Encode()
	if err != nil {
		return err
	}
	if manifest.DecodeClaim(b) == nil {
		return errors.New("the claim names no order: it would not be known again")
	}
	return writeSync(f, b, a.ClaimAt)
}

func writeSync(f *os.File, b []byte, off int64) error {
	if _, err := f.WriteAt(b, off); err != nil {
		return fmt.Errorf("write %d bytes at %d of %s: %w", len(b), off, f.Name(), err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("write %s: %w", f.Name(), err)
	}
	return nil
}

// unclaim takes the claims away: the recovery is done.
func (s *Storage) unclaim() error {
	for i := range s.Plan.Assignments {
		a := &s.Plan.Assignments[i]
		if a.ClaimAt == 0 {
			continue
		}
		f, err := s.openExclusive(a)
		if err != nil {
			return err
		}
		err = writeSync(f, make([]byte, manifest.ClaimSize), a.ClaimAt)
		if err2 := f.Close(); err == nil {
			err = err2
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// claimSpan is what no wiping of a disk touches.
func claimSpan(a *plan.Assignment) []wipe.Span {
	if a.ClaimAt == 0 {
		return nil
	}
	return []wipe.Span{{Start: a.ClaimAt, Len: manifest.ClaimSize}}
}
