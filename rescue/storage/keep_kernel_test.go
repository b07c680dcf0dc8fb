//go:build kernel

package storage

import (
	"encoding/json"
	"os"
	"testing"

	"lifeboat/manifest"
	"lifeboat/tests/kernel/inguest"
)

// keptAt is a place on the second spare disk, where a graph survives a reset.
const keptAt = 1 << 30

func keepGraph(t *testing.T, b *builder) {
	t.Helper()
	_, _, other := wanted(t, inguest.Find(t))
	data, err := json.Marshal(b.g)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(other.Path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(append(data, 0), keptAt); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
}

func keptGraph(t *testing.T, disks []inguest.Disk) *builder {
	t.Helper()
	_, _, other := wanted(t, inguest.Find(t))
	f, err := os.Open(other.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	buf := make([]byte, 1<<20)
	if _, err := f.ReadAt(buf, keptAt); err != nil {
		t.Fatal(err)
	}
	b := &builder{t: t, disks: map[manifest.ID]inguest.Disk{}}
	for i, c := range buf {
		if c == 0 {
			if err := json.Unmarshal(buf[:i], &b.g); err != nil {
				t.Fatal(err)
			}
			break
		}
	}
	for _, d := range disks {
		b.disks[manifest.ID("disk:"+d.Serial)] = d
	}
	return b
}
