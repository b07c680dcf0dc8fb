// Package inguest hands the blank disks of a kernel-test machine to the tests
// that run in it.
// Tests only: part of tests.
package inguest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// DisksEnv holds the serials of the blank disks, comma separated. It is set
// only inside the machines of make test-kernel.
const DisksEnv = "LIFEBOAT_KERNEL_DISKS"

// serialFiles are where the kernel shows the serial of a virtio, NVMe or SCSI
// disk.
var serialFiles = []string{"serial", "device/serial", "device/vpd_pg80"}

func serial(block string) string {
	for _, f := range serialFiles {
		b, err := os.ReadFile(filepath.Join("/sys/block", block, f))
		if err == nil && f == "device/vpd_pg80" && len(b) > 4 {
			b = b[4:]
		}
		if s := strings.TrimSpace(strings.Trim(string(b), "\x00")); err == nil && s != "" {
			return s
		}
	}
	return ""
}

// Disk is a disk that belongs to the test alone.
type Disk struct {
	Path   string // /dev/vda; not the same in every boot
	Name   string // vda
	Serial string
	Bytes  int64
	Sector int64 // logical sector in bytes
}

// Find returns the disks of the machine in the order of DisksEnv, with
// whatever is on them.
func Find(t testing.TB) []Disk {
	t.Helper()
	want := os.Getenv(DisksEnv)
	if want == "" {
		t.Fatal("this test changes disks and runs only inside the machines of: make test-kernel")
	}
	blocks, err := os.ReadDir("/sys/block")
	if err != nil {
		t.Fatal(err)
	}
	bySerial := map[string]string{}
	for _, b := range blocks {
		if s := serial(b.Name()); s != "" {
			bySerial[s] = b.Name()
		}
	}
	var out []Disk
	for s := range strings.SplitSeq(want, ",") {
		name := bySerial[s]
		if name == "" {
			t.Fatalf("no disk with serial %s among %v", s, bySerial)
		}
		sectors := number(t, name, "size")
		out = append(out, Disk{Path: "/dev/" + name, Name: name, Serial: s, Bytes: sectors * 512, Sector: number(t, name, "queue/logical_block_size")})
	}
	return out
}

func number(t testing.TB, block, file string) int64 {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("/sys/block", block, file))
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// Disks returns the first n disks, every byte zero and nothing open on them,
// whatever an earlier test left behind.
func Disks(t testing.TB, n int) []Disk {
	t.Helper()
	all := Find(t)
	if len(all) < n {
		t.Fatalf("the machine has %d blank disks, the test wants %d", len(all), n)
	}
	Release(t)
	for _, d := range all {
		if err := zero(d); err != nil {
			t.Fatalf("%s is not released: %v", d.Path, err)
		}
	}
	return all[:n]
}

// zero fills a disk with zeros and has the kernel forget its partitions.
func zero(d Disk) error {
	fd, err := unix.Open(d.Path, unix.O_RDWR|unix.O_EXCL|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	// In pieces: one request for everything holds the queue for seconds.
	for off := int64(0); off < d.Bytes; off += 256 << 20 {
		r := [2]uint64{uint64(off), uint64(min(256<<20, d.Bytes-off))}
		if err := ioctlRange(fd, unix.BLKZEROOUT, &r); err != nil {
			return fmt.Errorf("writing zeros: %w", err)
		}
	}
	if err := unix.Fsync(fd); err != nil {
		return err
	}
	return unix.IoctlSetInt(fd, unix.BLKRRPART, 0)
}

// Release unmounts and takes down every layer that stands on any disk, with
// the standard tools.
func Release(t testing.TB) {
	t.Helper()
	b, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	slices.Reverse(lines)
	for _, l := range lines {
		if f := strings.Fields(l); strings.HasPrefix(f[0], "/dev/") {
			_ = unix.Unmount(strings.ReplaceAll(f[1], `\040`, " "), 0)
		}
	}
	for _, argv := range [][]string{{"swapoff", "-a"}, {"vgchange", "-an"}, {"dmsetup", "remove_all", "--force"}, {"mdadm", "--stop", "--scan"}, {"losetup", "-D"}} {
		if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
			t.Logf("%v: %v: %s", argv, err, out)
		}
	}
}
