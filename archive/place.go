package archive

import (
	"container/list"
	"fmt"
	"os"
	"strconv"
	"strings"

	"lifeboat/internal/sysroot"

	"golang.org/x/sys/unix"
)

// placer puts entries below the target root. Each worker has its own. It only ever
// uses single names below directories that it opened one by one without following a
// link, so no archive can lead it elsewhere.
type placer struct {
	*restorer
	top   *sysroot.Dir
	dirs  map[string]*list.Element // of *dir, by path
	order *list.List               // the most recently used first
	split int                      // number of the split file that splitFD belongs to, or -1
	fd    int
	root  bool   // we are root
	gid   uint32 // our effective group
	umask uint32
}

// dir is an open directory of the target.
type dir struct {
	path string
	fd   int
	gid  uint32
	acl  bool // it has a default ACL, which new entries inherit
	pins int
}

const maxOpenDirs = 200 // per worker

func (r *restorer) newPlacer() (*placer, error) {
	top, err := r.target.OpenDir("", 0)
	if err != nil {
		return nil, err
	}
	p := &placer{restorer: r, top: top, dirs: map[string]*list.Element{}, order: list.New(), split: -1}
	p.root = os.Geteuid() == 0
	p.gid = uint32(os.Getegid())
	p.umask = readUmask()
	return p, nil
}

// readUmask asks the kernel without changing it for other goroutines. Not knowing it
// only costs a chmod per file.
func readUmask() uint32 {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 07777
	}
	for line := range strings.Lines(string(b)) {
		if text, ok := strings.CutPrefix(line, "Umask:"); ok {
			if n, err := strconv.ParseUint(strings.TrimSpace(text), 8, 32); err == nil {
				return uint32(n)
			}
		}
	}
	return 07777
}

func (p *placer) close() {
	for _, el := range p.dirs {
		unix.Close(el.Value.(*dir).fd)
	}
	p.closeSplit()
	p.top.Close()
}

// stepError says what was tried.
type stepError struct {
	what string
	err  error
}

func (e *stepError) Error() string { return e.what + ": " + e.err.Error() }

func step(what string, err error) error {
	if err == nil {
		return nil
	}
	return &stepError{what, err}
}

// dir opens the directory path ("/" or "/a/b"), and with create makes what is missing
// of it, closed to everybody but us until its own metadata comes.
func (p *placer) dir(path string, create bool) (*dir, error) {
	if el := p.dirs[path]; el != nil {
		p.order.MoveToFront(el)
		return el.Value.(*dir), nil
	}
	if path == "/" || path == "" {
		fd, err := unix.Openat(p.top.FD(), ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, step("open the target", err)
		}
		return p.keep(&dir{path: "/", fd: fd}, true)
	}
	parent, base := cutPath(path)
	up, err := p.dir(parent, create)
	if err != nil {
		return nil, err
	}
	known := true // what fstat would tell of it
	fd, err := openDirAt(up.fd, base)
	if err == unix.ENOENT && create {
		if err = unix.Mkdirat(up.fd, base, 0700); err == nil {
			known = up.acl || up.gid != p.gid
			p.noteMade(path)
		} else if err == unix.EEXIST { // another worker was faster
			err = nil
		}
		if err != nil {
			return nil, step("make the directory "+path, err)
		}
		fd, err = openDirAt(up.fd, base)
	}
	if err == unix.ELOOP || err == unix.ENOTDIR {
		err = fmt.Errorf("a link or file is in its place and is not followed: %w", err)
	}
	if err != nil {
		return nil, step("open the directory "+path, err)
	}
	return p.keep(&dir{path: path, fd: fd, gid: p.gid}, known)
}

func openDirAt(fd int, base string) (int, error) {
	for {
		n, err := unix.Openat(fd, base, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != unix.EINTR {
			return n, err
		}
	}
}

// keep remembers an open directory and closes the one not used for longest. look says
// that it may be other than a fresh directory of ours.
func (p *placer) keep(d *dir, look bool) (*dir, error) {
	if look {
		var st unix.Stat_t
		if err := unix.Fstat(d.fd, &st); err != nil {
			unix.Close(d.fd)
			return nil, step("look at the directory "+d.path, err)
		}
		d.gid = st.Gid
		n, err := unix.Fgetxattr(d.fd, xattrDefaultACL, nil)
		d.acl = err == nil && n > 0
	}
	p.dirs[d.path] = p.order.PushFront(d)
	for el := p.order.Back(); el != nil && p.order.Len() > maxOpenDirs; {
		old, before := el.Value.(*dir), el.Prev()
		if old.pins == 0 && old != d {
			p.order.Remove(el)
			delete(p.dirs, old.path)
			unix.Close(old.fd)
		}
		el = before
	}
	return d, nil
}

// parent opens the directory that path belongs into.
func (p *placer) parent(path string, create bool) (*dir, string, error) {
	up, base := cutPath(path)
	if base == "" {
		return nil, "", step("create", fmt.Errorf("the root is a directory: %w", unix.EISDIR))
	}
	d, err := p.dir(up, create)
	return d, base, err
}

func cutPath(path string) (dir, base string) {
	i := strings.LastIndexByte(path, '/')
	if i <= 0 {
		return "/", path[i+1:]
	}
	return path[:i], path[i+1:]
}

// frame places every entry of an entries or hard links frame.
func (p *placer) frame(row int, raw []byte) error {
	split := p.a.x.rows[row].split
	return p.a.entries(row, raw, func(e *Entry, data []byte, cut bool) error {
		if cut && split == 0 {
			return p.a.frameError(row, fmt.Errorf("%w: %q goes on nowhere", ErrDamaged, e.Path))
		}
		to, ok := p.sel.want(e)
		if !ok {
			return nil
		}
		e.Path = to
		err := p.place(e, data, cut)
		if cut {
			p.noteSplit(split-1, e, err)
		}
		if err == nil {
			p.placed.Add(1)
		}
		return p.judge(e.Path, err)
	})
}

func (p *placer) noteSplit(n int, e *Entry, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		p.badSplit[n] = true
		return
	}
	p.heads[n] = e
}

func (p *placer) place(e *Entry, data []byte, cut bool) error {
	switch e.Type {
	case '5':
		_, err := p.dir(e.Path, true)
		return err
	case '1':
		return p.hardLink(e)
	}
	d, base, err := p.parent(e.Path, true)
	if err != nil {
		return err
	}
	switch e.Type {
	case '0':
		return p.file(d, base, e, data, cut)
	case '2':
		return p.symlink(d, base, e)
	}
	return p.node(d, base, e)
}

// fresh runs a call that makes the entry base, and removes what is in its place first
// if there is something. Trees are mostly fresh, so that is tried last.
func fresh(d *dir, base string, call func() error) error {
	for tries := 0; ; tries++ {
		err := call()
		if err == unix.EINTR {
			continue
		}
		if err != unix.EEXIST || tries > 100 {
			return err
		}
		if err := unix.Unlinkat(d.fd, base, 0); err != nil && err != unix.ENOENT {
			return fmt.Errorf("something is in its place and cannot be removed: %w", err)
		}
	}
}

func (p *placer) file(d *dir, base string, e *Entry, data []byte, cut bool) error {
	mode := e.Mode & 0777
	if cut {
		mode = 0600 // until the data is complete
	}
	fd := -1
	err := fresh(d, base, func() (err error) {
		fd, err = unix.Openat(d.fd, base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, mode)
		return err
	})
	if err != nil {
		return step("create", err)
	}
	err = p.fill(fd, d, e, data, cut)
	if cerr := unix.Close(fd); err == nil {
		err = step("close", cerr)
	}
	return err
}

// fill writes a new file: early flags, data, and unless more data follows its metadata.
func (p *placer) fill(fd int, d *dir, e *Entry, data []byte, cut bool) error {
	if e.Flags&earlyFlags != 0 {
		if err := p.tell(e, "set inode flags", addFlags(fd, e.Flags&earlyFlags)); err != nil {
			return err
		}
	}
	if e.Sparse != nil || cut {
		if err := unix.Ftruncate(fd, e.Size); err != nil {
			return step("set its length", err)
		}
	}
	pieces := []Range{{0, int64(len(data))}}
	if e.Sparse != nil {
		pieces, _ = take(e.Sparse, int64(len(data)))
	}
	if err := writePieces(fd, pieces, data); err != nil {
		return step("write", err)
	}
	if cut {
		return nil
	}
	return p.setMeta(fd, e, d)
}

// continuation writes a piece of a split file to its place.
func (p *placer) continuation(row int, raw []byte) error {
	r := &p.a.x.rows[row]
	n := r.split - 1
	s := &p.a.x.splits[n]
	if !p.sel.has(s.path) || p.isBad(n) {
		return nil
	}
	if p.split != n {
		p.closeSplit()
		fd, err := p.reopen(p.sel.output(s.path))
		if err != nil {
			p.noteSplit(n, nil, err)
			return p.judge(s.path, err)
		}
		p.split, p.fd = n, fd
	}
	return p.judge(s.path, step("write", writePieces(p.fd, r.ranges, raw)))
}

func (p *placer) isBad(split int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.badSplit[split]
}

func (p *placer) closeSplit() {
	if p.split >= 0 {
		unix.Close(p.fd)
		p.split = -1
	}
}

// reopen opens a regular file for writing. It is looked at before: opening a device or
// a fifo that an archive put in its place would already be an act.
func (p *placer) reopen(path string) (int, error) {
	d, base, err := p.parent(path, false)
	if err != nil {
		return -1, err
	}
	look, err := unix.Openat(d.fd, base, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, step("open", err)
	}
	defer unix.Close(look)
	var st unix.Stat_t
	if err := unix.Fstat(look, &st); err != nil {
		return -1, step("look at", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return -1, step("open", fmt.Errorf("another thing took its place: %w", unix.EEXIST))
	}
	fd, err := unix.Open(procPath(look), unix.O_WRONLY|unix.O_CLOEXEC, 0)
	return fd, step("open", err)
}

func (p *placer) symlink(d *dir, base string, e *Entry) error {
	err := fresh(d, base, func() error { return unix.Symlinkat(e.Link, d.fd, base) })
	if err != nil {
		return step("create the link", err)
	}
	if p.root && !p.owned(e, d) {
		if err := p.tell(e, "set owner", unix.Fchownat(d.fd, base, int(e.UID), int(e.GID), unix.AT_SYMLINK_NOFOLLOW)); err != nil {
			return err
		}
	}
	if e.SELinux != "" || len(e.Xattrs) > 0 {
		path := procPath(d.fd) + "/" + base
		err := p.setAttrs(e, func(name string, v []byte) error { return unix.Lsetxattr(path, name, v, 0) })
		if err != nil {
			return err
		}
	}
	return p.tell(e, "set times", unix.UtimesNanoAt(d.fd, base, e.times(), unix.AT_SYMLINK_NOFOLLOW))
}

// node makes a device or a fifo.
func (p *placer) node(d *dir, base string, e *Entry) error {
	kind := map[byte]uint32{'3': unix.S_IFCHR, '4': unix.S_IFBLK, '6': unix.S_IFIFO}[e.Type]
	dev := unix.Mkdev(e.Major, e.Minor)
	err := fresh(d, base, func() error { return unix.Mknodat(d.fd, base, kind|0600, int(dev)) })
	if err != nil {
		return step("create the device or fifo", err)
	}
	fd, err := unix.Openat(d.fd, base, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return step("look at", err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != kind {
		return step("look at", fmt.Errorf("another thing took its place: %w", unix.EEXIST))
	}
	return p.setNodeMeta(fd, e, d)
}

// hardLink gives a file that is in place a further name.
func (p *placer) hardLink(e *Entry) error {
	if e.Path == e.Link {
		return nil
	}
	from, fromBase, err := p.parent(e.Link, false)
	if err != nil {
		return err
	}
	from.pins++
	defer func() { from.pins-- }()
	d, base, err := p.parent(e.Path, true)
	if err != nil {
		return err
	}
	err = fresh(d, base, func() error { return unix.Linkat(from.fd, fromBase, d.fd, base, 0) })
	return step("make a hard link to "+e.Link, err)
}
