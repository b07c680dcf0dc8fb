package usb

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"lifeboat/internal/loaders"
	"lifeboat/internal/sysroot"
	"lifeboat/report"
)

// Content is what one host brings to a stick.
type Content struct {
	Menu  loaders.Menu
	OS    string
	files []source // of the rescue system, absolute on the data partition
	more  []source // archives
}

// Content makes a host's content; kernel and initramfs are read in Add. work
// takes scratch files and must stay until then.
func (s Spec) Content(ctx context.Context, work string) (*Content, error) {
	files, err := s.collect(ctx, work)
	if err != nil {
		return nil, err
	}
	c := &Content{Menu: s.Menu, OS: s.OS, files: files}
	for _, a := range s.Archives {
		st, err := os.Stat(a.Path)
		if err != nil {
			return nil, err
		}
		c.more = append(c.more, source{name: "/" + a.Name, path: a.Path, size: st.Size()})
	}
	return c, nil
}

// Content is one host of an image, with its archives, to be put onto another
// stick. The image must stay open until then.
func (i *Image) Content(h Host) (*Content, error) {
	c := &Content{Menu: h.Menu, OS: i.Mark.OS}
	for _, n := range []string{fileInit, fileMan, fileMenu, fileKern, fileSums} {
		s, err := i.source(path.Join(h.Dir, n))
		if err != nil {
			return nil, err
		}
		c.files = append(c.files, s)
	}
	for _, a := range i.Archives(h.Name) {
		s, err := i.source(a.Path)
		if err != nil {
			return nil, err
		}
		c.more = append(c.more, s)
	}
	return c, nil
}

func (i *Image) source(name string) (source, error) {
	r, err := i.File(name)
	if err != nil {
		return source{}, err
	}
	return source{name: name, size: r.Size(), from: r}, nil
}

// reader opens a source from its beginning.
func (f *source) reader() (io.ReadCloser, error) {
	switch {
	case f.from != nil:
		return io.NopCloser(io.NewSectionReader(f.from, 0, f.size)), nil
	case f.path != "":
		return os.Open(f.path)
	}
	return io.NopCloser(strings.NewReader(string(f.data))), nil
}

// Tree is the mounted data partition of a stick.
type Tree struct {
	Mark Mark
	fs   *sysroot.Root
	path string
	// settle makes everything durable where boot loaders see it: they read a
	// filesystem without its journal. It may unmount and mount again.
	settle func() error
}

// OpenTree opens the data partition that is mounted at dir. settle unmounts
// and mounts it again; nil is only right where nobody boots from it.
func OpenTree(dir string, settle func() error) (*Tree, error) {
	t := &Tree{path: dir, settle: settle}
	if err := t.open(); err != nil {
		return nil, err
	}
	b, err := t.fs.ReadFile(MarkPath)
	if err == nil {
		t.Mark, err = decodeMark(b)
	}
	if err != nil {
		t.Close()
		return nil, fmt.Errorf("%w: %w", ErrNotStick, err)
	}
	return t, nil
}

// NewTree marks an empty data partition as that of a new stick.
func NewTree(dir string, m Mark, settle func() error) (*Tree, error) {
	t := &Tree{path: dir, settle: settle, Mark: m}
	m.Format = Format
	if err := t.open(); err != nil {
		return nil, err
	}
	b, err := json.MarshalIndent(m, "", "  ")
	for _, d := range []string{hostsPath, path.Dir(menuPath)} {
		if err == nil {
			err = t.fs.MkdirAll(d, 0o755)
		}
	}
	if err == nil {
		err = t.fs.WriteFile(loaders.IDFile(m.ID), []byte(m.ID+"\n"), 0o600)
	}
	// The mark is last: what has it is whole.
	if err == nil {
		err = t.fs.WriteFile(MarkPath, append(b, '\n'), 0o600)
	}
	if err != nil {
		t.Close()
		return nil, fmt.Errorf("prepare the stick: %w", err)
	}
	return t, nil
}

func (t *Tree) open() (err error) {
	if t.fs, err = sysroot.Open(t.path); err != nil {
		return fmt.Errorf("open the stick's data partition: %w", err)
	}
	return nil
}

// Close ends the use of the mount; the caller unmounts.
func (t *Tree) Close() {
	if t.fs != nil {
		t.fs.Close()
		t.fs = nil
	}
}

// durable makes what was written last through a power cut, for GRUB, too.
func (t *Tree) durable() error {
	t.Close()
	if t.settle != nil {
		if err := t.settle(); err != nil {
			return fmt.Errorf("make the stick durable: %w", err)
		}
	}
	return t.open()
}

// all lists every build of every host on the stick.
func (t *Tree) all() []Host {
	var out []Host
	hosts, _ := t.fs.ReadDir(hostsPath)
	for _, h := range hosts {
		builds, _ := t.fs.ReadDir(path.Join(hostsPath, h.Name()))
		for _, b := range builds {
			dir := path.Join(hostsPath, h.Name(), b.Name())
			data, err := t.fs.ReadFile(path.Join(dir, fileMenu))
			if err != nil {
				continue
			}
			if host, err := decodeHost(dir, data); err == nil {
				out = append(out, *host)
			}
		}
	}
	return out
}

// Hosts are the newest builds.
func (t *Tree) Hosts() []Host { return newest(t.all()) }

// spare is left free when something is added: for journals of recoveries.
const spare = 32 * mib

// Add puts a host onto the stick, or its newer build in the place of an older
// one. Interrupted at any moment, the stick starts what it started before, or
// what it starts afterwards. progress, which may be nil, is told the bytes.
func (t *Tree) Add(ctx context.Context, c *Content, progress func(done, total int64)) ([]report.Problem, error) {
	var notes []report.Problem
	for _, h := range t.Hosts() {
		if h.Name == c.Menu.Host && h.Menu.Built.After(c.Menu.Built) {
			return nil, report.Errorf(report.CodeUsage, "make a new image first",
				"the stick has a newer rescue system of %s (%s) than this one (%s)", h.Name, day(h.Menu), day(c.Menu))
		}
	}
	if t.Mark.OS != "" && c.OS != "" && t.Mark.OS != c.OS {
		notes = append(notes, report.Problem{Code: report.CodeLoaderMissing, Severity: report.Warning, Object: c.Menu.Host,
			Text: fmt.Sprintf("the stick's boot loaders are those of %s: under Secure Boot they do not start the kernel of %s (%s)", t.Mark.OS, c.Menu.Host, c.OS),
			Next: "use a stick of its own for it, or switch Secure Boot off for a recovery"})
	}
	note, err := checkInitrd(c.files)
	if err != nil {
		return notes, err
	}
	if note != nil {
		notes = append(notes, *note)
	}
	if err := t.leftovers(c); err != nil {
		return notes, fmt.Errorf("take unfinished files off the stick: %w", err)
	}
	todo, err := t.missing(ctx, c)
	if err != nil {
		return notes, err
	}
	if err := t.copyAll(ctx, c, todo, progress); err != nil {
		return notes, fmt.Errorf("write %s to the stick: %w", c.Menu.Host, err)
	}
	if err := t.switchMenu(); err != nil {
		return notes, fmt.Errorf("write the stick's boot menu: %w", err)
	}
	if err := t.clean(); err != nil {
		return notes, fmt.Errorf("take older builds off the stick: %w", err)
	}
	return notes, nil
}

func day(m loaders.Menu) string { return m.Built.UTC().Format("2006-01-02 15:04 UTC") }

// leftovers removes what an earlier run had begun for this host: nobody else
// writes to a stick that is mounted here.
func (t *Tree) leftovers(c *Content) error {
	var faults []error
	for _, dir := range []string{"/" + c.Menu.Host, path.Dir(hostDir(c.Menu))} {
		entries, _ := t.fs.ReadDir(dir)
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), ".") {
				faults = append(faults, t.fs.RemoveAll(path.Join(dir, e.Name())))
			}
		}
	}
	return errors.Join(faults...)
}

// missing says which files must be copied, and refuses before anything is
// written when there is no room for them.
func (t *Tree) missing(ctx context.Context, c *Content) ([]source, error) {
	var todo []source
	dir := hostDir(c.Menu)
	if err := t.verify(ctx, dir); err != nil {
		if ctx.Err() != nil {
			return nil, err
		}
		todo = append(todo, c.files...)
	}
	for _, a := range c.more {
		// Archives get their name when they are whole, and it tells the second.
		if st, err := t.fs.Lstat(a.name); err != nil || st.Size() != a.size {
			todo = append(todo, a)
		}
	}
	need := spare
	for _, f := range todo {
		need += (f.size + 4095) / 4096 * 4096
	}
	free, err := t.Free()
	if err != nil {
		return nil, err
	}
	if free < need {
		return nil, report.Errorf(report.CodeNoSpace, "remove old archives from the stick, or use a larger one; nothing was changed",
			"the stick has %d MiB free, and %s needs %d MiB", free/mib, c.Menu.Host, (need+mib-1)/mib)
	}
	return todo, nil
}

// Free is how many bytes fit.
func (t *Tree) Free() (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(t.path, &st); err != nil {
		return 0, fmt.Errorf("look for free space on the stick: %w", err)
	}
	return int64(st.Bavail) * st.Bsize, nil
}

// verify compares a build that is there with its sums.
func (t *Tree) verify(ctx context.Context, dir string) error {
	list, err := t.fs.ReadFile(path.Join(dir, fileSums))
	if err != nil {
		return err
	}
	for _, l := range strings.Split(strings.TrimSuffix(string(list), "\n"), "\n") {
		sum, name, _ := strings.Cut(l, "  ")
		f, err := t.fs.Open(path.Join(dir, path.Base(name)))
		if err != nil {
			return err
		}
		h := sha256.New()
		_, err = copyCtx(ctx, h, f)
		f.Close()
		if err != nil {
			return err
		}
		if hex.EncodeToString(h.Sum(nil)) != sum {
			return errors.New("damaged")
		}
	}
	return nil
}

// copyAll writes files beside what is there, and gives them their names when
// all are on the disk.
func (t *Tree) copyAll(ctx context.Context, c *Content, todo []source, progress func(done, total int64)) error {
	var total, done int64
	for _, f := range todo {
		total += f.size
	}
	dir := hostDir(c.Menu)
	fresh := path.Join(path.Dir(dir), ".new-"+path.Base(dir))
	if err := t.fs.RemoveAll(fresh); err != nil {
		return err
	}
	build, sums := false, map[string][sha256.Size]byte{}
	for _, f := range todo {
		at := f.name
		if rest, ok := strings.CutPrefix(f.name, dir+"/"); ok {
			at, build = path.Join(fresh, rest), true
		}
		if err := t.fs.MkdirAll(path.Dir(at), 0o755); err != nil {
			return err
		}
		base := done
		sum, err := t.copyFile(ctx, f, at, func(n int64) {
			done = base + n
			if progress != nil {
				progress(done, total)
			}
		})
		if err != nil {
			return err
		}
		sums[f.name] = sum
	}
	if build {
		// A build of that name is there only when it is damaged.
		if err := t.fs.RemoveAll(dir); err != nil {
			return err
		}
		if err := t.fs.Rename(fresh, dir); err != nil {
			return err
		}
	}
	if err := t.fs.WriteFile(loaders.IDFile(c.Menu.BuildID), []byte(c.Menu.BuildID+"\n"), 0o600); err != nil {
		return err
	}
	if err := t.durable(); err != nil {
		return err
	}
	return t.readBack(ctx, sums)
}

// readBack reads what was written, from the stick itself now that it was
// unmounted: some have less room than they say, and forget without an error.
// What is wrong is taken away, so that it is not believed later.
func (t *Tree) readBack(ctx context.Context, sums map[string][sha256.Size]byte) error {
	for name, want := range sums {
		h := sha256.New()
		f, err := t.fs.Open(name)
		if err == nil {
			_, err = copyCtx(ctx, h, f)
			f.Close()
		}
		if err == nil && [sha256.Size]byte(h.Sum(nil)) != want {
			err = errors.New("it is not what was written")
		}
		if err == nil {
			continue
		}
		if ctx.Err() == nil {
			err = report.Errorf(report.CodeFailed, "use another stick: this one loses data", "read %s back: %w", name, err)
		}
		if strings.HasPrefix(name, hostsPath+"/") {
			name = path.Dir(name) // a build without one of its files is none
		}
		return errors.Join(err, t.fs.RemoveAll(name))
	}
	return nil
}

func (t *Tree) copyFile(ctx context.Context, f source, at string, progress func(int64)) (sum [sha256.Size]byte, err error) {
	r, err := f.reader()
	if err != nil {
		return sum, err
	}
	defer r.Close()
	h := sha256.New()
	err = t.fs.Write(at, 0o600, func(w io.Writer) error {
		n, err := copyCtx(ctx, io.MultiWriter(&counted{w: w, tell: progress}, h), r)
		if err == nil && n != f.size {
			err = fmt.Errorf("%s changed from %d to %d bytes while it was copied; try again", f.name, f.size, n)
		}
		return err
	})
	return [sha256.Size]byte(h.Sum(nil)), err
}

// counted tells how many bytes went through.
type counted struct {
	w    io.Writer
	n    int64
	tell func(int64)
}

func (c *counted) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	c.tell(c.n)
	return n, err
}

// switchMenu writes the menu of the newest builds. The old one keeps a second
// name until the new one is where boot loaders see it: they may meet the
// folder as it was together with the file as it is.
func (t *Tree) switchMenu() error {
	text, err := menuOf(t.Mark.ID, t.Hosts())
	if err != nil {
		return err
	}
	old := menuPath + ".old"
	if err := t.fs.RemoveAll(old); err != nil {
		return err
	}
	if err := t.fs.Link(menuPath, old); err != nil && !errors.Is(err, unix.ENOENT) {
		return err
	}
	next := menuPath + ".new"
	if err := t.fs.WriteFile(next, []byte(text), 0o600); err != nil {
		return err
	}
	if err := t.durable(); err != nil {
		return err
	}
	if err := t.fs.Rename(next, menuPath); err != nil {
		return err
	}
	return t.durable()
}

// clean removes what no menu leads to any more.
func (t *Tree) clean() error {
	keep := map[string]bool{path.Base(loaders.IDFile(t.Mark.ID)): true}
	dirs := map[string]bool{}
	for _, h := range t.Hosts() {
		keep[path.Base(loaders.IDFile(h.Menu.BuildID))], dirs[h.Dir] = true, true
	}
	faults := []error{t.fs.RemoveAll(menuPath + ".old")}
	hosts, _ := t.fs.ReadDir(hostsPath)
	for _, h := range hosts {
		builds, _ := t.fs.ReadDir(path.Join(hostsPath, h.Name()))
		for _, b := range builds {
			if dir := path.Join(hostsPath, h.Name(), b.Name()); !dirs[dir] {
				faults = append(faults, t.fs.RemoveAll(dir))
			}
		}
	}
	ids, _ := t.fs.ReadDir(path.Dir(MarkPath))
	for _, e := range ids {
		if strings.HasPrefix(e.Name(), path.Base(loaders.IDFile(""))) && !keep[e.Name()] {
			faults = append(faults, t.fs.Remove(path.Join(path.Dir(MarkPath), e.Name())))
		}
	}
	if err := errors.Join(faults...); err != nil {
		return err
	}
	return t.durable()
}
