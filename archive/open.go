package archive

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/klauspost/compress/zstd"
)

// Archive is an open archive. Its methods may be called from many goroutines at once.
type Archive struct {
	r    io.ReaderAt
	size int64
	head head
	x    *index
	// salvaged is set when the index was put together from what is left of a file: then
	// frames may be missing.
	salvaged bool
}

// Open reads head, footer and index of a file of size bytes and checks them: that the
// file is an archive (ErrNotArchive) of a known version (ErrVersion), is whole
// (ErrCutShort) and its index undamaged (ErrDamaged). Frames are not read.
func Open(r io.ReaderAt, size int64) (*Archive, error) {
	h, err := readHead(r, size)
	if err != nil {
		return nil, err
	}
	b := make([]byte, footBytes)
	if size < headBytes+footBytes {
		return nil, fmt.Errorf("%w (%d bytes)", ErrCutShort, size)
	}
	if err := readAt(r, b, size-footBytes); err != nil {
		return nil, fmt.Errorf("read the end of the archive: %w", err)
	}
	f, err := decodeFoot(b, size)
	if err != nil {
		return nil, err
	}
	if f.uuid != h.uuid {
		return nil, fmt.Errorf("%w: its head is of %s, its footer of %s", ErrDamaged, h.uuid, f.uuid)
	}
	payload := make([]byte, skipHeader+f.size)
	if err := readAt(r, payload, f.index-skipHeader); err != nil {
		return nil, fmt.Errorf("read the index of the archive: %w", err)
	}
	framed := isSkippable(payload, int(f.size))
	payload = payload[skipHeader:]
	if !framed || sha256.Sum256(payload) != f.sha {
		return nil, fmt.Errorf("%w: the digest of its index is wrong", ErrDamaged)
	}
	x, err := decodeIndex(payload, size)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(x.head, h.encode()[skipHeader:]) {
		return nil, fmt.Errorf("%w: its head is not the one that the index knows", ErrDamaged)
	}
	a := &Archive{r: r, size: size, head: *h, x: x}
	return a, a.checkLayout(f.index - skipHeader)
}

// checkLayout makes sure that the frames fill the file from head to index.
func (a *Archive) checkLayout(end int64) error {
	at := int64(headBytes)
	for i := range a.x.rows {
		r := &a.x.rows[i]
		if r.offset != at+prefixBytes {
			return fmt.Errorf("%w: frame %d does not follow the one before", ErrDamaged, i)
		}
		at = r.offset + int64(r.stored)
	}
	if n := len(a.x.rows); n < 2 || a.x.rows[0].kind != KindManifest || a.x.rows[n-1].kind != KindEnd || at != end {
		return fmt.Errorf("%w: its frames do not fill the file", ErrDamaged)
	}
	return nil
}

func readHead(r io.ReaderAt, size int64) (*head, error) {
	b := make([]byte, min(size, headBytes))
	if err := readAt(r, b, 0); err != nil {
		return nil, fmt.Errorf("read the head of the archive: %w", err)
	}
	if size < headBytes && strings.HasPrefix(string(b[min(len(b), skipHeader):]), headTag) {
		return nil, fmt.Errorf("%w (%d bytes)", ErrCutShort, size)
	}
	return decodeHead(b)
}

// readAt fills b. A reader that ends early is an error of the store.
func readAt(r io.ReaderAt, b []byte, off int64) error {
	n, err := r.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("%d bytes at %d: %w", len(b), off, err)
}

// Info is what the archive says of itself.
func (a *Archive) Info() Info {
	info := a.x.info(&a.head)
	info.Bytes = a.size
	return info
}

// TarBytes is the length of the tar stream: what a restore works through.
func (a *Archive) TarBytes() int64 {
	var n int64
	for i := range a.x.rows {
		n += int64(a.x.rows[i].tar)
	}
	return n
}

// Manifest returns the caller's manifest from the first frame.
func (a *Archive) Manifest() ([]byte, error) {
	for i := range a.x.rows {
		r := &a.x.rows[i]
		if r.kind != KindManifest {
			continue
		}
		b := make([]byte, r.stored)
		if err := a.load(i, b); err != nil {
			return nil, err
		}
		return decodeManifest(b)
	}
	return nil, fmt.Errorf("%w: its manifest is lost", ErrDamaged)
}

const maxManifest = 1 << 30

func decodeManifest(b []byte) ([]byte, error) {
	if !isSkippable(b, len(b)-skipHeader) || !strings.HasPrefix(string(b[skipHeader:]), manTag) {
		return nil, fmt.Errorf("%w: its manifest is none", ErrDamaged)
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxManifest))
	if err != nil {
		return nil, err
	}
	defer dec.Close()
	m, err := dec.DecodeAll(b[skipHeader+len(manTag):], nil)
	if err != nil {
		return nil, fmt.Errorf("%w: its manifest cannot be unpacked: %v", ErrDamaged, err)
	}
	return m, nil
}

// FrameError says which frame of an archive cannot be used, and what it held.
type FrameError struct {
	Frame  int
	Offset int64
	Loss   Loss
	Err    error
}

func (e *FrameError) Error() string {
	return fmt.Sprintf("frame %d (%s, at byte %d) holding %s: %v", e.Frame, e.Loss.Kind, e.Offset, e.Loss.What(), e.Err)
}

func (e *FrameError) Unwrap() error { return e.Err }

// load reads the stored bytes of a frame into b and checks their digest.
func (a *Archive) load(i int, b []byte) error {
	r := &a.x.rows[i]
	if err := readAt(a.r, b, r.offset); err != nil {
		return a.frameError(i, err)
	}
	return a.check(i, b)
}

func (a *Archive) check(i int, b []byte) error {
	if sha256.Sum256(b) != a.x.rows[i].sha {
		return a.frameError(i, fmt.Errorf("%w: its digest is wrong", ErrDamaged))
	}
	return nil
}

func (a *Archive) frameError(i int, err error) error {
	return &FrameError{Frame: i, Offset: a.x.rows[i].offset, Loss: a.loss(i), Err: err}
}

// Verify checks frames against their digests: with full every one and its prefix, else
// the first, the last, and the manifest. It returns every damaged frame (errors.Join),
// and stops at once when the store cannot be read.
func (a *Archive) Verify(ctx context.Context, full bool, progress func(Progress)) error {
	var bad []error
	var done Progress
	buf := []byte{}
	for i := range a.x.rows {
		r := &a.x.rows[i]
		if err := cancelled(ctx); err != nil {
			return err
		}
		if !full && i > 1 && i < len(a.x.rows)-1 {
			continue
		}
		if need := prefixBytes + r.stored; cap(buf) < need {
			buf = make([]byte, max(need, 4<<20))
		}
		buf = buf[:prefixBytes+r.stored]
		if err := readAt(a.r, buf, r.offset-prefixBytes); err != nil {
			return a.frameError(i, err)
		}
		err := a.check(i, buf[prefixBytes:])
		if x, ok := decodePrefix(buf, a.head.uuid); err == nil && (!ok || !x.matches(r, i)) {
			err = a.frameError(i, fmt.Errorf("%w: the record before it is wrong, the frame itself is whole", ErrDamaged))
		}
		if err != nil {
			bad = append(bad, err)
		}
		done.Bytes += int64(r.tar)
		done.Stored += int64(len(buf))
		done.Total = a.size
		if progress != nil {
			progress(done)
		}
	}
	return errors.Join(bad...)
}

func (x *prefix) matches(r *row, seq int) bool {
	return x.seq == seq && x.kind == r.kind && x.flags == r.flags && x.mount == r.mount && x.stored == r.stored && x.tar == r.tar && x.skip == r.skip && x.sha == r.sha
}

// Loss says what a frame that cannot be used held.
type Loss struct {
	Frame int
	Kind  Kind
	From  string // path of its first entry; "" if not known
	To    string // path of the first entry after it; "" if not known
	File  string // continuation, and entries that begin a large file: that file
	Off   int64  // continuation: the piece of the file that is lost, in bytes
	Len   int64
	Why   error
}

// What is the loss as half a sentence.
func (l Loss) What() string {
	switch {
	case l.Kind == KindContinuation && l.File != "":
		return fmt.Sprintf("bytes %d to %d of %q", l.Off, l.Off+l.Len, l.File)
	case l.Kind == KindContinuation:
		return "a piece of a large file whose name is not known"
	case l.Kind == KindManifest:
		return "the manifest"
	case l.Kind == KindEnd:
		return "the end of the tar stream"
	}
	what := map[Kind]string{KindHardLinks: "hard links", KindDirectories: "owners and modes of directories"}[l.Kind]
	if what == "" {
		what = "what is packed"
	}
	if l.File != "" {
		what = fmt.Sprintf("the large file %q and %s", l.File, what)
	}
	switch {
	case l.From == "" && l.To == "":
		return what + " in a place that is not known"
	case l.To == "":
		return fmt.Sprintf("%s from %q on", what, l.From)
	case l.From == "":
		return fmt.Sprintf("%s before %q", what, l.To)
	}
	return fmt.Sprintf("%s from %q up to %q", what, l.From, l.To)
}

// loss describes frame i from the index.
func (a *Archive) loss(i int) Loss {
	r := &a.x.rows[i]
	l := Loss{Frame: i, Kind: r.kind, From: r.first}
	if r.split > 0 {
		l.File = a.x.splits[r.split-1].path
	}
	if n := len(r.ranges); n > 0 {
		l.Off = r.ranges[0].Off
		l.Len = r.ranges[n-1].Off + r.ranges[n-1].Len - l.Off
	}
	for j := i + 1; j < len(a.x.rows) && r.kind != KindContinuation; j++ {
		if a.x.rows[j].kind == r.kind {
			l.To = a.x.rows[j].first
			break
		}
	}
	return l
}
