// Package builder makes the rescue system on the host: it plans, packs,
// compresses and writes the media, and backs the host up.
// Level 4: their own job; its parts builder/capture, builder/payload,
// builder/base and builder/inspect stand half a step below.
package builder

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"lifeboat/builder/payload"
	"lifeboat/images/usb"
	"lifeboat/internal/config"
	"lifeboat/internal/handoff"
	"lifeboat/internal/run"
	"lifeboat/internal/scratch"
	"lifeboat/manifest"
	"lifeboat/plan"
	"lifeboat/report"
)

// Options say what rescue system is made.
type Options struct {
	Manifest *manifest.Manifest
	Config   *config.Config
	Root     string // system that is packed; "" means "/"
	Kernel   string // release; "" means the one that the manifest was captured under
	// BackupNeeds are tools that the backup method needs.
	BackupNeeds []string
	// Stick is where "usb" of the output goes instead of an image; Archives
	// go into that image.
	Stick    *Stick
	Archives []usb.Archive
	Run      run.Runner // nil starts programs silently
	Sink     report.Sink
	Version  string // of this lifeboat
}

// Part is one part of the work, with its sizes and time.
type Part struct {
	Name   string `json:"name"`
	Files  int    `json:"files"`
	Bytes  int64  `json:"bytes"`  // unpacked
	Stored int64  `json:"stored"` // in the image
	Millis int64  `json:"millis"`
}

// Medium is one file that was written.
type Medium struct {
	Kind  string   `json:"kind"` // iso, usb
	Path  string   `json:"path"`
	Bytes int64    `json:"bytes"`
	Boots []string `json:"boots"` // modes in which it starts: bios, uefi, uefi-secureboot
}

// Result is what was made.
type Result struct {
	BuildID   string           `json:"build_id"` // digest of the content
	Kernel    string           `json:"kernel"`
	Codec     string           `json:"codec"`
	Parts     []Part           `json:"parts"`
	Initramfs int64            `json:"initramfs"` // bytes stored
	Memory    int64            `json:"memory"`    // bytes that a machine needs to start it
	Modules   int              `json:"modules"`
	Resolved  int              `json:"resolved"` // ELF files proven in the finished tree
	Tools     []manifest.Tool  `json:"tools"`    // programs that were run there
	Secrets   []payload.Secret `json:"secrets,omitempty"`
	Media     []Medium         `json:"media"`
	Problems  []report.Problem `json:"problems,omitempty"`
	Millis    int64            `json:"millis"`
	Order     handoff.Order    `json:"order"`
}

// build carries one run of Rescue.
type build struct {
	o     Options
	host  *payload.Host
	plan  *plan.Plan
	order handoff.Order
	work  string // private folder beside the output
	res   *Result

	kernel  *payload.Kernel
	packer  *payload.Packer
	modTree *payload.Tree

	mu sync.Mutex
}

// Rescue packs the rescue system of this host and writes its media into the
// output folder. What stands in the way of a recovery is in Problems; the
// image is written all the same, and offers the menu only.
func Rescue(ctx context.Context, o Options) (*Result, error) {
	start := time.Now()
	if o.Root == "" {
		o.Root = "/"
	}
	if o.Run == nil {
		o.Run = run.Exec{}
	}
	if o.Sink == nil {
		o.Sink = report.Discard
	}
	b := &build{o: o, host: payload.NewHost(o.Root), res: &Result{}}
	b.plan = plan.Make(plan.Input{Manifest: o.Manifest, Machine: &o.Manifest.Machine,
		Policy: plan.Policy{OwnHardware: true, Method: o.Config.Backup.Method, BackupNeeds: o.BackupNeeds}})
	b.order = b.makeOrder()
	if err := b.order.Validate(); err != nil {
		return nil, report.Errorf(report.CodeConfig, "correct recover: in the configuration", "%w", err)
	}
	done, err := b.workFolder()
	if err != nil {
		return nil, err
	}
	defer done()
	segs, err := b.initramfs(ctx)
	if err != nil {
		return nil, err
	}
	if err := b.media(ctx, segs); err != nil {
		return nil, err
	}
	b.res.Order = b.order.Redacted()
	b.res.Millis = time.Since(start).Milliseconds()
	return b.res, nil
}

// workFolder makes a private folder beside the output, so that finished files
// get their names by a rename.
func (b *build) workFolder() (func(), error) {
	dir := b.o.Config.OutputDir
	next := "set output_dir to a folder with room for the image"
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, report.Errorf(report.CodeConfig, next, "make the output folder: %w", err)
	}
	work, done, err := scratch.Dir(dir, ".lifeboat-build-")
	if err != nil {
		return nil, report.Errorf(report.CodeConfig, next, "make a folder to build in: %w", err)
	}
	b.work = work
	return func() { _ = done() }, nil
}

// target is the name of an output file.
func (b *build) target(ending string) string {
	return filepath.Join(b.o.Config.OutputDir, b.o.Manifest.Host.Name+ending)
}

// problem notes something that the user must hear. Safe for several
// goroutines.
func (b *build) problem(p ...report.Problem) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, x := range p {
		// What is true of every medium is said once.
		if !slices.ContainsFunc(b.res.Problems, func(o report.Problem) bool { return o.Code == x.Code && o.Object == x.Object && o.Text == x.Text }) {
			b.res.Problems = append(b.res.Problems, x)
		}
	}
}

// step times one part of the work and tells the sink.
func (b *build) step(name, text string, f func() (Part, error)) error {
	start := time.Now()
	b.o.Sink.Emit(report.Event{Kind: report.Started, Stage: "mkrescue", Step: name, Text: text})
	p, err := f()
	p.Name, p.Millis = name, time.Since(start).Milliseconds()
	if err != nil {
		pr := report.ProblemOf(err)
		b.o.Sink.Emit(report.Event{Kind: report.Failed, Stage: "mkrescue", Step: name, Text: text, Millis: p.Millis, Problem: &pr})
		return err
	}
	b.mu.Lock()
	b.res.Parts = append(b.res.Parts, p)
	b.mu.Unlock()
	b.o.Sink.Emit(report.Event{Kind: report.Finished, Stage: "mkrescue", Step: name, Millis: p.Millis, Done: p.Stored,
		Text: p.text()})
	return nil
}

// text is one line about a part that is done.
func (p Part) text() string {
	s := fmt.Sprintf("%s: %d files", p.Name, p.Files)
	if p.Bytes > 0 {
		s += fmt.Sprintf(", %.1f MiB", mib(p.Bytes))
	}
	if p.Stored > 0 {
		s += fmt.Sprintf(", stored in %.1f MiB", mib(p.Stored))
	}
	return s
}

func mib(n int64) float64 { return float64(n) / (1 << 20) }
