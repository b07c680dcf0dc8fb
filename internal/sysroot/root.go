// Package sysroot (level 1) owns safe paths, links and atomic writes below a root.
//
// A name is a path as the system below the root would see it: "etc/fstab" and
// "/etc/fstab" are the same file. Links are followed as that system would follow
// them: an absolute link starts at the root, and ".." never climbs above it. So
// neither a hostile tree nor a merged-/usr link (/lib -> usr/lib) ever leads a
// write to the machine that runs us. Mount points below the root are crossed.
package sysroot

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Root is an open directory that every name is resolved below. Its methods may be
// called from many goroutines at once.
type Root struct {
	path string
	fd   int
	// walk is set when the kernel has no openat2 (before 5.6, or a seccomp filter
	// that does not know it): names are then resolved here, component by component.
	walk atomic.Bool
}

// Open opens the directory path of this machine as a root. The caller closes it.
func Open(path string) (*Root, error) {
	fd, err := retryInt(func() (int, error) {
		return unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return nil, &fs.PathError{Op: "open root", Path: path, Err: err}
	}
	return &Root{path: path, fd: fd}, nil
}

// Close releases the root. Files opened below it stay open.
func (r *Root) Close() error { return unix.Close(r.fd) }

// Path is the directory of this machine that was given to Open.
func (r *Root) Path() string { return r.path }

// NoLinks is an extra flag of OpenFile and OpenDir: a link in any component, the
// last one too (unless O_PATH and O_NOFOLLOW ask for the link itself), is an error
// (ELOOP). Restoring uses it: an archive that first
// brings a link and then a file "inside" it is either hostile or broken.
const NoLinks = 1 << 30

// openat2 flags that decide how the kernel follows links.
const (
	inRoot  = unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS
	noLinks = inRoot | unix.RESOLVE_NO_SYMLINKS
)

// openFD opens name below the root. flags are those of open(2), and NoLinks.
func (r *Root) openFD(name string, flags int, mode uint32) (int, error) {
	if strings.IndexByte(name, 0) >= 0 {
		return -1, unix.EINVAL
	}
	strict := flags&NoLinks != 0
	flags = flags&^NoLinks | unix.O_CLOEXEC
	if !r.walk.Load() {
		fd, err := r.openKernel(name, flags, mode, strict)
		if err != unix.ENOSYS && err != unix.EPERM {
			return fd, err
		}
		// EPERM is also an honest answer (an immutable file), so the walk is only
		// made the rule when it is the system call itself that is refused.
		if err == unix.ENOSYS || !openat2Works(r.fd) {
			r.walk.Store(true)
		} else {
			return fd, err
		}
	}
	return r.openWalk(name, flags, mode, strict)
}

func (r *Root) openKernel(name string, flags int, mode uint32, strict bool) (int, error) {
	how := unix.OpenHow{Flags: uint64(flags), Resolve: inRoot}
	if strict {
		how.Resolve = noLinks
	}
	if flags&unix.O_CREAT != 0 {
		how.Mode = uint64(mode) & 07777
	}
	if strings.Trim(name, "/") == "" {
		name = "."
	}
	for tries := 0; ; tries++ {
		fd, err := unix.Openat2(r.fd, name, &how)
		// EAGAIN: something was renamed while ".." was resolved, so the kernel could
		// not prove that the path stays below the root.
		if err == unix.EINTR || err == unix.EAGAIN && tries < 100 {
			continue
		}
		return fd, err
	}
}

func openat2Works(dir int) bool {
	fd, err := unix.Openat2(dir, ".", &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: inRoot})
	if err != nil {
		return false
	}
	unix.Close(fd)
	return true
}

// OpenFile opens name with the flags of open(2) and NoLinks; mode is for O_CREATE.
// Reading the directory by the returned file's Info methods is not safe; use ReadDir.
func (r *Root) OpenFile(name string, flags int, mode uint32) (*os.File, error) {
	fd, err := r.openFD(name, flags, mode)
	if err != nil {
		return nil, r.fail("open", name, err)
	}
	return os.NewFile(uintptr(fd), r.show(name)), nil
}

// Open opens name for reading.
func (r *Root) Open(name string) (*os.File, error) { return r.OpenFile(name, unix.O_RDONLY, 0) }

// ReadFile returns the content of name.
func (r *Root) ReadFile(name string) ([]byte, error) {
	f, err := r.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := readAll(f)
	if err != nil {
		return nil, r.fail("read", name, err)
	}
	return b, nil
}

// Resolve returns the path below the root that name really is, every link followed,
// beginning with "/". Programs that run inside the target (chroot) want this form.
func (r *Root) Resolve(name string) (string, error) {
	p, err := r.resolve(name)
	if err != nil {
		return "", r.fail("resolve", name, err)
	}
	return p, nil
}

// Host returns the path on this machine of what name really is. It is good until
// somebody changes a link in it, so it is for arguments of programs, not for writes.
func (r *Root) Host(name string) (string, error) {
	p, err := r.Resolve(name)
	if err != nil {
		return "", err
	}
	return strings.TrimRight(r.path, "/") + p, nil
}

// show is the path as a person on this machine would write it.
func (r *Root) show(name string) string {
	return strings.TrimRight(r.path, "/") + "/" + strings.TrimLeft(name, "/")
}

func (r *Root) fail(op, name string, err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return err
	}
	return &fs.PathError{Op: op, Path: r.show(name), Err: err}
}

// split cuts name into its directory and its last component. A name without a last
// component that can be made or removed ("/", "a/..") is refused.
func split(name string) (dir, base string, err error) {
	name = strings.TrimRight(name, "/")
	if i := strings.LastIndexByte(name, '/'); i >= 0 {
		dir, base = name[:i], name[i+1:]
	} else {
		base = name
	}
	if base == "" || base == "." || base == ".." || strings.IndexByte(name, 0) >= 0 {
		return "", "", fmt.Errorf("%q names no entry of a directory: %w", name, unix.EINVAL)
	}
	return dir, base, nil
}

// retryInt repeats a system call that a signal interrupted.
func retryInt(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if err != unix.EINTR {
			return n, err
		}
	}
}

// retry repeats a system call that a signal interrupted.
func retry(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}
