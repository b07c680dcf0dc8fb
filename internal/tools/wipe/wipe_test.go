package wipe

import (
	"bytes"
	"slices"
	"testing"
)

type mem []byte

func (m mem) WriteAt(b []byte, off int64) (int, error) { return copy(m[off:], b), nil }

func TestMinus(t *testing.T) {
	s := Span{100, 100}
	for _, c := range []struct{ keep, want []Span }{
		{nil, []Span{{100, 100}}},
		{[]Span{{0, 100}, {200, 5}}, []Span{{100, 100}}},
		{[]Span{{150, 10}}, []Span{{100, 50}, {160, 40}}},
		{[]Span{{190, 50}, {90, 20}}, []Span{{110, 80}}},
		{[]Span{{0, 1000}}, nil},
		{[]Span{{120, 10}, {125, 10}, {0, 0}}, []Span{{100, 20}, {135, 65}}},
	} {
		if got := minus(s, c.keep); !slices.Equal(got, c.want) {
			t.Errorf("without %v: %v, not %v", c.keep, got, c.want)
		}
	}
}

// A region inside a device: front and end are zero, its neighbours, its
// middle and what is kept are not.
func TestRegions(t *testing.T) {
	const mib = 1 << 20
	m := mem(bytes.Repeat([]byte{0xff}, 80*mib))
	keep := Span{2*mib + 4096, 4096}
	if err := Regions(m, []Span{{mib, 70 * mib}}, []Span{keep}); err != nil {
		t.Fatal(err)
	}
	for at, want := range map[int64]byte{
		mib - 1: 0xff, mib: 0, mib + Front - 1: 0, mib + Front: 0xff, 70*mib - 1: 0xff, 70 * mib: 0, 71*mib - 1: 0, 71 * mib: 0xff,
		keep.Start - 1: 0, keep.Start: 0xff, keep.end() - 1: 0xff, keep.end(): 0, 65 * mib: 0, 65*mib + 65536: 0xff,
	} {
		if m[at] != want {
			t.Errorf("byte %d is %#x, not %#x", at, m[at], want)
		}
	}
	// Regions smaller than what is zeroed of a large one.
	small := mem(bytes.Repeat([]byte{0xff}, 3*mib))
	if err := Regions(small, []Span{{mib, 1000}, {2 * mib, 0}}, nil); err != nil {
		t.Fatal(err)
	}
	if got := bytes.Count(small, []byte{0}); got != 1000 {
		t.Errorf("%d bytes are zero, not 1000", got)
	}
}
