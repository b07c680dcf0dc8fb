package restore

import (
	"os"
	"path/filepath"
	"testing"

	"lifeboat/manifest"
)

func inode(typ, mode, target string) manifest.Inode {
	return manifest.Inode{Type: typ, Mode: mode, UID: uint32(os.Getuid()), GID: uint32(os.Getgid()), Target: manifest.Bytes(target)}
}

func TestPoints(t *testing.T) {
	root := t.TempDir()
	os.Mkdir(filepath.Join(root, "usr"), 0o755)
	os.Mkdir(filepath.Join(root, "var"), 0o755)
	m := &manifest.Manifest{
		Dirs: []manifest.Dir{{Path: "/tmp", Inode: inode("dir", "1777", "")}, {Path: "/lib", Inode: inode("link", "0777", "usr/lib")},
			{Path: "/var", Inode: inode("dir", "0700", "")}, {Path: "/var/run", Inode: inode("link", "0777", "/run")}, {Path: "/proc", Inode: inode("dir", "0555", "")}},
		Storage: manifest.Storage{Mounts: []manifest.Mount{{Path: "/"}, {Path: "/srv/data", Point: inode("dir", "2750", "")}, {Path: "none"}}},
		LeftOut: []manifest.LeftOut{{Path: "/media/usb"}, {Path: "/media/usb/loop"}},
	}
	made, err := Points(root, m, &m.Storage)
	if err != nil {
		t.Fatal(err)
	}
	if len(made) != 6 {
		t.Errorf("made %v", made)
	}
	for p, want := range map[string]os.FileMode{"tmp": 0o777 | os.ModeSticky, "proc": 0o555, "srv/data": 0o750 | os.ModeSetgid, "var": 0o755, "media/usb": 0o755} {
		st, err := os.Lstat(filepath.Join(root, p))
		if err != nil || st.Mode()&^os.ModeDir != want {
			t.Errorf("%s: %v, %v; want %v", p, st.Mode(), err, want)
		}
	}
	if _, err := os.Lstat(filepath.Join(root, "media/usb/loop")); err == nil {
		t.Error("the point of a mount upon a mount was made on the disk")
	}
	if l, _ := os.Readlink(filepath.Join(root, "var/run")); l != "/run" {
		t.Errorf("/var/run leads to %q", l)
	}
	if made, err := Points(root, m, &m.Storage); err != nil || len(made) != 0 {
		t.Errorf("a second time made %v, %v", made, err)
	}
}

// TestPointsStayInside: a link in the restored tree must not lead a write to
// the rescue system.
func TestPointsStayInside(t *testing.T) {
	root, outside := t.TempDir(), t.TempDir()
	os.Symlink(outside, filepath.Join(root, "srv"))
	m := &manifest.Manifest{Dirs: []manifest.Dir{{Path: "/srv/made", Inode: inode("dir", "0755", "")}}}
	_, _ = Points(root, m, &m.Storage)
	if _, err := os.Lstat(filepath.Join(outside, "made")); err == nil {
		t.Error("a directory was made outside the root")
	}
}
