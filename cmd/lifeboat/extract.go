package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"lifeboat/archive"
	"lifeboat/internal/cli"
	"lifeboat/report"
)

// extraction is the one JSON document of archive extract.
type extraction struct {
	Entries  int64    `json:"entries"`
	Bytes    int64    `json:"bytes"` // of content
	Losses   []string `json:"losses"`
	Problems []string `json:"problems"` // entries that were not brought back
}

func (a *app) archiveExtract() *cobra.Command {
	var into string
	var broken, overwrite bool
	c := &cobra.Command{
		Use: "extract ARCHIVE [PATH ...]", Short: "Bring files of an archive back into a folder", Args: cobra.MinimumNArgs(1),
		Example: "  lifeboat archive extract --into /tmp/web1 /srv/backup/web1/20261125T030000Z.lba /etc /home/anna/thesis.odt",
		RunE: func(c *cobra.Command, args []string) error {
			if err := folder(into, overwrite); err != nil {
				return err
			}
			doc := extraction{Losses: []string{}, Problems: []string{}}
			x, done, err := a.source(c.Context(), args[0], broken, &doc)
			if err != nil {
				return err
			}
			defer done()
			if err := a.extracted(c.Context(), x, into, args[1:], &doc); err != nil {
				return err
			}
			return a.extractedAll(doc)
		},
	}
	c.Flags().StringVar(&into, "into", "", "folder that the files are put below")
	c.Flags().BoolVar(&broken, "salvage", false, "read a damaged or cut archive for what is whole")
	c.Flags().BoolVar(&overwrite, "overwrite", false, "the folder may hold files already; those of the same name are replaced")
	return c
}

// folder makes the folder that files are put below. What lies in it is
// replaced only when that is asked for, and the running system never.
func folder(into string, overwrite bool) error {
	if into == "" {
		return report.Errorf(report.CodeUsage, "name an empty folder with --into", "extract needs a folder")
	}
	if err := os.MkdirAll(into, 0o755); err != nil {
		return report.Errorf(report.CodeUsage, "name another folder with --into", "make the folder: %w", err)
	}
	st, err := os.Stat(into)
	if err != nil {
		return report.Errorf(report.CodeUsage, "name another folder with --into", "%w", err)
	}
	if root, err := os.Stat("/"); err == nil && os.SameFile(st, root) {
		return report.Errorf(report.CodeUsage, "extract into a folder, and copy from there what you want", "%s is the root of this running system", into)
	}
	list, err := os.ReadDir(into)
	if err != nil {
		return report.Errorf(report.CodeUsage, "name another folder with --into", "%w", err)
	}
	if len(list) > 0 && !overwrite {
		return report.Errorf(report.CodeUsage, "name an empty folder, or give --overwrite", "%s is not empty (%s and others): files of the same name would be replaced", into, list[0].Name())
	}
	return nil
}

// extractedAll prints the result; what is missing from it is the exit code.
func (a *app) extractedAll(doc extraction) error {
	if a.out.JSON {
		if err := a.out.Value(doc); err != nil {
			return err
		}
	}
	a.out.Print("%d entries, %s", doc.Entries, cli.Size(doc.Bytes))
	var f *report.Fault
	switch {
	case len(doc.Problems) > 0:
		f = report.Errorf(report.CodeRestoreFiles, "look at the list", "%d entries could not be brought back", len(doc.Problems))
		f.Details = append(doc.Problems, doc.Losses...)
	case len(doc.Losses) > 0:
		f = report.Errorf(report.CodeBackupDamaged, "take the lost files from another backup", "the archive is damaged; what is whole was brought back, and %d parts are lost", len(doc.Losses))
		f.Details = doc.Losses
	default:
		return nil
	}
	return f
}

// source opens an archive, whole or as far as it is whole.
func (a *app) source(ctx context.Context, raw string, broken bool, doc *extraction) (*archive.Archive, func(), error) {
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
		doc.Losses = append(doc.Losses, l.What())
		a.out.Warn(report.Problem{Code: report.CodeBackupDamaged, Severity: report.Warning, Text: "lost: " + l.What()})
	}
	return x, func() { f.Close() }, nil
}

func (a *app) extracted(ctx context.Context, x *archive.Archive, into string, paths []string, doc *extraction) error {
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
	if frame := new(archive.FrameError); errors.As(err, &frame) {
		return report.Errorf(report.CodeBackupDamaged, "extract into another folder with --salvage, which brings back what is whole", "the archive is damaged: %w", err)
	}
	if err != nil {
		return err
	}
	doc.Entries, doc.Bytes = int64(res.Entries), res.Bytes
	for _, p := range res.Problems.First() {
		doc.Problems = append(doc.Problems, p.String())
	}
	if more := int(res.Problems.Count()) - len(doc.Problems); more > 0 {
		doc.Problems = append(doc.Problems, fmt.Sprintf("and %d more", more))
	}
	return nil
}
