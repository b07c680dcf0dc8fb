//go:build root

package blockdev

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lifeboat/report"
)

// loopDevice makes a loop device that is taken away at the end.
func loopDevice(t *testing.T, size int64) string {
	t.Helper()
	img := filepath.Join(t.TempDir(), "img")
	if err := os.WriteFile(img, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(img, size); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("losetup", "-f", "--show", img).Output()
	if err != nil {
		t.Fatal("losetup (util-linux) is needed: ", err)
	}
	dev := strings.TrimSpace(string(out))
	t.Cleanup(func() { _ = exec.Command("losetup", "-d", dev).Run() })
	return dev
}

func code(err error) string {
	var f *report.Fault
	if errors.As(err, &f) {
		return f.Code
	}
	return ""
}

func TestOpenExclusive(t *testing.T) {
	dev := loopDevice(t, 32<<20)
	s := Live()
	v := scan(t, s)
	d := v.ByNode(dev)
	if d == nil || d.Kind != Loop || d.Bytes != 32<<20 {
		t.Fatalf("%s is %+v", dev, d)
	}
	f, err := s.OpenExclusive(d.DevNo, IdentityOf(d))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.OpenExclusive(d.DevNo, IdentityOf(d)); code(err) != report.CodeDiskBusy {
		t.Errorf("second open: %v", err)
	}
	f.Close()
	id := IdentityOf(d)
	id.Serial, id.Bytes = "S1", 1
	_, err = s.OpenExclusive(d.DevNo, id)
	if code(err) != report.CodeDiskChanged || !strings.Contains(err.Error(), `serial was "S1"`) || !strings.Contains(err.Error(), "size was 1") {
		t.Errorf("other identity: %v", err)
	}
	if _, err := s.OpenExclusive(DevNo{240, 77}, id); code(err) != report.CodeDiskChanged {
		t.Errorf("no device: %v", err)
	}
	if out, err := exec.Command("mkfs.ext4", "-q", dev).CombinedOutput(); err != nil {
		t.Fatalf("mkfs.ext4: %v: %s", err, out)
	}
	at := t.TempDir()
	if err := unix.Mount(dev, at, "ext4", 0, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(at, 0)
	_, err = s.OpenExclusive(d.DevNo, IdentityOf(d))
	if code(err) != report.CodeDiskBusy {
		t.Errorf("mounted: %v", err)
	}
}

// TestWaitPartitionMakesNode: without udev and devtmpfs the node is made as
// soon as sysfs shows the partition, by the right number.
func TestWaitPartitionMakesNode(t *testing.T) {
	s := recordedSystem(t, "mixed")
	real, err := filepath.EvalSymlinks(filepath.Join(s.Sys, "class/block/vda"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	appeared := make(chan error, 1)
	go func() {
		p := filepath.Join(real, "vda9")
		err := os.Mkdir(p, 0o755)
		for n, text := range map[string]string{"start": "4096", "size": "2048", "dev": "254:9", "partition": "9"} {
			err = errors.Join(err, os.WriteFile(filepath.Join(p, n), []byte(text+"\n"), 0o644))
		}
		appeared <- errors.Join(err, os.Symlink(p, filepath.Join(s.Sys, "class/block/vda9")))
	}()
	node, err := s.WaitPartition(ctx, "vda", 9, 4096*512, 2048*512)
	if err != nil {
		t.Fatal(err, <-appeared)
	}
	var st unix.Stat_t
	if err := unix.Stat(node, &st); err != nil || st.Rdev != unix.Mkdev(254, 9) {
		t.Errorf("%s is %d:%d, %v", node, unix.Major(st.Rdev), unix.Minor(st.Rdev), err)
	}
}
