package sysroot

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// WriteFile writes data to name so that at any moment, also after a power cut, name
// holds all of the old content or all of the new one. See Write.
func (r *Root) WriteFile(name string, data []byte, mode uint32) error {
	return r.Write(name, mode, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

// Write lets fill write the new content of name into a temporary file beside it,
// which is then fsynced and renamed. A link is followed below the root, so that the
// file it names is replaced and the link stays. A file that exists keeps its owner,
// mode and extended attributes (SELinux label, ACL); mode (07777) is for a new one.
// The directory must exist.
func (r *Root) Write(name string, mode uint32, fill func(io.Writer) error) error {
	name, err := r.behindLinks(name)
	if err != nil {
		return r.fail("write", name, err)
	}
	d, base, err := r.parent(name)
	if err != nil {
		return r.fail("write", name, err)
	}
	defer d.Close()
	f, tmp, err := r.makeTemp(d, base, mode)
	if err != nil {
		return r.fail("write", name, err)
	}
	err = fill(f)
	if err == nil {
		err = f.Sync()
	}
	if err2 := f.Close(); err == nil {
		err = err2
	}
	if err == nil {
		err = retry(func() error { return unix.Renameat(d.fd, tmp, d.fd, base) })
	}
	if err != nil {
		unix.Unlinkat(d.fd, tmp, 0)
		return r.fail("write", name, err)
	}
	if err := unix.Fsync(d.fd); err != nil {
		return r.fail("sync directory of", name, err)
	}
	return nil
}

// makeTemp creates the temporary file, looking like the file it will replace.
func (r *Root) makeTemp(d *Dir, base string, mode uint32) (*os.File, string, error) {
	var old unix.Stat_t
	err := unix.Fstatat(d.fd, base, &old, unix.AT_SYMLINK_NOFOLLOW)
	if err != nil && err != unix.ENOENT {
		return nil, "", err
	}
	exists := err == nil
	if exists && old.Mode&unix.S_IFMT == unix.S_IFDIR {
		return nil, "", unix.EISDIR
	}
	for {
		tmp := tempName(base)
		fd, err := retryInt(func() (int, error) {
			return unix.Openat(d.fd, tmp, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0600)
		})
		if err == unix.EEXIST {
			continue
		}
		if err != nil {
			return nil, "", err
		}
		f := os.NewFile(uintptr(fd), r.show(d.name+"/"+tmp))
		if exists && old.Mode&unix.S_IFMT == unix.S_IFREG {
			err = copyLooks(d.fd, base, fd, &old)
		} else {
			err = unix.Fchmod(fd, mode)
		}
		if err != nil {
			f.Close()
			unix.Unlinkat(d.fd, tmp, 0)
			return nil, "", err
		}
		return f, tmp, nil
	}
}

// copyLooks gives fd the owner, extended attributes and mode of the old file, in the
// order that keeps set-id bits and capabilities.
func copyLooks(dir int, base string, fd int, old *unix.Stat_t) error {
	var now unix.Stat_t
	if err := unix.Fstat(fd, &now); err != nil {
		return err
	}
	if now.Uid != old.Uid || now.Gid != old.Gid {
		if err := unix.Fchown(fd, int(old.Uid), int(old.Gid)); err != nil {
			return err
		}
	}
	if err := copyXattrs(dir, base, fd); err != nil {
		return err
	}
	return unix.Fchmod(fd, old.Mode&07777)
}

func copyXattrs(dir int, base string, to int) error {
	from, err := unix.Openat(dir, base, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(from)
	list := make([]byte, 64<<10) // the kernel's limit for all names of one file
	n, err := unix.Flistxattr(from, list)
	if err == unix.ENOTSUP {
		return nil
	}
	if err != nil {
		return err
	}
	value := make([]byte, 64<<10) // and for one value
	for _, name := range zeroStrings(list[:n]) {
		n, err := unix.Fgetxattr(from, name, value)
		if err == unix.ENODATA {
			continue
		}
		if err != nil {
			return err
		}
		if err := unix.Fsetxattr(to, name, value[:n], 0); err != nil {
			return err
		}
	}
	return nil
}

// zeroStrings cuts a list of zero-terminated strings.
func zeroStrings(b []byte) []string {
	var out []string
	for len(b) > 0 {
		end := 0
		for end < len(b) && b[end] != 0 {
			end++
		}
		out = append(out, string(b[:end]))
		b = b[min(end+1, len(b)):]
	}
	return out
}

// behindLinks follows name while it is a link; the result may not exist yet. The
// parts are only glued, never cleaned: "a/../b" means what the kernel says it means.
func (r *Root) behindLinks(name string) (string, error) {
	for links := 0; ; links++ {
		dir, _, err := split(name)
		if err != nil {
			return name, err
		}
		target, err := r.Readlink(name)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
			return name, nil
		}
		if err != nil {
			return name, err
		}
		if links == maxLinks {
			return name, unix.ELOOP
		}
		if target != "" && target[0] == '/' {
			name = target
		} else {
			name = dir + "/" + target
		}
	}
}

// tempName is a name that no file of a system has, within NAME_MAX whatever base is.
func tempName(base string) string {
	var b [8]byte
	rand.Read(b[:]) // never fails: it ends the program instead
	if len(base) > 200 {
		base = base[:200]
	}
	return "." + base + ".lifeboat-" + hex.EncodeToString(b[:])
}
