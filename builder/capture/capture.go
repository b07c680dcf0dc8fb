// Package capture describes the host as a manifest: who it is, its hardware,
// its storage from the disks up to the mounts, its network, how it boots.
// Level 4: host → manifest.
package capture

import (
	"context"
	"fmt"
	"path"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"lifeboat/internal/blockdev"
	"lifeboat/internal/probe"
	"lifeboat/internal/run"
	"lifeboat/internal/sysroot"
	"lifeboat/manifest"
	"lifeboat/plan"
	"lifeboat/report"
)

// Options say how the host is captured.
type Options struct {
	Run     run.Runner
	Version string // of this lifeboat
	// Exclude are absolute paths whose content no backup holds. A mount at or
	// below one stays in fstab and is neither formatted nor restored; of one
	// at PATH/** only the empty filesystem comes back.
	Exclude []string
	// Accept are mounts whose loss is accepted by name.
	Accept []string
	// Method of the backup.
	Method string
	// Root and System are where the host is; zero values are this very host.
	Root   string
	System blockdev.System
}

// host is a capture under way.
type host struct {
	opt  Options
	root *sysroot.Root
	r    *probe.Reading
	g    *probe.Graph
	m    *manifest.Manifest
}

// Capture describes the host. What cannot be rebuilt on this very hardware is
// in Uncovered, and the manifest is good all the same; only a host whose root
// filesystem has no place in it is an error.
func Capture(ctx context.Context, opt Options) (*manifest.Manifest, error) {
	if opt.Root == "" {
		opt.Root = "/"
	}
	if opt.Run == nil {
		opt.Run = run.Exec{}
	}
	if err := checkNames(opt); err != nil {
		return nil, err
	}
	root, err := sysroot.Open(opt.Root)
	if err != nil {
		return nil, fmt.Errorf("capture: %w", err)
	}
	defer root.Close()
	h := &host{opt: opt, root: root, m: &manifest.Manifest{Format: manifest.Format, Made: time.Now().UTC().Truncate(time.Second), By: opt.Version}}
	if err := h.read(ctx); err != nil {
		return nil, err
	}
	return h.m, h.cover()
}

// checkNames refuses settings that would match everything or nothing.
func checkNames(opt Options) error {
	for _, e := range opt.Exclude {
		p := path.Clean(strings.TrimRight(e, "*"))
		if !strings.HasPrefix(e, "/") || p == "/" {
			return report.Errorf(report.CodeConfig, "name an absolute path below /", "backup.exclude holds %q, which would leave out everything or nothing", e)
		}
	}
	if _, err := newExcluder(opt.Exclude); err != nil {
		return err
	}
	for _, a := range opt.Accept {
		if strings.TrimSpace(a) == "" {
			return report.Errorf(report.CodeConfig, "take the empty entry out", "uncovered holds an empty name")
		}
	}
	return nil
}

// read gathers everything, what is independent at the same time.
func (h *host) read(ctx context.Context) error {
	var err error
	o := probe.Options{Run: h.opt.Run, System: h.opt.System, Root: h.opt.Root}
	early := &errgroup.Group{}
	early.Go(func() error { return h.identity() })
	early.Go(func() error { return h.network() })
	if h.r, err = probe.Read(ctx, o); err != nil {
		return err
	}
	if err := early.Wait(); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		m, err := h.r.Machine(ctx)
		if err == nil {
			h.m.Machine = *m
		}
		return err
	})
	g.Go(func() error {
		var err error
		if h.g, err = h.r.Graph(ctx); err != nil {
			return err
		}
		if err := h.r.AddMounts(ctx, h.g); err != nil {
			return err
		}
		h.m.Storage, h.m.LeftOut, h.m.Uncovered = h.g.Storage, h.g.LeftOut, h.g.Uncovered
		if err := h.exclude(); err != nil {
			return err
		}
		return h.dirs()
	})
	var grubVersion string
	g.Go(func() error { grubVersion = h.grubVersion(ctx); return nil })
	if err := g.Wait(); err != nil {
		return err
	}
	return h.boot(grubVersion)
}

// cover finds by the planner what could not be rebuilt on this very hardware.
func (h *host) cover() error {
	m := h.m
	accepted := func(p manifest.Bytes) bool { return slices.Contains(h.opt.Accept, string(p)) }
	for i := range m.Uncovered {
		m.Uncovered[i].Accepted = accepted(m.Uncovered[i].Path)
	}
	before := slices.Clone(m.Uncovered)
	// The planner takes from here what is accepted by name.
	for _, a := range h.opt.Accept {
		if !slices.ContainsFunc(m.Uncovered, func(u manifest.Uncovered) bool { return string(u.Path) == a }) {
			for _, mt := range m.Storage.Mounts {
				if string(mt.Path) == a {
					m.Uncovered = append(m.Uncovered, manifest.Uncovered{Path: mt.Path, Node: mt.Node, Accepted: true})
				}
			}
		}
	}
	if err := h.hasRoot(before); err != nil {
		return err
	}
	p := plan.Make(plan.Input{Manifest: m, Machine: &m.Machine, Policy: plan.Policy{OwnHardware: true, Method: h.opt.Method}})
	m.Uncovered = p.Uncovered
	// What has no place after a recovery does not belong into a backup either.
	for i, mt := range m.Storage.Mounts {
		if mt.Path != "none" && slices.ContainsFunc(m.Uncovered, func(u manifest.Uncovered) bool { return u.Accepted && u.Path == mt.Path }) {
			m.Storage.Mounts[i].Backup = manifest.ScopeExclude
		}
	}
	for _, r := range p.Refusals {
		if r.Code == report.CodeManifest {
			return &report.Fault{Problem: r}
		}
		if !slices.ContainsFunc(m.Uncovered, func(u manifest.Uncovered) bool { return string(u.Path) == r.Object || string(u.Node) == r.Object }) {
			m.Uncovered = append(m.Uncovered, manifest.Uncovered{Path: manifest.Bytes(r.Object), Node: h.nodeNamed(r.Object), Reason: r.Text})
		}
	}
	// Whole lists, never null, so that the JSON form is the same everywhere.
	if m.Uncovered == nil {
		m.Uncovered = []manifest.Uncovered{}
	}
	if m.LeftOut == nil {
		m.LeftOut = []manifest.LeftOut{}
	}
	return nil
}

func (h *host) nodeNamed(object string) manifest.ID {
	if h.m.Storage.Node(manifest.ID(object)) != nil {
		return manifest.ID(object)
	}
	return ""
}

// hasRoot is the last check of a capture: a manifest without the root
// filesystem is a mistake, whatever led there.
func (h *host) hasRoot(uncovered []manifest.Uncovered) error {
	for _, mt := range h.m.Storage.Mounts {
		if mt.Path == "/" {
			return nil
		}
	}
	why := "no filesystem is known for it"
	for _, u := range uncovered {
		if u.Path == "/" {
			why = u.Reason
		}
	}
	f := report.Errorf(report.CodeUncovered, "capture a system that runs from a disk", "the root filesystem / cannot be recovered: %s", why)
	f.Object = "/"
	for _, u := range uncovered {
		f.Details = append(f.Details, fmt.Sprintf("%s: %s", u.Path, u.Reason))
	}
	return f
}

// arch is the architecture of this program and so of the host.
const arch = runtime.GOARCH
