package kmod

import (
	"bytes"
	"compress/gzip"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// Info is the .modinfo section of a module.
type Info struct {
	Name     string
	Vermagic string   // kernel release and build flags it was made for
	Firmware []string // files wanted below /lib/firmware, may hold globs
	Depends  []string // normalised names
	Aliases  []string
	Fields   map[string][]string // everything, by key
}

// maxModule limits what a compressed module may unpack to; the largest in
// distributions have about 30 MiB.
const maxModule = 256 << 20

// ReadInfo reads the module information of a .ko, .ko.gz, .ko.xz or .ko.zst.
func ReadInfo(path string) (Info, error) {
	f, err := os.Open(path)
	if err != nil {
		return Info{}, err
	}
	defer f.Close()
	magic := make([]byte, 6)
	n, err := f.ReadAt(magic, 0)
	if err != nil && n < 4 {
		return Info{}, fmt.Errorf("module %s: too short for a module: %w", path, err)
	}
	var r io.ReaderAt = f
	if !bytes.HasPrefix(magic, []byte(elf.ELFMAG)) {
		b, err := decompress(f, magic[:n])
		if err != nil {
			return Info{}, fmt.Errorf("module %s: %w", path, err)
		}
		r = bytes.NewReader(b)
	}
	i, err := parseInfo(r)
	if err != nil {
		return Info{}, fmt.Errorf("module %s: %w", path, err)
	}
	return i, nil
}

// Info reads the module information of a module of a set that was opened from
// a folder.
func (s *Set) Info(m Module) (Info, error) { return ReadInfo(filepath.Join(s.Dir, m.Path)) }

// ReadFile returns a module as the kernel takes it: unpacked, signature and
// all.
func (s *Set) ReadFile(m Module) ([]byte, error) { return ReadModule(filepath.Join(s.Dir, m.Path)) }

// ReadModule reads a module file and unpacks it. The compression is told by
// content, not by name.
func ReadModule(path string) ([]byte, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if bytes.HasPrefix(b, []byte(elf.ELFMAG)) {
		return b, nil
	}
	b, err = decompress(bytes.NewReader(b), b[:min(6, len(b))])
	if err != nil {
		return nil, fmt.Errorf("module %s: %w", path, err)
	}
	return b, nil
}

func decompress(r io.Reader, magic []byte) ([]byte, error) {
	var d io.Reader
	var err error
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		d, err = gzip.NewReader(r)
	case bytes.HasPrefix(magic, []byte{0xfd, '7', 'z', 'X', 'Z', 0}):
		d, err = xz.NewReader(r)
	case bytes.HasPrefix(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		var z *zstd.Decoder
		z, err = zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxModule))
		if err == nil {
			defer z.Close()
			d = z
		}
	default:
		return nil, fmt.Errorf("neither ELF nor gzip, xz or zstd (begins %x)", magic)
	}
	if err != nil {
		return nil, fmt.Errorf("unpacking: %w", err)
	}
	b, err := io.ReadAll(io.LimitReader(d, maxModule+1))
	if err != nil {
		return nil, fmt.Errorf("unpacking: %w", err)
	}
	if len(b) > maxModule {
		return nil, fmt.Errorf("unpacks to more than %d MiB", maxModule>>20)
	}
	return b, nil
}

// ParseInfo reads the module information of an unpacked module.
func ParseInfo(b []byte) (Info, error) { return parseInfo(bytes.NewReader(b)) }

func parseInfo(r io.ReaderAt) (Info, error) {
	f, err := elf.NewFile(r)
	if err != nil {
		return Info{}, err
	}
	sec := f.Section(".modinfo")
	if sec == nil {
		return Info{}, errors.New("no .modinfo section: not a kernel module")
	}
	if sec.Size > 1<<20 {
		return Info{}, fmt.Errorf(".modinfo has %d bytes: not a kernel module", sec.Size)
	}
	data, err := sec.Data()
	if err != nil {
		return Info{}, fmt.Errorf(".modinfo: %w", err)
	}
	i := Info{Fields: map[string][]string{}}
	for rec := range strings.SplitSeq(string(data), "\x00") {
		if k, v, ok := strings.Cut(rec, "="); ok {
			i.Fields[k] = append(i.Fields[k], v)
		}
	}
	i.Firmware, i.Aliases = i.Fields["firmware"], i.Fields["alias"]
	if v := i.Fields["name"]; len(v) > 0 {
		i.Name = Name(v[0])
	}
	if v := i.Fields["vermagic"]; len(v) > 0 {
		i.Vermagic = v[0]
	}
	for _, v := range i.Fields["depends"] {
		for d := range strings.SplitSeq(v, ",") {
			if d != "" {
				i.Depends = append(i.Depends, Name(d))
			}
		}
	}
	return i, nil
}

// Release is the kernel release of a vermagic string.
func (i Info) Release() string { r, _, _ := strings.Cut(i.Vermagic, " "); return r }

// Missing tells whether an error means that a module's file is not there.
func Missing(err error) bool { return errors.Is(err, fs.ErrNotExist) }
