package archive

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"path"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

// Source is one mount to pack. Nothing that is mounted below it is entered; the
// directories that others are mounted on are packed, empty.
type Source struct {
	// Path is where the mount belongs, and what names in the archive begin with.
	Path string
	// At is where it can be read on this machine. A private, non-recursive bind mount
	// shows the mount points below as they really are, with nothing covering them.
	At string
	// Exclude are absolute paths as recorded; "*", "?", "[...]" match in one component.
	// An excluded directory is packed without what is below it.
	Exclude []string
	// Points are mount points below, as recorded, that mountinfo does not show at At
	// (it does not below a private bind mount). The Paths of all sources count as well.
	Points []string
	// Bare says that nothing at all is mounted below At, as in a detached copy of the
	// mount: mountinfo is not asked, only Points and the other sources count.
	Bare bool
}

// Inode names a file on this machine.
type Inode struct{ Dev, Ino uint64 }

// InodeOf gives the inode of an open file: the archive's own output, for Options.Skip.
func InodeOf(fd uintptr) (Inode, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(fd), &st); err != nil {
		return Inode{}, err
	}
	return Inode{Dev: uint64(st.Dev), Ino: st.Ino}, nil
}

// Options are for Create. The zero value is good.
type Options struct {
	UUID     UUID      // zero: a random one
	HostID   string    // at most 208 bytes; a recovery compares it with the manifest's
	Started  time.Time // zero: now
	Manifest []byte    // the first frame; opaque to this package
	Skip     []Inode   // files that are never packed: the archive itself; of directories, what is in them
	Workers  int       // compressors; 0: one per CPU, as far as Memory reaches
	Memory   int64     // bytes of data in flight; 0: 256 MiB or 1/8 of the RAM, the smaller
	Level    Level
	Progress func(Progress) // called after each frame, from one goroutine at a time
	Problem  func(Problem)  // called for each problem as it is met
}

// Level chooses between speed and size.
type Level int

// Fast is the default: an archive is waited for by a running server.
const (
	Fast Level = iota
	Small
)

// Summary is what Create did.
type Summary struct {
	Info
	Problems *Problems // what the archive lacks though it was there to be packed
	Gone     *Problems // entries that were removed or replaced while they were walked: no loss
}

// Create packs the sources, outer mounts first, and writes the archive to w. What goes
// wrong with single entries is counted and told, and the rest is packed; the returned
// error is for what makes the archive useless. After it w holds a file that is cut
// short and will not open.
func Create(ctx context.Context, w io.Writer, opt Options, sources []Source) (*Summary, error) {
	if err := opt.fill(); err != nil {
		return nil, err
	}
	pk := &packer{opt: &opt, problems: &Problems{tell: opt.Problem}, gone: &Problems{}, links: map[inodeKey]string{}}
	srcs, err := pk.openSources(sources)
	defer func() {
		for _, s := range srcs {
			s.close()
		}
	}()
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	pipe, err := newPipeline(ctx, stop, w, &opt, &pk.files)
	if err != nil {
		return nil, err
	}
	pk.pipe = pipe
	if err := pk.packAll(ctx, srcs); err != nil {
		stop(err)
	}
	x := &index{mounts: pk.mounts, splits: pk.splits, change: pk.changed, ended: time.Now()}
	if err := pipe.finish(x); err != nil {
		return nil, err
	}
	sum := &Summary{Problems: pk.problems, Gone: pk.gone}
	sum.Info = x.info(&pipe.head)
	sum.Bytes = pipe.written
	return sum, nil
}

func (o *Options) fill() error {
	if o.UUID == (UUID{}) {
		rand.Read(o.UUID[:])
		o.UUID[6], o.UUID[8] = o.UUID[6]&0x0f|0x40, o.UUID[8]&0x3f|0x80 // version 4: random
	}
	if o.Started.IsZero() {
		o.Started = time.Now()
	}
	if len(o.HostID) > maxHostID {
		return fmt.Errorf("the host id has %d bytes, an archive holds at most %d", len(o.HostID), maxHostID)
	}
	if o.Memory == 0 {
		o.Memory = DefaultMemory()
	}
	if o.Workers == 0 {
		o.Workers = runtime.NumCPU()
	}
	return nil
}

// DefaultMemory is how many bytes of data may be in flight: 256 MiB or an eighth of
// the RAM, the smaller.
func DefaultMemory() int64 {
	limit := int64(256 << 20)
	var si unix.Sysinfo_t
	if unix.Sysinfo(&si) == nil {
		limit = min(limit, int64(si.Totalram)*int64(si.Unit)/8)
	}
	return limit
}

// openSources checks the sources and opens their roots.
func (pk *packer) openSources(sources []Source) ([]*source, error) {
	var srcs []*source
	if len(sources) == 0 {
		return nil, fmt.Errorf("nothing to pack: no mounts were given")
	}
	for _, s := range sources {
		if !strings.HasPrefix(s.Path, "/") || path.Clean(s.Path) != s.Path {
			return srcs, fmt.Errorf("the mount %q is not a clean absolute path", s.Path)
		}
		for _, other := range sources {
			s.Points = append(s.Points[:len(s.Points):len(s.Points)], other.Path)
		}
		src, err := openSource(s, len(srcs))
		if err != nil {
			return srcs, fmt.Errorf("pack %s from %s: %w", s.Path, s.At, err)
		}
		srcs = append(srcs, src)
		pk.mounts = append(pk.mounts, Mount{Path: s.Path})
	}
	return srcs, nil
}

// slot is the memory of one frame in flight.
type slot struct{ raw, out []byte }

// frame is a frame on its way from the walker to the file.
type frame struct {
	row
	slot  *slot
	owner int  // continuation: seq of the entries frame
	hold  bool // directories: written at the end, in the order they came
	done  chan struct{}
}

// pipeline compresses frames in many goroutines and writes them in order.
type pipeline struct {
	ctx   context.Context
	stop  context.CancelCauseFunc
	w     io.Writer
	opt   *Options
	head  head
	free  chan *slot  // bounds the memory: a frame needs a slot
	jobs  chan *frame // to the compressors
	order chan *frame // to the writer, in order
	wg    sync.WaitGroup

	// Only the writing goroutine uses these, until it ends.
	written int64
	tar     int64
	rows    []row
	held    []*frame
	files   *atomic.Int64
}

func newPipeline(ctx context.Context, stop context.CancelCauseFunc, w io.Writer, opt *Options, files *atomic.Int64) (*pipeline, error) {
	p := &pipeline{ctx: ctx, stop: stop, w: w, opt: opt, files: files}
	p.head = head{uuid: opt.UUID, started: opt.Started, host: opt.HostID}
	// The walker fills one slot with entries and one with directories; each compressor
	// and the writer want one as well.
	slots := int(opt.Memory / (maxFrame + maxStored))
	workers := min(opt.Workers, max(1, slots-4))
	slots = max(4, min(slots, 2*workers+4))
	p.free = make(chan *slot, slots)
	for range slots {
		p.free <- &slot{}
	}
	p.jobs, p.order = make(chan *frame, slots), make(chan *frame, slots)
	if err := p.begin(); err != nil {
		return nil, err
	}
	for range workers {
		enc, err := newEncoder(opt.Level)
		if err != nil {
			return nil, err
		}
		p.wg.Go(func() { p.compress(enc) })
	}
	p.wg.Go(func() {
		if err := p.writeFrames(); err != nil {
			p.stop(err)
			for range p.order { // so that nobody waits for us
			}
		}
	})
	return p, nil
}

func newEncoder(l Level) (*zstd.Encoder, error) {
	level := zstd.SpeedFastest
	if l == Small {
		level = zstd.SpeedBetterCompression
	}
	return zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(true),
		zstd.WithEncoderLevel(level), zstd.WithWindowSize(maxFrame), zstd.WithLowerEncoderMem(true))
}

// begin writes the head and the manifest.
func (p *pipeline) begin() error {
	if err := p.write(p.head.encode()); err != nil {
		return err
	}
	enc, err := newEncoder(Small)
	if err != nil {
		return err
	}
	out := append(zeros[:prefixBytes:prefixBytes], skippable(len(manTag))...)
	out = enc.EncodeAll(p.opt.Manifest, append(out[:len(out)-len(manTag)], manTag...))
	binary.LittleEndian.PutUint32(out[prefixBytes+4:], uint32(len(out)-prefixBytes-skipHeader))
	f := &frame{row: row{kind: KindManifest}, slot: &slot{out: out}}
	f.sha = sha256.Sum256(out[prefixBytes:])
	return p.put(f)
}

// slot waits for free memory.
func (p *pipeline) slot() (*slot, error) {
	select {
	case s := <-p.free:
		if s.raw == nil {
			s.raw = make([]byte, 0, maxFrame)
		}
		return s, nil
	case <-p.ctx.Done():
		return nil, context.Cause(p.ctx)
	}
}

// submit hands a filled frame over. Slots bound the number of frames, so the channels
// always have room.
func (p *pipeline) submit(f *frame) {
	f.done = make(chan struct{})
	f.tar = len(f.slot.raw)
	p.order <- f
	p.jobs <- f
}

func (p *pipeline) compress(enc *zstd.Encoder) {
	for f := range p.jobs {
		if p.ctx.Err() == nil {
			s := f.slot
			s.out = enc.EncodeAll(s.raw, append(s.out[:0], zeros[:prefixBytes]...))
			f.sha = sha256.Sum256(s.out[prefixBytes:])
		}
		close(f.done)
	}
}

func (p *pipeline) writeFrames() error {
	for f := range p.order {
		<-f.done
		if err := cancelled(p.ctx); err != nil {
			return err
		}
		s := f.slot
		if f.hold {
			f.slot = &slot{out: append([]byte(nil), s.out...)}
			p.held = append(p.held, f)
		} else if err := p.put(f); err != nil {
			return err
		}
		s.raw = s.raw[:0]
		p.free <- s
	}
	for _, f := range p.held {
		if err := p.put(f); err != nil {
			return err
		}
	}
	return nil
}

// put writes one frame with its prefix and notes its row.
func (p *pipeline) put(f *frame) error {
	out := f.slot.out
	f.stored = len(out) - prefixBytes
	f.offset = p.written + prefixBytes
	x := prefix{kind: f.kind, flags: f.flags, mount: f.mount, seq: len(p.rows), stored: f.stored, tar: f.tar,
		owner: f.owner, skip: f.skip, uuid: p.head.uuid, sha: f.sha}
	copy(out, x.encode())
	p.rows = append(p.rows, f.row)
	p.tar += int64(f.tar)
	if err := p.write(out); err != nil {
		return err
	}
	if p.opt.Progress != nil {
		p.opt.Progress(Progress{Files: p.files.Load(), Bytes: p.tar, Stored: p.written})
	}
	return nil
}

func (p *pipeline) write(b []byte) error {
	n, err := p.w.Write(b)
	p.written += int64(n)
	if err != nil {
		return fmt.Errorf("write the archive (%d bytes so far): %w", p.written, err)
	}
	return nil
}

// finish waits for the frames, then writes the end of the tar stream, the index and
// the footer. After a failure it only waits.
func (p *pipeline) finish(x *index) error {
	close(p.jobs)
	close(p.order)
	p.wg.Wait()
	if err := cancelled(p.ctx); err != nil {
		return err
	}
	enc, err := newEncoder(Fast)
	if err != nil {
		return err
	}
	out := enc.EncodeAll(zeros[:2*block], append([]byte(nil), zeros[:prefixBytes]...))
	end := &frame{row: row{kind: KindEnd, tar: 2 * block}, slot: &slot{out: out}}
	end.sha = sha256.Sum256(out[prefixBytes:])
	if err := p.put(end); err != nil {
		return err
	}
	x.head = p.head.encode()[skipHeader:]
	x.rows = p.rows
	payload, err := x.encode()
	if err != nil {
		return err
	}
	if int64(len(payload)) > 1<<32-1 {
		return fmt.Errorf("the archive's index has %d bytes, more than the format can hold", len(payload))
	}
	hdr := skippable(0)
	binary.LittleEndian.PutUint32(hdr[4:], uint32(len(payload)))
	f := foot{index: p.written + skipHeader, size: int64(len(payload)), sha: sha256.Sum256(payload), uuid: p.head.uuid}
	for _, b := range [][]byte{hdr, payload, f.encode()} {
		if err := p.write(b); err != nil {
			return err
		}
	}
	return nil
}

// info is the index as callers see it.
func (x *index) info(h *head) Info {
	return Info{UUID: h.uuid, HostID: h.host, Started: h.started, Ended: x.ended, Frames: len(x.rows), Mounts: x.mounts, Changed: x.change}
}
