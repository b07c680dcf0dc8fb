package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestEveryKindComesBack(t *testing.T) {
	src := t.TempDir()
	everyKind(t, src)
	b := pack(t, src)
	a := open(t, b)
	must(t, a.Verify(context.Background(), true, nil))
	to := restore(t, a, RestoreOptions{})
	judge(t, b, src, to)
	same(t, src, to)
	for _, f := range []string{"sparse", "sparse-tail", "sparse-big", "all-hole"} {
		if x, y := blocks(t, src+"/"+f), blocks(t, to+"/"+f); y > x+64 {
			t.Errorf("%s takes %d blocks where it took %d", f, y, x)
		}
	}
	if x := blocks(t, to+"/zeros"); x < 6<<20/512 {
		t.Errorf("zeros that were written came back as a hole (%d blocks)", x)
	}
	if got, err := a.Manifest(); string(got) != "the manifest" || err != nil {
		t.Errorf("manifest: %q, %v", got, err)
	}
	info := a.Info()
	m := info.Mounts[0]
	if info.HostID != "host-1" || m.HardLinks != 5 || m.Others != 5 || m.Files == 0 || m.Problems != 0 {
		t.Errorf("info: %+v", info)
	}
}

func TestGNUTarRestores(t *testing.T) {
	src, to := t.TempDir(), t.TempDir()
	everyKind(t, src)
	b := pack(t, src)
	gnuTar(t, tarStream(t, b), "-C", to, "-xp", "--numeric-owner")
	same(t, src, to)
	judge(t, b, to)
}

func TestRandomTrees(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			src := t.TempDir()
			randomTree(t, src, seed)
			b := pack(t, src)
			to := restore(t, open(t, b), RestoreOptions{})
			judge(t, b, src, to)
			same(t, src, to)
		})
	}
}

// TestDeep packs a tree whose paths are longer than the kernel takes in one call, and
// one with more levels than directories are kept open.
func TestDeep(t *testing.T) {
	for levels, width := range map[int]int{40: 200, 3 * maxOpenDirs: 2} {
		t.Run(fmt.Sprint(levels), func(t *testing.T) {
			src := t.TempDir()
			fd, err := unix.Open(src, unix.O_PATH, 0)
			must(t, err)
			name := strings.Repeat("d", width)
			for i := range levels {
				must(t, unix.Mkdirat(fd, name, 0700|uint32(i)&077))
				next, err := unix.Openat(fd, name, unix.O_PATH, 0)
				must(t, err)
				unix.Close(fd)
				fd = next
			}
			f, err := unix.Openat(fd, "f", unix.O_CREAT|unix.O_WRONLY, 0600)
			must(t, err)
			unix.Write(f, []byte("bottom"))
			unix.Close(f)
			unix.Close(fd)
			b := pack(t, src)
			to := restore(t, open(t, b), RestoreOptions{})
			same(t, src, to)
		})
	}
}

func TestSeveralMounts(t *testing.T) {
	src, boot := t.TempDir(), t.TempDir()
	write(t, src+"/etc/fstab", []byte("x"))
	write(t, src+"/boot/covered", []byte("what the mount hides"))
	write(t, src+"/data/keep", []byte("y"))
	write(t, src+"/proc/1/status", []byte("z"))
	must(t, os.Chmod(src+"/proc", 0710))
	write(t, boot+"/grub/grub.cfg", []byte("menu"))
	must(t, os.Chmod(boot, 0711))
	b, sum := packAll(t, Options{}, Source{Path: "/", At: src, Points: []string{"/proc"}}, Source{Path: "/boot", At: boot})
	to := restore(t, open(t, b), RestoreOptions{})
	want := "./ ./boot/ ./boot/grub/ ./boot/grub/grub.cfg ./data/ ./data/keep ./etc/ ./etc/fstab ./proc/"
	got := strings.Join(paths(t, to), " ")
	if got != want {
		t.Errorf("restored: %s\nwanted:   %s", got, want)
	}
	for name, mode := range map[string]os.FileMode{"/boot": 0711, "/proc": 0710} {
		if st, err := os.Stat(to + name); err != nil || st.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v", name, st.Mode(), err)
		}
	}
	if m := sum.Mounts; len(m) != 2 || m[0].Directories != 5 || m[1].Path != "/boot" || m[1].Files != 1 || m[1].Bytes != 4 {
		t.Errorf("totals: %+v", m)
	}
}

// TestWithout: a mount that is left out leaves nothing in the filesystem above
// it, split files, further names and directories included.
func TestWithout(t *testing.T) {
	src, data := t.TempDir(), t.TempDir()
	write(t, src+"/etc/fstab", []byte("x"))
	must(t, os.MkdirAll(src+"/data", 0710))
	write(t, data+"/small", []byte("y"))
	write(t, data+"/dir/big", noise(3*maxFrame))
	must(t, os.Link(data+"/small", data+"/dir/again"))
	b, _ := packAll(t, Options{}, Source{Path: "/", At: src}, Source{Path: "/data", At: data})
	a := open(t, b)
	to := restore(t, a, RestoreOptions{Without: []string{"/data"}})
	if got := strings.Join(paths(t, to), " "); got != "./ ./data/ ./etc/ ./etc/fstab" {
		t.Errorf("restored: %s", got)
	}
	if got := strings.Join(paths(t, restore(t, a, RestoreOptions{Without: []string{"/dat"}})), " "); !strings.Contains(got, "./data/dir/again ./data/dir/big") {
		t.Errorf("restored: %s", got)
	}
}

func paths(t testing.TB, dir string) []string {
	var list []string
	must(t, filepath.Walk(dir, func(p string, in os.FileInfo, err error) error {
		rel := "." + strings.TrimPrefix(p, dir)
		if in.IsDir() {
			rel += "/"
		}
		list = append(list, rel)
		return err
	}))
	return list
}

func TestExcludes(t *testing.T) {
	src := t.TempDir()
	for _, f := range []string{"var/cache/a/b", "var/cacheX/c", "home/u1/.cache/d", "home/u2/.cache/e", "home/u2/f", "tmp/g", "secret", "log/a.gz", "log/b"} {
		write(t, src+"/"+f, []byte(f))
	}
	b := pack(t, src, func(o *Options, s *Source) {
		s.Exclude = []string{"/var/cache", "/home/*/.cache", "/tmp/**", "/secret", "/log/*.gz"}
	})
	to := restore(t, open(t, b), RestoreOptions{})
	want := "./ ./home/ ./home/u1/ ./home/u1/.cache/ ./home/u2/ ./home/u2/.cache/ ./home/u2/f ./log/ ./log/b ./tmp/ ./var/ ./var/cache/ ./var/cacheX/ ./var/cacheX/c"
	if got := strings.Join(paths(t, to), " "); got != want {
		t.Errorf("restored: %s\nwanted:   %s", got, want)
	}
	for _, bad := range []string{"var", "/x/[a"} {
		_, err := Create(context.Background(), &bytes.Buffer{}, Options{}, []Source{{Path: "/", At: src, Exclude: []string{bad}}})
		if err == nil {
			t.Errorf("exclude %q was taken", bad)
		}
	}
}

func TestNeverPacksItsOwnOutput(t *testing.T) {
	src := t.TempDir()
	write(t, src+"/data", noise(1000))
	out, err := os.Create(src + "/out.lba")
	must(t, err)
	defer out.Close()
	must(t, os.Link(src+"/out.lba", src+"/another-name"))
	self, err := InodeOf(out.Fd())
	must(t, err)
	sum, err := Create(context.Background(), out, Options{Skip: []Inode{self}}, []Source{{Path: "/", At: src}})
	must(t, err)
	if sum.Mounts[0].Files != 1 || sum.Mounts[0].Excluded != 2 {
		t.Errorf("totals: %+v", sum.Mounts[0])
	}
}

func TestSocketsAreCounted(t *testing.T) {
	src := t.TempDir()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	must(t, err)
	defer unix.Close(fd)
	t.Chdir(src)
	must(t, unix.Bind(fd, &unix.SockaddrUnix{Name: "sock"}))
	b, sum := packAll(t, Options{}, Source{Path: "/", At: src})
	if sum.Mounts[0].Sockets != 1 || sum.Problems.Count() != 0 {
		t.Errorf("totals: %+v", sum.Mounts[0])
	}
	if got := paths(t, restore(t, open(t, b), RestoreOptions{})); len(got) != 1 {
		t.Errorf("restored: %v", got)
	}
}

// TestFilesThatChange gives the packer a stat that no longer fits the file.
func TestFilesThatChange(t *testing.T) {
	for _, size := range []int{1000, frameTar - 100, frameTar + 5000} {
		for delta, what := range map[int64]string{-300: "grew", 300: "was cut"} {
			t.Run(fmt.Sprint(size, delta), func(t *testing.T) {
				src := t.TempDir()
				data := noise(size)
				write(t, src+"/f", data)
				b, changed := packChanged(t, src, "f", delta)
				if len(changed) != 1 || changed[0].What != what || changed[0].Path != "/f" {
					t.Errorf("changed: %+v", changed)
				}
				to := restore(t, open(t, b), RestoreOptions{})
				got, err := os.ReadFile(to + "/f")
				must(t, err)
				want := append(bytes.Clone(data), make([]byte, 300)...)[:int64(size)+delta]
				if !bytes.Equal(got, want) {
					t.Errorf("restored %d bytes, wanted %d", len(got), len(want))
				}
				if got := open(t, b).Info().Changed; len(got) != 1 {
					t.Errorf("the index says %+v", got)
				}
			})
		}
	}
}

// packChanged packs one file with a stat whose size is wrong by delta.
func packChanged(t *testing.T, dir, name string, delta int64) ([]byte, []Changed) {
	var b bytes.Buffer
	opt := Options{}
	must(t, opt.fill())
	ctx, stop := context.WithCancelCause(context.Background())
	pk := &packer{opt: &opt, problems: &Problems{}, links: map[inodeKey]string{}, mounts: []Mount{{Path: "/"}}, seq: 1}
	var err error
	pk.pipe, err = newPipeline(ctx, stop, &b, &opt, &pk.files)
	must(t, err)
	fd, err := unix.Open(dir+"/"+name, unix.O_RDONLY, 0)
	must(t, err)
	defer unix.Close(fd)
	var st unix.Stat_t
	must(t, unix.Fstat(fd, &st))
	st.Size += delta
	st.Blocks = st.Size // no holes
	_, err = pk.addFile(0, fd, &Entry{Path: "/" + name, Type: '0', Mode: 0644, Size: st.Size}, &st)
	must(t, err)
	must(t, pk.flush())
	must(t, pk.pipe.finish(&index{mounts: pk.mounts, splits: pk.splits, change: pk.changed}))
	return b.Bytes(), pk.changed
}

func TestCancelled(t *testing.T) {
	src := t.TempDir()
	write(t, src+"/f", noise(20<<20))
	ctx, stop := context.WithCancel(context.Background())
	_, err := Create(ctx, &bytes.Buffer{}, Options{Progress: func(Progress) { stop() }}, []Source{{Path: "/", At: src}})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Create: %v", err)
	}
	a := open(t, pack(t, src))
	ctx, stop = context.WithCancel(context.Background())
	_, err = a.Restore(ctx, t.TempDir(), RestoreOptions{Progress: func(Progress) { stop() }})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Restore: %v", err)
	}
}

type fullDisk struct{ left int }

func (f *fullDisk) Write(b []byte) (int, error) {
	if f.left -= len(b); f.left < 0 {
		return 0, unix.ENOSPC
	}
	return len(b), nil
}

func TestOutputFails(t *testing.T) {
	src := t.TempDir()
	for i := range 8 {
		write(t, fmt.Sprintf("%s/%d", src, i), noise(4<<20))
	}
	for _, left := range []int{0, 300, 5 << 20, 30 << 20} {
		_, err := Create(context.Background(), &fullDisk{left}, Options{}, []Source{{Path: "/", At: src}})
		if !errors.Is(err, unix.ENOSPC) {
			t.Errorf("with %d bytes free: %v", left, err)
		}
	}
}

func TestMemoryIsBounded(t *testing.T) {
	src := t.TempDir()
	for i := range 12 {
		write(t, fmt.Sprintf("%s/%d/f", src, i), noise(3<<20))
	}
	b := pack(t, src, func(o *Options, _ *Source) { o.Memory = 1; o.Workers = 64 })
	to := restore(t, open(t, b), RestoreOptions{Memory: 1, Workers: 64})
	judge(t, b, src, to)
}
