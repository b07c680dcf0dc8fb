package restore

import (
	"context"
	"errors"
	"fmt"

	"lifeboat/archive"
	"lifeboat/report"
)

// Options of a restore from the built-in archive.
type Options struct {
	From     archive.Checkpoint             // where an interrupted restore goes on
	Keep     func(archive.Checkpoint) error // keeps a checkpoint that is on the disk
	Progress func(done, total int64)        // bytes of tar
}

// Archive unpacks a whole archive into the mounted target
// (plan.VerbRestore). Files that could not be brought back are an error that
// names them: a backup that comes back in part must not look whole.
func Archive(ctx context.Context, a *archive.Archive, root string, o Options) (*archive.Restored, error) {
	total := a.TarBytes()
	res, err := a.Restore(ctx, root, archive.RestoreOptions{
		From: o.From, Checkpoint: o.Keep,
		Progress: func(p archive.Progress) {
			if o.Progress != nil {
				o.Progress(p.Bytes, total)
			}
		},
	})
	if err != nil {
		return res, fault(ctx, err)
	}
	if n := res.Problems.Count(); n > 0 {
		first := res.Problems.First()
		f := report.Errorf(report.CodeRestoreFiles, "look at the list; restart the machine by hand when the losses can be borne",
			"%d files could not be restored, the first: %s", n, first[0])
		for _, p := range first {
			f.Details = append(f.Details, p.String())
		}
		return res, f
	}
	return res, nil
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
	return fmt.Sprintf("%d entries, %d bytes of tar", r.Entries, r.Bytes)
}
