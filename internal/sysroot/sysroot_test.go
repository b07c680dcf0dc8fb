package sysroot

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"golang.org/x/sys/unix"
)

// both runs a test with openat2 and with the walk for older kernels.
func both(t *testing.T, test func(t *testing.T, r *Root, outside string)) {
	for name, walk := range map[string]bool{"kernel": false, "walk": true} {
		t.Run(name, func(t *testing.T) {
			top := t.TempDir()
			outside := filepath.Join(top, "outside")
			root := filepath.Join(top, "root")
			for _, d := range []string{outside, root + "/usr/lib/x", root + "/etc/alternatives", root + "/deep/er"} {
				if err := os.MkdirAll(d, 0755); err != nil {
					t.Fatal(err)
				}
			}
			put(t, outside+"/secret", "outside")
			put(t, root+"/usr/lib/x/f", "inside")
			put(t, root+"/secret", "root's own")
			link(t, "usr/lib", root+"/lib")
			link(t, "/usr/lib", root+"/abs")
			link(t, "../../../../outside", root+"/deep/er/climb")
			link(t, outside, root+"/away")
			link(t, "loop", root+"/loop")
			link(t, "/secret", root+"/etc/tosecret")
			link(t, "new/../../nothing", root+"/etc/dangling")
			link(t, "alternatives/awk", root+"/etc/awk")
			link(t, "../../usr/lib/x/f", root+"/etc/alternatives/awk")
			r, err := Open(root)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { r.Close() })
			r.walk.Store(walk)
			test(t, r, outside)
			if got, _ := os.ReadFile(outside + "/secret"); string(got) != "outside" {
				t.Errorf("the file outside the root now holds %q", got)
			}
			if names, _ := os.ReadDir(outside); len(names) != 1 {
				t.Errorf("something was made outside the root: %v", names)
			}
		})
	}
}

func put(t *testing.T, path, data string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(data), 0644); err != nil {
		t.Fatal(err)
	}
}

func link(t *testing.T, target, path string) {
	t.Helper()
	if err := os.Symlink(target, path); err != nil {
		t.Fatal(err)
	}
}

func TestReadFollowsLinksBelowTheRoot(t *testing.T) {
	both(t, func(t *testing.T, r *Root, outside string) {
		for _, c := range []struct {
			name, want string
			err        error
		}{
			{"usr/lib/x/f", "inside", nil},
			{"/usr//lib/./x/f", "inside", nil},
			{"lib/x/f", "inside", nil},
			{"abs/x/f", "inside", nil},
			{"lib/../lib/x/f", "inside", nil},        // ".." after the link: /usr/lib
			{"lib/../../usr/lib/x/f", "inside", nil}, // never above the root
			{"../../../secret", "root's own", nil},
			{"etc/tosecret", "root's own", nil},
			{"etc/awk", "inside", nil},
			{"deep/er/climb/secret", "", unix.ENOENT},
			{"away/secret", "", unix.ENOENT},
			{"loop", "", unix.ELOOP},
			{"loop/x", "", unix.ELOOP},
			{"usr/lib/x/f/y", "", unix.ENOTDIR},
			{"nothing", "", unix.ENOENT},
			{"", "", unix.EISDIR},
			{"/", "", unix.EISDIR},
			{"a\x00b", "", unix.EINVAL},
		} {
			got, err := r.ReadFile(c.name)
			if string(got) != c.want || !errors.Is(err, c.err) {
				t.Errorf("ReadFile(%q) = %q, %v; want %q, %v", c.name, got, err, c.want, c.err)
			}
		}
	})
}

func TestNoLinks(t *testing.T) {
	both(t, func(t *testing.T, r *Root, outside string) {
		for name, want := range map[string]error{
			"usr/lib": nil, "": nil, "lib": unix.ELOOP, "lib/x": unix.ELOOP, "abs/x": unix.ELOOP, "away": unix.ELOOP, "nothing": unix.ENOENT,
		} {
			d, err := r.OpenDir(name, NoLinks)
			if !errors.Is(err, want) {
				t.Errorf("OpenDir(%q, NoLinks): %v, want %v", name, err, want)
			}
			if err == nil {
				d.Close()
			}
		}
		f, err := r.OpenFile("etc/awk", unix.O_PATH|NoLinks, 0)
		if !errors.Is(err, unix.ELOOP) {
			t.Errorf("a link opened by O_PATH|NoLinks: %v %v", f, err)
		}
	})
}

func TestResolve(t *testing.T) {
	both(t, func(t *testing.T, r *Root, outside string) {
		for name, want := range map[string]string{
			"lib/x/f": "/usr/lib/x/f", "/": "/", "abs": "/usr/lib", "lib/..": "/usr", "../..": "/", "etc/awk": "/usr/lib/x/f",
		} {
			got, err := r.Resolve(name)
			if err != nil || got != want {
				t.Errorf("Resolve(%q) = %q, %v; want %q", name, got, err, want)
			}
		}
		if got, err := r.Host("abs/x"); err != nil || got != r.Path()+"/usr/lib/x" {
			t.Errorf("Host: %q, %v", got, err)
		}
		if got, err := r.Resolve("away"); !errors.Is(err, unix.ENOENT) {
			t.Errorf("Resolve of a link that leads out: %q, %v", got, err)
		}
	})
}

func TestWrite(t *testing.T) {
	both(t, func(t *testing.T, r *Root, outside string) {
		check := func(name, at string, mode uint32) {
			t.Helper()
			if err := r.WriteFile(name, []byte("new"), 0640); err != nil {
				t.Errorf("WriteFile(%q): %v", name, err)
				return
			}
			var st unix.Stat_t
			if err := unix.Lstat(r.Path()+at, &st); err != nil || st.Mode != unix.S_IFREG|mode {
				t.Errorf("after WriteFile(%q), %s: mode %o, %v; want %o", name, at, st.Mode, err, mode)
			}
			if b, _ := os.ReadFile(r.Path() + at); string(b) != "new" {
				t.Errorf("after WriteFile(%q), %s holds %q", name, at, b)
			}
		}
		check("etc/fresh", "/etc/fresh", 0640)
		if err := os.Chmod(r.Path()+"/usr/lib/x/f", 0751); err != nil {
			t.Fatal(err)
		}
		check("etc/awk", "/usr/lib/x/f", 0751)
		check("etc/tosecret", "/secret", 0644)
		if to, _ := os.Readlink(r.Path() + "/etc/awk"); to != "alternatives/awk" {
			t.Errorf("the link became %q", to)
		}
		for name, want := range map[string]error{"away/secret": unix.ENOENT, "loop": unix.ELOOP, "usr": unix.EISDIR, "etc/dangling": unix.ENOENT, "..": unix.EINVAL, "no/dir": unix.ENOENT} {
			if err := r.WriteFile(name, []byte("x"), 0600); !errors.Is(err, want) {
				t.Errorf("WriteFile(%q): %v, want %v", name, err, want)
			}
		}
		left := errors.New("no more")
		if err := r.Write("secret", 0600, func(io.Writer) error { return left }); !errors.Is(err, left) {
			t.Errorf("Write with a fill that fails: %v", err)
		}
		if b, _ := os.ReadFile(r.Path() + "/secret"); string(b) != "new" {
			t.Errorf("a failed Write changed the file to %q", b)
		}
		filepath.WalkDir(r.Path(), func(p string, _ fs.DirEntry, _ error) error {
			if strings.Contains(p, ".lifeboat-") {
				t.Errorf("temporary file left: %s", p)
			}
			return nil
		})
	})
}

func TestWriteKeepsAttributes(t *testing.T) {
	both(t, func(t *testing.T, r *Root, outside string) {
		if err := unix.Setxattr(r.Path()+"/secret", "user.mark", []byte("kept"), 0); err != nil {
			t.Fatalf("the test needs a filesystem with user attributes for TMPDIR: %v", err)
		}
		if err := r.WriteFile("etc/tosecret", []byte("new"), 0600); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 16)
		n, err := unix.Getxattr(r.Path()+"/secret", "user.mark", b)
		if err != nil || string(b[:n]) != "kept" {
			t.Errorf("attribute after WriteFile: %q, %v", b[:max(n, 0)], err)
		}
	})
}

func TestMakeAndRemove(t *testing.T) {
	both(t, func(t *testing.T, r *Root, outside string) {
		old := unix.Umask(077)
		defer unix.Umask(old)
		for _, step := range []struct {
			name string
			err  error
			want error
		}{
			{"MkdirAll through a link", r.MkdirAll("lib/modules/6.1", 0755), nil},
			{"again", r.MkdirAll("lib/modules/6.1", 0755), nil},
			{"MkdirAll over a file", r.MkdirAll("secret/x", 0755), unix.ENOTDIR},
			{"MkdirAll through a link that leads out", r.MkdirAll("away/x", 0755), unix.EEXIST},
			{"Mkdir that exists", r.Mkdir("usr", 0755), unix.EEXIST},
			{"Mkdir sticky", r.Mkdir("tmp", 01777), nil},
			{"Symlink new", r.Symlink("/run/x", "etc/l"), nil},
			{"Symlink replaced", r.Symlink("/run/y", "etc/l"), nil},
			{"Symlink over a link to a directory", r.Symlink("usr/lib64", "lib"), nil},
			{"Symlink over a directory", r.Symlink("x", "usr"), unix.EISDIR},
			{"Link", r.Link("secret", "etc/second"), nil},
			{"Rename", r.Rename("etc/second", "etc/third"), nil},
			{"Remove a link", r.Remove("away"), nil},
			{"Remove a full directory", r.Remove("usr"), unix.ENOTEMPTY},
			{"RemoveAll with links inside", r.RemoveAll("deep"), nil},
			{"RemoveAll of nothing", r.RemoveAll("deep"), nil},
			{"RemoveAll of the root", r.RemoveAll("/"), unix.EINVAL},
		} {
			if !errors.Is(step.err, step.want) {
				t.Errorf("%s: %v, want %v", step.name, step.err, step.want)
			}
		}
		if to, err := r.Readlink("etc/l"); to != "/run/y" || err != nil {
			t.Errorf("Readlink: %q, %v", to, err)
		}
		if in, err := r.Stat("usr/lib/modules/6.1"); err != nil || in.Raw.Mode != unix.S_IFDIR|0755 {
			t.Errorf("made directory: %+v, %v", in, err)
		}
		if in, err := r.Lstat("tmp"); err != nil || in.Mode() != fs.ModeDir|fs.ModeSticky|0777 {
			t.Errorf("sticky directory: %v, %v", in.Mode(), err)
		}
		if in, err := r.Lstat("etc/third"); err != nil || in.Raw.Nlink != 2 {
			t.Errorf("hard link: %+v, %v", in, err)
		}
	})
}

func TestFS(t *testing.T) {
	both(t, func(t *testing.T, r *Root, outside string) {
		for _, l := range []string{"loop", "away", "deep/er/climb", "etc/dangling", "abs", "lib", "etc/awk", "etc/tosecret"} {
			os.Remove(r.Path() + "/" + l)
		}
		if err := fstest.TestFS(r.FS(), "usr/lib/x/f", "secret"); err != nil {
			t.Error(err)
		}
	})
}

func TestReadlinkLong(t *testing.T) {
	both(t, func(t *testing.T, r *Root, outside string) {
		long := string(bytes.Repeat([]byte("x/"), 2000))
		link(t, long, r.Path()+"/long")
		if got, err := r.Readlink("long"); got != long || err != nil {
			t.Errorf("a target of %d bytes came back with %d, %v", len(long), len(got), err)
		}
	})
}

// FuzzWalk checks that the walk for older kernels answers as the kernel does.
func FuzzWalk(f *testing.F) {
	for _, s := range []string{"lib/x/f", "../lib", "abs/../x", "loop/", "usr/lib/x/f/", "etc/awk/", ".", "lib/.", "//", "deep/er/climb/../.."} {
		f.Add(s)
	}
	root := f.TempDir()
	os.MkdirAll(root+"/usr/lib/x", 0755)
	os.MkdirAll(root+"/deep/er", 0755)
	os.WriteFile(root+"/usr/lib/x/f", nil, 0644)
	for name, to := range map[string]string{"lib": "usr/lib", "abs": "/usr/lib/", "loop": "loop", "deep/er/climb": "../../../..", "f": "/abs/x/f", "d": "nothing"} {
		os.Symlink(to, root+"/"+name)
	}
	r, err := Open(root)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if strings.IndexByte(name, 0) >= 0 {
			return
		}
		for _, flags := range []int{unix.O_PATH, unix.O_PATH | unix.O_NOFOLLOW, unix.O_PATH | NoLinks} {
			strict := flags&NoLinks != 0
			a, errA := r.openKernel(name, flags&^NoLinks|unix.O_CLOEXEC, 0, strict)
			b, errB := r.openWalk(name, flags&^NoLinks|unix.O_CLOEXEC, 0, strict)
			if (errA == nil) != (errB == nil) {
				t.Fatalf("%q %x: kernel %v, walk %v", name, flags, errA, errB)
			}
			if errA != nil {
				continue
			}
			var sa, sb unix.Stat_t
			unix.Fstat(a, &sa)
			unix.Fstat(b, &sb)
			unix.Close(a)
			unix.Close(b)
			if sa.Ino != sb.Ino {
				t.Fatalf("%q %x: kernel and walk reach different files", name, flags)
			}
		}
	})
}
