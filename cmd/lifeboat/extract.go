package main

import (
	"context"
	"os"

	"github.com/spf13/cobra"

	"lifeboat/archive"
	"lifeboat/internal/cli"
	"lifeboat/report"
)

func (a *app) archiveExtract() *cobra.Command {
	var into string
	var broken bool
	c := &cobra.Command{
		Use: "extract ARCHIVE [PATH ...]", Short: "Bring files of an archive back into a folder", Args: cobra.MinimumNArgs(1),
		Example: "  lifeboat archive extract --into /tmp/web1 /srv/backup/web1/20261125T030000Z.lba /etc /home/anna/thesis.odt",
		RunE: func(c *cobra.Command, args []string) error {
			if into == "" {
				return report.Errorf(report.CodeUsage, "name an empty folder with --into", "extract needs a folder")
			}
			if err := os.MkdirAll(into, 0o755); err != nil {
				return err
			}
			x, done, err := a.source(c.Context(), args[0], broken)
			if err != nil {
				return err
			}
			defer done()
			return a.extracted(c.Context(), x, into, args[1:])
		},
	}
	c.Flags().StringVar(&into, "into", "", "folder that the files are put below")
	c.Flags().BoolVar(&broken, "salvage", false, "read a damaged or cut archive for what is whole")
	return c
}

// source opens an archive, whole or as far as it is whole.
func (a *app) source(ctx context.Context, raw string, broken bool) (*archive.Archive, func(), error) {
	if !broken {
		o, x, err := a.open(ctx, raw)
		if err != nil {
			return nil, nil, err
		}
		return x, func() { o.Close() }, nil
	}
	f, size, err := salvage(raw)
	if err != nil {
		return nil, nil, err
	}
	x, losses, err := archive.Salvage(ctx, f, size, func(p archive.Progress) {
		a.out.Emit(report.Event{Kind: report.Progress, Text: "Reading for what is whole", Done: p.Stored, Total: size})
	})
	if err != nil {
		f.Close()
		return nil, nil, report.Errorf(report.CodeBackupDamaged, "nothing of it can be used", "%s: %w", raw, err)
	}
	for _, l := range losses {
		a.out.Warn(report.Problem{Code: report.CodeBackupDamaged, Severity: report.Warning, Text: "lost: " + l.What()})
	}
	return x, func() { f.Close() }, nil
}

func (a *app) extracted(ctx context.Context, x *archive.Archive, into string, paths []string) error {
	opt := archive.RestoreOptions{Progress: func(p archive.Progress) {
		a.out.Emit(report.Event{Kind: report.Progress, Text: "Extracting", Done: p.Bytes, Total: p.Total})
	}}
	var res *archive.Restored
	var err error
	if len(paths) == 0 {
		res, err = x.Restore(ctx, into, opt)
	} else {
		res, err = x.Extract(ctx, into, paths, opt)
	}
	if err != nil {
		return err
	}
	a.out.Print("%d entries, %s", res.Entries, cli.Size(res.Bytes))
	if n := res.Problems.Count(); n > 0 {
		f := report.Errorf(report.CodeRestoreFiles, "look at the list", "%d entries could not be brought back", n)
		for _, p := range res.Problems.First() {
			f.Details = append(f.Details, p.String())
		}
		return f
	}
	return nil
}
