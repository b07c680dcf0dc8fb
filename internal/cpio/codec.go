package cpio

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/ulikunitz/xz"
	"github.com/ulikunitz/xz/lzma"
)

// Codec is a compression that the kernel's initramfs unpacker knows.
type Codec string

// Codecs. Only None, Gzip and Zstd are written: xz is slow, and behind an lz4
// segment the kernel finds no further one.
const (
	None Codec = "none"
	Gzip Codec = "gzip"
	Zstd Codec = "zstd"
	XZ   Codec = "xz"
	LZ4  Codec = "lz4"
	LZMA Codec = "lzma"
)

// Level is how hard to compress.
type Level int

// Levels from quick to small.
const (
	Fast Level = iota
	Default
	Better
	Best
)

// KernelCodec is the best compression that a kernel with this .config unpacks.
// Kernels before 5.9 know no zstd; without a config gzip is the one that all
// have.
func KernelCodec(config []byte) Codec {
	for _, line := range bytes.Split(config, []byte("\n")) {
		if string(bytes.TrimSpace(line)) == "CONFIG_RD_ZSTD=y" {
			return Zstd
		}
	}
	return Gzip
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

// NewEncoder compresses for the kernel. Close ends the stream and leaves w
// open.
func NewEncoder(w io.Writer, c Codec, l Level) (io.WriteCloser, error) {
	switch c {
	case None:
		return nopCloser{w}, nil
	case Gzip:
		return gzip.NewWriterLevel(w, map[Level]int{Fast: 1, Default: 5, Better: 6, Best: 9}[l])
	case Zstd:
		lv := map[Level]zstd.EncoderLevel{Fast: zstd.SpeedFastest, Default: zstd.SpeedDefault, Better: zstd.SpeedBetterCompression, Best: zstd.SpeedBestCompression}[l]
		// The kernel must hold a window in memory while it unpacks.
		return zstd.NewWriter(w, zstd.WithEncoderLevel(lv), zstd.WithEncoderConcurrency(runtime.NumCPU()),
			zstd.WithEncoderCRC(true), zstd.WithWindowSize(8<<20))
	}
	return nil, fmt.Errorf("cpio: segments are not written with %q; use none, gzip or zstd", c)
}

// foreign are magic numbers of compressions that the kernel knows and we do
// not read.
var foreign = []struct{ magic, name string }{
	{"BZh", "bzip2"}, {"\x89LZO", "lzo"}, {"\x04\x22\x4d\x18", "lz4 (frame format, which the kernel does not read either)"},
}

// detect tells the codec by the first bytes.
func detect(b []byte) (Codec, error) {
	for _, m := range []struct {
		magic string
		c     Codec
	}{
		{magicNew, None}, {magicCRC, None}, {"\x1f\x8b", Gzip}, {"\x1f\x9e", Gzip}, {"\x28\xb5\x2f\xfd", Zstd},
		{"\xfd7zXZ\x00", XZ}, {"\x02\x21\x4c\x18", LZ4}, {"\x5d\x00\x00", LZMA},
	} {
		if bytes.HasPrefix(b, []byte(m.magic)) {
			return m.c, nil
		}
	}
	for _, f := range foreign {
		if bytes.HasPrefix(b, []byte(f.magic)) {
			return "", fmt.Errorf("compressed with %s, which is not supported here; unpack it with unmkinitramfs or the tool of that name", f.name)
		}
	}
	return "", fmt.Errorf("neither a cpio archive nor a known compression (begins %x)", b)
}

// newDecoder reads exactly one compressed stream from src and leaves what
// follows.
func newDecoder(src *bufio.Reader, c Codec) (r io.Reader, done func(), err error) {
	done = func() {}
	switch c {
	case None:
		return src, done, nil
	case Gzip:
		// The reader takes single bytes of a bufio.Reader, never more than it needs.
		z, err := gzip.NewReader(src)
		if err != nil {
			return nil, nil, err
		}
		z.Multistream(false)
		return z, done, nil
	case Zstd:
		z, err := zstd.NewReader(&zstdFrame{r: src}, zstd.WithDecoderConcurrency(runtime.NumCPU()), zstd.WithDecoderMaxWindow(128<<20))
		if err != nil {
			return nil, nil, err
		}
		return z, z.Close, nil
	case XZ:
		if err := xzDictionary(src); err != nil {
			return nil, nil, err
		}
		z, err := xz.ReaderConfig{SingleStream: true}.NewReader(src)
		if err != nil {
			return nil, nil, err
		}
		return &xzStream{z: z, src: src}, done, nil
	case LZMA:
		h, err := src.Peek(5)
		if err != nil {
			return nil, nil, io.ErrUnexpectedEOF
		}
		if err := dictionary(int64(binary.LittleEndian.Uint32(h[1:]))); err != nil {
			return nil, nil, err
		}
		z, err := lzma.NewReader(src)
		if err != nil {
			return nil, nil, err
		}
		return z, done, nil
	case LZ4:
		return &lz4Legacy{r: src}, done, nil
	}
	return nil, nil, fmt.Errorf("no reader for %s", c)
}

// maxDictionary is twice what "xz -9" and "lzma -9" use. The decoder takes as
// much memory as the header says.
const maxDictionary = 128 << 20

func dictionary(n int64) error {
	if n > maxDictionary {
		return fmt.Errorf("needs %d MiB of memory to unpack; at most %d MiB are given", n>>20, maxDictionary>>20)
	}
	return nil
}

// xzDictionary checks the first block's dictionary size: the byte behind the
// filter number 0x21 and the length 1 in the block header.
func xzDictionary(src *bufio.Reader) error {
	b, _ := src.Peek(12 + 64)
	if len(b) < 24 || b[12] == 0 {
		return nil // an empty stream, or cut short: the decoder says so
	}
	i := bytes.Index(b[14:], []byte{0x21, 1})
	if i < 0 || 14+i+2 >= len(b) {
		return nil
	}
	d := b[14+i+2]
	return dictionary(int64(2|d&1) << (d/2 + 11))
}

// xzStream gives back the one byte by which the reader finds that another
// segment follows, which it takes for an error.
type xzStream struct {
	z   *xz.Reader
	src *bufio.Reader
}

func (x *xzStream) Read(p []byte) (int, error) {
	n, err := x.z.Read(p)
	if err != nil && err.Error() == "xz: unexpected data after stream" {
		if e := x.src.UnreadByte(); e != nil {
			return n, e
		}
		err = io.EOF
	}
	return n, err
}

// zstdFrame passes on exactly one frame, found by its block headers, so that
// the decoder's read-ahead cannot swallow the next segment.
type zstdFrame struct {
	r       *bufio.Reader
	head    []byte // bytes to pass on before body
	body    int64
	state   int // 0 start, 1 blocks, 2 checksum, 3 end
	withSum bool
}

func (f *zstdFrame) Read(p []byte) (int, error) {
	for {
		if len(f.head) > 0 {
			n := copy(p, f.head)
			f.head = f.head[n:]
			return n, nil
		}
		if f.body > 0 {
			n, err := f.r.Read(p[:min(int64(len(p)), f.body)])
			f.body -= int64(n)
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return n, err
		}
		if err := f.advance(); err != nil {
			return 0, err
		}
	}
}

func (f *zstdFrame) take(n int) ([]byte, error) {
	b := make([]byte, n)
	if _, err := io.ReadFull(f.r, b); err != nil {
		return nil, io.ErrUnexpectedEOF
	}
	f.head = append(f.head, b...)
	return b, nil
}

func (f *zstdFrame) advance() error {
	switch f.state {
	case 0:
		f.state = 1
		return f.header()
	case 1:
		b, err := f.take(3)
		if err != nil {
			return err
		}
		v := int64(b[0]) | int64(b[1])<<8 | int64(b[2])<<16
		f.body = v >> 3
		if v>>1&3 == 1 { // one byte, repeated
			f.body = 1
		}
		if v&1 == 1 {
			f.state = 3
			if f.withSum {
				f.state = 2
			}
		}
		return nil
	case 2:
		f.state = 3
		_, err := f.take(4)
		return err
	}
	return io.EOF
}

func (f *zstdFrame) header() error {
	b, err := f.take(5)
	if err != nil {
		return err
	}
	d := b[4]
	single := d>>5&1 == 1
	n := []int{0, 1, 2, 4}[d&3] + []int{0, 2, 4, 8}[d>>6]
	if single && d>>6 == 0 {
		n++
	}
	if !single {
		n++
	}
	f.withSum = d>>2&1 == 1
	_, err = f.take(n)
	return err
}

// lz4Legacy reads the format of "lz4 -l": chunks of 8 MiB at most. Nothing
// marks its end, so it always takes the rest of the image, as in the kernel.
type lz4Legacy struct {
	r    *bufio.Reader
	out  []byte
	buf  []byte
	comp []byte
}

const lz4Chunk = 8 << 20

func (l *lz4Legacy) Read(p []byte) (int, error) {
	for len(l.out) == 0 {
		if err := l.chunk(); err != nil {
			return 0, err
		}
	}
	n := copy(p, l.out)
	l.out = l.out[n:]
	return n, nil
}

func (l *lz4Legacy) chunk() error {
	var h [4]byte
	switch _, err := io.ReadFull(l.r, h[:]); {
	case errors.Is(err, io.ErrUnexpectedEOF): // padding of the image
		return io.EOF
	case err != nil:
		return err
	}
	size := binary.LittleEndian.Uint32(h[:])
	switch {
	case size == 0x184c2102: // the next concatenated stream
		return nil
	case size == 0:
		return io.EOF
	case size > uint32(lz4.CompressBlockBound(lz4Chunk)):
		return fmt.Errorf("lz4 chunk of %d bytes: damaged", size)
	}
	if l.buf == nil {
		l.buf = make([]byte, lz4Chunk)
	}
	l.comp = append(l.comp[:0], make([]byte, size)...)
	if _, err := io.ReadFull(l.r, l.comp); err != nil {
		return io.ErrUnexpectedEOF
	}
	n, err := lz4.UncompressBlock(l.comp, l.buf)
	if err != nil {
		return fmt.Errorf("lz4: %w", err)
	}
	l.out = l.buf[:n]
	return nil
}
