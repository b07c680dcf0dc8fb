package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"lifeboat/builder"
	"lifeboat/internal/check"
	"lifeboat/internal/cli"
	"lifeboat/internal/config"
	"lifeboat/manifest"
	"lifeboat/report"
)

// checkWait is how long a check may take unless asked otherwise. Monitoring
// systems end their plugins after a minute.
const checkWait = 50 * time.Second

func (a *app) check() *cobra.Command {
	var full bool
	var wait time.Duration
	c := &cobra.Command{
		Use: "check", Short: "Check that image and backup would bring this host back; for monitoring systems",
		Long: `Holds this host against the rescue image and the backup that it made last:
both there and readable, young enough (check: in the settings), made of the
same storage, boot loader, kernels and network files as there are now.

The first line and the exit code are those of a Nagios plugin: 0 OK,
1 WARNING, 2 CRITICAL, 3 UNKNOWN. Beyond a limit of age it warns, beyond twice
the limit it is critical.`,
		Example: "  lifeboat check\n  lifeboat check --full --json",
		RunE: func(c *cobra.Command, _ []string) error {
			if !c.Flags().Changed("timeout") && full {
				wait = 0
			}
			return a.checked(a.runCheck(c.Context(), full, wait))
		},
	}
	c.Flags().BoolVar(&full, "full", false, "read all of the backup, not only its ends; takes as long as that takes")
	c.Flags().DurationVarP(&wait, "timeout", "t", checkWait, "give up after this time; 0 never, which --full means")
	// A wrong call must not look like a critical host.
	c.SetFlagErrorFunc(func(c *cobra.Command, err error) error { return a.checked(check.Failed(usage(c, err))) })
	c.Args = func(c *cobra.Command, args []string) error {
		if err := cobra.NoArgs(c, args); err != nil {
			return a.checked(check.Failed(usage(c, err)))
		}
		return nil
	}
	return c
}

// runCheck looks and judges. What hangs is left behind: the process ends.
func (a *app) runCheck(ctx context.Context, full bool, wait time.Duration) *check.Result {
	conf, err := a.settings()
	if err != nil {
		return check.Failed(err)
	}
	if err := needRoot("checking this host"); err != nil {
		return check.Failed(err)
	}
	in := check.Input{StateDir: a.stateDir(), Config: conf, Full: full, Now: time.Now(), Progress: a.reading(full),
		Capture: func(ctx context.Context) (*manifest.Manifest, error) { return a.captured(ctx, conf) }}
	var doing atomic.Value
	doing.Store("")
	if wait > 0 {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeout(ctx, wait)
		defer stop()
	}
	done := make(chan *check.Facts, 1)
	go func() { done <- check.Look(ctx, in, &doing) }()
	select {
	case f := <-done:
		if ctx.Err() == nil {
			return check.Judge(f, conf.Check)
		}
	case <-ctx.Done():
	}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return check.Hung(doing.Load().(string), wait)
	}
	return check.Failed(report.Errorf(report.CodeInterrupted, "", "interrupted"))
}

// reading shows how far a full check is.
func (a *app) reading(full bool) func(done, total int64) {
	if !full || a.out.JSON {
		return nil // JSON is one document
	}
	a.out.Emit(report.Event{Kind: report.Started, Step: "check", Text: "Reading the backup"})
	return func(done, total int64) {
		a.out.Emit(report.Event{Kind: report.Progress, Step: "check", Text: "Reading the backup", Done: done, Total: total})
	}
}

// checked prints a result and gives its exit code.
func (a *app) checked(r *check.Result) error {
	if a.out.JSON {
		if err := a.out.Value(r); err != nil {
			return err
		}
	}
	a.out.Print("%s", r.Line())
	if !a.out.Quiet {
		for _, l := range r.Long() {
			a.out.Print("%s", l)
		}
	}
	if r.State == check.OK {
		return nil
	}
	return &cli.Exit{Code: r.Exit}
}

func (a *app) checklayout() *cobra.Command {
	return &cobra.Command{
		Use: "checklayout", Short: "Say whether this host changed since its rescue image was made",
		Long: `Exit code 0: nothing changed; 1: something did, each change on a line, or no
image was made, or the host cannot be looked at. So scripts make the image again with
	lifeboat checklayout || lifeboat mkrescue
which mkrescue --if-changed does by itself. Ages, image and backup are what check looks at.`,
		Example: "  lifeboat checklayout || lifeboat mkrescue",
		RunE: func(c *cobra.Command, _ []string) error {
			conf, err := a.settings()
			if err != nil {
				return err
			}
			changes, err := a.drift(c.Context(), conf)
			if err != nil {
				return &cli.Exit{Code: int(report.ExitFailed), Err: err}
			}
			if a.out.JSON {
				if err := a.out.Value(map[string]any{"changed": len(changes) > 0, "changes": changes}); err != nil {
					return err
				}
			}
			for _, l := range changes {
				a.out.Print("%s", l)
			}
			if len(changes) > 0 {
				return &cli.Exit{Code: int(report.ExitFailed)}
			}
			a.out.Info("Nothing changed since the rescue image was made")
			return nil
		},
	}
}

func (a *app) drift(ctx context.Context, conf *config.Config) ([]string, error) {
	m, err := a.captured(ctx, conf)
	if err != nil {
		return nil, err
	}
	s, err := builder.LoadImage(a.stateDir())
	if err != nil {
		return nil, fmt.Errorf("the last image is not known: %w", err)
	}
	return check.Drift(s, m), nil
}
