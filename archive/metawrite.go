package archive

import (
	"errors"
	"fmt"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// TargetError ends a restore: the filesystem that is written to is full or fails.
type TargetError struct {
	Path   string // entry that was being restored
	What   string
	Mount  string // where that filesystem is mounted on this machine
	Size   int64  // bytes
	Free   int64
	Inodes int64 // 0: the filesystem makes them as needed
	Spare  int64 // free inodes
	Err    error
}

func (e *TargetError) Error() string {
	inodes := ""
	if e.Inodes > 0 {
		inodes = fmt.Sprintf(" and %d of %d inodes", e.Spare, e.Inodes)
	}
	return fmt.Sprintf("%q: %s: %v: the filesystem at %s has %d of %d bytes%s free", e.Path, e.What, e.Err, e.Mount, e.Free, e.Size, inodes)
}

func (e *TargetError) Unwrap() error { return e.Err }

// fatal are the errors after which going on would only produce more of them.
func fatal(err error) bool {
	for _, e := range []unix.Errno{unix.ENOSPC, unix.EDQUOT, unix.EROFS, unix.EIO, unix.EMFILE, unix.ENFILE, unix.ENOMEM, unix.ENODEV, unix.ESHUTDOWN} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// judge counts what went wrong with one entry, or gives the error that ends it all.
func (p *placer) judge(path string, err error) error {
	if err == nil {
		return nil
	}
	var te *TargetError
	var fe *FrameError
	if errors.As(err, &te) || errors.As(err, &fe) {
		return err
	}
	what := "restore"
	var se *stepError
	if errors.As(err, &se) {
		what, err = se.what, se.err
	}
	if fatal(err) {
		return p.targetError(path, what, err)
	}
	p.problems.add(path, what, err)
	return nil
}

// tell is judge for a step that the rest of the entry does not depend on.
func (p *placer) tell(e *Entry, what string, err error) error {
	if err == nil {
		return nil
	}
	return p.judge(e.Path, step(what, err))
}

// targetError finds out which filesystem is meant.
func (p *placer) targetError(path, what string, err error) error {
	e := &TargetError{Path: path, What: what, Err: err, Mount: p.target.Path()}
	at, _ := cutPath(path)
	here, serr := p.target.Lstat(at)
	for serr == nil && at != "/" {
		up, _ := cutPath(at)
		above, aerr := p.target.Lstat(up)
		if aerr != nil || above.Raw.Dev != here.Raw.Dev {
			break
		}
		at = up
	}
	if at != "/" {
		e.Mount = strings.TrimRight(e.Mount, "/") + at
	}
	var fs unix.Statfs_t
	if unix.Statfs(e.Mount, &fs) == nil {
		e.Size, e.Free = int64(fs.Blocks)*fs.Bsize, int64(fs.Bavail)*fs.Bsize
		e.Inodes, e.Spare = int64(fs.Files), int64(fs.Ffree)
	}
	return e
}

// owned tells that a new entry of d belongs to the right user and group already.
func (p *placer) owned(e *Entry, d *dir) bool {
	return p.root && d != nil && e.UID == 0 && e.GID == p.gid && d.gid == p.gid
}

// setMeta gives an open file or directory its metadata. d is the directory that a file
// was just created in, nil for what may have been there before. The order keeps what
// the kernel takes away: changing the owner clears set-id bits and capabilities,
// an ACL changes the mode.
func (p *placer) setMeta(fd int, e *Entry, d *dir) error {
	var errs metaErrors
	if p.root && !p.owned(e, d) {
		errs.add("set owner", unix.Fchown(fd, int(e.UID), int(e.GID)))
	}
	inherited := d == nil || d.acl
	if inherited || e.ACL != "" {
		errs.add("set ACL", setFileACL(fd, xattrACL, e.ACL))
	}
	if e.Type == '5' && (inherited || e.DefaultACL != "") {
		errs.add("set default ACL", setFileACL(fd, xattrDefaultACL, e.DefaultACL))
	}
	if inherited || e.ACL != "" || e.Mode&07000 != 0 || e.Mode&p.umask != 0 {
		errs.add("set mode", unix.Fchmod(fd, e.Mode))
	}
	if err := errs.tell(p, e); err != nil {
		return err
	}
	if err := p.setAttrs(e, func(name string, v []byte) error { return unix.Fsetxattr(fd, name, v, 0) }); err != nil {
		return err
	}
	errs.add("set times", futimens(fd, e.times()))
	flags := e.Flags & middleFlags
	if d == nil {
		flags |= e.Flags & earlyFlags
	}
	if flags != 0 {
		errs.add("set inode flags", addFlags(fd, flags))
	}
	return errs.tell(p, e)
}

// setNodeMeta does the same for a device or fifo, which is only held by O_PATH.
func (p *placer) setNodeMeta(fd int, e *Entry, d *dir) error {
	var errs metaErrors
	path := procPath(fd)
	if p.root {
		errs.add("set owner", unix.Fchownat(fd, "", int(e.UID), int(e.GID), unix.AT_EMPTY_PATH))
	}
	if d.acl || e.ACL != "" {
		errs.add("set ACL", setACL(e.ACL, func() error { return unix.Removexattr(path, xattrACL) },
			func(v []byte) error { return unix.Setxattr(path, xattrACL, v, 0) }))
	}
	errs.add("set mode", unix.Chmod(path, e.Mode))
	if err := errs.tell(p, e); err != nil {
		return err
	}
	if err := p.setAttrs(e, func(name string, v []byte) error { return unix.Setxattr(path, name, v, 0) }); err != nil {
		return err
	}
	errs.add("set times", unix.UtimesNanoAt(unix.AT_FDCWD, path, e.times(), 0))
	return errs.tell(p, e)
}

// setAttrs sets the SELinux label and the other attributes. Only root may set those
// outside "user."; others leave them out.
func (p *placer) setAttrs(e *Entry, set func(name string, v []byte) error) error {
	var errs metaErrors
	if e.SELinux != "" && p.root {
		errs.add("set SELinux label", set("security.selinux", append([]byte(e.SELinux), 0)))
	}
	for _, x := range e.Xattrs {
		if p.root || strings.HasPrefix(x.Name, "user.") {
			errs.add("set attribute "+x.Name, set(x.Name, x.Value))
		}
	}
	return errs.tell(p, e)
}

// metaErrors collects, so that one step that fails does not prevent the next.
type metaErrors []*stepError

func (m *metaErrors) add(what string, err error) {
	if err != nil {
		*m = append(*m, &stepError{what, err})
	}
}

func (m *metaErrors) tell(p *placer, e *Entry) error {
	for _, s := range *m {
		if err := p.judge(e.Path, s); err != nil {
			return err
		}
	}
	*m = nil
	return nil
}

func (e *Entry) times() []unix.Timespec {
	return []unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Sec: e.Sec, Nsec: e.Nsec}}
}

// futimens sets the times of an open file.
func futimens(fd int, ts []unix.Timespec) error {
	for {
		_, _, errno := unix.Syscall6(unix.SYS_UTIMENSAT, uintptr(fd), 0, uintptr(unsafe.Pointer(&ts[0])), 0, 0, 0)
		if errno != unix.EINTR {
			if errno != 0 {
				return errno
			}
			return nil
		}
	}
}

// setACL sets an ACL, or with an empty text takes away one that was inherited.
func setACL(text string, remove func() error, set func([]byte) error) error {
	if text == "" {
		if err := remove(); err != unix.ENODATA && err != unix.ENOTSUP {
			return err
		}
		return nil
	}
	b, err := aclBinary(text)
	if err != nil {
		return err
	}
	return set(b)
}

func setFileACL(fd int, attr, text string) error {
	return setACL(text, func() error { return unix.Fremovexattr(fd, attr) },
		func(v []byte) error { return unix.Fsetxattr(fd, attr, v, 0) })
}

// addFlags sets inode flags beside those that the filesystem set itself.
func addFlags(fd int, flags uint32) error {
	now, err := getFlags(fd)
	if err != nil {
		return err
	}
	if now&flags == flags {
		return nil
	}
	return setFlags(fd, now|flags)
}

// finishSplit gives a file that came in several frames its metadata.
func (p *placer) finishSplit(e *Entry) error {
	fd, err := p.reopen(p.sel.output(e.Path))
	if err != nil {
		return p.judge(e.Path, err)
	}
	defer unix.Close(fd)
	early := e.Flags & earlyFlags
	e.Flags &^= earlyFlags // set when it was created; now it has data
	err = p.setMeta(fd, e, nil)
	e.Flags |= early
	return err
}

// directories gives directories their metadata, children first.
func (p *placer) directories(row int, raw []byte) error {
	return p.a.entries(row, raw, func(e *Entry, _ []byte, _ bool) error {
		if e.Type != '5' || !p.sel.has(e.Path) && !p.isMade(e.Path) {
			return nil
		}
		d, err := p.dir(e.Path, false)
		if err != nil {
			return p.judge(e.Path, err)
		}
		if p.covered(row, e.Path, d) {
			return nil
		}
		return p.judge(e.Path, p.setMeta(d.fd, e, nil))
	})
}

// covered tells whether a directory of one mount is hidden in the target by another
// filesystem that is mounted on it. What is seen there is the other's top, which has an
// entry of its own; the hidden one had its metadata before it was mounted on.
func (p *placer) covered(row int, path string, d *dir) bool {
	if path == "/" || path == p.a.x.mounts[p.a.x.rows[row].mount].Path {
		return false
	}
	d.pins++ // a very deep parent would push it out, and its descriptor could be another's
	up, _, err := p.parent(path, false)
	d.pins--
	if err != nil {
		return false
	}
	var here, above unix.Stat_t
	return unix.Fstat(d.fd, &here) == nil && unix.Fstat(up.fd, &above) == nil && here.Dev != above.Dev
}

// lateFlags sets immutable and append-only, which forbid everything else.
func (p *placer) lateFlags(row int, raw []byte) error {
	dirs := p.a.x.rows[row].kind == KindDirectories
	return p.a.entries(row, raw, func(e *Entry, _ []byte, _ bool) error {
		if e.Flags&lateFlags == 0 || (e.Type == '5') != dirs {
			return nil
		}
		to, ok := p.sel.want(e)
		if !ok {
			return nil
		}
		if e.Type == '5' {
			if d, err := p.dir(to, false); err == nil && p.covered(row, to, d) {
				return nil
			}
		}
		fd, err := p.openForFlags(to, e.Type == '5')
		if err == nil {
			err = step("set inode flags", addFlags(fd, e.Flags&lateFlags))
			unix.Close(fd)
		}
		return p.judge(to, err)
	})
}

// openForFlags opens a file or directory for reading; its data is not touched.
func (p *placer) openForFlags(path string, isDir bool) (int, error) {
	if isDir {
		d, err := p.dir(path, false)
		if err != nil {
			return -1, err
		}
		fd, err := unix.FcntlInt(uintptr(d.fd), unix.F_DUPFD_CLOEXEC, 0)
		return fd, step("open", err)
	}
	d, base, err := p.parent(path, false)
	if err != nil {
		return -1, err
	}
	fd, err := unix.Openat(d.fd, base, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	return fd, step("open", err)
}

func (p *placer) noteMade(path string) {
	if p.sel != nil {
		p.mu.Lock()
		p.made[path] = true
		p.mu.Unlock()
	}
}

func (p *placer) isMade(path string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.made[path]
}
