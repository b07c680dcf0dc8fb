package storage

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/klauspost/compress/zstd"

	"lifeboat/internal/blockdev"
	"lifeboat/internal/disklabel"
	"lifeboat/internal/tools/wipe"
	"lifeboat/manifest"
	"lifeboat/plan"
)

// KeptFormat names this version of what Keep writes.
const KeptFormat = "lifeboat.kept/1"

// Kept says what of the disks was kept before the first write, and where in
// the data file it lies.
type Kept struct {
	Format string `json:"format"`
	PlanID string `json:"plan_id"`
	Order  string `json:"order"`
	Host   string `json:"host"`
	Time   string `json:"time"` // RFC 3339
	// Whole: everything is kept that building writes before the first
	// filesystem is made. Otherwise only tables and the headers of volumes are.
	Whole bool       `json:"whole"`
	Disks []KeptDisk `json:"disks"`
	Bytes int64      `json:"bytes"` // of the data file
}

// KeptDisk is one disk as the plan knew it.
type KeptDisk struct {
	Node    manifest.ID  `json:"node"`
	Disk    plan.DiskRef `json:"disk"`
	ClaimAt int64        `json:"claim_at,omitempty"`
	Spans   []KeptSpan   `json:"spans"`
}

// KeptSpan is a run of bytes of a disk.
type KeptSpan struct {
	Start  int64  `json:"start"`
	Len    int64  `json:"len"`
	At     int64  `json:"at"`               // in the data file
	Stored int64  `json:"stored,omitempty"` // bytes there, one zstd frame; 0: all zeros
	Sum    string `json:"sum,omitempty"`    // SHA-256 of the bytes of the disk
}

// Sizes of what is kept at the ends of disks and partitions: tables, md
// superblocks and LVM lie within a MiB; LUKS headers and large metadata areas
// of LVM within 16.
const (
	keepEnd    = 1 << 20
	keepHeader = 16 << 20
	keepPiece  = 4 << 20 // of one frame
)

// Keep copies to w what lies on the targets where the recovery is going to
// write: first the tables and the headers of LVM, MD and LUKS, then, as long
// as the data stays below limit, everything else that is overwritten before
// the first filesystem is made. It reads only. What cannot be read is told
// and left out.
//
// A dying disk answers slowly: after a minute what was not read yet is left
// out, as is what does not fit.
func (s *Storage) Keep(ctx context.Context, w io.Writer, limit int64) (*Kept, error) {
	k := &Kept{Format: KeptFormat, PlanID: s.Plan.ID, Order: s.Options.Claim.Order, Host: s.Options.Claim.Host,
		Time: s.Options.Claim.Time, Whole: true, Disks: []KeptDisk{}}
	v, err := s.system.Scan()
	if err != nil {
		return nil, err
	}
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	defer enc.Close()
	out := &keeper{ctx: ctx, until: time.Now().Add(keepPatience), w: w, enc: enc, limit: limit, kept: k, s: s}
	var rest [][]wipe.Span
	var files []*os.File
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	for i := range s.Plan.Assignments {
		a := &s.Plan.Assignments[i]
		d, _, err := s.target(v, a.Node)
		if err != nil {
			return nil, err
		}
		f, err := os.Open(v.Node(d))
		if err != nil {
			return nil, err
		}
		files = append(files, f)
		head, more := s.keepPlaces(v, d, a, f)
		k.Disks = append(k.Disks, KeptDisk{Node: a.Node, Disk: a.Disk, ClaimAt: a.ClaimAt, Spans: []KeptSpan{}})
		if err := out.spans(f, i, head); err != nil {
			return nil, err
		}
		rest = append(rest, more)
	}
	mark := make([]int, len(k.Disks))
	for i := range k.Disks {
		mark[i] = len(k.Disks[i].Spans)
	}
	for i, list := range rest {
		if err := out.spans(files[i], i, list); errors.Is(err, errKeepFull) {
			// Half of it would bring back nothing that the headers do not.
			k.Whole = false
			for i := range k.Disks {
				k.Disks[i].Spans = k.Disks[i].Spans[:mark[i]]
			}
			break
		} else if err != nil {
			return nil, err
		}
	}
	k.Bytes = out.at
	return k, nil
}

var errKeepFull = errors.New("more is to be kept than there is room or time for")

// keepPatience bounds reading what is to be kept.
const keepPatience = time.Minute

// keeper writes spans as frames.
type keeper struct {
	ctx   context.Context
	until time.Time
	s     *Storage
	w     io.Writer
	enc   *zstd.Encoder
	limit int64
	at    int64
	kept  *Kept
}

func (k *keeper) spans(f *os.File, disk int, list []wipe.Span) error {
	buf := make([]byte, keepPiece)
	for _, sp := range list {
		for sp.Len > 0 {
			if err := k.ctx.Err(); err != nil {
				return err
			}
			if time.Now().After(k.until) {
				return errKeepFull
			}
			n := min(sp.Len, keepPiece)
			b := buf[:n]
			if _, err := f.ReadAt(b, sp.Start); err != nil {
				k.s.note("%d bytes at %d of %s cannot be read and are not kept: %v", n, sp.Start, f.Name(), err)
				k.kept.Whole = false
			} else if err := k.span(b, disk, sp.Start); err != nil {
				return err
			}
			sp.Start, sp.Len = sp.Start+n, sp.Len-n
		}
	}
	return nil
}

func (k *keeper) span(b []byte, disk int, start int64) error {
	x := KeptSpan{Start: start, Len: int64(len(b)), At: k.at}
	if len(bytes.Trim(b, "\x00")) > 0 {
		sum := sha256.Sum256(b)
		frame := k.enc.EncodeAll(b, nil)
		if k.at+int64(len(frame)) > k.limit {
			return errKeepFull
		}
		if _, err := k.w.Write(frame); err != nil {
			return fmt.Errorf("keep what lies on the disks: %w", err)
		}
		x.Stored, x.Sum = int64(len(frame)), hex.EncodeToString(sum[:])
		k.at += x.Stored
	}
	k.kept.Disks[disk].Spans = append(k.kept.Disks[disk].Spans, x)
	return nil
}

// keepPlaces are the spans of a disk that hold its tables and headers, and
// those that are overwritten besides; no byte is in both.
func (s *Storage) keepPlaces(v *blockdev.View, d *blockdev.Device, a *plan.Assignment, f io.ReaderAt) (head, rest []wipe.Span) {
	parts := s.regions(v, d)
	head = []wipe.Span{{Start: 0, Len: keepEnd}, {Start: d.Bytes - keepEnd, Len: keepEnd}}
	for _, at := range disklabel.Records(f, d.Bytes, d.Logical) {
		head = append(head, wipe.Span{Start: at, Len: d.Logical})
	}
	deep := map[string]bool{}
	for _, g := range a.Disk.Signatures {
		deep[g.Device] = deep[g.Device] || g.Type == "crypto_LUKS" || g.Type == "LVM2_member"
	}
	front := func(name string) int64 {
		if deep[name] {
			return keepHeader
		}
		return keepEnd
	}
	head = append(head, wipe.Span{Start: 0, Len: front(d.Name)})
	for _, p := range parts {
		head = append(head, wipe.Span{Start: p.Start, Len: min(front(p.name), p.Len)}, wipe.Span{Start: p.Start + p.Len - min(keepEnd, p.Len), Len: min(keepEnd, p.Len)})
	}
	head = union(head, d.Bytes)
	rest = wipe.Places(wipe.Span{Len: d.Bytes})
	for _, p := range parts {
		rest = append(rest, wipe.Places(p.Span)...)
	}
	return head, without(union(append(rest, s.builds(a.Node, d.Logical)...), d.Bytes), head)
}

// region is a partition as it was or will be.
type region struct {
	wipe.Span
	name string
}

// regions are the partitions that the kernel and the table show now.
func (s *Storage) regions(v *blockdev.View, d *blockdev.Device) []region {
	var out []region
	for _, name := range d.Partitions {
		p := v.Device(name)
		out = append(out, region{wipe.Span{Start: p.Start, Len: p.Bytes}, name})
	}
	if l, err := disklabel.ReadDevice(v.Node(d)); err == nil {
		for _, p := range l.Partitions {
			out = append(out, region{wipe.Span{Start: p.Start, Len: p.Size}, ""})
		}
	}
	return out
}

// builds are the spans of a disk that are written when the target graph is
// built on it: the places of its partitions and of its logical volumes.
func (s *Storage) builds(disk manifest.ID, sector int64) []wipe.Span {
	t := &s.Plan.Target
	at := map[manifest.ID]int64{} // partition or disk → where it begins
	var out []wipe.Span
	at[disk] = 0
	for i := range t.Nodes {
		n := &t.Nodes[i]
		if n.Partition == nil || !slices.ContainsFunc(t.Disks(n.ID), func(d *manifest.Node) bool { return d.ID == disk }) {
			continue
		}
		at[n.ID] = n.Partition.Start
		out = append(out, wipe.Places(wipe.Span{Start: n.Partition.Start, Len: n.Partition.Size})...)
	}
	for _, n := range t.OfKind(manifest.KindTable) {
		if len(n.On) != 1 || n.On[0].Node != disk {
			continue
		}
		// Boot records of logical partitions lie anywhere between them.
		if a := s.Plan.Assigned(disk); a != nil {
			runs, _ := disklabel.Of(&s.Plan.Target, n).Encode(a.Disk.Bytes, sector)
			for _, r := range runs {
				out = append(out, wipe.Span{Start: r.Offset, Len: int64(len(r.Data))})
			}
		}
	}
	first := map[manifest.ID]int64{} // physical volume → where its first extent lies
	for _, n := range t.OfKind(manifest.KindPV) {
		if len(n.On) != 1 {
			continue
		}
		if begin, ok := at[n.On[0].Node]; ok {
			first[n.ID] = begin + n.PV.PEStart
			out = append(out, wipe.Span{Start: begin, Len: n.PV.PEStart}) // with all metadata areas
		}
	}
	for _, n := range t.OfKind(manifest.KindLV) {
		vg, err := s.vgOf(n)
		if err != nil {
			continue
		}
		for _, p := range wipe.Places(wipe.Span{Len: n.Bytes}) {
			out = append(out, lvPlaces(n.LV, vg.VG.ExtentSize, first, p)...)
		}
	}
	return out
}

// lvPlaces are the spans of a disk under a span of a logical volume; first
// says where the extents of the physical volumes on that disk begin.
func lvPlaces(lv *manifest.LV, extent int64, first map[manifest.ID]int64, p wipe.Span) []wipe.Span {
	var out []wipe.Span
	for _, g := range lv.Segments {
		begin, size := g.Start*extent, g.Extents*extent
		from, to := max(p.Start, begin), min(p.Start+p.Len, begin+size)
		n := int64(max(len(g.Areas), 1))
		stripe := g.StripeSize
		if n == 1 || stripe <= 0 {
			stripe = size
		}
		for from < to && len(g.Areas) > 0 {
			chunk, in := (from-begin)/stripe, (from-begin)%stripe
			l := min(stripe-in, to-from)
			area := g.Areas[chunk%n]
			if at, ok := first[area.PV]; ok {
				out = append(out, wipe.Span{Start: at + area.Start*extent + chunk/n*stripe + in, Len: l})
			}
			from += l
		}
	}
	return out
}

// union sorts spans, cuts them to the disk and joins those that touch.
func union(list []wipe.Span, size int64) []wipe.Span {
	var in []wipe.Span
	for _, s := range list {
		end := min(s.Start+s.Len, size)
		s.Start = max(s.Start, 0)
		if s.Len = end - s.Start; s.Len > 0 {
			in = append(in, s)
		}
	}
	slices.SortFunc(in, func(a, b wipe.Span) int { return cmp.Compare(a.Start, b.Start) })
	var out []wipe.Span
	for _, s := range in {
		if n := len(out) - 1; n >= 0 && s.Start <= out[n].Start+out[n].Len {
			out[n].Len = max(out[n].Len, s.Start+s.Len-out[n].Start)
			continue
		}
		out = append(out, s)
	}
	return out
}

// without cuts the spans of b out of those of a; both are sorted unions.
func without(a, b []wipe.Span) []wipe.Span {
	var out []wipe.Span
	for _, s := range a {
		for _, k := range b {
			end := s.Start + s.Len
			if k.Start+k.Len <= s.Start || k.Start >= end {
				continue
			}
			if k.Start > s.Start {
				out = append(out, wipe.Span{Start: s.Start, Len: k.Start - s.Start})
			}
			s.Start = min(k.Start+k.Len, end)
			s.Len = end - s.Start
		}
		if s.Len > 0 {
			out = append(out, s)
		}
	}
	return out
}
