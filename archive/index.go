package archive

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/klauspost/compress/zstd"
)

// row describes one frame. Rows are all that is kept in memory of an archive.
type row struct {
	kind   Kind
	flags  byte
	mount  int
	offset int64 // of the frame itself, behind its prefix
	stored int
	tar    int
	sha    [32]byte
	first  string // path of the first entry (entries, hard links, directories)

	split  int     // entries: 1 + index of the split file that ends the frame; continuation: of its file
	skip   int64   // continuation: bytes of stored data of the file before this frame
	ranges []Range // continuation: where its bytes belong in the file
}

// Flags of a frame.
const (
	flagLate    = 1 << 0 // holds an entry with an inode flag that must come last (immutable, append)
	flagChanged = 1 << 1 // holds a file that changed while it was read
)

// splitFile is a file whose data is spread over several frames.
type splitFile struct {
	path  string
	mount int
	owner int   // index of the entries frame that has its header
	size  int64 // length of the file
}

// Range is a piece of a file.
type Range struct{ Off, Len int64 }

// index is the decoded index.
type index struct {
	head   []byte // the payload of the head again
	ended  time.Time
	mounts []Mount
	splits []splitFile
	rows   []row
	change []Changed
}

// indexWriter appends numbers as varints and strings with their length.
type indexWriter struct{ b []byte }

func (w *indexWriter) num(n int64)  { w.b = binary.AppendUvarint(w.b, uint64(n)) }
func (w *indexWriter) str(s string) { w.num(int64(len(s))); w.b = append(w.b, s...) }

// encode gives the payload of the index's skippable frame.
func (x *index) encode() ([]byte, error) {
	w := &indexWriter{}
	w.num(version)
	w.str(string(x.head))
	w.b = binary.LittleEndian.AppendUint64(w.b, uint64(x.ended.UnixNano()))
	w.num(int64(len(x.mounts)))
	for i := range x.mounts {
		w.str(x.mounts[i].Path)
		for _, n := range x.mounts[i].numbers() {
			w.num(*n)
		}
	}
	w.num(int64(len(x.splits)))
	for _, s := range x.splits {
		w.num(int64(s.mount))
		w.num(int64(s.owner))
		w.num(s.size)
		w.str(s.path)
	}
	w.num(int64(len(x.rows)))
	end := int64(headBytes)
	for i := range x.rows {
		r := &x.rows[i]
		w.b = append(w.b, byte(r.kind), r.flags)
		w.num(int64(r.mount))
		w.num(r.offset - end)
		end = r.offset + int64(r.stored)
		w.num(int64(r.stored))
		w.num(int64(r.tar))
		w.b = append(w.b, r.sha[:]...)
		w.str(r.first)
		w.num(int64(r.split))
		w.num(r.skip)
		w.ranges(r.ranges)
	}
	w.num(int64(len(x.change)))
	for _, c := range x.change {
		w.num(int64(c.Mount))
		w.str(c.Path)
		w.str(c.What)
	}
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(true))
	if err != nil {
		return nil, err
	}
	return enc.EncodeAll(w.b, []byte(indexTag)), nil
}

// ranges are written as gaps and lengths, so that small numbers stay small.
func (w *indexWriter) ranges(rs []Range) {
	w.num(int64(len(rs)))
	end := int64(0)
	for _, r := range rs {
		w.num(r.Off - end)
		w.num(r.Len)
		end = r.Off + r.Len
	}
}

// numbers are the totals in their order in the index.
func (m *Mount) numbers() []*int64 {
	return []*int64{&m.Files, &m.Directories, &m.Others, &m.HardLinks, &m.Sockets, &m.Excluded, &m.Problems, &m.Bytes, &m.Data}
}

// indexReader is the reverse. After a fault every answer is zero and err is set, so
// callers look at err once in a while, in loops each time.
type indexReader struct {
	b   []byte
	err error
}

func (r *indexReader) fail(what string) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: its index cannot be read: %s", ErrDamaged, what)
	}
	r.b = nil
}

// num reads a number that is at most limit.
func (r *indexReader) num(what string, limit int64) int64 {
	n, used := binary.Uvarint(r.b)
	if used <= 0 || n > uint64(limit) {
		r.fail(what)
		return 0
	}
	r.b = r.b[used:]
	return int64(n)
}

// count reads the number of things that follow, each at least size bytes long, so a
// wrong count never makes us allocate more than the index is long.
func (r *indexReader) count(what string, size int) int {
	return int(r.num(what, int64(len(r.b)/size)))
}

func (r *indexReader) bytes(what string, n int) []byte {
	if n > len(r.b) {
		r.fail(what)
		return make([]byte, min(n, 64))
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}

func (r *indexReader) str(what string) string {
	return string(r.bytes(what, r.count(what, 1)))
}

const (
	maxOffset = 1 << 62
	maxIndex  = 4 << 30 // decoded; 4 MiB frames: an archive of several hundred TiB
)

// decodeIndex reads the payload of the index's frame. fileSize bounds the offsets.
func decodeIndex(payload []byte, fileSize int64) (*index, error) {
	if len(payload) < len(indexTag) || string(payload[:len(indexTag)]) != indexTag {
		return nil, fmt.Errorf("%w: its index is not where the footer says", ErrDamaged)
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxIndex))
	if err != nil {
		return nil, err
	}
	defer dec.Close()
	body, err := dec.DecodeAll(payload[len(indexTag):], nil)
	if err != nil {
		return nil, fmt.Errorf("%w: its index cannot be unpacked: %v", ErrDamaged, err)
	}
	return decodeIndexBody(body, fileSize)
}

func decodeIndexBody(body []byte, fileSize int64) (*index, error) {
	r := &indexReader{b: body}
	if v := r.num("version", maxOffset); r.err == nil && v != version {
		return nil, fmt.Errorf("%w: its index has version %d, this program reads version %d", ErrVersion, v, version)
	}
	x := &index{head: []byte(r.str("head"))}
	x.ended = time.Unix(0, int64(binary.LittleEndian.Uint64(r.bytes("end time", 8))))
	x.mounts = make([]Mount, r.count("number of mounts", 10))
	for i := range x.mounts {
		x.mounts[i].Path = r.str("mount path")
		for _, n := range x.mounts[i].numbers() {
			*n = r.num("mount total", maxOffset)
		}
	}
	x.splits = make([]splitFile, r.count("number of split files", 4))
	for i := range x.splits {
		s := &x.splits[i]
		s.mount = int(r.num("mount of a split file", int64(len(x.mounts)-1)))
		s.owner = int(r.num("frame of a split file", 1<<40))
		s.size = r.num("size of a split file", maxOffset)
		s.path = r.str("path of a split file")
	}
	x.rows = make([]row, r.count("number of frames", 41))
	end := int64(headBytes)
	for i := range x.rows {
		end = r.row(&x.rows[i], x, end, fileSize)
		if r.err != nil {
			return nil, r.err
		}
	}
	x.change = make([]Changed, r.count("number of changed files", 3))
	for i := range x.change {
		x.change[i].Mount = int(r.num("mount of a changed file", int64(len(x.mounts)-1)))
		x.change[i].Path = r.str("path of a changed file")
		x.change[i].What = r.str("change of a file")
	}
	if r.err == nil && len(r.b) > 0 {
		r.fail("there is more than it should hold")
	}
	if r.err == nil {
		r.checkSplits(x)
	}
	return x, r.err
}

// row reads one row; end is where the frame before ended.
func (r *indexReader) row(to *row, x *index, end, fileSize int64) int64 {
	kf := r.bytes("kind", 2)
	to.kind, to.flags = Kind(kf[0]), kf[1]
	to.mount = int(r.num("mount of a frame", int64(max(len(x.mounts)-1, 0))))
	to.offset = end + r.num("place of a frame", fileSize-end)
	limit := int64(maxStored)
	if to.kind == KindManifest {
		limit = fileSize - to.offset
	}
	to.stored = int(r.num("stored bytes of a frame", min(limit, fileSize-to.offset)))
	to.tar = int(r.num("tar bytes of a frame", maxFrame))
	copy(to.sha[:], r.bytes("digest", len(to.sha)))
	to.first = r.str("first path")
	to.split = int(r.num("split file of a frame", int64(len(x.splits))))
	to.skip = r.num("place in a split file", maxOffset)
	to.ranges = make([]Range, r.count("number of ranges", 2))
	at := int64(0)
	for i := range to.ranges {
		g := &to.ranges[i]
		g.Off = at + r.num("place of a range", maxOffset-at)
		g.Len = r.num("length of a range", min(maxFrame, maxOffset-g.Off))
		at = g.Off + g.Len
	}
	if to.kind == KindContinuation && to.split == 0 {
		r.fail("a continuation without a file")
	}
	return to.offset + int64(to.stored)
}

// checkSplits makes sure that split files and frames agree, so that restoring may
// follow either without looking.
func (r *indexReader) checkSplits(x *index) {
	for i, s := range x.splits {
		if s.owner >= len(x.rows) || x.rows[s.owner].kind != KindEntries || x.rows[s.owner].split != i+1 {
			r.fail("a split file without its first frame")
		}
	}
	for i := range x.rows {
		w := &x.rows[i]
		if w.kind == KindEntries && w.split != 0 && x.splits[w.split-1].owner != i {
			r.fail("two frames begin the same split file")
		}
		var sum int64
		for _, g := range w.ranges {
			sum += g.Len
			if g.Off+g.Len > x.splits[max(w.split-1, 0)].size {
				r.fail("a range behind the end of its file")
				return
			}
		}
		if sum > int64(w.tar) {
			r.fail("ranges longer than their frame")
		}
	}
}
