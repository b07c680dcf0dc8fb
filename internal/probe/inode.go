package probe

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sort"
	"strings"

	"golang.org/x/sys/unix"

	"lifeboat/internal/blockdev"
	"lifeboat/manifest"
)

// ReadInode reads the metadata of a path itself; links are not followed.
func ReadInode(path string) (manifest.Inode, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return manifest.Inode{}, fmt.Errorf("read the metadata of %s: %w", path, err)
	}
	defer unix.Close(fd)
	in, err := inodeOf(fd)
	if err != nil {
		return manifest.Inode{}, fmt.Errorf("read the metadata of %s: %w", path, err)
	}
	return in, nil
}

var inodeTypes = map[uint32]string{unix.S_IFDIR: "dir", unix.S_IFLNK: "link", unix.S_IFREG: "file", unix.S_IFIFO: "fifo",
	unix.S_IFCHR: "char", unix.S_IFBLK: "block", unix.S_IFSOCK: "socket"}

// inodeOf reads the metadata of an opened path (O_PATH is enough).
func inodeOf(fd int) (manifest.Inode, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return manifest.Inode{}, err
	}
	in := manifest.Inode{Type: inodeTypes[st.Mode&unix.S_IFMT], Mode: fmt.Sprintf("%04o", st.Mode&0o7777), UID: st.Uid, GID: st.Gid}
	if in.Type == "link" {
		buf := make([]byte, 4096)
		n, err := unix.Readlinkat(fd, "", buf)
		if err != nil {
			return in, err
		}
		in.Target = manifest.Bytes(buf[:n])
		return in, nil // the kernel keeps no attributes of links worth restoring but the label
	}
	var err error
	in.Xattrs, err = xattrs(fd)
	return in, err
}

// xattrs reads the extended attributes by the fd's path: the calls by fd
// refuse O_PATH.
func xattrs(fd int) (map[string][]byte, error) {
	at := fmt.Sprintf("/proc/self/fd/%d", fd)
	size, err := unix.Listxattr(at, nil)
	if errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.ENOENT) || size == 0 && err == nil {
		return nil, nil // no attributes here, or no /proc
	}
	if err != nil {
		return nil, err
	}
	list := make([]byte, size+256)
	if size, err = unix.Listxattr(at, list); err != nil {
		return nil, err
	}
	out := map[string][]byte{}
	for _, name := range strings.Split(strings.TrimRight(string(list[:size]), "\x00"), "\x00") {
		if name == "" {
			continue
		}
		value := make([]byte, 64<<10)
		n, err := unix.Getxattr(at, name, value)
		if errors.Is(err, unix.ENODATA) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("attribute %s: %w", name, err)
		}
		out[name] = value[:n:n]
	}
	if len(out) == 0 {
		return nil, nil
	}
	return out, nil
}

// points reads, for each mount, the directory that it covers and the root of
// what is mounted.
func (r *Reading) points(g *Graph) error {
	for i := range g.Storage.Mounts {
		mt := &g.Storage.Mounts[i]
		if mt.Path == "none" {
			continue
		}
		path := string(mt.Path)
		if !mt.Live {
			// Nothing covers it; it may also not be there at all.
			in, err := ReadInode(r.path(path))
			if err == nil {
				mt.Point = in
			} else if !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENOTDIR) {
				return err
			}
			continue
		}
		var err error
		if mt.Top, err = ReadInode(r.path(path)); err != nil {
			return fmt.Errorf("mount %s: %w", path, err)
		}
		if path == "/" {
			continue
		}
		if mt.Point, err = r.covered(path); err != nil {
			return fmt.Errorf("read the directory under the mount %s: %w", path, err)
		}
	}
	return nil
}

// covered reads the directory under a mount, on the mount that the path runs
// through.
func (r *Reading) covered(path string) (manifest.Inode, error) {
	parent, ok := r.parentMount(path)
	if !ok {
		return manifest.Inode{}, errors.New("no mount lies above it")
	}
	rel, err := filepath.Rel(parent, path)
	if err != nil {
		return manifest.Inode{}, err
	}
	in, err := byTree(r.path(parent), rel)
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) {
		in, err = byBind(r.path(parent), rel)
	}
	return in, err
}

// parentMount is the mount point above path, by mountinfo's parent. A mount
// at the very same place does not count: the directory under both is meant.
func (r *Reading) parentMount(path string) (string, bool) {
	best := -1
	for i, m := range r.View.Mounts {
		if m.Path != path && blockdev.Under(path, m.Path) && (best < 0 || len(m.Path) >= len(r.View.Mounts[best].Path)) {
			best = i
		}
	}
	if best < 0 {
		return "", false
	}
	return r.View.Mounts[best].Path, true
}

// byTree opens a copy of the parent mount without what is mounted below
// (open_tree(2), Linux 5.2).
func byTree(parent, rel string) (manifest.Inode, error) {
	fd, err := unix.OpenTree(unix.AT_FDCWD, parent, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return manifest.Inode{}, err
	}
	defer unix.Close(fd)
	return inodeBelow(fd, rel)
}

func inodeBelow(dir int, rel string) (manifest.Inode, error) {
	fd, err := unix.Openat(dir, rel, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return manifest.Inode{}, err
	}
	defer unix.Close(fd)
	return inodeOf(fd)
}

// byBind does the same on older kernels: a bind mount in a mount namespace of
// its own, on a thread that ends with it.
func byBind(parent, rel string) (manifest.Inode, error) {
	type result struct {
		in  manifest.Inode
		err error
	}
	done := make(chan result, 1)
	go func() {
		// Never unlocked: the thread's namespace must not serve others.
		runtime.LockOSThread()
		in, err := bindInNamespace(parent, rel)
		done <- result{in, err}
	}()
	r := <-done
	return r.in, r.err
}

func bindInNamespace(parent, rel string) (manifest.Inode, error) {
	var none manifest.Inode
	dir, err := os.MkdirTemp("", "lifeboat-mount-")
	if err != nil {
		return none, err
	}
	defer os.Remove(dir)
	if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS); err != nil {
		return none, fmt.Errorf("a mount namespace of its own: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return none, fmt.Errorf("make the mounts private: %w", err)
	}
	if err := unix.Mount(parent, dir, "", unix.MS_BIND, ""); err != nil {
		return none, fmt.Errorf("bind %s: %w", parent, err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return none, err
	}
	defer unix.Close(fd)
	in, err := inodeBelow(fd, rel)
	if err != nil {
		return none, err
	}
	// The kernel needs /proc of this very namespace for attributes by fd, and
	// that is still there: only names below dir changed.
	return in, nil
}

// sorted returns the keys of a set.
func sorted(set map[string]bool) []string {
	out := make([]string, 0, len(set))
	for k := range set {
		out = append(out, k)
	}
	sort.Strings(out)
	return out
}

// Beneath reads the metadata of a path on the filesystem that it lies on;
// where something is mounted at it, of the directory under the mount.
func (r *Reading) Beneath(path string) (manifest.Inode, error) {
	for _, m := range r.View.Mounts {
		if m.Path == path && path != "/" && r.View.Visible(m) {
			return r.covered(path)
		}
	}
	return ReadInode(r.path(path))
}
