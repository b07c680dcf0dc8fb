package archive

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/klauspost/compress/zstd"
)

// engine reads frames ahead, unpacks them in several goroutines and hands them out.
type engine struct {
	a       *Archive
	workers int
	stored  atomic.Int64 // bytes read
}

// newEngine chooses the number of workers; each needs the memory of a packed and an
// unpacked frame, and so does each frame that is read ahead.
func (a *Archive) newEngine(workers int, memory int64) *engine {
	if memory == 0 {
		memory = DefaultMemory()
	}
	if workers == 0 {
		// More than CPUs: creating files waits for the filesystem's journal.
		workers = max(4, runtime.NumCPU())
	}
	most := int(memory / (2*maxStored + maxFrame))
	return &engine{a: a, workers: max(1, min(workers, most))}
}

// run gives the tar bytes of each row of todo to fn. Rows are begun in order; with
// ordered they are also done one after another, otherwise by all workers at once. fn
// gets the number of its worker. The first error stops everything.
func (g *engine) run(ctx context.Context, todo []int, ordered bool, fn func(worker, row int, raw []byte) error) error {
	if len(todo) == 0 {
		return cancelled(ctx)
	}
	workers, fetchers := g.workers, g.workers
	if ordered {
		workers, fetchers = 1, 1
	}
	workers = min(workers, len(todo))
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	free := make(chan []byte, workers+fetchers)
	for range cap(free) {
		free <- nil
	}
	tickets := make(chan int)
	ready := make(chan fetched, fetchers)
	var fetch, work sync.WaitGroup
	for range fetchers {
		fetch.Go(func() { g.fetch(ctx, stop, tickets, free, ready) })
	}
	for n := range workers {
		work.Go(func() {
			if err := g.work(ctx, n, ready, free, fn); err != nil {
				stop(err)
				for range ready {
				}
			}
		})
	}
	for _, i := range todo {
		select {
		case tickets <- i:
			continue
		case <-ctx.Done():
		}
		break
	}
	close(tickets)
	fetch.Wait()
	close(ready)
	work.Wait()
	return cancelled(ctx)
}

type fetched struct {
	row int
	b   []byte
}

func (g *engine) fetch(ctx context.Context, stop context.CancelCauseFunc, tickets chan int, free chan []byte, ready chan fetched) {
	for i := range tickets {
		var b []byte
		select {
		case b = <-free:
		case <-ctx.Done():
			return
		}
		n := g.a.x.rows[i].stored
		if cap(b) < n {
			b = make([]byte, n, max(n, frameTar))
		}
		b = b[:n]
		if err := readAt(g.a.r, b, g.a.x.rows[i].offset); err != nil {
			stop(g.a.frameError(i, err))
			return
		}
		g.stored.Add(int64(n))
		select {
		case ready <- fetched{i, b}:
		case <-ctx.Done():
			return
		}
	}
}

func (g *engine) work(ctx context.Context, n int, ready chan fetched, free chan []byte, fn func(worker, row int, raw []byte) error) error {
	u, err := newUnpacker()
	if err != nil {
		return err
	}
	defer u.dec.Close()
	for f := range ready {
		if ctx.Err() != nil {
			return nil
		}
		if err := g.a.check(f.row, f.b); err != nil {
			return err
		}
		raw, err := u.unpack(f.b, g.a.x.rows[f.row].tar)
		if err != nil {
			return g.a.frameError(f.row, err)
		}
		free <- f.b
		if err := fn(n, f.row, raw); err != nil {
			return err
		}
	}
	return nil
}

// unpacker turns stored bytes into tar, in its own memory.
type unpacker struct {
	dec *zstd.Decoder
	raw []byte
}

func newUnpacker() (*unpacker, error) {
	// No more than a frame may hold is ever allocated, whatever a file claims. The zstd
	// checksum is for other programs: the digest has been compared before we unpack.
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxFrame),
		zstd.WithDecoderMaxMemory(maxFrame), zstd.WithDecodeAllCapLimit(true), zstd.IgnoreChecksum(true))
	return &unpacker{dec: dec}, err
}

// unpack returns the tar bytes, good until the next call.
func (u *unpacker) unpack(stored []byte, tar int) ([]byte, error) {
	if cap(u.raw) < tar+64 {
		u.raw = make([]byte, 0, max(tar+64, frameTar+frameTar/4))
	}
	raw, err := u.dec.DecodeAll(stored, u.raw[:0])
	if err != nil {
		return nil, fmt.Errorf("%w: it cannot be unpacked: %v", ErrDamaged, err)
	}
	if len(raw) != tar {
		return nil, fmt.Errorf("%w: it holds %d bytes instead of %d", ErrDamaged, len(raw), tar)
	}
	return raw, nil
}

// rowsOf lists the frames of the given kinds in file order.
func (a *Archive) rowsOf(kinds ...Kind) []int {
	var list []int
	for i := range a.x.rows {
		for _, k := range kinds {
			if a.x.rows[i].kind == k {
				list = append(list, i)
			}
		}
	}
	return list
}

// List gives every entry (hard links too) to fn in the order of the archive. The entry
// is fn's to keep.
func (a *Archive) List(ctx context.Context, fn func(*Entry) error) error {
	g := a.newEngine(0, 0)
	return g.run(ctx, a.rowsOf(KindEntries, KindHardLinks), true, func(_, i int, raw []byte) error {
		return a.entries(i, raw, func(e *Entry, _ []byte, _ bool) error { return fn(e) })
	})
}

// entries takes the members of frame i apart.
func (a *Archive) entries(i int, raw []byte, fn func(e *Entry, data []byte, cut bool) error) error {
	t := tarReader{rest: raw}
	for {
		e, data, cut, err := t.next()
		if err != nil {
			return a.frameError(i, fmt.Errorf("%w: %v", ErrDamaged, err))
		}
		if e == nil {
			return nil
		}
		if err := fn(e, data, cut); err != nil {
			return err
		}
	}
}
