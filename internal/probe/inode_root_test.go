//go:build root

package probe

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lifeboat/internal/blockdev"
)

// mounted makes an ext4 in a file and mounts it; everything goes at the end.
func mounted(t *testing.T, mkfs ...string) (dir, dev string) {
	t.Helper()
	tmp := t.TempDir()
	img := filepath.Join(tmp, "img")
	if err := os.WriteFile(img, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(img, 320<<20); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(mkfs[0], append(mkfs[1:], img)...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %v: %s", mkfs, err, out)
	}
	out, err := exec.Command("losetup", "-f", "--show", img).Output()
	if err != nil {
		t.Fatal("losetup (util-linux) is needed: ", err)
	}
	dev = strings.TrimSpace(string(out))
	t.Cleanup(func() { _ = exec.Command("losetup", "-d", dev).Run() })
	dir = filepath.Join(tmp, "mnt")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(dev, dir, strings.TrimPrefix(filepath.Base(mkfs[0]), "mkfs."), 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir, dev
}

// TestCovered reads the directory under a mount by both ways; stat and
// getfattr judge before it is covered.
func TestCovered(t *testing.T) {
	dir, _ := mounted(t, "mkfs.ext4", "-q")
	point := filepath.Join(dir, "a b")
	for _, c := range [][]string{
		{"mkdir", point}, {"chown", "12:34", point}, {"chmod", "3751", point},
		{"setfattr", "-n", "user.note", "-v", "under the mount", point}, {"setfacl", "-m", "u:55:rx", point},
	} {
		if out, err := exec.Command(c[0], c[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v: %s", c, err, out)
		}
	}
	stat, err := exec.Command("stat", "-c", "%a %u %g", point).Output()
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", point, "tmpfs", 0, "mode=0700"); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(point, unix.MNT_DETACH)
	v, err := blockdev.Live().Scan()
	if err != nil {
		t.Fatal(err)
	}
	r := &Reading{View: v, opt: Options{}.defaults()}
	real, err := filepath.EvalSymlinks(point)
	if err != nil {
		t.Fatal(err)
	}
	in, err := r.Beneath(real)
	if err != nil {
		t.Fatal(err)
	}
	old, err := byBind(filepath.Dir(real), filepath.Base(real))
	if err != nil {
		t.Fatal(err)
	}
	for name, i := range map[string]string{"open_tree": in.Mode, "bind": old.Mode} {
		// An ACL's mask shows as the group's bits.
		if want := strings.Fields(string(stat))[0]; i != want {
			t.Errorf("%s: mode %s, stat says %s", name, i, want)
		}
	}
	for _, i := range []struct {
		uid, gid uint32
		x        map[string][]byte
	}{{in.UID, in.GID, in.Xattrs}, {old.UID, old.GID, old.Xattrs}} {
		if i.uid != 12 || i.gid != 34 || string(i.x["user.note"]) != "under the mount" || len(i.x["system.posix_acl_access"]) == 0 {
			t.Errorf("%+v", i)
		}
	}
	top, err := ReadInode(real)
	if err != nil || top.Mode != "0700" {
		t.Errorf("above: %+v, %v", top, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "a b")); err != nil {
		t.Error(err)
	}
	// Nothing of the second way may stay in our own namespace.
	if after, err := blockdev.Live().Scan(); err != nil || len(after.Mounts) != len(v.Mounts) {
		t.Errorf("%d mounts before, %d after (%v)", len(v.Mounts), len(after.Mounts), err)
	}
}

// TestLook reads the mark of a root, and writes nothing at all.
func TestLook(t *testing.T) {
	for _, mkfs := range [][]string{{"mkfs.ext4", "-q"}, {"mkfs.xfs", "-q"}} {
		dir, dev := mounted(t, mkfs...)
		for name, text := range map[string]string{
			"etc/os-release": "ID=debian\n", "etc/hostname": "alpha\n", "etc/machine-id": "0123456789abcdef0123456789abcdef\n",
			"etc/lifeboat/recovered.json": `{"order":"order-7","host":"alpha"}`, "var/log/wtmp": "",
		} {
			at := filepath.Join(dir, name)
			if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(at, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		future := time.Date(2031, 2, 3, 4, 5, 6, 0, time.UTC)
		if err := os.Chtimes(filepath.Join(dir, "var/log/wtmp"), future, future); err != nil {
			t.Fatal(err)
		}
		if err := unix.Unmount(dir, 0); err != nil {
			t.Fatal(err)
		}
		before := digest(t, dev)
		m, err := look(dev, strings.TrimPrefix(mkfs[0], "mkfs."))
		if err != nil || m == nil || m.Host != "alpha" || m.MachineID != "0123456789abcdef0123456789abcdef" || m.Order != "order-7" || m.Newest != "2031-02-03T04:05:06Z" || m.Unfinished {
			t.Errorf("%s: %+v", mkfs[0], m)
		}
		if after := digest(t, dev); after != before {
			t.Errorf("%s: looking changed the device", mkfs[0])
		}
	}
	dir, dev := mounted(t, "mkfs.ext4", "-q")
	if err := unix.Unmount(dir, 0); err != nil {
		t.Fatal(err)
	}
	if m, err := look(dev, "ext4"); m != nil || err != nil {
		t.Errorf("an empty filesystem: %+v, %v", m, err)
	}
}

func digest(t *testing.T, dev string) string {
	t.Helper()
	out, err := exec.Command("sha256sum", dev).Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out[:64])
}
