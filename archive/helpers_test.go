package archive

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

// pack makes an archive of one directory as "/".
func pack(t testing.TB, dir string, change ...func(*Options, *Source)) []byte {
	t.Helper()
	opt, src := Options{HostID: "host-1", Manifest: []byte("the manifest")}, Source{Path: "/", At: dir}
	for _, c := range change {
		c(&opt, &src)
	}
	b, sum := packAll(t, opt, src)
	for _, p := range sum.Problems.First() {
		t.Errorf("problem while packing: %s", p)
	}
	return b
}

func packAll(t testing.TB, opt Options, src ...Source) ([]byte, *Summary) {
	t.Helper()
	var b bytes.Buffer
	sum, err := Create(context.Background(), &b, opt, src)
	if err != nil {
		t.Fatal(err)
	}
	if sum.Bytes != int64(b.Len()) {
		t.Errorf("Create says %d bytes and wrote %d", sum.Bytes, b.Len())
	}
	return b.Bytes(), sum
}

func open(t testing.TB, b []byte) *Archive {
	t.Helper()
	a, err := Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// restore brings everything back into a new directory and wants no problem.
func restore(t testing.TB, a *Archive, opt RestoreOptions) string {
	t.Helper()
	dir := t.TempDir()
	res, err := a.Restore(context.Background(), dir, opt)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range res.Problems.First() {
		t.Errorf("problem while restoring: %s", p)
	}
	return dir
}

// tarStream is what zstd -dc would give.
func tarStream(t testing.TB, archive []byte) []byte {
	t.Helper()
	dec, err := zstd.NewReader(bytes.NewReader(archive))
	if err != nil {
		t.Fatal(err)
	}
	defer dec.Close()
	b, err := io.ReadAll(dec)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// gnuTar runs tar with the stream on its input and wants it to be silent.
func gnuTar(t testing.TB, stream []byte, args ...string) {
	t.Helper()
	cmd := exec.Command("tar", append(args, "--warning=no-unknown-keyword", "--warning=no-timestamp", "-f", "-")...)
	cmd.Stdin = bytes.NewReader(stream)
	out, err := cmd.CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("tar %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// judge lets GNU tar compare the stream with the tree that was packed and the one that
// was restored.
func judge(t testing.TB, archive []byte, trees ...string) {
	t.Helper()
	stream := tarStream(t, archive)
	for _, tree := range trees {
		gnuTar(t, stream, "-C", tree, "-d", "--numeric-owner")
	}
}

// find prints a tree by a foreign tool; GNU tar's comparison does not see what is too
// much.
func find(t testing.TB, tree, format string) string {
	t.Helper()
	cmd := exec.Command("sh", "-c", `cd "$0" && find . -printf "$1" | LC_ALL=C sort`, tree, format)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

const allButDirSize = `%p %y %m %U %G %T@ %n %l\n`

// same wants two trees to look alike to find.
func same(t testing.TB, a, b string) {
	t.Helper()
	x, y := strings.Split(find(t, a, allButDirSize), "\n"), strings.Split(find(t, b, allButDirSize), "\n")
	shown := 0
	for i := range max(len(x), len(y)) {
		var l, r string
		if i < len(x) {
			l = x[i]
		}
		if i < len(y) {
			r = y[i]
		}
		if l != r && shown < 5 {
			shown++
			t.Errorf("packed:   %q\nrestored: %q", l, r)
		}
	}
}

func write(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0644); err != nil {
		t.Fatal(err)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var noiseSeed atomic.Uint64

// noise is data that does not compress.
func noise(n int) []byte {
	r := rand.NewChaCha8([32]byte{byte(noiseSeed.Add(1))})
	b := make([]byte, n)
	r.Read(b)
	return b
}

// sparse makes a file with data only at the given places.
func sparse(t testing.TB, path string, size int64, data map[int64][]byte) {
	t.Helper()
	write(t, path, nil)
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	must(t, err)
	defer f.Close()
	for at, b := range data {
		_, err := f.WriteAt(b, at)
		must(t, err)
	}
	must(t, f.Truncate(size))
}

func blocks(t testing.TB, path string) int64 {
	t.Helper()
	var st unix.Stat_t
	must(t, unix.Lstat(path, &st))
	return st.Blocks
}

// everyKind fills a directory with what can be made without root.
func everyKind(t testing.TB, dir string) {
	t.Helper()
	long := strings.Repeat("long-name/", 30) + strings.Repeat("x", 200)
	write(t, dir+"/etc/fstab", []byte("UUID=1 / ext4 defaults 0 1\n"))
	write(t, dir+"/empty", nil)
	write(t, dir+"/one-block", noise(512))
	write(t, dir+"/one-more", noise(513))
	write(t, dir+"/"+long, []byte("deep"))
	write(t, dir+"/"+strings.Repeat("n", 255), []byte("longest name"))
	write(t, dir+"/odd \n\t\x01\\ name", []byte("odd"))
	write(t, dir+"/not-\xff\xfe-utf8", []byte("latin"))
	write(t, dir+"/"+strings.Repeat("not-\xff-utf8-and-long/", 20)+"f", []byte("latin"))
	write(t, dir+"/-leading-dash", []byte("dash"))
	write(t, dir+"/umlaut-äöü", []byte("utf-8"))
	write(t, dir+"/exactly-4M", noise(frameTar))
	write(t, dir+"/4M-and-1", noise(frameTar+1))
	write(t, dir+"/big", noise(9<<20+77))
	write(t, dir+"/zeros", make([]byte, 6<<20))
	sparse(t, dir+"/sparse", 30<<20, map[int64][]byte{0: noise(5000), 10 << 20: noise(100_000), 30<<20 - 4096: noise(4096)})
	sparse(t, dir+"/sparse-tail", 10<<20+5, map[int64][]byte{8192: noise(10)})
	sparse(t, dir+"/sparse-big", 40<<20, map[int64][]byte{4096: noise(7 << 20), 30 << 20: noise(5<<20 + 3)})
	sparse(t, dir+"/all-hole", 12345, nil)
	must(t, os.Link(dir+"/etc/fstab", dir+"/hard"))
	must(t, os.Link(dir+"/etc/fstab", dir+"/"+filepath.Dir(long)+"/hard-deep"))
	must(t, os.Link(dir+"/sparse", dir+"/etc/sparse-link"))
	must(t, os.Link(dir+"/big", dir+"/aaa-big-link"))
	must(t, os.Symlink("usr/lib", dir+"/lib"))
	must(t, os.Symlink("/nowhere/"+strings.Repeat("t/", 400), dir+"/long-link"))
	must(t, os.Symlink("\xff\xfe"+strings.Repeat("t/", 400), dir+"/latin-link"))
	must(t, os.MkdirAll(dir+"/usr/lib/empty", 0755))
	must(t, unix.Mkfifo(dir+"/fifo", 0600))
	must(t, unix.Mkfifo(dir+"/fifo2", 0600))
	must(t, os.Link(dir+"/fifo2", dir+"/fifo2-link"))
	for name, mode := range map[string]uint32{"etc/fstab": 0600, "one-block": 04755, "one-more": 02710, "empty": 0400, "big": 06751, "usr/lib": 01777, "usr": 0700, "etc": 02775, "fifo": 0640} {
		must(t, unix.Chmod(dir+"/"+name, mode))
	}
	times(t, dir)
}

// times gives every entry a time of its own, some with nanoseconds, some before 1970.
func times(t testing.TB, dir string) {
	t.Helper()
	n := int64(0)
	var paths []string
	must(t, filepath.Walk(dir, func(p string, _ os.FileInfo, err error) error {
		paths = append(paths, p)
		return err
	}))
	for i := len(paths) - 1; i >= 0; i-- {
		n++
		ts := unix.Timespec{Sec: 1_600_000_000 + n*1000, Nsec: n * 1_234_567 % 1e9}
		switch n % 5 {
		case 1:
			ts = unix.Timespec{Sec: -n, Nsec: 500_000_001}
		case 2:
			ts.Nsec = 0
		}
		must(t, unix.UtimesNanoAt(unix.AT_FDCWD, paths[i], []unix.Timespec{{Nsec: unix.UTIME_OMIT}, ts}, unix.AT_SYMLINK_NOFOLLOW))
	}
}

// randomTree makes a tree from a seed, up to a few MiB.
func randomTree(t testing.TB, dir string, seed uint64) {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 7))
	dirs := []string{dir}
	var files []string
	name := func() string {
		const letters = "ab-._ \x01\xffäZ"
		b := make([]byte, 1+r.IntN(12))
		if r.IntN(20) == 0 {
			b = make([]byte, 90+r.IntN(160))
		}
		for i := range b {
			b[i] = letters[r.IntN(len(letters))]
		}
		return fmt.Sprintf("%s%d", b, r.IntN(1000))
	}
	for range 40 + r.IntN(200) {
		p := dirs[r.IntN(len(dirs))] + "/" + name()
		if len(p) > 3500 {
			continue
		}
		if _, err := os.Lstat(p); err == nil {
			continue
		}
		switch k := r.IntN(10); {
		case k < 3:
			must(t, os.Mkdir(p, 0700))
			dirs = append(dirs, p)
		case k < 4:
			must(t, os.Symlink(name(), p))
		case k < 5 && len(files) > 0:
			must(t, os.Link(files[r.IntN(len(files))], p))
		case k < 6:
			data := map[int64][]byte{}
			size := r.Int64N(1 << 23)
			for range r.IntN(20) {
				at := r.Int64N(size + 1)
				data[at] = noise(int(min(int64(r.IntN(50_000)), size-at)))
			}
			sparse(t, p, size, data)
			files = append(files, p)
		default:
			write(t, p, noise(r.IntN(1<<r.IntN(22))))
			must(t, unix.Chmod(p, uint32(r.IntN(010000))|0600))
			files = append(files, p)
		}
	}
	times(t, dir)
}

// craft makes an archive out of given entries, however strange.
func craft(t testing.TB, entries []crafted) []byte {
	t.Helper()
	var b bytes.Buffer
	opt := Options{UUID: UUID{1}}
	must(t, opt.fill())
	ctx, stop := context.WithCancelCause(context.Background())
	var files atomic.Int64
	pipe, err := newPipeline(ctx, stop, &b, &opt, &files)
	must(t, err)
	var splits []splitFile
	var w tarWriter
	for n, c := range entries {
		s, err := pipe.slot()
		must(t, err)
		f := &frame{row: row{kind: c.kind, flags: c.flags, split: c.split, ranges: c.ranges}, slot: s}
		f.first = c.e.Path
		if c.kind == KindContinuation {
			s.raw = append(s.raw, c.data...)
		} else {
			c.e.stored = max(int64(len(c.data)), c.e.stored)
			s.raw, err = w.appendHeader(s.raw, &c.e)
			must(t, err)
			s.raw = append(s.raw, c.data...)
			if c.split > 0 {
				splits = append(splits, splitFile{path: c.e.Path, owner: n + 1, size: 1 << 40})
			}
		}
		s.raw = appendZeros(s.raw, int(padded(int64(len(s.raw))))-len(s.raw))
		pipe.submit(f)
	}
	must(t, pipe.finish(&index{mounts: []Mount{{Path: "/"}}, splits: splits, ended: time.Now()}))
	return b.Bytes()
}

type crafted struct {
	kind   Kind
	e      Entry
	data   []byte
	flags  byte
	split  int
	ranges []Range
}
