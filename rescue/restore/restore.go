package restore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"lifeboat/archive"
	"lifeboat/internal/handoff"
	"lifeboat/manifest"
	"lifeboat/report"
)

// Options of a restore from the built-in archive.
type Options struct {
	Without []string           // mounts of the archive that have no place in the target
	From    archive.Checkpoint // where an interrupted restore goes on
	Lost    Lost               // what that restore could not bring back
	// Keep keeps a checkpoint that is on the disk, with the bytes of tar
	// restored and what was lost until then.
	Keep     func(c archive.Checkpoint, bytes int64, lost Lost) error
	Progress func(done, total int64) // bytes of tar
}

// Lost are files that could not be brought back.
type Lost struct {
	Count int64    `json:"count"`
	First []string `json:"first,omitempty"` // at most keepLost of them, with the reasons
}

const keepLost = 100

// lostError counts files that could not be brought back.
type lostError int64

func (n lostError) Error() string { return fmt.Sprintf("%d files could not be restored", int64(n)) }

// LostFiles is how many files an error of Archive says are lost; 0 for another
// error.
func LostFiles(err error) int64 {
	var n lostError
	errors.As(err, &n)
	return int64(n)
}

// again is how many bytes may have to be restored once more after the power
// went: a thirtieth part, so that an interruption costs little, but no more
// than a fast disk takes in seconds, and not so few that syncing slows it.
func again(total int64) int64 { return min(max(total/30, 64<<20), 1<<30) }

// Archive unpacks a whole archive into the mounted target
// (plan.VerbRestore). Files that could not be brought back are an error that
// names them: a backup that comes back in part must not look whole. The journal
// of this recovery lies in the target; one that a backup holds stays away.
func Archive(ctx context.Context, a *archive.Archive, root string, o Options) (*archive.Restored, error) {
	total := a.TarBytes()
	k := keeper{lost: o.Lost}
	opt := archive.RestoreOptions{Without: o.Without, From: o.From, CheckpointBytes: again(total), Problem: k.problem, Skip: []string{handoff.JournalDir},
		Progress: func(p archive.Progress) {
			k.bytes.Store(p.Bytes)
			if o.Progress != nil {
				o.Progress(p.Bytes, total)
			}
		}}
	if o.Keep != nil {
		opt.Checkpoint = func(c archive.Checkpoint) error { return o.Keep(c, k.bytes.Load(), k.sum()) }
	}
	res, err := a.Restore(ctx, root, opt)
	if err != nil {
		return res, fault(ctx, err)
	}
	if lost := k.sum(); lost.Count > 0 {
		f := report.Errorf(report.CodeRestoreFiles, "look at the list; restart the machine by hand when the losses can be borne",
			"%w, the first: %s", lostError(lost.Count), lost.First[0])
		f.Details = lost.First
		return res, f
	}
	return res, nil
}

// Without are the mounts of an archive that the target does not mount, such as
// those whose loss was accepted: what they hold would land on, and fill, the
// filesystem above them.
func Without(info archive.Info, target *manifest.Storage) (out []string) {
	for _, m := range info.Mounts {
		if !slices.ContainsFunc(target.Mounts, func(t manifest.Mount) bool {
			return string(t.Path) == m.Path && t.Backup != manifest.ScopeExclude
		}) {
			out = append(out, m.Path)
		}
	}
	return out
}

// keeper gathers what a checkpoint tells beside its place.
type keeper struct {
	bytes atomic.Int64
	mu    sync.Mutex
	lost  Lost
}

func (k *keeper) problem(p archive.Problem) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.lost.Count++
	if len(k.lost.First) < keepLost {
		k.lost.First = append(k.lost.First, p.String())
	}
}

func (k *keeper) sum() Lost {
	k.mu.Lock()
	defer k.mu.Unlock()
	return Lost{k.lost.Count, slices.Clone(k.lost.First)}
}

// fault gives a restore's error the code that its cause demands.
func fault(ctx context.Context, err error) error {
	var te *archive.TargetError
	var fe *archive.FrameError
	switch {
	case ctx.Err() != nil:
		return report.Errorf(report.CodeInterrupted, "", "the restore was stopped: %w", ctx.Err())
	case errors.As(err, &te):
		return report.Errorf(report.CodeNoSpace, "recover onto a larger disk, or look at the disk's health", "the restore stopped: %w", err)
	case errors.As(err, &fe):
		return report.Errorf(report.CodeBackupDamaged, "choose an older archive, or restore what is whole with `lifeboat archive extract --salvage`", "the restore stopped: %w", err)
	}
	return report.Errorf(report.CodeBackupMissing, "check that the backup store is reachable", "the restore stopped: %w", err)
}

// Summary is the line that the report holds of a restore.
func Summary(r *archive.Restored) string {
	if r == nil {
		return "nothing was restored"
	}
	s := fmt.Sprintf("%d entries, %d bytes of tar", r.Entries, r.Bytes)
	if r.Skipped > 0 {
		s += fmt.Sprintf(", after %d bytes that an earlier try had restored", r.Skipped)
	}
	return s
}
