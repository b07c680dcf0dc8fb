//go:build root

package blockdev

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// own gives the test a mount namespace of its own, which ends with its thread.
func own(t *testing.T) {
	t.Helper()
	runtime.LockOSThread() // never unlocked: the thread ends with the test
	must(t, unix.Unshare(unix.CLONE_NEWNS))
	must(t, unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func mounted(t *testing.T, source, target, fstype string, flags uintptr, data string) {
	t.Helper()
	must(t, unix.Mount(source, target, fstype, flags, data))
	t.Cleanup(func() { _ = unix.Unmount(target, unix.MNT_DETACH) })
}

func mkdir(t *testing.T, dir ...string) string {
	t.Helper()
	p := filepath.Join(dir...)
	must(t, os.MkdirAll(p, 0o755))
	return p
}

// threadProc is /proc as this thread sees it: self is the process, whose main
// thread stays in the old namespace.
func threadProc(t *testing.T) System {
	t.Helper()
	s := Live()
	dir := mkdir(t, t.TempDir(), "proc")
	must(t, os.Symlink("/proc/thread-self", filepath.Join(dir, "self")))
	must(t, os.Symlink("/proc/swaps", filepath.Join(dir, "swaps")))
	s.Proc = dir
	return s
}

// TestCarriers: links, bind mounts, overlays and what is mounted over lead to
// the same device; text alone would lead elsewhere.
func TestCarriers(t *testing.T) {
	own(t)
	dev := loopDevice(t, 32<<20)
	if out, err := exec.Command("mkfs.ext4", "-q", dev).CombinedOutput(); err != nil {
		t.Fatalf("mkfs.ext4 (e2fsprogs) is needed: %v %s", err, out)
	}
	top := t.TempDir()
	disk := mkdir(t, top, "disk")
	mounted(t, dev, disk, "ext4", 0, "")
	mkdir(t, disk, "sub", "host")
	mkdir(t, disk, "upper")
	mkdir(t, disk, "work")

	bind := mkdir(t, top, "bind")
	mounted(t, filepath.Join(disk, "sub"), bind, "", unix.MS_BIND, "")
	link := filepath.Join(top, "link")
	must(t, os.Symlink(filepath.Join(bind, "host"), link))
	over := mkdir(t, top, "over")
	opts := "lowerdir=" + mkdir(t, top, "lower") + ",upperdir=" + filepath.Join(disk, "upper") + ",workdir=" + filepath.Join(disk, "work")
	mounted(t, "overlay", over, "overlay", 0, opts)
	node := filepath.Join(top, "node")
	must(t, os.Symlink(dev, node))

	v := scan(t, threadProc(t))
	want := v.ByNode(dev)
	for what, p := range map[string]string{"bind mount": bind, "link to it": link, "file that is not there yet": filepath.Join(link, "a", "b.lba"),
		"overlay": over, "link to a node": node} {
		if d := v.Carriers(p); !containsDevice(d, want) {
			t.Errorf("%s %s lies on %v, not on %s", what, p, d, want.Name)
		}
	}

	held, err := os.Create(filepath.Join(disk, "sub", "host", "archive"))
	must(t, err)
	defer held.Close()
	mounted(t, "tmpfs", disk, "tmpfs", 0, "") // the file's path now leads elsewhere
	v = scan(t, threadProc(t))
	if d := v.Carriers(disk); len(d) != 0 {
		t.Errorf("the tmpfs over it lies on %v", d)
	}
	// The open file is on the loop device still, which lies on the disk of the
	// folder of its image.
	if got, below := v.DisksOfFile(held), v.DisksOfPath(top); strings.Join(got, " ") != strings.Join(below, " ") || len(below) == 0 {
		t.Errorf("the open file lies on %v, its image on %v", got, below)
	}
}

// TestLoopFileInOtherNamespace: sysfs shows the backing file's path as text;
// the loop driver knows on which filesystem it lies when that path leads
// elsewhere by now.
func TestLoopFileInOtherNamespace(t *testing.T) {
	own(t)
	outer := loopDevice(t, 32<<20)
	if out, err := exec.Command("mkfs.ext4", "-q", outer).CombinedOutput(); err != nil {
		t.Fatalf("mkfs.ext4 (e2fsprogs) is needed: %v %s", err, out)
	}
	disk := mkdir(t, t.TempDir(), "disk")
	mounted(t, outer, disk, "ext4", 0, "")
	img := filepath.Join(disk, "img")
	must(t, os.WriteFile(img, make([]byte, 1<<20), 0o600))
	out, err := exec.Command("losetup", "-f", "--show", img).Output()
	must(t, err)
	inner := strings.TrimSpace(string(out))
	t.Cleanup(func() { _ = exec.Command("losetup", "-d", inner).Run() })
	mounted(t, "tmpfs", disk, "tmpfs", 0, "")

	v := scan(t, threadProc(t))
	d := v.FileDevices(v.ByNode(inner))
	if len(d) != 1 || "/dev/"+d[0].Name != outer {
		t.Errorf("the file of %s lies on %v, not on %s", inner, d, outer)
	}
}

// TestLoopOnDevice: a loop device whose backing file is a block device stands
// on that device, and not on what holds its node.
func TestLoopOnDevice(t *testing.T) {
	outer := loopDevice(t, 32<<20)
	out, err := exec.Command("losetup", "-f", "--show", outer).Output()
	must(t, err)
	inner := strings.TrimSpace(string(out))
	t.Cleanup(func() { _ = exec.Command("losetup", "-d", inner).Run() })
	v := scan(t, Live())
	if d := v.FileDevices(v.ByNode(inner)); len(d) != 1 || "/dev/"+d[0].Name != outer {
		t.Errorf("%s stands on %v, not on %s", inner, d, outer)
	}
}
