package iso

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"sort"
	"strings"
	"time"
)

// sector is the unit of everything on an ISO image.
const sector = 2048

// Limits for foreign images.
const (
	maxDirBytes = 64 << 20
	maxEntries  = 1 << 20
	maxDepth    = 64
)

// Entry is a file, folder or link on an image.
type Entry struct {
	Path    string      `json:"path"` // absolute
	Mode    fs.FileMode `json:"mode"`
	Size    int64       `json:"size"`
	ModTime time.Time   `json:"modified"`

	extents []extent
	records []record
}

// record is one directory record that names an entry: its place in the image
// and those of its Rock Ridge fields.
type record struct {
	off    int64
	size   int64
	fields []field
}

// field is one Rock Ridge field: signature, place and whole bytes.
type field struct {
	sig  string
	off  int64
	data []byte
}

// Image is an ISO image that was opened for reading.
type Image struct {
	r       io.ReaderAt
	close   func() error
	volume  []byte // the primary volume descriptor
	entries map[string]*Entry
	skip    int // bytes before Rock Ridge fields, as the root folder says
}

// Open opens the image at path.
func Open(path string) (*Image, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open the image: %w", err)
	}
	img, err := Read(f)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("read the image %s: %w", path, err)
	}
	img.close = f.Close
	return img, nil
}

// Read reads the folders of an ISO 9660 image with Rock Ridge names.
func Read(r io.ReaderAt) (*Image, error) {
	img := &Image{r: r, close: func() error { return nil }, entries: map[string]*Entry{}, volume: make([]byte, sector)}
	if _, err := r.ReadAt(img.volume, 16*sector); err != nil {
		return nil, fmt.Errorf("no ISO image: %w", err)
	}
	v := img.volume
	if v[0] != 1 || string(v[1:6]) != "CD001" {
		return nil, errors.New("no ISO image: the volume descriptor is missing")
	}
	if n := binary.LittleEndian.Uint16(v[128:]); n != sector {
		return nil, fmt.Errorf("an ISO image with blocks of %d bytes is not understood", n)
	}
	root := v[156 : 156+34]
	return img, img.walk("/", extentOf(root), 0, map[int64]bool{})
}

// Close closes the file.
func (i *Image) Close() error { return i.close() }

// Volume is the image's label.
func (i *Image) Volume() string { return strings.TrimRight(string(i.volume[40:72]), " \x00") }

// VolumeBytes is how long the ISO part says it is.
func (i *Image) VolumeBytes() int64 {
	return int64(binary.LittleEndian.Uint32(i.volume[80:])) * sector
}

// List returns all entries by path.
func (i *Image) List() []Entry {
	out := make([]Entry, 0, len(i.entries))
	for _, e := range i.entries {
		out = append(out, *e)
	}
	sort.Slice(out, func(a, b int) bool { return out[a].Path < out[b].Path })
	return out
}

// Stat returns the entry at path.
func (i *Image) Stat(name string) (Entry, error) {
	e := i.entries[path.Clean("/"+name)]
	if e == nil {
		return Entry{}, &fs.PathError{Op: "look up on the image", Path: name, Err: fs.ErrNotExist}
	}
	return *e, nil
}

// File opens a file of the image.
func (i *Image) File(name string) (*io.SectionReader, error) {
	e, err := i.Stat(name)
	if err != nil {
		return nil, err
	}
	if !e.Mode.IsRegular() {
		return nil, &fs.PathError{Op: "read from the image", Path: name, Err: errors.New("not a regular file")}
	}
	return io.NewSectionReader(&extents{i.r, e.extents}, 0, e.Size), nil
}

// ReadFile returns a small file whole.
func (i *Image) ReadFile(name string, limit int64) ([]byte, error) {
	r, err := i.File(name)
	if err != nil {
		return nil, err
	}
	if r.Size() > limit {
		return nil, fmt.Errorf("%s on the image has %d bytes, more than the %d that are read", name, r.Size(), limit)
	}
	b, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("read %s from the image: %w", name, err)
	}
	return b, nil
}

// extents joins the parts of a file.
type extents struct {
	r    io.ReaderAt
	list []extent
}

func (x *extents) ReadAt(p []byte, off int64) (int, error) {
	done := 0
	for _, e := range x.list {
		if off >= e.size {
			off -= e.size
			continue
		}
		n := int(min(int64(len(p)-done), e.size-off))
		m, err := x.r.ReadAt(p[done:done+n], e.off+off)
		done += m
		if m < n {
			if err == nil || err == io.EOF {
				err = io.ErrUnexpectedEOF // the image is shorter than its folders say
			}
			return done, err
		}
		if done == len(p) {
			return done, nil
		}
		off = 0
	}
	return done, io.EOF
}

func extentOf(rec []byte) extent {
	return extent{int64(binary.LittleEndian.Uint32(rec[2:])) * sector, int64(binary.LittleEndian.Uint32(rec[10:]))}
}

// walk reads one folder and those below it.
func (i *Image) walk(dir string, at extent, depth int, seen map[int64]bool) error {
	if depth > maxDepth || seen[at.off] || at.size > maxDirBytes {
		return fmt.Errorf("folder %s is damaged: too deep, too large, or within itself", dir)
	}
	seen[at.off] = true
	b := make([]byte, at.size)
	if _, err := i.r.ReadAt(b, at.off); err != nil {
		return fmt.Errorf("read folder %s: %w", dir, err)
	}
	var more *Entry // a file whose next part follows
	for pos := 0; pos < len(b); {
		n := int(b[pos])
		if n == 0 { // the rest of the sector is empty
			pos = (pos/sector + 1) * sector
			continue
		}
		if n < 34 || pos+n > len(b) || 33+int(b[pos+32]) > n {
			return fmt.Errorf("folder %s is damaged at byte %d", dir, pos)
		}
		rec := b[pos : pos+n]
		off := at.off + int64(pos)
		pos += n
		name, e, r, err := i.entry(dir, rec, off)
		if err != nil {
			return err
		}
		if name == "." || name == ".." {
			i.add(path.Clean(dir), e, r)
			continue
		}
		full := path.Join(dir, name)
		if more != nil {
			if more.Path != full {
				return fmt.Errorf("folder %s is damaged: the next part of %s is missing", dir, more.Path)
			}
			more.Size += e.Size
			more.extents = append(more.extents, e.extents...)
			more.records = append(more.records, r)
		} else {
			if len(i.entries) > maxEntries || i.entries[full] != nil {
				return fmt.Errorf("folder %s is damaged: too many entries, or %s is there twice", dir, name)
			}
			more = i.add(full, e, r)
		}
		if rec[25]&0x80 != 0 {
			continue
		}
		more = nil
		if e.Mode.IsDir() {
			if err := i.walk(full, e.extents[0], depth+1, seen); err != nil {
				return err
			}
		}
	}
	return nil
}

func (i *Image) add(full string, e Entry, r record) *Entry {
	if old := i.entries[full]; old != nil { // "." of a folder that its parent named
		old.records = append(old.records, r)
		return old
	}
	e.Path, e.records = full, []record{r}
	i.entries[full] = &e
	return &e
}

// entry reads one directory record. off is its place in the image.
func (i *Image) entry(dir string, rec []byte, off int64) (string, Entry, record, error) {
	x := extentOf(rec)
	e := Entry{Mode: 0o444, Size: x.size, extents: []extent{x}, ModTime: recordTime(rec[18:25])}
	if rec[25]&2 != 0 {
		e.Mode = fs.ModeDir | 0o555
	}
	id := rec[33 : 33+int(rec[32])]
	name := strings.ToLower(strings.TrimSuffix(strings.SplitN(string(id), ";", 2)[0], "."))
	switch {
	case len(id) == 1 && id[0] == 0:
		name = "."
	case len(id) == 1 && id[0] == 1:
		name = ".."
	}
	r := record{off: off, size: int64(len(rec))}
	if su := 33 + len(id) + (len(id)+1)%2; su < len(rec) {
		use := rec[su:]
		if dir == "/" && name == "." {
			i.skip = sharingSkip(use)
		} else {
			use = use[min(i.skip, len(use)):]
		}
		var err error
		if r.fields, err = i.fields(use, off+int64(len(rec)-len(use))); err != nil {
			return "", e, r, fmt.Errorf("folder %s: %w", dir, err)
		}
	}
	rr := rockRidge(r.fields, &e)
	if folder := rec[25]&2 != 0; folder != e.Mode.IsDir() {
		return "", e, r, fmt.Errorf("folder %s is damaged: %q is a folder and is none", dir, id)
	}
	if name != "." && name != ".." {
		if rr != "" {
			name = rr
		}
		if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") {
			return "", e, r, fmt.Errorf("folder %s is damaged: the name %q", dir, name)
		}
	}
	return name, e, r, nil
}

// sharingSkip reads the first field of the root folder.
func sharingSkip(b []byte) int {
	if len(b) >= 7 && bytes.HasPrefix(b, []byte("SP\x07\x01\xbe\xef")) {
		return int(b[6])
	}
	return 0
}

// recordTime reads a directory record's time.
func recordTime(b []byte) time.Time {
	zone := time.FixedZone("", int(int8(b[6]))*15*60)
	return time.Date(1900+int(b[0]), time.Month(b[1]), int(b[2]), int(b[3]), int(b[4]), int(b[5]), 0, zone).UTC()
}
