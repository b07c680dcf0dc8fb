package usb

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"sort"
	"strings"
	"time"
)

// Limits for foreign filesystems.
const (
	maxDirBytes  = 1 << 20
	maxEntries   = 1 << 16
	maxFolders   = 32 // deep
	maxExtents   = 1 << 20
	maxTreeDepth = 5
	maxTreeNodes = 1 << 14
)

// Of the ext4 disk layout (kernel documentation, filesystems/ext4).
const (
	superAt       = 1024
	superMagic    = 0xef53
	extentMagic   = 0xf30a
	rootInode     = 2
	flagExtents   = 0x80000
	flagEncrypted = 0x800
	incompatWant  = 0x2 | 0x40                                 // filetype, extents
	incompatKnown = incompatWant | 0x4 | 0x80 | 0x200 | 0x2000 // recover, 64bit, flex_bg, csum_seed
)

// extFS reads an ext4 filesystem without mounting it: the rescue system must
// find its stick without a byte being written, and images need no loop device.
type extFS struct {
	r         io.ReaderAt
	block     int64
	inodeSize int64
	perGroup  int64 // inodes
	inodes    int64
	descSize  int64
	descAt    int64
	free      int64 // bytes
}

// span is a run of a file's bytes on the disk.
type span struct{ logical, at, size int64 }

// node is one inode.
type node struct {
	mode  uint16
	size  int64
	mtime int64
	flags uint32
	root  []byte // of the extent tree
}

func (n *node) dir() bool     { return n.mode&0xf000 == 0x4000 }
func (n *node) regular() bool { return n.mode&0xf000 == 0x8000 }

var le = binary.LittleEndian

// openExt reads the superblock.
func openExt(r io.ReaderAt) (*extFS, error) {
	b := make([]byte, 1024)
	if _, err := r.ReadAt(b, superAt); err != nil {
		return nil, fmt.Errorf("read the superblock: %w", err)
	}
	if le.Uint16(b[0x38:]) != superMagic {
		return nil, errors.New("no ext4 filesystem")
	}
	incompat := le.Uint32(b[0x60:])
	if incompat&incompatWant != incompatWant || incompat&^incompatKnown != 0 {
		return nil, fmt.Errorf("an ext filesystem with features %#x is not understood", incompat)
	}
	log := le.Uint32(b[0x18:])
	if log > 6 {
		return nil, errors.New("the superblock is damaged: block size")
	}
	f := &extFS{r: r, block: 1024 << log, perGroup: int64(le.Uint32(b[0x28:])), inodeSize: int64(le.Uint16(b[0x58:])), inodes: int64(le.Uint32(b)), descSize: 32}
	if incompat&0x80 != 0 {
		f.descSize = int64(le.Uint16(b[0xfe:]))
		f.free = int64(le.Uint32(b[0x158:])) << 32
	}
	f.free = (f.free | int64(le.Uint32(b[0xc:]))) * f.block
	f.descAt = (int64(le.Uint32(b[0x14:])) + 1) * f.block
	if f.perGroup == 0 || f.inodeSize < 128 || f.inodeSize > f.block || f.descSize < 32 || f.descSize > 1024 || int64(le.Uint32(b[0x14:])) > 1 {
		return nil, errors.New("the superblock is damaged")
	}
	return f, nil
}

func (f *extFS) inode(n int64) (*node, error) {
	if n < 1 || n > f.inodes {
		return nil, fmt.Errorf("there is no inode %d", n)
	}
	group, index := (n-1)/f.perGroup, (n-1)%f.perGroup
	d := make([]byte, f.descSize)
	if _, err := f.r.ReadAt(d, f.descAt+group*f.descSize); err != nil {
		return nil, fmt.Errorf("read the group of inode %d: %w", n, err)
	}
	table := int64(le.Uint32(d[8:]))
	if f.descSize >= 64 {
		table |= int64(le.Uint32(d[0x28:])) << 32
	}
	b := make([]byte, f.inodeSize)
	at := table*f.block + index*f.inodeSize
	if table <= 0 || at < 0 {
		return nil, fmt.Errorf("the table of inode %d is damaged", n)
	}
	if _, err := f.r.ReadAt(b, at); err != nil {
		return nil, fmt.Errorf("read inode %d: %w", n, err)
	}
	i := &node{mode: le.Uint16(b), size: int64(le.Uint32(b[4:])) | int64(le.Uint32(b[0x6c:]))<<32, mtime: int64(le.Uint32(b[0x10:])), flags: le.Uint32(b[0x20:]), root: b[0x28:0x64]}
	if i.size < 0 {
		return nil, fmt.Errorf("inode %d is damaged: its size", n)
	}
	return i, nil
}

// spans lists where a file's bytes lie, in order; what no span covers is zero.
func (f *extFS) spans(i *node) ([]span, error) {
	if i.size == 0 {
		return nil, nil
	}
	if i.flags&flagExtents == 0 || i.flags&flagEncrypted != 0 {
		return nil, errors.New("a file without extents, or encrypted, is not understood")
	}
	var out []span
	nodes := maxTreeNodes
	err := f.tree(i.root, maxTreeDepth, &nodes, &out)
	if err != nil {
		return nil, err
	}
	end := int64(0)
	for _, s := range out {
		if s.logical < end || s.at < 0 || s.size <= 0 {
			return nil, errors.New("the extents are damaged")
		}
		end = s.logical + s.size
	}
	return out, nil
}

func (f *extFS) tree(b []byte, depth int, left *int, out *[]span) error {
	if *left--; *left < 0 || len(b) < 12 || le.Uint16(b) != extentMagic || int(le.Uint16(b[6:])) > depth {
		return errors.New("the extent tree is damaged")
	}
	count, level := int(le.Uint16(b[2:])), int(le.Uint16(b[6:]))
	if 12+12*count > len(b) {
		return errors.New("the extent tree is damaged")
	}
	for e := b[12 : 12+12*count]; len(e) > 0; e = e[12:] {
		if level > 0 {
			next := make([]byte, f.block)
			if _, err := f.r.ReadAt(next, f.block*(int64(le.Uint32(e[4:]))|int64(le.Uint16(e[8:]))<<32)); err != nil {
				return fmt.Errorf("read the extent tree: %w", err)
			}
			// Each level counts down, so that a tree within itself ends.
			if err := f.tree(next, level-1, left, out); err != nil {
				return err
			}
			continue
		}
		n := int64(le.Uint16(e[4:]))
		if len(*out) >= maxExtents {
			return errors.New("the extent tree is damaged: too many extents")
		}
		if n > 32768 {
			continue // allocated and never written: zeros
		}
		*out = append(*out, span{f.block * int64(le.Uint32(e)), f.block * (int64(le.Uint16(e[6:]))<<32 | int64(le.Uint32(e[8:]))), f.block * n})
	}
	return nil
}

// extFile is an open file.
type extFile struct {
	r     io.ReaderAt
	spans []span
	size  int64
}

func (f *extFS) open(i *node) (*extFile, error) {
	s, err := f.spans(i)
	return &extFile{f.r, s, i.size}, err
}

// ReadAt reads; holes are zero.
func (x *extFile) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off >= x.size {
		return 0, io.EOF
	}
	short := int64(len(p)) > x.size-off
	if short {
		p = p[:x.size-off]
	}
	clear(p)
	i := sort.Search(len(x.spans), func(i int) bool { return x.spans[i].logical+x.spans[i].size > off })
	for ; i < len(x.spans); i++ {
		s := x.spans[i]
		from, to := max(s.logical, off), min(s.logical+s.size, off+int64(len(p)))
		if from >= to {
			break
		}
		n, err := x.r.ReadAt(p[from-off:to-off], s.at+from-s.logical)
		if int64(n) < to-from {
			if err == nil || err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return int(from-off) + n, err
		}
	}
	if short {
		return len(p), io.EOF
	}
	return len(p), nil
}

// dirEntry is a name in a folder.
type dirEntry struct {
	name  string
	inode int64
}

// readDir lists a folder: an indexed one, too, reads as a plain list.
func (f *extFS) readDir(i *node) ([]dirEntry, error) {
	if !i.dir() || i.size > maxDirBytes {
		return nil, errors.New("no folder, or too large a one")
	}
	x, err := f.open(i)
	if err != nil {
		return nil, err
	}
	b := make([]byte, i.size)
	if _, err := x.ReadAt(b, 0); err != nil {
		return nil, err
	}
	var out []dirEntry
	for len(b) >= 8 {
		n, name := int(le.Uint16(b[4:])), int(b[6])
		if n < 8 || n > len(b) || 8+name > n {
			return nil, errors.New("the folder is damaged")
		}
		s := string(b[8 : 8+name])
		if ino := int64(le.Uint32(b)); ino != 0 && s != "." && s != ".." {
			if s == "" || strings.ContainsAny(s, "/\x00") {
				return nil, errors.New("the folder is damaged: a name")
			}
			out = append(out, dirEntry{s, ino})
		}
		b = b[n:]
	}
	return out, nil
}

// lookup finds the inode of an absolute path; links are not followed.
func (f *extFS) lookup(name string) (*node, error) {
	i, err := f.inode(rootInode)
	for _, part := range strings.FieldsFunc(path.Clean("/"+name), func(r rune) bool { return r == '/' }) {
		if err != nil {
			return nil, err
		}
		if !i.dir() {
			return nil, fs.ErrNotExist
		}
		list, err := f.readDir(i)
		if err != nil {
			return nil, err
		}
		n := int64(0)
		for _, e := range list {
			if e.name == part {
				n = e.inode
			}
		}
		if n == 0 {
			return nil, fs.ErrNotExist
		}
		if i, err = f.inode(n); err != nil {
			return nil, err
		}
	}
	return i, err
}

// Entry is a file or folder of the data partition.
type Entry struct {
	Path    string      `json:"path"` // absolute
	Mode    fs.FileMode `json:"mode"`
	Size    int64       `json:"size"`
	ModTime time.Time   `json:"modified"`
}

func entryOf(name string, i *node) Entry {
	m := fs.FileMode(i.mode & 0o777)
	switch i.mode & 0xf000 {
	case 0x4000:
		m |= fs.ModeDir
	case 0x8000:
	case 0xa000:
		m |= fs.ModeSymlink
	default:
		m |= fs.ModeIrregular
	}
	return Entry{name, m, i.size, time.Unix(i.mtime, 0).UTC()}
}

// walk calls visit for everything below dir, folders before their content.
// seen holds the inodes of folders: none is in two places.
func (f *extFS) walk(dir string, i *node, depth int, seen map[int64]bool, visit func(Entry)) error {
	if depth > maxFolders {
		return fmt.Errorf("folder %s is too deep", dir)
	}
	list, err := f.readDir(i)
	if err != nil {
		return fmt.Errorf("read folder %s: %w", dir, err)
	}
	sort.Slice(list, func(a, b int) bool { return list[a].name < list[b].name })
	for _, e := range list {
		child, err := f.inode(e.inode)
		name := path.Join(dir, e.name)
		if err != nil {
			return fmt.Errorf("read %s: %w", name, err)
		}
		visit(entryOf(name, child))
		if child.dir() {
			if seen[e.inode] || len(seen) > maxEntries {
				return fmt.Errorf("folder %s is damaged: it is there twice, or there are too many", name)
			}
			seen[e.inode] = true
			if err := f.walk(name, child, depth+1, seen, visit); err != nil {
				return err
			}
		}
	}
	return nil
}
