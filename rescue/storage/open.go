package storage

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"lifeboat/internal/blockdev"
	"lifeboat/internal/disklabel"
	"lifeboat/manifest"
	"lifeboat/plan"
	"lifeboat/report"
)

// openers is the literal table of how a layer that an earlier try made is
// opened: looked at, made active, never written. What has no row needs no
// opening.
var openers = map[plan.Verb]func(*Storage, context.Context, *manifest.Node) error{
	plan.VerbTable:  (*Storage).openTable,
	plan.VerbVG:     (*Storage).openVG,
	plan.VerbLV:     (*Storage).openLV,
	plan.VerbMkfs:   (*Storage).openFS,
	plan.VerbMkswap: (*Storage).openSwap,
}

// Open opens the layers that an earlier try of the very same plan made,
// instead of making them: every disk must carry the claim of this plan, and
// every layer be exactly what the target graph says. An error means that
// everything is to be wiped and made again; nothing was written.
func (s *Storage) Open(ctx context.Context) error {
	if err := s.underInit(); err != nil {
		return err
	}
	v, err := s.system.Scan()
	if err != nil {
		return err
	}
	for i := range s.Plan.Assignments {
		a := &s.Plan.Assignments[i]
		if !a.Claimed {
			return fmt.Errorf("disk %s carries no claim of this plan", a.Disk.Name)
		}
		if _, _, err := s.target(v, a.Node); err != nil {
			return err
		}
	}
	if err := s.protected(v); err != nil {
		return err
	}
	for _, st := range s.Plan.Steps {
		open := openers[st.Verb]
		if open == nil || st.Stage != plan.StageStorage {
			continue
		}
		n, err := s.node(st.Node)
		if err != nil {
			return err
		}
		if err := open(s, ctx, n); err != nil {
			return fmt.Errorf("open %s: %w", n.ID, err)
		}
	}
	s.claimed = true
	return nil
}

// protected forbids using the targets though they are claimed: a foreign
// mount, the medium, the backup.
func (s *Storage) protected(v *blockdev.View) error {
	targets := s.targets(v)
	for disk, list := range v.Protections(blockdev.Uses{Medium: s.Medium, Backup: s.Backup, OpenedMounts: append([]string{s.Root}, s.Own...)}) {
		for _, p := range list {
			// Device mapper is ours, from before the worker was started again.
			if targets[disk] && p.Why != manifest.ProtectActive {
				return report.Errorf(report.CodeDiskProtected, "unmount or stop what uses it, then try again", "disk %s carries %s", disk, p.What)
			}
		}
	}
	return nil
}

func (s *Storage) openTable(ctx context.Context, n *manifest.Node) error {
	dev, err := s.device(ctx, n.On[0].Node)
	if err != nil {
		return err
	}
	want := disklabel.Of(&s.Plan.Target, n)
	if err := s.sameTable(dev, want); err != nil {
		return err
	}
	for i := range s.Plan.Target.Nodes {
		p := &s.Plan.Target.Nodes[i]
		if p.Partition == nil || p.On[0].Node != n.ID || want.Table.Type == disklabel.DOS && isExtended(p.Partition) {
			continue
		}
		if _, err := s.device(ctx, p.ID); err != nil {
			return err
		}
	}
	return nil
}

// isExtended tells of an MBR partition that only holds others; the kernel
// shows it by its first kilobyte.
func isExtended(p *manifest.Partition) bool {
	return p.Number <= 4 && (p.Type == "05" || p.Type == "0f" || p.Type == "85")
}

func (s *Storage) openVG(ctx context.Context, n *manifest.Node) error {
	g, err := s.group(n)
	if err != nil {
		return err
	}
	t, err := s.lvmTool(ctx, n.VG)
	if err != nil {
		return err
	}
	return s.sameGroup(ctx, t, g)
}

func (s *Storage) openLV(ctx context.Context, n *manifest.Node) error {
	vg, err := s.vgOf(n)
	if err != nil {
		return err
	}
	if err := s.activate(ctx, vg, n); err != nil {
		return err
	}
	_, err = s.device(ctx, n.ID)
	return err
}

func (s *Storage) openFS(ctx context.Context, n *manifest.Node) error {
	m, ok := makers[n.FS.Type]
	if !ok {
		return errors.New("filesystems of type " + n.FS.Type + " are not known")
	}
	dev, err := s.device(ctx, n.ID)
	if err != nil {
		return err
	}
	if err := s.sameFS(ctx, n, dev, m, false); err != nil || m.check == nil {
		return err
	}
	// After a restart of the worker alone it is mounted and whole.
	v, err := s.system.Scan()
	if err != nil {
		return err
	}
	for _, mt := range v.Mounts {
		if d := v.ByNode(dev); d != nil && slices.Contains(v.MountDevices(mt), d) {
			return nil
		}
	}
	return m.check(ctx, s.Run, dev)
}

func (s *Storage) openSwap(ctx context.Context, n *manifest.Node) error {
	dev, err := s.device(ctx, n.ID)
	if err != nil {
		return err
	}
	return s.sameSwap(ctx, n, n.Swap, dev, false)
}
