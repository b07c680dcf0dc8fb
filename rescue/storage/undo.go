package storage

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/klauspost/compress/zstd"

	"lifeboat/internal/disklabel"
	"lifeboat/manifest"
	"lifeboat/plan"
	"lifeboat/report"
)

// UndoPlan is a plan without steps that names the disks of what was kept, as
// they are in this machine now. A disk must be the very one, and carry the
// claim of the recovery that is undone.
func UndoPlan(k *Kept, m *manifest.Machine) (*plan.Plan, error) {
	p := &plan.Plan{Format: plan.Format, ID: k.PlanID, Host: k.Host}
	if len(k.Disks) == 0 {
		return nil, report.Errorf(report.CodeNoUndo, "", "nothing was kept")
	}
	for _, d := range k.Disks {
		var found []*manifest.MachineDisk
		for i := range m.Disks {
			x := &m.Disks[i]
			same := x.Disk.WWN == d.Disk.WWN && x.Disk.Serial == d.Disk.Serial && x.Disk.Model == d.Disk.Model && x.Disk.Bytes == d.Disk.Bytes
			if same && (d.ClaimAt == 0 || x.Claim != nil && x.Claim.PlanID == k.PlanID && x.Claim.Node == d.Node) {
				found = append(found, x)
			}
		}
		if len(found) != 1 {
			return nil, report.Errorf(report.CodeNoUndo, "nothing was written", "%d disks are (%s, serial %q, %d bytes) and carry the claim of that recovery; it must be one",
				len(found), d.Disk.Model, d.Disk.Serial, d.Disk.Bytes)
		}
		ref := d.Disk
		ref.Name, ref.DevNo = found[0].Name, found[0].DevNo
		p.Assignments = append(p.Assignments, plan.Assignment{Node: d.Node, Disk: ref, Rule: plan.ByClaim, ClaimAt: d.ClaimAt})
	}
	return p, nil
}

// Undo writes back what was kept. Everything is read and its digests compared
// before the first write; the claim goes last, so that an undo that is cut off
// can be done again.
func (s *Storage) Undo(ctx context.Context, k *Kept, data io.ReaderAt) error {
	if err := s.underInit(); err != nil {
		return err
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(2*keepPiece))
	if err != nil {
		return err
	}
	defer dec.Close()
	for _, d := range k.Disks {
		for _, x := range d.Spans {
			if x.Start < 0 || x.Len <= 0 || x.Len > keepPiece || x.Start+x.Len > d.Disk.Bytes {
				return report.Errorf(report.CodeNoUndo, "nothing was written", "what was kept names a place that is not on the disk")
			}
			if _, err := keptBytes(dec, data, x); err != nil {
				return report.Errorf(report.CodeNoUndo, "nothing was written", "what was kept is damaged: %w", err)
			}
		}
	}
	for i := range s.Plan.Assignments {
		if err := s.releaseDisk(ctx, s.Plan.Assignments[i].Node); err != nil {
			return err
		}
	}
	v, err := s.system.Scan()
	if err != nil {
		return err
	}
	if err := s.protected(v); err != nil {
		return err
	}
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
	for i, f := range files {
		if err := putBack(dec, f, data, k.Disks[i]); err != nil {
			return fmt.Errorf("write back to %s: %w; do it again", f.Name(), err)
		}
		name := f.Name()
		f.Close()
		if err := disklabel.Show(ctx, name); err != nil {
			s.note("%s is as it was; the kernel sees its partitions after a restart (%v)", name, err)
		}
	}
	return nil
}

func putBack(dec *zstd.Decoder, f *os.File, data io.ReaderAt, d KeptDisk) error {
	spans := slices.Clone(d.Spans)
	holds := func(x KeptSpan) bool { return d.ClaimAt >= x.Start && d.ClaimAt < x.Start+x.Len }
	slices.SortStableFunc(spans, func(a, b KeptSpan) int {
		switch {
		case holds(a) == holds(b):
			return 0
		case holds(a):
			return 1
		}
		return -1
	})
	for _, x := range spans {
		b, err := keptBytes(dec, data, x)
		if err != nil {
			return err
		}
		if holds(x) {
			if err := f.Sync(); err != nil {
				return err
			}
		}
		if _, err := f.WriteAt(b, x.Start); err != nil {
			return err
		}
	}
	if err := f.Sync(); err != nil {
		return err
	}
	for _, x := range spans {
		b, err := keptBytes(dec, data, x)
		if err != nil {
			return err
		}
		got := make([]byte, x.Len)
		if _, err := f.ReadAt(got, x.Start); err != nil {
			return err
		}
		if !bytes.Equal(got, b) {
			return fmt.Errorf("%d bytes at %d read back differ", x.Len, x.Start)
		}
	}
	return nil
}

// keptBytes reads one span of what was kept and compares its digest.
func keptBytes(dec *zstd.Decoder, data io.ReaderAt, x KeptSpan) ([]byte, error) {
	if x.Stored == 0 {
		return make([]byte, x.Len), nil
	}
	if x.Stored < 0 || x.Stored > 2*keepPiece || x.At < 0 {
		return nil, fmt.Errorf("a frame of %d bytes at %d is nonsense", x.Stored, x.At)
	}
	frame := make([]byte, x.Stored)
	if _, err := data.ReadAt(frame, x.At); err != nil {
		return nil, fmt.Errorf("read %d bytes at %d: %w", x.Stored, x.At, err)
	}
	b, err := dec.DecodeAll(frame, nil)
	if err != nil {
		return nil, fmt.Errorf("unpack the frame at %d: %w", x.At, err)
	}
	sum := sha256.Sum256(b)
	if int64(len(b)) != x.Len || hex.EncodeToString(sum[:]) != x.Sum {
		return nil, fmt.Errorf("the bytes of %d at %d are not those that were kept", x.Len, x.Start)
	}
	return b, nil
}
