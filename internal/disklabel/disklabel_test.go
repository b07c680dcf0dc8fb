package disklabel

import (
	"bytes"
	"compress/gzip"
	"errors"
	"hash/crc32"
	"io"
	"os"
	"reflect"
	"strings"
	"testing"

	"lifeboat/manifest"
)

// recorded is a disk of 8 MiB that sfdisk 2.38 wrote.
func recorded(t testing.TB, name string) []byte {
	t.Helper()
	f, err := os.Open("testdata/" + name)
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

func gptLabel() *Label {
	return &Label{
		Table: manifest.Table{Type: GPT, UUID: "3F0B5C1D-9A3E-4C5B-8F6A-112233445566", FirstLBA: 64 * 512, LastLBA: 16368 * 512, Entries: 56, PMBRBoot: true},
		Partitions: []manifest.Partition{
			{Number: 1, Start: 4096 * 512, Size: 2048 * 512, Type: manifest.TypeESP, UUID: "11111111-2222-4333-8444-555555555501",
				Name: "EFI System Partition", Attrs: 1<<63 | 1<<2 | 1},
			{Number: 3, Start: 2048 * 512, Size: 2048 * 512, Type: manifest.TypeLinux, UUID: "11111111-2222-4333-8444-555555555503", Name: `Größe "a", 日本`},
			{Number: 56, Start: 64 * 512, Size: 1000 * 512, Type: manifest.TypeBIOSBoot, UUID: "11111111-2222-4333-8444-555555555556"},
		},
	}
}

func dosLabel() *Label {
	return &Label{
		Table: manifest.Table{Type: DOS, UUID: "0xdeadbeef"},
		Partitions: []manifest.Partition{
			{Number: 1, Start: 2048 * 512, Size: 2048 * 512, Type: "83", Active: true},
			{Number: 3, Start: 4096 * 512, Size: 12288 * 512, Type: "05"},
			{Number: 5, Start: 6144 * 512, Size: 1000 * 512, Type: "82"},
			{Number: 6, Start: 12288 * 512, Size: 1000 * 512, Type: "8e"},
			{Number: 7, Start: 9216 * 512, Size: 700 * 512, Type: "83"},
		},
	}
}

func read(t *testing.T, b []byte) *Label {
	t.Helper()
	l, err := Read(bytes.NewReader(b), int64(len(b)), 512)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestReadRecorded(t *testing.T) {
	for name, want := range map[string]*Label{"gpt.gz": gptLabel(), "dos.gz": dosLabel()} {
		if got := read(t, recorded(t, name)); !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\n got %+v\nwant %+v", name, got, want)
		}
	}
}

// sfdisk wrote the recorded GPT; the same table from us must be the same bytes.
func TestWriteGPTBytes(t *testing.T) {
	want := recorded(t, "gpt.gz")
	got := image(len(want))
	if err := gptLabel().Write(got, int64(len(want)), 512); err != nil {
		t.Fatal(err)
	}
	for off := 0; off < len(want); off += 512 {
		if !bytes.Equal(got[off:off+512], want[off:off+512]) {
			t.Errorf("sector %d differs:\n got %x\nwant %x", off/512, got[off:off+512], want[off:off+512])
		}
	}
}

type mem []byte

func image(n int) mem { return make(mem, n) }

func (m mem) WriteAt(b []byte, off int64) (int, error) { return copy(m[off:], b), nil }

func TestRoundTrip(t *testing.T) {
	full := strings.Repeat("日", 36)
	labels := map[string]*Label{
		"gpt": gptLabel(), "dos": dosLabel(),
		"full name": {
			Table: manifest.Table{Type: GPT, UUID: gptLabel().Table.UUID},
			Partitions: []manifest.Partition{
				{Number: 4, Start: 1 << 20, Size: 1 << 20, Type: manifest.TypeLinux, UUID: "11111111-2222-4333-8444-555555555501", Name: full},
				{Number: 5, Start: 2 << 20, Size: 1 << 20, Type: manifest.TypeLinux, UUID: "11111111-2222-4333-8444-555555555502", Name: full},
			},
		},
		"empty extended": {
			Table:      manifest.Table{Type: DOS, UUID: "0x00000000"},
			Partitions: []manifest.Partition{{Number: 4, Start: 1 << 20, Size: 2 << 20, Type: "0f"}},
		},
	}
	for name, l := range labels {
		for _, sector := range []int64{512, 4096} {
			l := *l
			if sector == 4096 {
				if name == "gpt" || name == "dos" {
					l = scaled(l)
				}
			}
			m := image(64 << 20)
			if err := l.Write(m, int64(len(m)), sector); err != nil {
				t.Fatalf("%s, sectors of %d: %v", name, sector, err)
			}
			got, err := Read(bytes.NewReader(m), int64(len(m)), sector)
			if err != nil {
				t.Fatalf("%s, sectors of %d: %v", name, sector, err)
			}
			if l.Table.Entries == 0 && l.Table.Type == GPT {
				got.Table.Entries, got.Table.FirstLBA, got.Table.LastLBA = 0, 0, 0
			}
			if !reflect.DeepEqual(got.Table, l.Table) || !reflect.DeepEqual(got.Partitions, l.Partitions) || len(got.Warnings) > 0 {
				t.Errorf("%s, sectors of %d:\n got %+v\nwant %+v", name, sector, got, l)
			}
		}
	}
}

// scaled is the label with eight times the bytes, whole 4096-byte sectors.
func scaled(l Label) Label {
	l.Table.FirstLBA, l.Table.LastLBA = l.Table.FirstLBA*8, l.Table.LastLBA*8
	var parts []manifest.Partition
	for _, p := range l.Partitions {
		p.Start, p.Size = p.Start*8, p.Size*8
		parts = append(parts, p)
	}
	l.Partitions = parts
	return l
}

func TestReadDamaged(t *testing.T) {
	good := recorded(t, "gpt.gz")
	last := len(good) - 512
	damage := func(at ...int) []byte {
		b := bytes.Clone(good)
		for _, i := range at {
			b[i] ^= 0xff
		}
		return b
	}
	for name, b := range map[string][]byte{
		"first header": damage(512 + 60), "first entries": damage(1024 + 3), "magic": damage(512),
	} {
		got := read(t, b)
		if len(got.Warnings) != 1 || !strings.Contains(got.Warnings[0], "its backup was read") {
			t.Errorf("%s: warnings %q", name, got.Warnings)
		}
		got.Warnings = nil
		if !reflect.DeepEqual(got, gptLabel()) {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if got := read(t, damage(last+60)); len(got.Warnings) != 1 || !strings.Contains(got.Warnings[0], "backup GPT is damaged") {
		t.Errorf("backup: warnings %q", got.Warnings)
	}
	if _, err := Read(bytes.NewReader(damage(512+60, last+60)), int64(len(good)), 512); err == nil || errors.Is(err, ErrNone) {
		t.Errorf("both: %v", err)
	}
	grown := append(bytes.Clone(good), make([]byte, 1<<20)...)
	if got := read(t, grown); len(got.Warnings) != 1 || !strings.Contains(got.Warnings[0], "not at the end of the disk") {
		t.Errorf("grown: warnings %q", got.Warnings)
	}
}

func TestReadNone(t *testing.T) {
	fat := make([]byte, 1<<20)
	copy(fat[54:], "FAT16   ")
	fat[510], fat[511] = 0x55, 0xaa
	code := make([]byte, 1<<20)
	code[446], code[510], code[511] = 0x4d, 0x55, 0xaa // text where a flag belongs
	for name, b := range map[string][]byte{"zeroes": make([]byte, 1<<20), "FAT": fat, "boot sector": code} {
		if _, err := Read(bytes.NewReader(b), int64(len(b)), 512); !errors.Is(err, ErrNone) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What must never reach a disk.
func TestWriteRefuses(t *testing.T) {
	part := func(n int, start, size int64) manifest.Partition {
		return manifest.Partition{Number: n, Start: start, Size: size, Type: manifest.TypeLinux, UUID: "11111111-2222-4333-8444-5555555555" + string(rune('a'+n)) + "0"}
	}
	gpt := manifest.Table{Type: GPT, UUID: gptLabel().Table.UUID}
	dos := manifest.Table{Type: DOS, UUID: "0x1"}
	mbr := func(n int, start, size int64, kind string) manifest.Partition {
		return manifest.Partition{Number: n, Start: start, Size: size, Type: kind}
	}
	const m = 1 << 20
	for name, l := range map[string]*Label{
		"overlap":        {Table: gpt, Partitions: []manifest.Partition{part(1, m, 2*m), part(2, 2*m, m)}},
		"same number":    {Table: gpt, Partitions: []manifest.Partition{part(1, m, m), part(1, 3*m, m)}},
		"past the end":   {Table: gpt, Partitions: []manifest.Partition{part(1, m, 7*m)}},
		"on the header":  {Table: gpt, Partitions: []manifest.Partition{part(1, 512, m)}},
		"odd start":      {Table: gpt, Partitions: []manifest.Partition{part(1, m+100, m)}},
		"long name":      {Table: gpt, Partitions: []manifest.Partition{{Number: 1, Start: m, Size: m, Type: manifest.TypeLinux, UUID: gpt.UUID, Name: strings.Repeat("x", 37)}}},
		"no id":          {Table: manifest.Table{Type: GPT}},
		"number 129":     {Table: gpt, Partitions: []manifest.Partition{part(129, m, m)}},
		"no PARTUUID":    {Table: gpt, Partitions: []manifest.Partition{{Number: 1, Start: m, Size: m, Type: manifest.TypeLinux}}},
		"free type":      {Table: gpt, Partitions: []manifest.Partition{{Number: 1, Start: m, Size: m, Type: "00000000-0000-0000-0000-000000000000", UUID: gpt.UUID}}},
		"kind":           {Table: manifest.Table{Type: "sun"}},
		"no extended":    {Table: dos, Partitions: []manifest.Partition{mbr(5, m, m, "83")}},
		"hole":           {Table: dos, Partitions: []manifest.Partition{mbr(1, m, 6*m, "05"), mbr(5, 2*m, m, "83"), mbr(7, 4*m, m, "83")}},
		"outside":        {Table: dos, Partitions: []manifest.Partition{mbr(1, m, 2*m, "05"), mbr(5, 4*m, m, "83")}},
		"no room":        {Table: dos, Partitions: []manifest.Partition{mbr(1, m, 6*m, "05"), mbr(5, 2*m, m, "83"), mbr(6, 3*m, m, "83")}},
		"type":           {Table: dos, Partitions: []manifest.Partition{mbr(1, m, m, "ee")}},
		"id of 33 bits":  {Table: manifest.Table{Type: DOS, UUID: "0x100000000"}},
		"odd first byte": {Table: manifest.Table{Type: GPT, UUID: gpt.UUID, FirstLBA: 100}},
	} {
		if err := l.Write(image(8*m), 8*m, 512); err == nil {
			t.Errorf("%s: written", name)
		}
	}
}

// A disk of more than 2 TiB: 32 bits of the protective entry are full.
func TestProtectiveOfLargeDisk(t *testing.T) {
	b := protectiveMBR(8<<30, 512, false)
	if got := le.Uint32(b[entryOffset+12:]); got != 0xffffffff {
		t.Errorf("size is %#x", got)
	}
}

// small is a disk of 40 sectors with a GPT of four entries.
func small(t testing.TB) []byte {
	l := &Label{
		Table: manifest.Table{Type: GPT, UUID: gptLabel().Table.UUID, FirstLBA: 3 * 512, LastLBA: 37 * 512, Entries: 4},
		Partitions: []manifest.Partition{
			{Number: 2, Start: 3 * 512, Size: 512, Type: manifest.TypeLinux, UUID: "11111111-2222-4333-8444-555555555501", Name: "ä"},
			{Number: 4, Start: 8 * 512, Size: 4096, Type: manifest.TypeLinux, UUID: "11111111-2222-4333-8444-555555555502"},
		},
	}
	m := image(40 * 512)
	if err := l.Write(m, int64(len(m)), 512); err != nil {
		t.Fatal(err)
	}
	return m
}

// seal makes the checksums right, so that the fuzzer reaches what lies behind
// them.
func seal(b []byte, sector int) {
	if len(b) < 8*sector {
		return
	}
	h := b[sector:]
	at, n := int(le.Uint64(h[72:])), int(le.Uint32(h[80:]))*int(le.Uint32(h[84:]))
	if at >= 0 && n >= 0 && at < len(b)/sector && n <= len(b)-at*sector {
		le.PutUint32(h[88:], crc32.ChecksumIEEE(b[at*sector:][:n]))
	}
	if size := int(le.Uint32(h[12:])); size >= 20 && size <= sector {
		copy(h[16:20], []byte{0, 0, 0, 0})
		le.PutUint32(h[16:], crc32.ChecksumIEEE(h[:size]))
	}
}

func FuzzRead(f *testing.F) {
	f.Add(small(f), false)
	chain := &Label{Table: dosLabel().Table, Partitions: []manifest.Partition{
		{Number: 1, Start: 512, Size: 512, Type: "83"}, {Number: 2, Start: 1024, Size: 512 * 20, Type: "05"},
		{Number: 5, Start: 2048, Size: 512, Type: "83"}, {Number: 6, Start: 4096, Size: 512, Type: "83"},
	}}
	m := image(40 * 512)
	if err := chain.Write(m, int64(len(m)), 512); err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(m), false)
	f.Add([]byte(m[:20*512]), true)
	f.Fuzz(func(t *testing.T, b []byte, big bool) {
		sector := int64(512)
		if big {
			sector = 4096
		}
		b = bytes.Clone(b)
		seal(b, int(sector))
		l, err := Read(bytes.NewReader(b), int64(len(b)), sector)
		if err != nil {
			return
		}
		// What was believed can be written and reads the same.
		m := image(len(b))
		if err := l.Write(m, int64(len(b)), sector); err != nil {
			return // a type of 0xee, no room for a record, no room for the backup
		}
		again, err := Read(bytes.NewReader(m), int64(len(b)), sector)
		if err != nil || !reflect.DeepEqual(again.Partitions, l.Partitions) && len(l.Warnings) == 0 {
			t.Errorf("read %+v, written and read again %+v, %v", l, again, err)
		}
	})
}
