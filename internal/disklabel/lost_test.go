package disklabel

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lifeboat/manifest"
)

// A GPT is read by either of its copies when the first sector is zeroed; with
// both lost there is none.
func TestReadCopy(t *testing.T) {
	const size = 64 << 20
	l := gptLabel()
	l.Partitions = l.Partitions[:1]
	l.Partitions[0].Start, l.Partitions[0].Size = 1<<20, 1<<20
	l.Table.FirstLBA, l.Table.LastLBA = 0, 0
	name := filepath.Join(t.TempDir(), "disk")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	if err := l.Write(f, size, 512); err != nil {
		t.Fatal(err)
	}
	zero := func(at, n int64) {
		if _, err := f.WriteAt(make([]byte, n), at); err != nil {
			t.Fatal(err)
		}
	}
	same := func(what string) {
		t.Helper()
		got, err := ReadCopy(name)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if diff := got.Differs(l); diff != "" {
			t.Errorf("%s: %s", what, diff)
		}
	}
	zero(0, 512)
	if _, err := ReadDevice(name); !errors.Is(err, ErrNone) {
		t.Errorf("a disk without a first sector: %v", err)
	}
	same("first sector zeroed")
	zero(512, 33*512)
	same("first copy zeroed")
	zero(size-33*512, 33*512)
	if _, err := ReadCopy(name); !errors.Is(err, ErrNone) {
		t.Errorf("both copies zeroed: %v", err)
	}
}

func TestDiffers(t *testing.T) {
	for _, c := range []struct {
		change func(*Label)
		text   string
	}{
		{func(*Label) {}, ""},
		{func(l *Label) { l.Table.UUID = strings.ToLower(l.Table.UUID) }, ""},
		{func(l *Label) { l.Table.UUID = "00000000-0000-4000-8000-000000000000" }, "it is gpt 00000000"},
		{func(l *Label) { l.Partitions[0].Size += 512 }, "is another one"},
		{func(l *Label) { l.Partitions[0].Number = 77 }, "is another one"},
		{func(l *Label) { l.Partitions = append(l.Partitions, manifest.Partition{Number: 88}) }, "partitions, not"},
	} {
		l := gptLabel()
		c.change(l)
		if got := l.Differs(gptLabel()); !strings.Contains(got, c.text) || (c.text == "") != (got == "") {
			t.Errorf("%q, not %q", got, c.text)
		}
	}
}
