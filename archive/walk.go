package archive

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// source is one mount while it is walked.
type source struct {
	Source
	mount    int
	fd       int
	dev      uint64
	points   map[string]bool // relative paths that are mount points
	excludes *Excludes
	noFlags  bool // the filesystem knows no inode flags
}

func openSource(s Source, mount int) (*source, error) {
	x, err := NewExcludes(s.Exclude)
	if err != nil {
		return nil, err
	}
	points := map[string]bool{}
	if !s.Bare {
		if points, err = mountPoints(s.At); err != nil {
			return nil, fmt.Errorf("find what is mounted below: %w", err)
		}
	}
	for _, p := range s.Points {
		if rel, ok := strings.CutPrefix(p, strings.TrimRight(s.Path, "/")+"/"); ok && rel != "" {
			points[rel] = true
		}
	}
	fd, err := unix.Open(s.At, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return &source{Source: s, mount: mount, fd: fd, dev: uint64(st.Dev), points: points, excludes: x}, nil
}

func (s *source) close() { unix.Close(s.fd) }

// recorded is the absolute path of rel ("" is the mount's root).
func (s *source) recorded(rel string) string {
	switch {
	case rel == "":
		return s.Path
	case s.Path == "/":
		return "/" + rel
	}
	return s.Path + "/" + rel
}

// walker goes down one source, by open directories, so that a rename or a link put in
// the way never leads it elsewhere and paths may be of any length.
type walker struct {
	ctx context.Context
	*packer
	*source
}

// child is an entry of a directory as the kernel lists it.
type child struct {
	name string
	kind byte // DT_REG and so on; DT_UNKNOWN on some filesystems
}

func (w *walker) root() error {
	var st unix.Stat_t
	if err := unix.Fstat(w.fd, &st); err != nil {
		return fmt.Errorf("look at %s: %w", w.At, err)
	}
	return w.directory(w.fd, "", &st)
}

func (w *walker) total() *Mount { return &w.mounts[w.mount] }

func (w *walker) fail(rel, what string, err error) { w.lost(w.recorded(rel), what, err) }

// lost reports what is missing from the archive. What is excluded by name is no
// loss: excluding is how a damaged directory is accepted.
func (w *walker) lost(path, what string, err error) {
	if w.excludes.Match(path) {
		return
	}
	w.problem(w.mount, path, what, err)
}

// directory packs an open directory and what is in it, in the order of names.
func (w *walker) directory(fd int, rel string, st *unix.Stat_t) error {
	if err := cancelled(w.ctx); err != nil {
		return err
	}
	e := w.entry('5', rel, st)
	w.readMeta(fd, "", e)
	if err := w.addHeader(w.mount, KindEntries, e); err != nil {
		return err
	}
	w.total().Directories++
	if w.excludes.Match(e.Path) || slices.Contains(w.opt.Skip, Inode{uint64(st.Dev), st.Ino}) {
		w.total().Excluded++
		return w.addDirAgain(w.mount, e)
	}
	children, err := w.readDir(fd)
	if err == unix.ENOENT { // it was removed after it was opened
		w.vanished(e.Path, "was removed while it was read")
	} else if err != nil {
		w.fail(rel, "list the directory (what it holds is not packed, or not all)", err)
	}
	for _, c := range children {
		if err := w.child(fd, rel, c); err != nil {
			return err
		}
	}
	return w.addDirAgain(w.mount, e)
}

// readDir lists a directory. What was read before an error is returned with it.
func (w *walker) readDir(fd int) ([]child, error) {
	var children []child
	buf := make([]byte, 32<<10)
	var err error
	for {
		n, err2 := unix.Getdents(fd, buf)
		if err2 == unix.EINTR {
			continue
		}
		if err = err2; err != nil || n <= 0 {
			break
		}
		children = appendChildren(children, buf[:n])
	}
	slices.SortFunc(children, func(a, b child) int { return strings.Compare(a.name, b.name) })
	return children, err
}

// appendChildren reads the kernel's struct linux_dirent64: inode 8, offset 8,
// length 2, type 1, name.
func appendChildren(children []child, b []byte) []child {
	const header = 19
	for len(b) >= header {
		n := int(binary.NativeEndian.Uint16(b[16:]))
		if n < header || n > len(b) {
			break
		}
		name := cString(b[header:n])
		if name != "." && name != ".." && name != "" {
			children = append(children, child{name, b[18]})
		}
		b = b[n:]
	}
	return children
}

// child packs one entry of the directory dir, whose path is parent.
func (w *walker) child(dir int, parent string, c child) error {
	rel := c.name
	if parent != "" {
		rel = parent + "/" + c.name
	}
	if w.points[rel] {
		if done, err := w.mountPoint(dir, rel, c); done || err != nil {
			return err
		}
	}
	if c.kind == unix.DT_UNKNOWN {
		var st unix.Stat_t
		if err := unix.Fstatat(dir, c.name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return w.unopened(rel, "look at", err)
		}
		c.kind = byte(st.Mode >> 12 & 15) // as the kernel itself derives it
	}
	if c.kind != unix.DT_DIR && w.excludes.Match(w.recorded(rel)) {
		w.total().Excluded++
		return nil
	}
	switch c.kind {
	case unix.DT_DIR:
		return w.subdirectory(dir, rel, c.name)
	case unix.DT_REG:
		return w.regular(dir, rel, c.name)
	case unix.DT_SOCK:
		w.total().Sockets++
		return nil
	}
	return w.special(dir, rel, c.name)
}

// unopened reports an entry that could not be reached, unless it is simply gone or
// something else by now: files come and go on a running system.
func (w *walker) unopened(rel, what string, err error) error {
	switch err {
	case unix.ENOENT, unix.ESTALE:
		w.vanished(w.recorded(rel), "was removed before it was read")
	case unix.ELOOP, unix.ENOTDIR, unix.ENXIO: // a link, a file, a socket is in its place
		w.vanished(w.recorded(rel), became)
	default:
		w.fail(rel, "not packed: "+what, err)
	}
	return nil
}

// became is said of an entry that is of another type than the directory's listing
// had said a moment before.
const became = "became something else while it was looked at"

// open opens an entry without touching its access time.
func (w *walker) open(dir int, name string, flags int) (int, error) {
	flags |= unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC
	for {
		fd, err := unix.Openat(dir, name, flags|unix.O_NOATIME, 0)
		if err == unix.EPERM { // only the owner and root may ask for that
			fd, err = unix.Openat(dir, name, flags, 0)
		}
		if err != unix.EINTR {
			return fd, err
		}
	}
}

func (w *walker) subdirectory(dir int, rel, name string) error {
	fd, err := w.open(dir, name, unix.O_DIRECTORY)
	if err != nil {
		return w.unopened(rel, "open the directory", err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return w.unopened(rel, "look at", err)
	}
	if w.points[rel] || uint64(st.Dev) != w.dev {
		if !w.points[rel] {
			w.fail(rel, "what is in it is not packed: another filesystem or subvolume begins here", nil)
		}
		return w.leaf(fd, rel, &st)
	}
	return w.directory(fd, rel, &st)
}

// leaf packs a directory without what it holds.
func (w *walker) leaf(fd int, rel string, st *unix.Stat_t) error {
	e := w.entry('5', rel, st)
	if fd >= 0 {
		w.readMeta(fd, "", e)
	}
	if err := w.addHeader(w.mount, KindEntries, e); err != nil {
		return err
	}
	w.total().Directories++
	return w.addDirAgain(w.mount, e)
}

// mountPoint packs the directory that something is mounted on. If the other mount
// covers it here, it is looked at without touching that mount's filesystem: a network
// mount may hang. done is false if nothing covers it: then it is an entry like others.
func (w *walker) mountPoint(dir int, rel string, c child) (done bool, err error) {
	var stx unix.Statx_t
	err = unix.Statx(dir, c.name, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT|unix.AT_STATX_DONT_SYNC, unix.STATX_BASIC_STATS, &stx)
	if err == nil && unix.Mkdev(stx.Dev_major, stx.Dev_minor) == w.dev {
		return false, nil
	}
	st := unix.Stat_t{Mode: unix.S_IFDIR | 0755}
	switch err {
	case unix.EACCES, unix.ENOTCONN, unix.ESTALE: // a user's or a dead network's mount: root may not look
		w.vanished(w.recorded(rel), "is a mount point that cannot be looked at below its mount (its mode and owner are not packed)")
	default:
		w.fail(rel, "look at the mount point (its mode and owner are not packed)", err)
	case nil:
		st = unix.Stat_t{Mode: uint32(stx.Mode), Uid: stx.Uid, Gid: stx.Gid}
		st.Mtim = unix.Timespec{Sec: stx.Mtime.Sec, Nsec: int64(stx.Mtime.Nsec)}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		w.fail(rel, "not packed: another file is mounted over it", nil)
		return true, nil
	}
	return true, w.leaf(-1, rel, &st)
}

func (w *walker) regular(dir int, rel, name string) error {
	fd, err := w.open(dir, name, 0)
	if err != nil {
		return w.unopened(rel, "open", err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return w.unopened(rel, "look at", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		w.vanished(w.recorded(rel), became)
		return nil
	}
	if slices.Contains(w.opt.Skip, Inode{uint64(st.Dev), st.Ino}) {
		w.total().Excluded++
		return nil
	}
	if w.linked(rel, &st) {
		return nil
	}
	e := w.entry('0', rel, &st)
	w.readMeta(fd, "", e)
	packed, err := w.addFile(w.mount, fd, e, &st)
	if packed {
		w.remember(rel, &st)
	}
	return err
}

// special packs links, devices and fifos.
func (w *walker) special(dir int, rel, name string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return w.unopened(rel, "look at", err)
	}
	if w.linked(rel, &st) {
		return nil
	}
	e := w.entry(0, rel, &st)
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
		e.Type = '2'
		target := make([]byte, 4096) // the kernel's limit for a link
		n, err := unix.Readlinkat(dir, name, target)
		if err != nil {
			return w.unopened(rel, "read the link", err)
		}
		e.Link = string(target[:n])
	case unix.S_IFCHR, unix.S_IFBLK:
		e.Type = '3'
		if st.Mode&unix.S_IFMT == unix.S_IFBLK {
			e.Type = '4'
		}
		e.Major, e.Minor = unix.Major(uint64(st.Rdev)), unix.Minor(uint64(st.Rdev))
	case unix.S_IFIFO:
		e.Type = '6'
	case unix.S_IFREG, unix.S_IFDIR, unix.S_IFSOCK:
		w.vanished(w.recorded(rel), became)
		return nil
	default:
		w.fail(rel, fmt.Sprintf("not packed: its type %#o is not known", st.Mode&unix.S_IFMT), nil)
		return nil
	}
	w.readMeta(dir, name, e)
	if err := w.addHeader(w.mount, KindEntries, e); err != nil {
		return err
	}
	w.total().Others++
	w.remember(rel, &st)
	return nil
}

// linked notes a further name of a file that is packed already.
func (w *walker) linked(rel string, st *unix.Stat_t) bool {
	if st.Nlink < 2 {
		return false
	}
	first, ok := w.links[inodeKey{w.mount, uint64(st.Dev), st.Ino}]
	if ok {
		e := w.entry('1', rel, st)
		e.Link = first
		w.later = append(w.later, hardLink{w.mount, *e})
		w.total().HardLinks++
	}
	return ok
}

func (w *walker) remember(rel string, st *unix.Stat_t) {
	if st.Nlink > 1 {
		w.links[inodeKey{w.mount, uint64(st.Dev), st.Ino}] = w.recorded(rel)
	}
}

func (w *walker) entry(kind byte, rel string, st *unix.Stat_t) *Entry {
	e := &Entry{Path: w.recorded(rel), Type: kind, Mode: st.Mode & 07777, UID: st.Uid, GID: st.Gid, Sec: st.Mtim.Sec, Nsec: st.Mtim.Nsec}
	if kind == '0' {
		e.Size = st.Size
	}
	return e
}
