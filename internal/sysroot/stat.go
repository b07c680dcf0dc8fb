package sysroot

import (
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Info is what the kernel says about an entry. It is a fs.FileInfo and a
// fs.DirEntry; Raw has what those lose (the mode's 07777 bits, owner, device, inode).
type Info struct {
	name string
	Raw  unix.Stat_t
}

// Name is the last component of the path.
func (i *Info) Name() string { return i.name }

// Size is the length in bytes.
func (i *Info) Size() int64 { return i.Raw.Size }

// ModTime is the time of the last change of the content.
func (i *Info) ModTime() time.Time { return time.Unix(i.Raw.Mtim.Unix()) }

// IsDir tells whether it is a directory.
func (i *Info) IsDir() bool { return i.Raw.Mode&unix.S_IFMT == unix.S_IFDIR }

// Sys returns the *unix.Stat_t.
func (i *Info) Sys() any { return &i.Raw }

// Type is the type part of Mode.
func (i *Info) Type() fs.FileMode { return i.Mode().Type() }

// Info returns itself.
func (i *Info) Info() (fs.FileInfo, error) { return i, nil }

// Mode is the mode in Go's own bits.
func (i *Info) Mode() fs.FileMode {
	m := fs.FileMode(i.Raw.Mode & 0777)
	switch i.Raw.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		m |= fs.ModeDir
	case unix.S_IFLNK:
		m |= fs.ModeSymlink
	case unix.S_IFBLK:
		m |= fs.ModeDevice
	case unix.S_IFCHR:
		m |= fs.ModeDevice | fs.ModeCharDevice
	case unix.S_IFIFO:
		m |= fs.ModeNamedPipe
	case unix.S_IFSOCK:
		m |= fs.ModeSocket
	}
	for bit, mode := range map[uint32]fs.FileMode{unix.S_ISUID: fs.ModeSetuid, unix.S_ISGID: fs.ModeSetgid, unix.S_ISVTX: fs.ModeSticky} {
		if i.Raw.Mode&bit != 0 {
			m |= mode
		}
	}
	return m
}

// Stat describes what name leads to, links followed below the root.
func (r *Root) Stat(name string) (*Info, error) { return r.stat(name, unix.O_PATH) }

// Lstat describes the entry name itself.
func (r *Root) Lstat(name string) (*Info, error) { return r.stat(name, unix.O_PATH|unix.O_NOFOLLOW) }

func (r *Root) stat(name string, flags int) (*Info, error) {
	fd, err := r.openFD(name, flags, 0)
	if err != nil {
		return nil, r.fail("stat", name, err)
	}
	defer unix.Close(fd)
	in := &Info{name: name[strings.LastIndexByte(name, '/')+1:]}
	if err := unix.Fstat(fd, &in.Raw); err != nil {
		return nil, r.fail("stat", name, err)
	}
	return in, nil
}

// Exists tells whether name leads to something. Errors other than "no such file"
// count as existing: the caller's next step will meet them with their cause.
func (r *Root) Exists(name string) bool {
	_, err := r.Stat(name)
	return err == nil || !os.IsNotExist(err)
}

// ReadDir lists the directory name, sorted. Entries that vanish while it reads are
// left out.
func (r *Root) ReadDir(name string) ([]*Info, error) {
	f, err := r.OpenFile(name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		return nil, r.fail("read directory", name, err)
	}
	slices.Sort(names)
	infos := make([]*Info, 0, len(names))
	for _, n := range names {
		in := &Info{name: n}
		err := retry(func() error { return unix.Fstatat(int(f.Fd()), n, &in.Raw, unix.AT_SYMLINK_NOFOLLOW) })
		if err == unix.ENOENT {
			continue
		}
		if err != nil {
			return nil, r.fail("stat", name+"/"+n, err)
		}
		infos = append(infos, in)
	}
	return infos, nil
}

// FS is the tree below the root for io/fs functions (fs.WalkDir, fs.Glob). Names
// there have no leading slash; links are followed below the root.
func (r *Root) FS() fs.FS { return rootFS{r} }

type rootFS struct{ r *Root }

func (f rootFS) Open(name string) (fs.File, error)      { return valid("open", name, f.r.Open) }
func (f rootFS) Stat(name string) (fs.FileInfo, error)  { return valid("stat", name, f.r.Stat) }
func (f rootFS) Lstat(name string) (fs.FileInfo, error) { return valid("lstat", name, f.r.Lstat) }
func (f rootFS) ReadLink(name string) (string, error)   { return valid("readlink", name, f.r.Readlink) }
func (f rootFS) ReadFile(name string) ([]byte, error)   { return valid("read", name, f.r.ReadFile) }

func (f rootFS) ReadDir(name string) ([]fs.DirEntry, error) {
	infos, err := valid("readdir", name, f.r.ReadDir)
	if err != nil {
		return nil, err
	}
	entries := make([]fs.DirEntry, len(infos))
	for i, in := range infos {
		entries[i] = in
	}
	return entries, nil
}

// valid refuses the names that io/fs forbids ("/x", "a/../b").
func valid[T any](op, name string, do func(string) (T, error)) (T, error) {
	if !fs.ValidPath(name) {
		var none T
		return none, &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	return do(name)
}
