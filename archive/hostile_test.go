package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// jail is a target beside a directory that nothing may touch.
func jail(t *testing.T) (target, outside string) {
	top := t.TempDir()
	target, outside = top+"/target", top+"/outside"
	must(t, os.Mkdir(target, 0755))
	must(t, os.Mkdir(outside, 0755))
	write(t, outside+"/file", []byte("untouched"))
	must(t, unix.Chmod(outside+"/file", 0640))
	times(t, outside)
	before := find(t, outside, `%p %y %m %U %G %T@ %C@ %n %s\n`)
	t.Cleanup(func() {
		if after := find(t, outside, `%p %y %m %U %G %T@ %C@ %n %s\n`); after != before {
			t.Errorf("outside the target, before:\n%safter:\n%s", before, after)
		}
		if names, _ := os.ReadDir(top); len(names) != 2 {
			t.Errorf("new entries beside the target: %v", names)
		}
	})
	return target, outside
}

func file(path, data string) crafted {
	return crafted{kind: KindEntries, e: Entry{Path: path, Type: '0', Mode: 0644}, data: []byte(data)}
}

func linkTo(path, target string) crafted {
	return crafted{kind: KindEntries, e: Entry{Path: path, Type: '2', Mode: 0777, Link: target}}
}

// TestNothingLeavesTheTarget restores archives that try to. Each entry is a frame of
// its own, so the workers also race.
func TestNothingLeavesTheTarget(t *testing.T) {
	hard := func(path, target string) crafted {
		return crafted{kind: KindHardLinks, e: Entry{Path: path, Type: '1', Link: target}}
	}
	dirEntry := func(kind Kind, path string) crafted {
		return crafted{kind: kind, e: Entry{Path: path, Type: '5', Mode: 0777, UID: 1, Flags: 0}}
	}
	for name, entries := range map[string][]crafted{
		"through a link":            {linkTo("/d", "OUT"), file("/d/new", "x"), file("/d/file", "x")},
		"through a relative link":   {linkTo("/d", "../outside"), file("/d/new", "x"), file("/d/file", "x")},
		"link in the middle":        {dirEntry('E', "/a"), linkTo("/a/d", "OUT"), file("/a/d/x/new", "x")},
		"over a link":               {linkTo("/f", "OUT/file"), file("/f", "x")},
		"hard link through a link":  {linkTo("/d", "OUT"), hard("/h", "/d/file"), file("/h", "x")},
		"hard link to a link":       {linkTo("/l", "OUT/file"), hard("/h", "/l"), file("/h", "x")},
		"directory over a link":     {linkTo("/d", "OUT"), dirEntry('E', "/d"), dirEntry('D', "/d")},
		"metadata through a link":   {linkTo("/d", "OUT"), dirEntry('D', "/d"), dirEntry('D', "/d/x")},
		"fifo in a linked place":    {linkTo("/d", "OUT"), {kind: 'E', e: Entry{Path: "/d/p", Type: '6', Mode: 0777}}},
		"flags through a link":      {{kind: 'E', flags: flagLate, e: Entry{Path: "/f", Type: '0', Flags: fsAppend}}, linkTo("/f", "OUT/file")},
		"continuation over a link":  {splitAt("/s", "first"), linkTo("/s", "OUT/file"), moreOf("more", 0)},
		"continuation over a fifo":  {splitAt("/s", "first"), {kind: 'E', e: Entry{Path: "/s", Type: '6'}}, moreOf("more", 0)},
		"hard link to itself":       {file("/f", "x"), hard("/f", "/f")},
		"hard link to nothing":      {hard("/f", "/g/h"), hard("/", "/f"), hard("/x", "/")},
		"file in place of the root": {file("/", "x"), linkTo("/", "OUT")},
	} {
		t.Run(name, func(t *testing.T) {
			target, outside := jail(t)
			for i := range entries {
				entries[i].e.Link = strings.ReplaceAll(entries[i].e.Link, "OUT", outside)
			}
			a := open(t, craft(t, entries))
			t.Cleanup(func() { clearFlags(target + "/f") })
			for range 3 { // the second time over what the first left
				if _, err := a.Restore(context.Background(), target, RestoreOptions{}); err != nil {
					t.Errorf("Restore: %v", err)
				}
			}
		})
	}
}

// clearFlags makes a file removable again.
func clearFlags(path string) {
	if fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NOFOLLOW, 0); err == nil {
		setFlags(fd, 0)
		unix.Close(fd)
	}
}

func splitAt(path, data string) crafted {
	c := crafted{kind: KindEntries, e: Entry{Path: path, Type: '0', Mode: 0644}, split: 1}
	c.data = append([]byte(data), make([]byte, 512-len(data))...)
	c.e.stored = 4096
	return c
}

func moreOf(data string, at int64) crafted {
	return crafted{kind: KindContinuation, split: 1, ranges: []Range{{at, int64(len(data))}}, data: []byte(data)}
}

// TestLinksInTheTarget extracts over a tree that has links of its own.
func TestLinksInTheTarget(t *testing.T) {
	target, outside := jail(t)
	must(t, os.Symlink(outside, target+"/etc"))
	must(t, os.Symlink(outside+"/file", target+"/file"))
	a := open(t, craft(t, []crafted{file("/etc/passwd", "x"), file("/file", "new"), file("/ok", "y")}))
	res, err := a.Restore(context.Background(), target, RestoreOptions{})
	must(t, err)
	if p := res.Problems.First(); len(p) != 1 || p[0].Path != "/etc/passwd" || !errors.Is(p[0].Err, unix.ENOTDIR) && !errors.Is(p[0].Err, unix.ELOOP) {
		t.Errorf("problems: %v", p)
	}
	if got, _ := os.ReadFile(target + "/file"); string(got) != "new" {
		t.Errorf("the file in place of a link: %q", got)
	}
}

// TestNamesThatClimb changes names in the stream behind the writer's back.
func TestNamesThatClimb(t *testing.T) {
	for _, name := range []string{"../outside/file", "a/../../outside/file", "..", "a//b", "./..", "a/./b", "a/.."} {
		if got, err := cleanName(name); err == nil {
			t.Errorf("%q became %q", name, got)
		}
	}
	for name, want := range map[string]string{"./": "/", ".": "/", "": "/", "/etc/x": "/etc/x", "a/b/": "/a/b", "...": "/...", "..a": "/..a"} {
		if got, err := cleanName(name); got != want || err != nil {
			t.Errorf("%q became %q, %v", name, got, err)
		}
	}
	target, _ := jail(t)
	a := open(t, craft(t, []crafted{file("/../outside/file", "x")}))
	if _, err := a.Restore(context.Background(), target, RestoreOptions{}); !errors.Is(err, ErrDamaged) {
		t.Errorf("Restore: %v", err)
	}
}

func TestExistingTree(t *testing.T) {
	src := t.TempDir()
	everyKind(t, src)
	b := pack(t, src)
	a := open(t, b)
	to := restore(t, a, RestoreOptions{})
	res, err := a.Restore(context.Background(), to, RestoreOptions{}) // all of it again
	if err != nil || res.Problems.Count() != 0 {
		t.Fatalf("%v, %v", err, res.Problems.First())
	}
	same(t, src, to)
	judge(t, b, to)
	// What is in the way and not empty is told.
	must(t, os.Remove(to+"/one-block"))
	write(t, to+"/one-block/occupied", nil)
	res, err = a.Restore(context.Background(), to, RestoreOptions{})
	must(t, err)
	if p := res.Problems.First(); len(p) != 1 || p[0].Path != "/one-block" || !errors.Is(p[0].Err, unix.EISDIR) {
		t.Errorf("problems: %v", p)
	}
}

func TestExtract(t *testing.T) {
	src := t.TempDir()
	everyKind(t, src)
	write(t, src+"/etc-x/file", []byte("sibling"))
	a := open(t, pack(t, src))
	for name, c := range map[string]struct{ paths, want []string }{
		"file":                       {[]string{"one-block"}, []string{"./", "./one-block"}},
		"directory":                  {[]string{"/usr"}, []string{"./", "./usr/", "./usr/lib/", "./usr/lib/empty/"}},
		"below":                      {[]string{"/usr/lib/empty/"}, []string{"./", "./usr/", "./usr/lib/", "./usr/lib/empty/"}},
		"split and small":            {[]string{"/big", "/empty"}, []string{"./", "./big", "./empty"}},
		"hard link without its file": {[]string{"/hard"}, []string{"./", "./hard"}},
		"both names":                 {[]string{"/hard", "/etc/fstab"}, []string{"./", "./etc/", "./etc/fstab", "./hard"}},
		"split under another name":   {[]string{"/big"}, []string{"./", "./big"}},
		"no prefix of a name":        {[]string{"/etc"}, []string{"./", "./etc/", "./etc/fstab", "./etc/sparse-link"}},
	} {
		t.Run(name, func(t *testing.T) {
			to := t.TempDir()
			res, err := a.Extract(context.Background(), to, c.paths, RestoreOptions{})
			must(t, err)
			if res.Problems.Count() != 0 {
				t.Errorf("problems: %v", res.Problems.First())
			}
			got := paths(t, to)
			if fmt.Sprint(got) != fmt.Sprint(c.want) {
				t.Errorf("got %q\nwanted %q", got, c.want)
			}
			for _, p := range got[1:] {
				x, _ := os.Lstat(src + p[1:])
				y, _ := os.Lstat(to + p[1:])
				if x.Mode() != y.Mode() || !x.ModTime().Equal(y.ModTime()) {
					t.Errorf("%s: %v %v, wanted %v %v", p, y.Mode(), y.ModTime(), x.Mode(), x.ModTime())
				}
				if x.Mode().IsRegular() {
					bx, _ := os.ReadFile(src + p[1:])
					by, _ := os.ReadFile(to + p[1:])
					if !bytes.Equal(bx, by) {
						t.Errorf("%s has other content", p)
					}
				}
			}
		})
	}
	_, err := a.Extract(context.Background(), t.TempDir(), []string{"/empty", "/not/there"}, RestoreOptions{})
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(fmt.Sprint(err), "/not/there") {
		t.Errorf("a path that is not there: %v", err)
	}
	if _, err := a.Extract(context.Background(), t.TempDir(), nil, RestoreOptions{}); err == nil {
		t.Error("no paths were taken for all")
	}
}

// countingStore counts what is read.
type countingStore struct {
	bytes.Reader
	read int64
}

func (s *countingStore) ReadAt(b []byte, off int64) (int, error) {
	s.read += int64(len(b))
	return s.Reader.ReadAt(b, off)
}

func TestExtractReadsLittle(t *testing.T) {
	src := t.TempDir()
	for i := range 10 {
		write(t, fmt.Sprintf("%s/%d/data", src, i), noise(3<<20))
	}
	b := pack(t, src)
	store := &countingStore{Reader: *bytes.NewReader(b)}
	a, err := Open(store, int64(len(b)))
	must(t, err)
	_, err = a.Extract(context.Background(), t.TempDir(), []string{"/5/data"}, RestoreOptions{Workers: 1})
	must(t, err)
	if store.read > int64(len(b))/3 {
		t.Errorf("for a tenth of the data %d of %d bytes were read", store.read, len(b))
	}
}

func TestResume(t *testing.T) {
	src := t.TempDir()
	everyKind(t, src)
	for i := range 6 {
		write(t, fmt.Sprintf("%s/more/%d", src, i), noise(3<<20))
	}
	times(t, src)
	b := pack(t, src)
	a := open(t, b)
	stop := errors.New("power cut")
	to := t.TempDir()
	var from Checkpoint
	rounds := 0
	for ; ; rounds++ {
		calls := 0
		opt := RestoreOptions{From: from, CheckpointBytes: 1, Workers: 3, Checkpoint: func(c Checkpoint) error {
			if calls++; calls == 3 {
				return stop
			}
			if c.Done > from.Done {
				from = c
			}
			return nil
		}}
		res, err := a.Restore(context.Background(), to, opt)
		if err == nil {
			if res.Problems.Count() != 0 {
				t.Errorf("problems: %v", res.Problems.First())
			}
			break
		}
		if !errors.Is(err, stop) || rounds > 200 {
			t.Fatalf("round %d: %v", rounds, err)
		}
	}
	if rounds < 3 {
		t.Errorf("only %d interruptions", rounds)
	}
	same(t, src, to)
	judge(t, b, to)
	other := open(t, pack(t, src))
	if _, err := other.Restore(context.Background(), to, RestoreOptions{From: from}); err == nil {
		t.Error("the checkpoint of another archive was taken")
	}
}

func TestList(t *testing.T) {
	src := t.TempDir()
	everyKind(t, src)
	a := open(t, pack(t, src))
	got := map[string]bool{}
	must(t, a.List(context.Background(), func(e *Entry) error {
		if got[e.Path] {
			t.Errorf("%q twice", e.Path)
		}
		got[e.Path] = true
		if e.Path == "/etc/sparse-link" && e.Size != 30<<20 || e.Path == "/aaa-big-link" && e.Size != 9<<20+77 {
			t.Errorf("%s has size %d", e.Path, e.Size)
		}
		return nil
	}))
	want := 0
	must(t, filepath.Walk(src, func(p string, _ os.FileInfo, err error) error {
		want++
		if name := "/" + strings.TrimPrefix(strings.TrimPrefix(p, src), "/"); !got[name] {
			t.Errorf("%q is missing", name)
		}
		return err
	}))
	if len(got) != want {
		t.Errorf("%d entries, wanted %d", len(got), want)
	}
}
