package triage

import (
	"context"
	"errors"
	"slices"

	"lifeboat/internal/disklabel"
	"lifeboat/internal/probe"
	"lifeboat/manifest"
)

// lostTable is a captured table that a disk has lost, and whose partitions the
// kernel shows all the same while we look.
type lostTable struct {
	id         manifest.ID
	disk, node string // kernel name and device node
	label      *disklabel.Label
}

type tables []lostTable

func (t tables) has(id manifest.ID) bool {
	return slices.ContainsFunc(t, func(l lostTable) bool { return l.id == id })
}

// lostTables finds disks that lost a captured table (a zeroed first sector, a
// damaged GPT): the kernel shows no partition of them, and the captured
// contents lie in their places.
func lostTables(ctx context.Context, opt Options, r *probe.Reading) (out tables) {
	g := &opt.Manifest.Storage
	for i := range g.Nodes {
		n := &g.Nodes[i]
		disks := g.Disks(n.ID)
		if n.Table == nil || len(disks) != 1 || len(n.On) != 1 || n.On[0].Node != disks[0].ID {
			continue // only tables that lie on a disk itself
		}
		bare := r.Bare(disks[0].Disk.Bytes)
		for _, t := range out {
			delete(bare, t.disk)
		}
		for disk, node := range bare {
			if l, err := probe.LostTable(ctx, opt.Run, node, g, n); err == nil {
				out = append(out, lostTable{n.ID, disk, node, l})
				break
			}
		}
	}
	return out
}

// shown reads the machine with the partitions of lost tables.
func (t tables) shown(ctx context.Context, opt probe.Options) (map[string]*disklabel.Label, *probe.Reading, error) {
	opt.Assume = map[string]*disklabel.Label{}
	for _, l := range t {
		opt.Assume[l.disk] = l.label
	}
	r, err := probe.Read(ctx, opt)
	return opt.Assume, r, err
}

// hide makes the kernel show the disks as they were found.
func (t tables) hide(ctx context.Context) error {
	var errs []error
	for _, l := range t {
		errs = append(errs, disklabel.Forget(context.WithoutCancel(ctx), l.node))
	}
	return errors.Join(errs...)
}
