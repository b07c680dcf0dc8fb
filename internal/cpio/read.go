package cpio

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Segment is one part of an image, as found.
type Segment struct {
	Offset   int64 // where it begins, in bytes
	Stored   int64 // bytes in the image, padding not counted
	Unpacked int64 // bytes of its archives
	Entries  int
	Codec    Codec
}

// Reader reads the entries of all segments of an image, in order. It is as
// strict as the kernel: what the kernel would stop at is an error.
type Reader struct {
	count *counter
	src   *bufio.Reader // the image
	cur   *bufio.Reader // the open segment, unpacked; nil between segments
	done  func()
	segs  []Segment
	pos   int64 // in cur
	left  int64 // of the current entry's data
	inArc bool  // an archive has begun and not ended
	err   error
}

type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// NewReader reads an image from its beginning.
func NewReader(r io.Reader) *Reader {
	c := &counter{r: r}
	return &Reader{count: c, src: bufio.NewReaderSize(c, 1<<18)}
}

func (r *Reader) offset() int64 { return r.count.n - int64(r.src.Buffered()) }

// Segments are the segments met so far. The figures of the last one are
// complete when Next has returned io.EOF.
func (r *Reader) Segments() []Segment { return r.segs }

// Next goes to the next entry of any segment; io.EOF means that the image
// ended well.
func (r *Reader) Next() (*Entry, error) {
	if r.err != nil {
		return nil, r.err
	}
	e, err := r.next()
	if err != nil && err != io.EOF {
		if len(r.segs) > 0 && (r.cur != nil) {
			s := r.segs[len(r.segs)-1]
			err = fmt.Errorf("segment %d (%s, at byte %d): %w", len(r.segs)-1, s.Codec, s.Offset, err)
		}
		err = fmt.Errorf("initramfs: %w", err)
	}
	if err != nil {
		r.Close()
	}
	r.err = err
	return e, err
}

// Close frees the decompressor of an image that is not read to its end. The
// end and any error free it too.
func (r *Reader) Close() {
	if r.done != nil {
		r.done()
		r.done, r.cur = nil, nil
		r.err = errClosed
	}
}

var errClosed = errors.New("initramfs: the reader is closed")

func (r *Reader) next() (*Entry, error) {
	if err := r.skip(r.left); err != nil {
		return nil, err
	}
	r.left = 0
	if err := r.skip(-r.pos & 3); err != nil {
		return nil, err
	}
	for {
		if r.cur == nil {
			if err := r.open(); err != nil {
				return nil, err
			}
		}
		if !r.inArc {
			more, err := r.another()
			if err != nil {
				return nil, err
			}
			if !more {
				continue
			}
		}
		e, err := r.header()
		if err != nil {
			return nil, err
		}
		if e != nil {
			r.left = e.Size
			r.segs[len(r.segs)-1].Entries++
			return e, nil
		}
		r.inArc = false // the trailer
	}
}

// open begins the next segment behind any zero bytes.
func (r *Reader) open() error {
	if err := skipZeros(r.src, nil); err != nil {
		return err
	}
	magic, err := r.src.Peek(6)
	if err != nil && len(magic) < 2 {
		return fmt.Errorf("after byte %d: %w", r.offset(), io.ErrUnexpectedEOF)
	}
	c, err := detect(magic)
	if err != nil {
		return fmt.Errorf("at byte %d: %w", r.offset(), err)
	}
	if c == None && r.offset()&3 != 0 {
		return fmt.Errorf("at byte %d: an uncompressed archive must begin at a multiple of 4", r.offset())
	}
	r.segs = append(r.segs, Segment{Offset: r.offset(), Codec: c})
	d, done, err := newDecoder(r.src, c)
	if err != nil {
		return fmt.Errorf("at byte %d: %s: %w", r.offset(), c, err)
	}
	r.cur, r.done, r.pos = r.src, done, 0
	if c != None {
		r.cur = bufio.NewReaderSize(d, 1<<17)
	}
	r.inArc = c == None
	return nil
}

// another looks for a further archive in the open segment; false means that
// the segment has ended and was closed.
func (r *Reader) another() (bool, error) {
	s := &r.segs[len(r.segs)-1]
	if s.Codec != None {
		err := skipZeros(r.cur, &r.pos)
		if err == nil {
			if b, _ := r.cur.Peek(1); b[0] != '0' {
				return false, fmt.Errorf("junk after the archive, at unpacked byte %d", r.pos)
			}
			if r.pos&3 != 0 {
				return false, fmt.Errorf("archive at unpacked byte %d, which is no multiple of 4", r.pos)
			}
			r.inArc = true
			return true, nil
		}
		if err != io.EOF {
			return false, err
		}
	}
	s.Unpacked, s.Stored = r.pos, r.offset()-s.Offset
	r.done()
	r.done, r.cur, r.pos = nil, nil, 0
	return false, nil
}

func skipZeros(b *bufio.Reader, pos *int64) error {
	for {
		c, err := b.ReadByte()
		if err != nil {
			return err
		}
		if c != 0 {
			return b.UnreadByte()
		}
		if pos != nil {
			*pos++
		}
	}
}

func (r *Reader) skip(n int64) error {
	if n == 0 {
		return nil
	}
	k, err := io.CopyN(io.Discard, r.cur, n)
	r.pos += k
	return noEOF(err)
}

// noEOF makes an end inside an archive what it is.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

func (r *Reader) full(n int) ([]byte, error) {
	b := make([]byte, n)
	k, err := io.ReadFull(r.cur, b)
	r.pos += int64(k)
	return b, noEOF(err)
}

// header reads an entry up to its data; nil is the trailer.
func (r *Reader) header() (*Entry, error) {
	at := r.pos
	b, err := r.full(headLen)
	if err != nil {
		return nil, fmt.Errorf("entry header at unpacked byte %d: %w", at, err)
	}
	if m := string(b[:6]); m != magicNew && m != magicCRC {
		return nil, fmt.Errorf("at unpacked byte %d: %q is no newc header", at, m)
	}
	var f [13]uint32
	for i := range f {
		var v [4]byte
		if _, err := hex.Decode(v[:], b[6+8*i:14+8*i]); err != nil {
			return nil, fmt.Errorf("entry header at unpacked byte %d: %w", at, err)
		}
		f[i] = uint32(v[0])<<24 | uint32(v[1])<<16 | uint32(v[2])<<8 | uint32(v[3])
	}
	e := &Entry{Ino: f[0], Mode: f[1], UID: f[2], GID: f[3], NLink: f[4], MTime: int64(f[5]), Size: int64(f[6]),
		DevMaj: f[7], DevMin: f[8], Major: f[9], Minor: f[10], Segment: len(r.segs) - 1}
	if f[11] < 2 || f[11] > maxName {
		return nil, fmt.Errorf("entry header at unpacked byte %d: name of %d bytes", at, f[11])
	}
	name, err := r.full(int(f[11]))
	if err != nil {
		return nil, fmt.Errorf("entry name at unpacked byte %d: %w", at, err)
	}
	raw, ok := bytes.CutSuffix(name, []byte{0})
	if !ok || bytes.IndexByte(raw, 0) >= 0 {
		return nil, fmt.Errorf("entry at unpacked byte %d: name %.40q is not ended by a zero byte", at, name)
	}
	if err := r.skip(-r.pos & 3); err != nil {
		return nil, err
	}
	if string(raw) == trailer {
		return nil, r.skip(e.Size)
	}
	e.Name = Clean(string(raw))
	if e.Name == "" {
		e.Name = "."
	}
	return e, r.link(e)
}

// link reads a symbolic link's target, which stands where a file has data.
func (r *Reader) link(e *Entry) error {
	if e.Type() != TypeLink {
		return nil
	}
	if e.Size > maxName {
		return fmt.Errorf("link %s: target of %d bytes", e.Name, e.Size)
	}
	b, err := r.full(int(e.Size))
	if err != nil {
		return fmt.Errorf("link %s: %w", e.Name, err)
	}
	e.Link, e.Size = strings.TrimRight(string(b), "\x00"), 0
	return nil
}

// Read reads data of the current entry.
func (r *Reader) Read(p []byte) (int, error) {
	if r.left == 0 || r.cur == nil {
		return 0, io.EOF
	}
	n, err := r.cur.Read(p[:min(int64(len(p)), r.left)])
	r.pos += int64(n)
	r.left -= int64(n)
	return n, noEOF(err)
}

// List reads a whole image and returns its entries and segments. On an error
// it returns what came before.
func List(r io.Reader) ([]Entry, []Segment, error) {
	var out []Entry
	rd := NewReader(r)
	for {
		e, err := rd.Next()
		if err == io.EOF {
			return out, rd.Segments(), nil
		}
		if err != nil {
			return out, rd.Segments(), err
		}
		out = append(out, *e)
	}
}

// ErrTooLarge says that a wanted file has more bytes than asked for.
var ErrTooLarge = errors.New("larger than the limit")

// ReadFiles returns the contents of wanted regular files by name, as the
// kernel would unpack them: the last of a name wins, and hard links share
// what comes with the last of them. A file of more than limit bytes is
// ErrTooLarge.
func ReadFiles(r io.Reader, want func(Entry) bool, limit int64) (map[string][]byte, error) {
	type inode struct {
		seg           int
		maj, min, ino uint32
	}
	out := map[string][]byte{}
	waiting := map[inode][]string{} // wanted names whose data may still come
	shared := map[inode][]byte{}    // data of links that came
	rd := NewReader(r)
	defer rd.Close()
	for {
		e, err := rd.Next()
		if err == io.EOF {
			return out, nil
		}
		if err != nil {
			return out, err
		}
		delete(out, e.Name)
		if !e.Regular() {
			continue
		}
		id := inode{e.Segment, e.DevMaj, e.DevMin, e.Ino}
		linked, wanted := e.NLink > 1, want(*e)
		if linked && wanted {
			waiting[id] = append(waiting[id], e.Name)
		}
		if !wanted && len(waiting[id]) == 0 {
			continue
		}
		if e.Size > limit {
			return out, fmt.Errorf("initramfs: %s has %d bytes: %w (%d)", e.Name, e.Size, ErrTooLarge, limit)
		}
		b, err := io.ReadAll(rd)
		if err != nil {
			return out, fmt.Errorf("initramfs: %s: %w", e.Name, err)
		}
		if linked && len(b) == 0 {
			b = shared[id]
		}
		if wanted {
			out[e.Name] = b
		}
		if linked {
			shared[id] = b
			for _, n := range waiting[id] {
				out[n] = b
			}
		}
	}
}
