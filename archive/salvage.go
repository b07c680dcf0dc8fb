package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
)

// Salvage reads a damaged or cut file for what is whole. It returns an archive of the
// whole frames, on which List, Extract and Restore work as usual, and what is lost.
// Every frame is read. An undamaged archive has no losses.
func Salvage(ctx context.Context, r io.ReaderAt, size int64, progress func(Progress)) (*Archive, []Loss, error) {
	a, err := Open(r, size)
	if err == nil {
		losses, err := a.dropDamaged(ctx, progress)
		return a, losses, err
	}
	if errors.Is(err, ErrVersion) {
		return nil, nil, err
	}
	s := &scan{a: &Archive{r: r, size: size, x: &index{}, salvaged: true}, owners: map[int]*splitHead{}, progress: progress}
	if h, err := readHead(r, size); err == nil {
		s.a.head = *h
		s.known = true
	}
	if s.u, err = newUnpacker(); err != nil {
		return nil, nil, err
	}
	defer s.u.dec.Close()
	if err := s.walk(ctx); err != nil {
		return nil, nil, err
	}
	if len(s.a.x.rows) == 0 {
		return nil, nil, fmt.Errorf("%w, or nothing of it is left", ErrNotArchive)
	}
	s.finish()
	return s.a, s.losses, nil
}

// dropDamaged takes the frames that are damaged out of a good index.
func (a *Archive) dropDamaged(ctx context.Context, progress func(Progress)) ([]Loss, error) {
	var losses []Loss
	buf := []byte{}
	done := Progress{Total: a.size}
	var bad []int
	for i := range a.x.rows {
		if err := cancelled(ctx); err != nil {
			return nil, err
		}
		n := a.x.rows[i].stored
		if cap(buf) < n {
			buf = make([]byte, max(n, maxStored))
		}
		// A piece that the disk cannot read is as lost as one that is wrong.
		if err := a.load(i, buf[:n]); err != nil {
			l := a.loss(i)
			l.Why = errors.Unwrap(err)
			losses = append(losses, l)
			bad = append(bad, i)
		}
		done.Stored += int64(n)
		if progress != nil {
			progress(done)
		}
	}
	for _, i := range bad {
		a.x.rows[i].kind = 0
	}
	a.salvaged = len(bad) > 0
	return losses, nil
}

// scan rebuilds an index from the prefixes.
type scan struct {
	a        *Archive
	known    bool // the archive's uuid is known
	u        *unpacker
	owners   map[int]*splitHead
	losses   []Loss
	last     string // path of the last entry seen
	ended    bool   // the end of the tar stream was seen
	progress func(Progress)
}

// splitHead is what the header of a split file says.
type splitHead struct {
	number int // in index.splits
	pieces []Range
}

// scanPattern is how every prefix begins.
var scanPattern = func() []byte {
	b := skippable(prefixBytes - skipHeader)[:skipHeader]
	return append(b, prefixTag...)
}()

func (s *scan) walk(ctx context.Context) error {
	at := int64(headBytes)
	b := make([]byte, prefixBytes)
	for {
		if err := cancelled(ctx); err != nil {
			return err
		}
		x, ok := s.prefixAt(at, b)
		if !ok {
			next, found := s.search(ctx, at)
			if !found {
				return cancelled(ctx)
			}
			at = next
			continue
		}
		// Frames are numbered without gaps, so a number beyond what the file can hold is
		// not believed: it would make us allocate for it.
		if int64(x.seq) <= s.a.size/prefixBytes+1 {
			s.frame(x, at+prefixBytes)
		}
		at += prefixBytes + int64(x.stored)
		if s.progress != nil {
			s.progress(Progress{Stored: min(at, s.a.size), Total: s.a.size})
		}
	}
}

// prefixAt reads the prefix at a place, if there is one.
func (s *scan) prefixAt(at int64, b []byte) (*prefix, bool) {
	if at+prefixBytes > s.a.size || readAt(s.a.r, b, at) != nil {
		return nil, false
	}
	if !s.known { // the head is lost: the first prefix with a right checksum tells
		copy(s.a.head.uuid[:], b[skipHeader+40:])
	}
	x, ok := decodePrefix(b, s.a.head.uuid)
	s.known = s.known || ok
	return x, ok
}

// search looks for the next prefix at or behind a place. Parts that the disk cannot
// read are passed over.
func (s *scan) search(ctx context.Context, at int64) (int64, bool) {
	const chunk = 1 << 20
	buf := make([]byte, chunk+prefixBytes)
	one := make([]byte, prefixBytes)
	for ; at < s.a.size && ctx.Err() == nil; at += chunk {
		b := buf[:min(int64(len(buf)), s.a.size-at)]
		if n, _ := s.a.r.ReadAt(b, at); n < len(b) {
			clear(b[n:])
		}
		for from := 0; ; {
			i := bytes.Index(b[from:], scanPattern)
			if i < 0 || from+i >= chunk {
				break
			}
			from += i
			if _, ok := s.prefixAt(at+int64(from), one); ok {
				return at + int64(from), true
			}
			from++
		}
	}
	return 0, false
}

// frame takes a frame in whose prefix is right.
func (s *scan) frame(x *prefix, offset int64) {
	rows := &s.a.x.rows
	for len(*rows) <= x.seq {
		*rows = append(*rows, row{}) // kind 0: not there
	}
	i := x.seq
	(*rows)[i] = row{kind: x.kind, flags: x.flags, mount: x.mount, offset: offset, stored: x.stored, tar: x.tar, sha: x.sha, skip: x.skip}
	for len(s.a.x.mounts) <= x.mount {
		s.a.x.mounts = append(s.a.x.mounts, Mount{})
	}
	r := &(*rows)[i]
	err := s.read(i, x)
	if err != nil {
		l := s.a.loss(i)
		l.From, l.Why = s.last, err
		s.losses = append(s.losses, l)
		r.kind = 0
	}
	s.ended = s.ended || x.kind == KindEnd
}

// read checks a frame and takes what the index would have said from its content.
func (s *scan) read(i int, x *prefix) error {
	r := &s.a.x.rows[i]
	if r.offset+int64(r.stored) > s.a.size {
		return ErrCutShort
	}
	b := make([]byte, r.stored)
	if err := s.a.load(i, b); err != nil {
		return errors.Unwrap(err)
	}
	switch r.kind {
	case KindManifest, KindEnd:
		return nil
	case KindContinuation:
		return s.continuation(r, x)
	case KindEntries, KindHardLinks, KindDirectories:
	default:
		return fmt.Errorf("frames of kind %q are not known", byte(r.kind))
	}
	raw, err := s.u.unpack(b, r.tar)
	if err != nil {
		return err
	}
	return s.a.entries(i, raw, func(e *Entry, data []byte, cut bool) error {
		if r.first == "" {
			r.first = e.Path
			if m := &s.a.x.mounts[r.mount]; m.Path == "" && r.kind == KindEntries && e.Type == '5' {
				m.Path = e.Path // a mount begins with its root, if that frame is whole
			}
		}
		if r.kind == KindEntries {
			s.last = e.Path
		}
		if cut {
			s.splitBegins(i, e)
		}
		return nil
	})
}

func (s *scan) splitBegins(i int, e *Entry) {
	pieces := e.Sparse
	if pieces == nil {
		pieces = []Range{{0, e.Size}}
	}
	x := s.a.x
	x.splits = append(x.splits, splitFile{path: e.Path, mount: x.rows[i].mount, owner: i, size: e.Size})
	s.owners[i] = &splitHead{number: len(x.splits), pieces: pieces}
	x.rows[i].split = len(x.splits)
}

// continuation finds out where the data of a frame belongs.
func (s *scan) continuation(r *row, x *prefix) error {
	o := s.owners[x.owner]
	if o == nil {
		return fmt.Errorf("the frame with the name of its file is lost")
	}
	r.split = o.number
	_, rest := take(o.pieces, x.skip)
	r.ranges, _ = take(rest, int64(r.tar))
	return nil
}

// finish adds what the gaps between the frames say.
func (s *scan) finish() {
	x := s.a.x
	lost := map[int]bool{}
	for _, l := range s.losses {
		lost[l.Frame] = true
	}
	before := ""
	for i := range x.rows {
		r := &x.rows[i]
		if r.kind == KindEntries {
			before = r.first
		}
		if r.kind == 0 && !lost[i] {
			s.losses = append(s.losses, Loss{Frame: i, From: before, Why: ErrDamaged})
		}
	}
	for n := range s.losses {
		l := &s.losses[n]
		for j := l.Frame + 1; j < len(x.rows) && l.To == "" && l.Kind != KindContinuation; j++ {
			if x.rows[j].kind == KindEntries {
				l.To = x.rows[j].first
			}
		}
	}
	if !s.ended {
		s.losses = append(s.losses, Loss{Frame: len(x.rows), Kind: KindEntries, From: s.last, Why: ErrCutShort},
			Loss{Frame: len(x.rows), Kind: KindHardLinks, Why: ErrCutShort})
	}
	s.a.x.ended = s.a.head.started
}
