package sysroot

import (
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// Dir is an open directory below the root, for callers that make many entries in it
// with the *at system calls. Entry names given to those must be single components:
// see CheckBase.
type Dir struct {
	fd   int
	name string
}

// OpenDir opens the directory name. With NoLinks no component may be a link.
func (r *Root) OpenDir(name string, flags int) (*Dir, error) {
	fd, err := r.openFD(name, flags|unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, r.fail("open directory", name, err)
	}
	return &Dir{fd: fd, name: name}, nil
}

// FD is the descriptor, good until Close.
func (d *Dir) FD() int { return d.fd }

// Name is the name given to OpenDir.
func (d *Dir) Name() string { return d.name }

// Close releases the directory.
func (d *Dir) Close() error { return unix.Close(d.fd) }

// CheckBase refuses what is not one component of a path: "", ".", "..", or a name
// with a slash or a zero byte.
func CheckBase(base string) error {
	dir, b, err := split(base)
	if err != nil {
		return err
	}
	if dir != "" || b != base {
		return unix.EINVAL
	}
	return nil
}

// parent opens the directory that holds the last component of name.
func (r *Root) parent(name string) (*Dir, string, error) {
	dir, base, err := split(name)
	if err != nil {
		return nil, "", err
	}
	d, err := r.OpenDir(dir, 0)
	return d, base, err
}

// at runs one system call on the directory of name and its last component.
func (r *Root) at(op, name string, call func(dir int, base string) error) error {
	d, base, err := r.parent(name)
	if err != nil {
		return r.fail(op, name, err)
	}
	defer d.Close()
	if err := retry(func() error { return call(d.fd, base) }); err != nil {
		return r.fail(op, name, err)
	}
	return nil
}

// Mkdir makes the directory name with exactly mode (07777), whatever the umask.
func (r *Root) Mkdir(name string, mode uint32) error {
	return r.at("mkdir", name, func(dir int, base string) error {
		if err := unix.Mkdirat(dir, base, mode); err != nil {
			return err
		}
		return chmodNew(dir, base, mode)
	})
}

// chmodNew gives a directory that we just made its whole mode: mkdir(2) applies the
// umask and ignores the set-id bits.
func chmodNew(dir int, base string, mode uint32) error {
	fd, err := unix.Openat(dir, base, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Fchmod(fd, mode)
}

// MkdirAll makes name and the directories above it that are missing, with mode.
// Links to directories on the way are followed, never replaced.
func (r *Root) MkdirAll(name string, mode uint32) error {
	st, err := r.Stat(name)
	if err == nil {
		if !st.IsDir() {
			return r.fail("mkdir", name, unix.ENOTDIR)
		}
		return nil
	}
	if !errors.Is(err, unix.ENOENT) {
		return err
	}
	dir, _, err := split(name)
	if err != nil {
		return r.fail("mkdir", name, err)
	}
	if dir != "" {
		if err := r.MkdirAll(dir, mode); err != nil {
			return err
		}
	}
	err = r.Mkdir(name, mode)
	if errors.Is(err, unix.EEXIST) {
		// Made by somebody else meanwhile, or a link that leads nowhere.
		if st, err2 := r.Stat(name); err2 == nil && st.IsDir() {
			return nil
		}
	}
	return err
}

// Link makes name a second name of the file oldname (hard link).
func (r *Root) Link(oldname, name string) error {
	from, base, err := r.parent(oldname)
	if err != nil {
		return r.fail("link", oldname, err)
	}
	defer from.Close()
	return r.at("link", name, func(dir int, to string) error {
		return unix.Linkat(from.fd, base, dir, to, 0)
	})
}

// Symlink makes name a link to target; what stood there (not a directory) is
// replaced in one step. target is stored as given.
func (r *Root) Symlink(target, name string) error {
	return r.at("symlink", name, func(dir int, base string) error {
		for {
			tmp := tempName(base)
			err := unix.Symlinkat(target, dir, tmp)
			if err == unix.EEXIST {
				continue
			}
			if err != nil {
				return err
			}
			if err := unix.Renameat(dir, tmp, dir, base); err != nil {
				unix.Unlinkat(dir, tmp, 0)
				return err
			}
			return nil
		}
	})
}

// Readlink returns where the link name points, as stored.
func (r *Root) Readlink(name string) (string, error) {
	var target string
	err := r.at("readlink", name, func(dir int, base string) error {
		t, isLink, err := readlinkat(dir, base)
		if err == nil && !isLink {
			err = unix.EINVAL
		}
		target = t
		return err
	})
	return target, err
}

// Rename moves oldname to name; both are entries, links are not followed.
func (r *Root) Rename(oldname, name string) error {
	from, base, err := r.parent(oldname)
	if err != nil {
		return r.fail("rename", oldname, err)
	}
	defer from.Close()
	return r.at("rename", name, func(dir int, to string) error {
		return unix.Renameat(from.fd, base, dir, to)
	})
}

// Remove removes the entry name: a file, a link (not what it points to) or an empty
// directory.
func (r *Root) Remove(name string) error {
	return r.at("remove", name, func(dir int, base string) error {
		err := unix.Unlinkat(dir, base, 0)
		if err == unix.EISDIR || err == unix.EPERM {
			if err2 := unix.Unlinkat(dir, base, unix.AT_REMOVEDIR); err2 != unix.ENOTDIR {
				return err2
			}
		}
		return err
	})
}

// RemoveAll removes name and all below it; that it does not exist is no error. A
// mount point below stops it (EBUSY).
func (r *Root) RemoveAll(name string) error {
	err := r.Remove(name)
	if err == nil || errors.Is(err, unix.ENOENT) {
		return nil
	}
	if !errors.Is(err, unix.ENOTEMPTY) && !errors.Is(err, unix.EEXIST) {
		return err
	}
	entries, err := r.ReadDir(name)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := r.RemoveAll(name + "/" + e.Name()); err != nil {
			return err
		}
	}
	return r.Remove(name)
}

func readAll(f *os.File) ([]byte, error) {
	if st, err := f.Stat(); err == nil && st.IsDir() {
		return nil, unix.EISDIR
	}
	return io.ReadAll(f)
}
