//go:build root

package archive

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// TestCoveredDirectory: the directory that a filesystem is mounted on has other metadata
// than the filesystem's top. In a target with the same mounts the top must not get what
// belongs to the hidden directory.
func TestCoveredDirectory(t *testing.T) {
	src, boot := t.TempDir(), t.TempDir()
	below := filepath.Join(src, "boot")
	for _, err := range []error{
		os.Mkdir(below, 0o700), unix.Setxattr(below, "trusted.below", []byte("x"), 0), os.Chown(below, 7, 7),
		os.WriteFile(filepath.Join(boot, "kernel"), []byte("k"), 0o600), unix.Chmod(boot, 0o2755), unix.Setxattr(boot, "trusted.top", []byte("y"), 0),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	var file bytes.Buffer
	if _, err := Create(t.Context(), &file, Options{HostID: "h"}, []Source{{Path: "/", At: src}, {Path: "/boot", At: boot}}); err != nil {
		t.Fatal(err)
	}
	target := t.TempDir()
	point := filepath.Join(target, "boot")
	if err := os.Mkdir(point, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", point, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(point, unix.MNT_DETACH) })
	a, err := Open(bytes.NewReader(file.Bytes()), int64(file.Len()))
	if err != nil {
		t.Fatal(err)
	}
	res, err := a.Restore(t.Context(), target, RestoreOptions{})
	if err != nil || res.Problems.Count() != 0 {
		t.Fatal(err, res.Problems.First())
	}
	var st unix.Stat_t
	if err := unix.Stat(point, &st); err != nil || st.Mode&0o7777 != 0o2755 || st.Uid != 0 {
		t.Errorf("the top: mode %o, owner %d, %v", st.Mode&0o7777, st.Uid, err)
	}
	buf := make([]byte, 64)
	if n, err := unix.Getxattr(point, "trusted.below", buf); err == nil {
		t.Errorf("the top has the hidden directory's attribute %q", buf[:n])
	}
	if n, err := unix.Getxattr(point, "trusted.top", buf); err != nil || string(buf[:n]) != "y" {
		t.Errorf("the top lacks its own attribute: %q, %v", buf[:max(n, 0)], err)
	}
}

// TestHiddenFiles: through a detached copy of a mount the files below a runtime mount
// are packed, as they are on the disk.
func TestHiddenFiles(t *testing.T) {
	src := t.TempDir()
	if err := unix.Mount("tmpfs", src, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(src, unix.MNT_DETACH) })
	dev := filepath.Join(src, "dev")
	if err := os.Mkdir(dev, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dev, "hidden"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", dev, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.OpenTree(unix.AT_FDCWD, src, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	var file bytes.Buffer
	at := "/proc/self/fd/" + strconv.Itoa(fd)
	if _, err := Create(t.Context(), &file, Options{}, []Source{{Path: "/", At: at, Bare: true}}); err != nil {
		t.Fatal(err)
	}
	a, err := Open(bytes.NewReader(file.Bytes()), int64(file.Len()))
	if err != nil {
		t.Fatal(err)
	}
	found := false
	if err := a.List(t.Context(), func(e *Entry) error { found = found || e.Path == "/dev/hidden"; return nil }); err != nil {
		t.Fatal(err)
	}
	if !found {
		t.Error("the hidden file is not in the archive")
	}
}
