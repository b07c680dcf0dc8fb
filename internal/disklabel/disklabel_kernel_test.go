//go:build kernel

package disklabel

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lifeboat/manifest"
	"lifeboat/tests/kernel/inguest"
)

// Tables come and go, and every time the nodes that Commit returns can be
// opened exclusively and written at once, while a program keeps the machine
// busy. The kernel shows exactly what was written; sfdisk says the same.
func TestCommitAgainAndAgain(t *testing.T) {
	disks := inguest.Disks(t, 6)
	stop := make(chan struct{})
	var hog sync.WaitGroup
	hog.Go(func() {
		for n := 0; ; n++ {
			select {
			case <-stop:
				return
			default:
			}
		}
	})
	defer func() { close(stop); hog.Wait() }()
	const mib = 1 << 20
	for round := range 60 {
		for _, d := range disks[3:] { // virtio, SCSI, NVMe of 4096
			l := &Label{Table: manifest.Table{Type: GPT, UUID: fmt.Sprintf("3F0B5C1D-9A3E-4C5B-8F6A-%012d", round)}}
			for n := range 1 + round%4 {
				l.Partitions = append(l.Partitions, manifest.Partition{Number: 1 + 3*n + round%2, Start: int64(1+10*n+round%3) * mib, Size: int64(1+round%9) * mib,
					Type: manifest.TypeLinux, UUID: fmt.Sprintf("11111111-2222-4333-8444-%06d%06d", round, n)})
			}
			if round%5 == 4 {
				l = &Label{Table: manifest.Table{Type: DOS, UUID: fmt.Sprintf("0x%08x", round)}, Partitions: []manifest.Partition{
					{Number: 1, Start: mib, Size: mib, Type: "83", Active: true}, {Number: 4, Start: 4 * mib, Size: 100 * mib, Type: "05"},
					{Number: 5, Start: 6 * mib, Size: 2 * mib, Type: "83"}, {Number: 6, Start: 9 * mib, Size: 3 * mib, Type: "82"},
				}}
			}
			nodes, err := l.Commit(context.Background(), d.Path)
			if err != nil {
				t.Fatalf("round %d: %v", round, err)
			}
			if len(nodes) != len(l.Partitions) {
				t.Fatalf("round %d: nodes %v for %d partitions", round, nodes, len(l.Partitions))
			}
			for _, p := range l.Partitions {
				if isExtended(p.Type) {
					continue
				}
				use(t, nodes[p.Number], d.Path, p)
			}
		}
	}
	for _, d := range disks[3:] {
		out, err := exec.Command("sfdisk", "--verify", d.Path).CombinedOutput()
		if err != nil || !strings.Contains(string(out), "No errors detected") {
			t.Errorf("sfdisk --verify: %v\n%s", err, out)
		}
	}
}

// use writes through the partition's node and reads through the disk.
func use(t *testing.T, node, disk string, p manifest.Partition) {
	t.Helper()
	f, err := os.OpenFile(node, os.O_RDWR|unix.O_EXCL, 0)
	if err != nil {
		t.Fatalf("partition %d: %v", p.Number, err)
	}
	defer f.Close()
	want := []byte(fmt.Sprintf("partition %d of %s at %d", p.Number, disk, p.Start))
	block := append(want, make([]byte, 4096-len(want))...)
	if _, err := f.WriteAt(block, p.Size-4096); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	d, err := os.Open(disk)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	fresh(d)
	got := make([]byte, 4096)
	if _, err := d.ReadAt(got, p.Start+p.Size-4096); err != nil || string(got) != string(block) {
		t.Fatalf("%s at %d holds %.40q, %v", disk, p.Start+p.Size-4096, got, err)
	}
}

// fresh drops what the kernel remembers of a disk: partition and whole disk
// have separate memories.
func fresh(f *os.File) { _ = unix.IoctlSetInt(int(f.Fd()), unix.BLKFLSBUF, 0) }

// A table is not written to a disk that is in use, or whose partition is.
func TestCommitBusy(t *testing.T) {
	d := inguest.Disks(t, 1)[0]
	l := &Label{Table: manifest.Table{Type: GPT, UUID: gptLabel().Table.UUID}, Partitions: []manifest.Partition{
		{Number: 1, Start: 1 << 20, Size: 8 << 20, Type: manifest.TypeLinux, UUID: "11111111-2222-4333-8444-555555555501"}}}
	nodes, err := l.Commit(context.Background(), d.Path)
	if err != nil {
		t.Fatal(err)
	}
	before, err := ReadDevice(d.Path)
	if err != nil {
		t.Fatal(err)
	}
	other := *l
	other.Table.UUID = "3F0B5C1D-9A3E-4C5B-8F6A-000000000000"
	ctx, cancel := context.WithTimeout(context.Background(), time.Second) // nobody lets go
	defer cancel()
	for _, path := range []string{d.Path, nodes[1]} {
		f, err := os.OpenFile(path, os.O_RDWR|unix.O_EXCL, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := other.Commit(ctx, d.Path); !errors.Is(err, unix.EBUSY) {
			t.Errorf("%s is held: %v", path, err)
		}
		if err := Forget(ctx, d.Path); !errors.Is(err, unix.EBUSY) {
			t.Errorf("%s is held: %v", path, err)
		}
		f.Close()
	}
	// Open without holding, as a program that looks at partitions.
	f, err := os.Open(nodes[1])
	if err != nil {
		t.Fatal(err)
	}
	// A program that is done soon is waited for.
	go func() {
		time.Sleep(300 * time.Millisecond)
		f.Close()
	}()
	if _, err := l.Commit(context.Background(), d.Path); err != nil {
		t.Errorf("a partition was open for a moment: %v", err)
	}
	if after, err := ReadDevice(d.Path); err != nil || after.Table.UUID != before.Table.UUID {
		t.Errorf("the table is %+v, %v", after, err)
	}
	if err := Forget(context.Background(), d.Path); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(nodes[1]); !os.IsNotExist(err) {
		t.Errorf("%s is still there: %v", nodes[1], err)
	}
}
