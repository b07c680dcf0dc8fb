package swap

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"os"
	"testing"

	"lifeboat/internal/run"
	"lifeboat/manifest"
)

// recorded are the first 64 KiB of a 10 MiB area made by mkswap 2.38.
func recorded(t testing.TB) []byte {
	t.Helper()
	f, err := os.Open("testdata/swap.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestReadRecorded(t *testing.T) {
	b := recorded(t)
	want := manifest.Swap{UUID: "5c3c6b2e-7a52-4f0e-9b5c-000000000002", Label: "SWAP-a", PageSize: 4096}
	got, size, err := parse(bytes.NewReader(b))
	if err != nil || *got != want || size != 10<<20 {
		t.Errorf("got %+v, %d bytes, %v", got, size, err)
	}
	// The same header of a machine with 64 KiB pages.
	copy(b[64<<10-10:], b[4096-10:4096])
	copy(b[4096-10:], make([]byte, 10))
	if got, _, err := parse(bytes.NewReader(b)); err != nil || got.PageSize != 64<<10 {
		t.Errorf("got %+v, %v", got, err)
	}
	if _, _, err := parse(bytes.NewReader(make([]byte, 64<<10))); !errors.Is(err, ErrNone) {
		t.Errorf("zeroes: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(recorded(f)[:4096])
	f.Fuzz(func(t *testing.T, b []byte) {
		if sw, size, err := parse(bytes.NewReader(b)); err == nil && (sw == nil || size <= 0) {
			t.Errorf("%+v, %d bytes and no error", sw, size)
		}
	})
}

func TestMakeArgv(t *testing.T) {
	f := &run.Fake{}
	sw := &manifest.Swap{UUID: "5c3c6b2e-7a52-4f0e-9b5c-000000000002", Label: "SWAP a", PageSize: 128 << 10}
	if err := Make(context.Background(), f, "/dev/x", sw); err != nil {
		t.Fatal(err)
	}
	if got := f.Calls(); len(got) != 1 || got[0] != "mkswap --force --uuid 5c3c6b2e-7a52-4f0e-9b5c-000000000002 --label 'SWAP a' --pagesize 131072 /dev/x" {
		t.Errorf("%q", got)
	}
}
