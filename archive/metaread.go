package archive

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// Inode flags that can be set again, by when that must be. All others (extents, index,
// encryption, ...) say how the old filesystem stored the file.
const (
	earlyFlags  = fsNocow | fsCompr | fsNocomp // before the first byte of data
	lateFlags   = fsImmutable | fsAppend       // after everything else
	middleFlags = fsSecrm | fsUnrm | fsSync | fsNodump | fsNoatime | fsJournal | fsDirsync | fsTopdir | fsDax | fsProjinherit
	ourFlags    = earlyFlags | lateFlags | middleFlags

	fsSecrm       = 0x1
	fsUnrm        = 0x2
	fsCompr       = 0x4
	fsSync        = 0x8
	fsImmutable   = 0x10
	fsAppend      = 0x20
	fsNodump      = 0x40
	fsNoatime     = 0x80
	fsNocomp      = 0x400
	fsJournal     = 0x4000
	fsDirsync     = 0x10000
	fsTopdir      = 0x20000
	fsNocow       = 0x800000
	fsDax         = 0x2000000
	fsProjinherit = 0x20000000
)

// maxXattr is the kernel's limit for one value and for the list of all names.
const maxXattr = 64 << 10

// metaReader keeps the buffers for attributes.
type metaReader struct{ names, value []byte }

// readMeta adds what stat does not tell: attributes, ACLs, SELinux label, inode flags.
// With a name, the entry of the directory fd is meant (a link, a device), which cannot
// be opened; its attributes are reached by way of /proc.
func (w *walker) readMeta(fd int, name string, e *Entry) {
	m := &w.meta
	if m.names == nil {
		m.names, m.value = make([]byte, maxXattr), make([]byte, maxXattr)
	}
	list := func() (int, error) { return unix.Flistxattr(fd, m.names) }
	get := func(attr string) (int, error) { return unix.Fgetxattr(fd, attr, m.value) }
	if name != "" {
		path := procPath(fd) + "/" + name
		list = func() (int, error) { return unix.Llistxattr(path, m.names) }
		get = func(attr string) (int, error) { return unix.Lgetxattr(path, attr, m.value) }
	}
	n, err := list()
	if err != nil && err != unix.ENOTSUP && !(name != "" && err == unix.ENOENT) {
		w.lost(e.Path, "list its attributes (they are not packed)", err)
	}
	for rest := string(m.names[:max(n, 0)]); rest != ""; {
		var attr string
		attr, rest, _ = strings.Cut(rest, "\x00")
		n, err := get(attr)
		if err == unix.ENODATA {
			continue // gone meanwhile
		}
		if err == nil {
			err = e.addAttr(attr, m.value[:n])
		}
		if err != nil {
			w.lost(e.Path, "read its attribute "+attr+" (it is not packed)", err)
		}
	}
	if name == "" && !w.noFlags {
		w.readFlags(fd, e)
	}
}

// readFlags asks for the inode flags until the filesystem says that it has none.
func (w *walker) readFlags(fd int, e *Entry) {
	flags, err := getFlags(fd)
	switch err {
	case nil:
		e.Flags = flags & ourFlags
	case unix.ENOTTY, unix.ENOTSUP, unix.EINVAL, unix.ENOSYS:
		w.noFlags = true
	default:
		w.lost(e.Path, "read its inode flags (they are not packed)", err)
	}
}

// addAttr puts an attribute where tar expects it.
func (e *Entry) addAttr(attr string, value []byte) (err error) {
	switch attr {
	case xattrACL:
		e.ACL, err = aclText(value)
	case xattrDefaultACL:
		e.DefaultACL, err = aclText(value)
	case "security.selinux":
		e.SELinux = strings.TrimRight(string(value), "\x00")
	default:
		e.Xattrs = append(e.Xattrs, Xattr{attr, append([]byte(nil), value...)})
	}
	return err
}

func getFlags(fd int) (uint32, error) {
	for {
		n, err := unix.IoctlGetUint32(fd, unix.FS_IOC_GETFLAGS)
		if err != unix.EINTR {
			return n, err
		}
	}
}

func setFlags(fd int, flags uint32) error {
	for {
		if err := unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, int(flags)); err != unix.EINTR {
			return err
		}
	}
}

// procPath is a path that leads to an open file itself, wherever it is.
func procPath(fd int) string { return fmt.Sprintf("/proc/self/fd/%d", fd) }
