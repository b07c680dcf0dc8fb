package payload

import (
	"bytes"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// object is what the loader reads of an ELF file.
type object struct {
	Class   elf.Class
	Machine elf.Machine
	Interp  string   // loader named by a program; "" for libraries and static programs
	Needed  []string // DT_NEEDED in order
	Soname  string
	Rpath   []string // DT_RPATH, only if there is no DT_RUNPATH
	Runpath []string
	NoDef   bool // DF_1_NODEFLIB: the default folders are not searched
	Notes   []dlopenNote
}

// dynamic tells whether the loader has anything to do with it.
func (o *object) dynamic() bool { return o.Interp != "" || len(o.Needed) > 0 || o.Soname != "" }

// dlopenNote is one record of a .note.dlopen section: libraries that the
// program opens at run time.
type dlopenNote struct {
	Feature  string   `json:"feature"`
	Priority string   `json:"priority"` // required, recommended, suggested
	Soname   []string `json:"soname"`   // the first that is there is taken
}

var errNotELF = errors.New("not an ELF file")

// readELF reads the headers of a file; errNotELF for anything else.
func readELF(p string) (*object, error) {
	f, err := os.Open(p)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	magic := make([]byte, 4)
	if _, err := f.ReadAt(magic, 0); err != nil || string(magic) != elf.ELFMAG {
		if err != nil && err != io.EOF {
			return nil, err
		}
		return nil, errNotELF
	}
	o, err := parseELF(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p, err)
	}
	return o, nil
}

// Limits of what is believed of foreign headers; the largest programs known
// stay far below.
const (
	maxDynamic = 1 << 20
	maxString  = 64 << 10
	maxNote    = 1 << 20
)

// parseELF reads program headers only, as the loader does: section headers
// may be stripped.
func parseELF(r io.ReaderAt) (*object, error) {
	f, err := elf.NewFile(r)
	if err != nil {
		return nil, fmt.Errorf("damaged ELF headers: %w", err)
	}
	o := &object{Class: f.Class, Machine: f.Machine}
	var dyn []byte
	for _, p := range f.Progs {
		switch p.Type {
		case elf.PT_INTERP:
			b, err := readProg(r, p, maxString)
			if err != nil {
				return nil, err
			}
			o.Interp = cstring(b)
		case elf.PT_DYNAMIC:
			if dyn, err = readProg(r, p, maxDynamic); err != nil {
				return nil, err
			}
		case elf.PT_NOTE:
			// Notes of other kinds are long and of no interest.
			if b, err := readProg(r, p, maxNote); err == nil {
				o.Notes = append(o.Notes, dlopenNotes(f, b)...)
			}
		}
	}
	if len(o.Notes) == 0 {
		o.Notes = sectionNotes(f, r)
	}
	return o, o.readDynamic(f, r, dyn)
}

func readProg(r io.ReaderAt, p *elf.Prog, limit uint64) ([]byte, error) {
	if p.Filesz > limit {
		return nil, fmt.Errorf("damaged ELF headers: segment %v has %d bytes", p.Type, p.Filesz)
	}
	b := make([]byte, p.Filesz)
	if n, err := r.ReadAt(b, int64(p.Off)); n < len(b) {
		return nil, fmt.Errorf("damaged ELF file: segment %v is cut short: %w", p.Type, err)
	}
	return b, nil
}

// sectionNotes looks for the note in a section that no segment covers, which
// is how some linkers leave it.
func sectionNotes(f *elf.File, r io.ReaderAt) []dlopenNote {
	s := f.Section(".note.dlopen")
	if s == nil || s.Type != elf.SHT_NOTE || s.FileSize > maxNote {
		return nil
	}
	b := make([]byte, s.FileSize)
	if n, _ := r.ReadAt(b, int64(s.Offset)); n < len(b) {
		return nil
	}
	return dlopenNotes(f, b)
}

func cstring(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b)
}

// readDynamic takes the entries of the dynamic segment.
func (o *object) readDynamic(f *elf.File, r io.ReaderAt, dyn []byte) error {
	size := 8
	if f.Class == elf.ELFCLASS64 {
		size = 16
	}
	word := func(b []byte) uint64 {
		if size == 16 {
			return f.ByteOrder.Uint64(b)
		}
		return uint64(f.ByteOrder.Uint32(b))
	}
	var strAddr, strSize uint64
	type ref struct {
		tag elf.DynTag
		off uint64
	}
	var refs []ref
	for end := false; !end && len(dyn) >= size; dyn = dyn[size:] {
		tag, val := elf.DynTag(word(dyn)), word(dyn[size/2:])
		switch tag {
		case elf.DT_NULL:
			end = true
		case elf.DT_STRTAB:
			strAddr = val
		case elf.DT_STRSZ:
			strSize = val
		case elf.DT_FLAGS_1:
			o.NoDef = elf.DynFlag1(val)&elf.DF_1_NODEFLIB != 0
		case elf.DT_NEEDED, elf.DT_SONAME, elf.DT_RPATH, elf.DT_RUNPATH:
			refs = append(refs, ref{tag, val})
		}
	}
	for _, x := range refs {
		if x.off >= strSize {
			return fmt.Errorf("damaged ELF file: %v points outside the string table", x.tag)
		}
		s, err := stringAt(f, r, strAddr+x.off, strSize-x.off)
		if err != nil {
			return err
		}
		o.take(x.tag, s)
	}
	if len(o.Runpath) > 0 {
		o.Rpath = nil
	}
	return nil
}

func (o *object) take(tag elf.DynTag, s string) {
	switch tag {
	case elf.DT_NEEDED:
		o.Needed = append(o.Needed, s)
	case elf.DT_SONAME:
		o.Soname = s
	case elf.DT_RPATH:
		o.Rpath = strings.Split(s, ":")
	case elf.DT_RUNPATH:
		o.Runpath = strings.Split(s, ":")
	}
}

// stringAt reads a string at a virtual address.
func stringAt(f *elf.File, r io.ReaderAt, addr, limit uint64) (string, error) {
	for _, p := range f.Progs {
		if p.Type != elf.PT_LOAD || addr < p.Vaddr || addr-p.Vaddr >= p.Filesz {
			continue
		}
		in := addr - p.Vaddr
		limit = min(limit, p.Filesz-in, maxString)
		for _, n := range []uint64{256, limit} {
			b := make([]byte, min(n, limit))
			if got, err := r.ReadAt(b, int64(p.Off+in)); got < len(b) {
				return "", fmt.Errorf("damaged ELF file: string table is cut short: %w", err)
			}
			if i := bytes.IndexByte(b, 0); i >= 0 {
				return string(b[:i]), nil
			}
		}
		return "", errors.New("damaged ELF file: a name in the string table has no end")
	}
	return "", errors.New("damaged ELF file: the string table lies outside of what is loaded")
}

// Note type and owner of .note.dlopen, by the UAPI group's "ELF dlopen
// metadata".
const (
	noteDlopen = 0x407c0c0a
	noteOwner  = "FDO\x00"
)

// dlopenNotes reads the records of a note segment. What is not understood is
// skipped: the note is a hint, never a condition.
func dlopenNotes(f *elf.File, b []byte) []dlopenNote {
	var out []dlopenNote
	pad := func(n uint64) uint64 { return (n + 3) &^ 3 }
	for len(b) >= 12 {
		nameSize, descSize := uint64(f.ByteOrder.Uint32(b)), uint64(f.ByteOrder.Uint32(b[4:]))
		kind := f.ByteOrder.Uint32(b[8:])
		end := 12 + pad(nameSize) + pad(descSize)
		if end > uint64(len(b)) {
			// The last note may lack its padding.
			if end = 12 + pad(nameSize) + descSize; end > uint64(len(b)) {
				return out
			}
		}
		name := b[12 : 12+nameSize]
		desc := b[12+pad(nameSize) : 12+pad(nameSize)+descSize]
		if kind == noteDlopen && string(name) == noteOwner {
			var recs []dlopenNote
			if json.Unmarshal(bytes.TrimRight(desc, "\x00"), &recs) == nil {
				out = append(out, recs...)
			}
		}
		b = b[end:]
	}
	return out
}
