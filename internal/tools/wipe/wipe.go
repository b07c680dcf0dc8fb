// Package wipe zeroes what makes a region of a device recognisable: no
// signature of any layer may come back to life when something new begins at
// the same place.
// Level 2: one external tool each: Read(dev) → manifest struct, Make(dev,
// struct); machine-readable output, typed errors; no other tool, no policy.
package wipe

import (
	"fmt"
	"io"
	"slices"
)

// How far signatures lie inside a region. The front holds, besides all others
// within the first MiB, the second LUKS2 header (up to 4 MiB) and VMFS (1 and
// 2 MiB); the end holds md 0.9 and 1.0, backup GPT, BIOS RAID, ZFS.
const (
	Front = 4<<20 + 64<<10
	End   = 1 << 20
	// btrfs keeps a copy at 64 MiB that its own rescue tools believe.
	btrfsCopy = 64 << 20
)

// Span is a run of bytes of a device.
type Span struct{ Start, Len int64 }

func (s Span) end() int64 { return s.Start + s.Len }

// Places are the spans to zero of a region of the device.
func Places(region Span) []Span {
	spans := []Span{{0, Front}, {region.Len - End, End}, {btrfsCopy, 64 << 10}}
	var out []Span
	for _, s := range spans {
		s.Start = max(s.Start, 0)
		s.Len = min(s.Len, region.Len-s.Start)
		if s.Len > 0 {
			out = append(out, Span{region.Start + s.Start, s.Len})
		}
	}
	return out
}

// Regions zeroes the places of each region in the order given, and leaves the
// bytes of keep alone. It is for inner regions first: when it is cut off, the
// outer layer still leads to what was not reached.
func Regions(w io.WriterAt, regions, keep []Span) error {
	for _, r := range regions {
		for _, s := range Places(r) {
			for _, part := range minus(s, keep) {
				if err := zero(w, part); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// minus cuts the spans of keep out of s.
func minus(s Span, keep []Span) []Span {
	keep = slices.Clone(keep)
	slices.SortFunc(keep, func(a, b Span) int { return int(min(max(a.Start-b.Start, -1), 1)) })
	var out []Span
	for _, k := range keep {
		if k.Len <= 0 || k.end() <= s.Start || k.Start >= s.end() {
			continue
		}
		if k.Start > s.Start {
			out = append(out, Span{s.Start, k.Start - s.Start})
		}
		s = Span{k.end(), s.end() - k.end()}
		if s.Len <= 0 {
			return out
		}
	}
	return append(out, s)
}

var zeroes = make([]byte, 1<<20)

func zero(w io.WriterAt, s Span) error {
	for s.Len > 0 {
		n := min(s.Len, int64(len(zeroes)))
		if _, err := w.WriteAt(zeroes[:n], s.Start); err != nil {
			return fmt.Errorf("zero %d bytes at %d: %w", n, s.Start, err)
		}
		s.Start, s.Len = s.Start+n, s.Len-n
	}
	return nil
}
