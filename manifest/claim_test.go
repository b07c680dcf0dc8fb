package manifest

import (
	"bytes"
	"strings"
	"testing"
)

var claim = Claim{Order: "o-1", PlanID: "p", Manifest: "m", Node: "disk:wwn-1", Host: "alpha", Serial: "S 1", Bytes: 1 << 33, Time: "2026-05-01T00:00:00Z"}

func TestClaim(t *testing.T) {
	block, err := claim.Encode()
	if err != nil || len(block) != ClaimSize {
		t.Fatalf("%d bytes, %v", len(block), err)
	}
	if got := DecodeClaim(block); got == nil || *got != claim {
		t.Fatalf("read back: %+v", got)
	}
	// A torn write, a changed byte and a later version are no claim.
	used := len(bytes.TrimRight(block, "\x00"))
	for i := range used {
		torn := bytes.Clone(block)
		torn[i] ^= 1
		if got := DecodeClaim(torn); got != nil {
			t.Fatalf("byte %d changed: %+v", i, got)
		}
		if got := DecodeClaim(block[:i]); got != nil {
			t.Fatalf("cut at %d: %+v", i, got)
		}
	}
	long := claim
	long.Host = strings.Repeat("x", ClaimSize)
	if _, err := long.Encode(); err == nil {
		t.Error("a claim longer than its block was written")
	}
}

// TestClaimAttempts: a claim of a version that did not count is the first.
func TestClaimAttempts(t *testing.T) {
	for n, want := range map[int]int{0: 1, 1: 1, 3: 3, -2: 1} {
		c := claim
		c.Attempt = n
		block, err := c.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if got := DecodeClaim(block); got == nil || got.Attempts() != want {
			t.Errorf("%d: %+v", n, got)
		}
	}
}

func TestClaimPlaces(t *testing.T) {
	for _, size := range []int64{0, 4096, 1 << 20, 1<<20 + 512, 10 << 30, 10<<30 + 512} {
		last := int64(-1)
		for _, off := range ClaimPlaces(size) {
			if off <= 0 || off%ClaimSize != 0 || off+ClaimSize > size || off == last {
				t.Errorf("size %d: place %d", size, off)
			}
			last = off
		}
	}
	if p := ClaimPlaces(10 << 30); len(p) != 2 || p[0] != 1044480 || p[1] != 10<<30-32768 {
		t.Errorf("places of 10 GiB: %v", p)
	}
}

func FuzzDecodeClaim(f *testing.F) {
	block, _ := claim.Encode()
	f.Add(block)
	f.Add(block[:100])
	f.Add([]byte(claimMagic))
	f.Add(append([]byte(claimMagic), bytes.Repeat([]byte{0xff}, 100)...))
	f.Fuzz(func(t *testing.T, data []byte) {
		c := DecodeClaim(data)
		if c == nil {
			return
		}
		again, err := c.Encode()
		if err != nil {
			return // a longer block than ours
		}
		if got := DecodeClaim(again); got == nil || *got != *c {
			t.Fatalf("%+v is read back as %+v", c, got)
		}
	})
}
