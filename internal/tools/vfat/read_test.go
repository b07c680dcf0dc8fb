package vfat

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"reflect"
	"testing"

	"lifeboat/manifest"
)

// recorded are the first 900 KiB of filesystems made by mkfs.vfat 4.2.
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

func TestReadRecorded(t *testing.T) {
	for name, want := range map[string]struct {
		fs   manifest.FS
		size int64
	}{
		"fat32.gz": {manifest.FS{Type: "vfat", UUID: "1234-ABCD", Label: "EFI SYS",
			VFAT: &manifest.VFAT{Bits: 32, SectorSize: 512, ClusterSize: 512, Reserved: 32, FATs: 2, Media: 0xf8, CHS: &manifest.CHS{Heads: 8, Sectors: 32, Drive: 0x80}}}, 40 << 20},
		"fat16.gz": {manifest.FS{Type: "vfat", UUID: "15C7-38A2", Label: "BOOT",
			VFAT: &manifest.VFAT{Bits: 16, SectorSize: 512, ClusterSize: 2048, Reserved: 4, FATs: 2, RootEntries: 512, Media: 0xf8, CHS: &manifest.CHS{Heads: 8, Sectors: 32, Drive: 0x80}}}, 64 << 20},
		"fat12.gz": {manifest.FS{Type: "vfat", UUID: "15C7-2DA1",
			VFAT: &manifest.VFAT{Bits: 12, SectorSize: 512, ClusterSize: 2048, Reserved: 4, FATs: 2, RootEntries: 512, Media: 0xf8, CHS: &manifest.CHS{Heads: 2, Sectors: 32, Drive: 0x80}}}, 8 << 20},
	} {
		got, size, err := parse(bytes.NewReader(recorded(t, name)))
		if err != nil {
			t.Fatal(name, err)
		}
		if !reflect.DeepEqual(*got, want.fs) || size != want.size {
			t.Errorf("%s: %d bytes, not %d\n got %+v %+v\nwant %+v %+v", name, size, want.size, got, got.VFAT, want.fs, want.fs.VFAT)
		}
	}
}

// A partition table's sector and a ring in the allocation table.
func TestReadNonsense(t *testing.T) {
	b := make([]byte, 512)
	copy(b[510:], "\x55\xaa")
	if _, _, err := parse(bytes.NewReader(b)); !errors.Is(err, ErrNone) {
		t.Errorf("a sector with nothing but the mark: %v", err)
	}
	fat := recorded(t, "fat32.gz")
	v, err := parseBoot(fat[:512])
	if err != nil {
		t.Fatal(err)
	}
	root := (v.reserved + v.fats*v.fatSectors) * v.sector
	for i := root; i < root+512; i += 32 {
		fat[i] = 0xe5 // every entry deleted: the search goes on along the chain
	}
	binary.LittleEndian.PutUint32(fat[v.reserved*v.sector+2*4:], 2)
	fs, _, err := parse(bytes.NewReader(fat))
	if err != nil || fs.Label != "EFI SYS" {
		t.Errorf("a ring: %v, label of the boot sector %q", err, fs.Label)
	}
}

func FuzzParse(f *testing.F) {
	for _, n := range []string{"fat12.gz", "fat16.gz"} {
		f.Add(recorded(f, n)[:32<<10])
	}
	f.Add(recorded(f, "fat32.gz")[:4096])
	f.Fuzz(func(t *testing.T, b []byte) {
		fs, size, err := parse(bytes.NewReader(b))
		if err == nil && (fs.VFAT == nil || size <= 0) {
			t.Errorf("%+v, %d bytes and no error", fs, size)
		}
	})
}
