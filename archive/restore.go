package archive

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"sync/atomic"

	"lifeboat/internal/sysroot"

	"golang.org/x/sys/unix"
)

// RestoreOptions are for Restore and Extract. The zero value is good.
type RestoreOptions struct {
	Workers  int   // 0: one per CPU, at least 4, as far as Memory reaches
	Memory   int64 // bytes of data in flight; 0: 256 MiB or 1/8 of the RAM, the smaller
	Progress func(Progress)
	Problem  func(Problem)

	// Without are mounts, as recorded, that are not brought back: where the target has no
	// filesystem for one, its files would fill the filesystem above it.
	Without []string
	// Skip are absolute paths as recorded that are left as they are on the target, with
	// all that is below them. A restore that goes on (From) needs the same ones.
	Skip []string

	// From is where an interrupted restore of the same archive goes on.
	From Checkpoint
	// Checkpoint is called from time to time: what it is given is on the disk (syncfs has
	// been done), so a later restore may begin there. An error stops the restore.
	Checkpoint      func(Checkpoint) error
	CheckpointBytes int64 // of tar between two calls; 0: 1 GiB
}

// Checkpoint is how far a restore has come.
type Checkpoint struct {
	Archive string `json:"archive"` // UUID: a checkpoint of another archive is refused
	Done    int    `json:"done"`    // steps that need not be done again
}

// Restored is what Restore and Extract did.
type Restored struct {
	Entries  int64 // files, directories, links and devices put in place
	Bytes    int64 // of tar worked through
	Skipped  int64 // of tar that an earlier restore had done (From)
	Problems *Problems
}

// phase is one pass over some frames. All of a phase is done before the next begins.
type phase struct {
	rows    []int
	ordered bool
	do      func(p *placer, row int, raw []byte) error
	// alone is a phase that is not about frames; it counts as one step.
	alone func(ctx context.Context) error
}

// restorer holds what the workers share.
type restorer struct {
	a        *Archive
	opt      *RestoreOptions
	target   *sysroot.Root
	engine   *engine
	problems *Problems
	sel      *selection
	placers  []*placer
	placed   atomic.Int64
	total    int64

	syncing sync.Mutex

	mu       sync.Mutex
	heads    map[int]*Entry // split files that still need their owner, mode and times
	badSplit map[int]bool   // split files that were not created
	made     map[string]bool
	marks    []bool // steps done
	low      int    // all steps before this one are done
	since    int64  // bytes since the last checkpoint
	bytes    int64
	skipped  int64 // bytes that were done before From
}

// Restore brings the whole archive back below the directory root of this machine, on
// which the target's filesystems are mounted. Nothing outside root is touched whatever
// the archive holds: no link is followed. As root, owners and all attributes come back;
// otherwise those that a user may set. What goes wrong with single files is counted
// and told; an error means that the restore is not complete: a *TargetError for a full
// or failing filesystem, a *FrameError for a damaged archive.
func (a *Archive) Restore(ctx context.Context, root string, opt RestoreOptions) (*Restored, error) {
	if len(opt.Skip) == 0 {
		return a.restore(ctx, root, &opt, nil)
	}
	sel, err := a.newSelection(ctx, []string{"/"}, opt.Skip)
	if err != nil {
		return nil, err
	}
	return a.restore(ctx, root, &opt, sel)
}

// Extract brings the given paths (as recorded) and what is below them back below root.
// Directories above them are made as far as they are missing.
func (a *Archive) Extract(ctx context.Context, root string, paths []string, opt RestoreOptions) (*Restored, error) {
	sel, err := a.newSelection(ctx, paths, opt.Skip)
	if err != nil {
		return nil, err
	}
	r, err := a.restore(ctx, root, &opt, sel)
	if err == nil {
		if missing := sel.unseen(); len(missing) > 0 {
			return r, fmt.Errorf("the archive does not hold %q: %w", missing, fs.ErrNotExist)
		}
	}
	return r, err
}

func (a *Archive) restore(ctx context.Context, root string, opt *RestoreOptions, sel *selection) (*Restored, error) {
	if opt.From.Done > 0 && opt.From.Archive != a.head.uuid.String() {
		return nil, fmt.Errorf("the checkpoint is of archive %s, this is %s", opt.From.Archive, a.head.uuid)
	}
	if opt.CheckpointBytes == 0 {
		opt.CheckpointBytes = 1 << 30
	}
	sr, err := sysroot.Open(root)
	if err != nil {
		return nil, err
	}
	defer sr.Close()
	r := &restorer{a: a, opt: opt, target: sr, sel: sel, engine: a.newEngine(opt.Workers, opt.Memory), problems: &Problems{tell: opt.Problem}}
	r.heads, r.badSplit, r.made = map[int]*Entry{}, map[int]bool{}, map[string]bool{}
	for range r.engine.workers {
		p, err := r.newPlacer()
		if err != nil {
			return nil, err
		}
		defer p.close()
		r.placers = append(r.placers, p)
	}
	err = r.run(ctx)
	return &Restored{Entries: r.placed.Load(), Bytes: r.bytes, Skipped: r.skipped, Problems: r.problems}, err
}

// phases lists what is to be done, in order: section 9 of the format.
func (r *restorer) phases() []phase {
	entries := r.sel.filter(r.a, r.rows(KindEntries))
	var late []int
	for _, i := range append(slices.Clone(entries), r.rows(KindDirectories)...) {
		if r.a.x.rows[i].flags&flagLate != 0 {
			late = append(late, i)
		}
	}
	ph := []phase{
		{rows: entries, do: (*placer).frame},
		{rows: r.sel.filter(r.a, r.rows(KindContinuation)), do: (*placer).continuation},
		{alone: r.finishSplits},
		{rows: r.rows(KindHardLinks), do: (*placer).frame},
	}
	if r.a.salvaged {
		// The frames with all directories may be lost; the walk met each of them too.
		ph = append(ph, phase{rows: entries, ordered: true, do: (*placer).directories})
	}
	return append(ph,
		phase{rows: r.rows(KindDirectories), ordered: true, do: (*placer).directories},
		phase{alone: func(context.Context) error { return r.checkpoint() }},
		phase{rows: late, ordered: true, do: (*placer).lateFlags})
}

// rows lists the frames of a kind, without those of mounts that are left out.
func (r *restorer) rows(kind Kind) []int {
	return slices.DeleteFunc(r.a.rowsOf(kind), func(i int) bool { return r.without(r.a.x.rows[i].mount) })
}

func (r *restorer) without(mount int) bool {
	return mount < len(r.a.x.mounts) && slices.Contains(r.opt.Without, r.a.x.mounts[mount].Path)
}

func (r *restorer) run(ctx context.Context) error {
	phases := r.phases()
	steps := 0
	for _, ph := range phases {
		steps += ph.steps()
		for _, i := range ph.rows {
			r.total += int64(r.a.x.rows[i].tar)
		}
	}
	r.marks = make([]bool, steps)
	for i := range min(r.opt.From.Done, steps) {
		r.marks[i] = true
	}
	r.low = min(r.opt.From.Done, steps)
	r.skipped = r.skip(phases)
	base := 0
	for _, ph := range phases {
		if err := r.phase(ctx, &ph, base); err != nil {
			return err
		}
		base += ph.steps()
	}
	return r.checkpoint()
}

// skip counts the bytes of the frames that need not be read again.
func (r *restorer) skip(phases []phase) (bytes int64) {
	base := 0
	for _, ph := range phases {
		for n, i := range ph.rows {
			if base+n < r.low {
				bytes += int64(r.a.x.rows[i].tar)
			}
		}
		base += ph.steps()
	}
	return bytes
}

func (ph *phase) steps() int {
	if ph.alone != nil {
		return 1
	}
	return len(ph.rows)
}

// phase does what is left of one phase, whose first step has number base.
func (r *restorer) phase(ctx context.Context, ph *phase, base int) error {
	if ph.alone != nil {
		if r.marks[base] {
			return nil
		}
		if err := ph.alone(ctx); err != nil {
			return err
		}
		return r.done(base, 0)
	}
	skip := min(max(r.low-base, 0), len(ph.rows))
	step := make(map[int]int, len(ph.rows)-skip)
	for n, i := range ph.rows[skip:] {
		step[i] = base + skip + n
	}
	return r.engine.run(ctx, ph.rows[skip:], ph.ordered, func(worker, row int, raw []byte) error {
		if err := ph.do(r.placers[worker], row, raw); err != nil {
			return err
		}
		return r.done(step[row], int64(len(raw)))
	})
}

// done notes a finished step and writes a checkpoint when it is time.
func (r *restorer) done(step int, bytes int64) error {
	r.mu.Lock()
	r.marks[step] = true
	for r.low < len(r.marks) && r.marks[r.low] {
		r.low++
	}
	r.bytes += bytes
	r.since += bytes
	due := r.since >= r.opt.CheckpointBytes
	if due {
		r.since = 0
	}
	if r.opt.Progress != nil {
		r.opt.Progress(Progress{Files: r.placed.Load(), Bytes: r.skipped + r.bytes, Stored: r.engine.stored.Load(), Total: r.total})
	}
	r.mu.Unlock()
	if due {
		return r.checkpoint()
	}
	return nil
}

// checkpoint makes what is done last, then tells. The order matters: the number is
// taken before the disks are synced.
func (r *restorer) checkpoint() error {
	if r.opt.Checkpoint == nil {
		return nil
	}
	r.syncing.Lock() // one at a time, and in order
	defer r.syncing.Unlock()
	r.mu.Lock()
	c := Checkpoint{Archive: r.a.head.uuid.String(), Done: r.low}
	r.mu.Unlock()
	if err := r.sync(); err != nil {
		return err
	}
	return r.opt.Checkpoint(c)
}

// sync writes the caches of every filesystem that the archive's mounts lie on.
func (r *restorer) sync() error {
	synced := map[uint64]bool{}
	for _, m := range append([]Mount{{Path: "/"}}, r.a.x.mounts...) {
		d, err := r.target.OpenDir(m.Path, sysroot.NoLinks)
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil {
			return err
		}
		var st unix.Stat_t
		err = unix.Fstat(d.FD(), &st)
		if err == nil && !synced[uint64(st.Dev)] {
			synced[uint64(st.Dev)] = true
			err = unix.Syncfs(d.FD())
		}
		d.Close()
		if err != nil {
			return r.placers[0].targetError(m.Path, "write everything to the disk", err)
		}
	}
	return nil
}

// finishSplits gives split files what may only come after all their data.
func (r *restorer) finishSplits(ctx context.Context) error {
	// After an interruption the headers of some are not in memory: they are read again.
	var again []int
	for n, s := range r.a.x.splits {
		if r.a.x.rows[s.owner].kind == KindEntries && r.heads[n] == nil && !r.badSplit[n] && r.sel.has(s.path) && !r.without(s.mount) {
			again = append(again, s.owner)
		}
	}
	err := r.engine.run(ctx, again, false, func(_, row int, raw []byte) error {
		return r.a.entries(row, raw, func(e *Entry, _ []byte, cut bool) error {
			if cut {
				r.mu.Lock()
				r.heads[r.a.x.rows[row].split-1] = e
				r.mu.Unlock()
			}
			return nil
		})
	})
	if err != nil {
		return err
	}
	for n := range r.a.x.splits {
		if e := r.heads[n]; e != nil {
			if err := r.placers[0].finishSplit(e); err != nil {
				return err
			}
		}
		if err := cancelled(ctx); err != nil {
			return err
		}
	}
	clear(r.heads)
	return nil
}
