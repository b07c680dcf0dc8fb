package payload

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"
)

// fakeELF describes a made-up ELF file: just what loader and modinfo read.
type fakeELF struct {
	class   elf.Class
	machine elf.Machine
	interp  string
	needed  []string
	soname  string
	rpath   string
	runpath string
	flags1  uint64
	note    []byte // of a PT_NOTE
	modinfo string // of a section .modinfo
}

const fakeBase = 0x400000 // where the only PT_LOAD is mapped

// bytes lays the file out: header, program headers, strings, dynamic, note,
// and for modules a section table.
func (f fakeELF) bytes() []byte {
	if f.class == 0 {
		f.class = elf.ELFCLASS64
	}
	if f.machine == 0 {
		f.machine = elf.EM_X86_64
	}
	wide := f.class == elf.ELFCLASS64
	le := binary.LittleEndian
	ehsize, phsize := 52, 32
	if wide {
		ehsize, phsize = 64, 56
	}
	str := []byte{0}
	add := func(s string) uint64 {
		at := len(str)
		str = append(append(str, s...), 0)
		return uint64(at)
	}
	type dyn struct{ tag, val uint64 }
	var dyns []dyn
	for _, n := range f.needed {
		dyns = append(dyns, dyn{uint64(elf.DT_NEEDED), add(n)})
	}
	for tag, s := range map[elf.DynTag]string{elf.DT_SONAME: f.soname, elf.DT_RPATH: f.rpath, elf.DT_RUNPATH: f.runpath} {
		if s != "" {
			dyns = append(dyns, dyn{uint64(tag), add(s)})
		}
	}
	if f.flags1 != 0 {
		dyns = append(dyns, dyn{uint64(elf.DT_FLAGS_1), f.flags1})
	}
	phnum := 4
	strOff := ehsize + phnum*phsize
	interpOff := strOff + len(str)
	noteOff := (interpOff + len(f.interp) + 1 + 7) &^ 7
	dynOff := (noteOff + len(f.note) + 7) &^ 7
	dyns = append(dyns, dyn{uint64(elf.DT_STRTAB), uint64(fakeBase + strOff)}, dyn{uint64(elf.DT_STRSZ), uint64(len(str))}, dyn{0, 0})
	var dynb bytes.Buffer
	for _, d := range dyns {
		if wide {
			_ = binary.Write(&dynb, le, d)
		} else {
			_ = binary.Write(&dynb, le, []uint32{uint32(d.tag), uint32(d.val)})
		}
	}
	total := dynOff + dynb.Len()
	out := make([]byte, total)
	copy(out[strOff:], str)
	copy(out[interpOff:], f.interp)
	copy(out[noteOff:], f.note)
	copy(out[dynOff:], dynb.Bytes())
	progs := []struct {
		typ       elf.ProgType
		off, size int
	}{
		{elf.PT_LOAD, 0, total}, {elf.PT_INTERP, interpOff, len(f.interp) + 1},
		{elf.PT_DYNAMIC, dynOff, dynb.Len()}, {elf.PT_NOTE, noteOff, len(f.note)},
	}
	for i, p := range progs {
		if p.typ == elf.PT_INTERP && f.interp == "" || p.typ == elf.PT_NOTE && len(f.note) == 0 {
			p.typ = elf.PT_NULL
		}
		var b bytes.Buffer
		if wide {
			_ = binary.Write(&b, le, elf.Prog64{Type: uint32(p.typ), Off: uint64(p.off), Vaddr: uint64(fakeBase + p.off), Filesz: uint64(p.size), Memsz: uint64(p.size)})
		} else {
			_ = binary.Write(&b, le, elf.Prog32{Type: uint32(p.typ), Off: uint32(p.off), Vaddr: uint32(fakeBase + p.off), Filesz: uint32(p.size), Memsz: uint32(p.size)})
		}
		copy(out[ehsize+i*phsize:], b.Bytes())
	}
	shoff := 0
	if f.modinfo != "" {
		out, shoff = addSections(out, f.modinfo)
	}
	ident := [16]byte{0x7f, 'E', 'L', 'F', byte(f.class), 1, 1}
	shnum := 0
	if shoff > 0 {
		shnum = 3
	}
	var head bytes.Buffer
	if wide {
		_ = binary.Write(&head, le, elf.Header64{Ident: ident, Type: uint16(elf.ET_DYN), Machine: uint16(f.machine), Version: 1, Phoff: uint64(ehsize),
			Shoff: uint64(shoff), Ehsize: uint16(ehsize), Phentsize: uint16(phsize), Phnum: uint16(phnum), Shentsize: 64, Shnum: uint16(shnum), Shstrndx: uint16(max(shnum-1, 0))})
	} else {
		_ = binary.Write(&head, le, elf.Header32{Ident: ident, Type: uint16(elf.ET_DYN), Machine: uint16(f.machine), Version: 1, Phoff: uint32(ehsize),
			Ehsize: uint16(ehsize), Phentsize: uint16(phsize), Phnum: uint16(phnum)})
	}
	copy(out, head.Bytes())
	return out
}

// addSections appends .modinfo, the names, and a table of three sections.
func addSections(out []byte, modinfo string) ([]byte, int) {
	infoOff := len(out)
	out = append(out, modinfo...)
	names := "\x00.modinfo\x00.shstrtab\x00"
	namesOff := len(out)
	out = append(out, names...)
	for len(out)%8 != 0 {
		out = append(out, 0)
	}
	shoff := len(out)
	var b bytes.Buffer
	for _, s := range []elf.Section64{
		{},
		{Name: 1, Type: uint32(elf.SHT_PROGBITS), Off: uint64(infoOff), Size: uint64(len(modinfo))},
		{Name: 10, Type: uint32(elf.SHT_STRTAB), Off: uint64(namesOff), Size: uint64(len(names))},
	} {
		_ = binary.Write(&b, binary.LittleEndian, s)
	}
	return append(out, b.Bytes()...), shoff
}

// write puts a file below root.
func write(t testing.TB, root, p string, data []byte) {
	t.Helper()
	full := filepath.Join(root, p)
	if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(full, data, 0o755); err != nil {
		t.Fatal(err)
	}
}

func link(t testing.TB, root, p, target string) {
	t.Helper()
	full := filepath.Join(root, p)
	if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, full); err != nil {
		t.Fatal(err)
	}
}

// mergedRoot is an empty system with /bin, /sbin, /lib and /lib64 merged.
func mergedRoot(t testing.TB) string {
	t.Helper()
	root := t.TempDir()
	for _, n := range []string{"bin", "sbin", "lib", "lib64"} {
		if err := os.MkdirAll(filepath.Join(root, "usr", n), 0o755); err != nil {
			t.Fatal(err)
		}
		link(t, root, n, "usr/"+n)
	}
	return root
}

const gnuInterp = "/lib64/ld-linux-x86-64.so.2"

// gnuRoot has a loader and a libc where Debian has them.
func gnuRoot(t testing.TB) string {
	t.Helper()
	root := mergedRoot(t)
	write(t, root, "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2", fakeELF{soname: "ld-linux-x86-64.so.2"}.bytes())
	link(t, root, "usr/lib64/ld-linux-x86-64.so.2", "/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2")
	write(t, root, "usr/lib/x86_64-linux-gnu/libc.so.6", fakeELF{soname: "libc.so.6", needed: []string{"ld-linux-x86-64.so.2"}}.bytes())
	return root
}

func prog(needed ...string) fakeELF {
	return fakeELF{interp: gnuInterp, needed: append(needed, "libc.so.6")}
}
