package cpio

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
)

// merged are the top folders that are links into usr in every image of ours.
// A folder of such a name in a later segment would make the kernel replace the
// link, and with it every path through it.
var merged = map[string]bool{"bin": true, "sbin": true, "lib": true, "lib32": true, "lib64": true, "libx32": true}

// Writer writes one newc archive. Equal calls give equal bytes: times, inode
// numbers and owners do not depend on the machine.
type Writer struct {
	w    *bufio.Writer
	pos  int64
	ino  uint32
	time int64
	have map[string]uint32 // name → file type
	err  error
}

// NewWriter begins an archive whose files all carry the same time in seconds.
func NewWriter(w io.Writer, mtime int64) *Writer {
	return &Writer{w: bufio.NewWriterSize(w, 1<<20), time: mtime, have: map[string]uint32{}}
}

// Add writes an entry with e.Size bytes of data. Missing parent folders come
// first, with mode 0755. Of the entry name, mode, owner, link target, device
// numbers and size count. What lies below /bin, /sbin and /lib* is stored
// below usr.
func (w *Writer) Add(e Entry, data io.Reader) error {
	if w.err != nil {
		return w.err
	}
	name, err := w.name(e)
	if err != nil {
		return err
	}
	if t, ok := w.have[name]; ok {
		if t == TypeDir && e.Type() == TypeDir {
			return nil
		}
		return fmt.Errorf("cpio: %s is added twice", name)
	}
	if e.Type() == TypeLink {
		data, e.Size = strings.NewReader(e.Link), int64(len(e.Link))
	}
	if e.Size < 0 || e.Size > 1<<32-1 {
		return fmt.Errorf("cpio: %s has %d bytes; the format holds at most 4 GiB", name, e.Size)
	}
	if err := w.parents(name); err != nil {
		return err
	}
	e.Name = name
	w.err = w.write(e, data)
	return w.err
}

func (w *Writer) name(e Entry) (string, error) {
	name := Clean(e.Name)
	top, rest, below := strings.Cut(name, "/")
	if merged[top] {
		if below {
			name = "usr/" + top + "/" + rest
		} else if e.Type() != TypeLink {
			return "", fmt.Errorf("cpio: %s must be a link to usr/%s", name, top)
		}
	}
	if name == "." || name == "" || name == trailer || len(name) >= maxName || strings.ContainsRune(name, 0) {
		return "", fmt.Errorf("cpio: %.100q is not a possible file name", e.Name)
	}
	return name, nil
}

func (w *Writer) parents(name string) error {
	dir := path.Dir(name)
	if dir == "." {
		return nil
	}
	switch t, ok := w.have[dir]; {
	case ok && t == TypeDir:
		return nil
	case ok:
		return fmt.Errorf("cpio: %s cannot hold %s: it is no folder", dir, name)
	}
	return w.Add(Entry{Name: dir, Mode: TypeDir | 0o755}, nil)
}

func (w *Writer) write(e Entry, data io.Reader) error {
	w.have[e.Name] = e.Type()
	w.ino++
	links := 1
	if e.Type() == TypeDir {
		links = 2
	}
	if err := w.head(e, w.ino, links); err != nil {
		return err
	}
	if e.Size > 0 {
		n, err := io.CopyN(w.w, data, e.Size)
		w.pos += n
		if err != nil {
			return fmt.Errorf("cpio: %s: %d of %d bytes: %w", e.Name, n, e.Size, err)
		}
	}
	return w.pad()
}

func (w *Writer) head(e Entry, ino uint32, links int) error {
	n, err := fmt.Fprintf(w.w, "%s%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%s\x00", magicNew,
		ino, e.Mode, e.UID, e.GID, links, uint32(w.time), e.Size, 0, 0, e.Major, e.Minor, len(e.Name)+1, 0, e.Name)
	w.pos += int64(n)
	if err != nil {
		return err
	}
	return w.pad()
}

func (w *Writer) pad() error {
	n, err := w.w.Write(make([]byte, -w.pos&3))
	w.pos += int64(n)
	return err
}

// Dir adds a folder.
func (w *Writer) Dir(name string, perm uint32) error {
	return w.Add(Entry{Name: name, Mode: TypeDir | perm&0o7777}, nil)
}

// File adds a file of these bytes.
func (w *Writer) File(name string, perm uint32, data []byte) error {
	return w.Add(Entry{Name: name, Mode: TypeFile | perm&0o7777, Size: int64(len(data))}, bytes.NewReader(data))
}

// Symlink adds a symbolic link.
func (w *Writer) Symlink(name, target string) error {
	if target == "" || len(target) >= maxName {
		return fmt.Errorf("cpio: link %s: %.100q is not a possible target", name, target)
	}
	return w.Add(Entry{Name: name, Mode: TypeLink | 0o777, Link: target}, nil)
}

// Char adds a character device.
func (w *Writer) Char(name string, perm, major, minor uint32) error {
	return w.Add(Entry{Name: name, Mode: TypeChar | perm&0o7777, Major: major, Minor: minor}, nil)
}

// Copy adds a regular file from disk with its permission bits. It may not
// change its length meanwhile.
func (w *Writer) Copy(name, from string) error {
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if !st.Mode().IsRegular() {
		return fmt.Errorf("cpio: %s is no regular file", from)
	}
	perm := uint32(st.Mode().Perm())
	for bit, m := range map[os.FileMode]uint32{os.ModeSetuid: 0o4000, os.ModeSetgid: 0o2000, os.ModeSticky: 0o1000} {
		if st.Mode()&bit != 0 {
			perm |= m
		}
	}
	return w.Add(Entry{Name: name, Mode: TypeFile | perm, Size: st.Size()}, f)
}

// Close ends the archive. It does not close what is below.
func (w *Writer) Close() error {
	if w.err != nil {
		return w.err
	}
	if err := w.head(Entry{Name: trailer}, 0, 1); err != nil {
		return err
	}
	w.err = fmt.Errorf("cpio: the archive is closed")
	return w.w.Flush()
}

// Image writes concatenated segments. The kernel unpacks one after the other;
// a later file replaces an earlier one.
type Image struct {
	w     *bufio.Writer
	mtime int64
	pos   int64
}

// NewImage begins an image; mtime is the time of all files.
func NewImage(w io.Writer, mtime int64) *Image {
	return &Image{w: bufio.NewWriterSize(w, 1<<20), mtime: mtime}
}

// AppendTo continues an image that has size bytes already.
func AppendTo(w io.Writer, size, mtime int64) *Image {
	i := NewImage(w, mtime)
	i.pos = size
	return i
}

func (i *Image) write(p []byte) (int, error) {
	n, err := i.w.Write(p)
	i.pos += int64(n)
	return n, err
}

// Segment writes a segment that fill fills, and returns its stored bytes
// without padding.
func (i *Image) Segment(c Codec, l Level, fill func(*Writer) error) (int64, error) {
	if err := i.align(); err != nil {
		return 0, err
	}
	start := i.pos
	z, err := NewEncoder(imageTail{i}, c, l)
	if err != nil {
		return 0, err
	}
	w := NewWriter(z, i.mtime)
	if err := fill(w); err != nil {
		z.Close()
		return 0, err
	}
	if err := w.Close(); err != nil {
		z.Close()
		return 0, err
	}
	if err := z.Close(); err != nil {
		return 0, err
	}
	return i.pos - start, nil
}

type imageTail struct{ i *Image }

func (t imageTail) Write(p []byte) (int, error) { return t.i.write(p) }

// Raw appends a ready segment, or several.
func (i *Image) Raw(r io.Reader) (int64, error) {
	if err := i.align(); err != nil {
		return 0, err
	}
	return io.Copy(imageTail{i}, r)
}

// align pads with zeros before a segment: an uncompressed archive must begin
// at a multiple of four bytes. Nothing follows the last one, since gzip calls
// zeros at the end an error.
func (i *Image) align() error {
	_, err := i.write(make([]byte, -i.pos&3))
	return err
}

// Close flushes. It does not close what is below.
func (i *Image) Close() error { return i.w.Flush() }
