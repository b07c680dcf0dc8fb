package storage

import (
	"context"
	"fmt"
	"reflect"
	"slices"

	"lifeboat/internal/tools/lvm"
	"lifeboat/manifest"
	"lifeboat/plan"
)

// lvmTool is lvm as it may see the plan's physical volumes and nothing else.
func (s *Storage) lvmTool(ctx context.Context, vg *manifest.VG) (lvm.Tool, error) {
	t := lvm.Tool{Run: s.Run}
	if vg != nil {
		t.SystemID = vg.SystemID
	}
	for _, n := range s.Plan.Target.OfKind(manifest.KindPV) {
		dev, err := s.device(ctx, n.ID)
		if err != nil {
			return t, err
		}
		t.Devices = append(t.Devices, dev)
	}
	return t, nil
}

// group is the volume group of a node, with all that belongs to it, as the
// target graph has it.
func (s *Storage) group(vg *manifest.Node) (lvm.Group, error) {
	g := lvm.Group{VG: *vg.VG}
	for _, e := range vg.On {
		pv, err := s.node(e.Node)
		if err != nil {
			return g, err
		}
		if pv.PV == nil {
			return g, fmt.Errorf("volume group %s stands on %s, which is no physical volume", vg.VG.Name, pv.ID)
		}
		g.PVs = append(g.PVs, *pv.PV)
	}
	for _, n := range s.Plan.Target.OfKind(manifest.KindLV) {
		if len(n.On) > 0 && n.On[0].Node == vg.ID {
			lv := *n.LV
			lv.ReadOnly = false // until its files are there, see seal
			g.LVs = append(g.LVs, lv)
		}
	}
	return g, nil
}

// vgOver is the volume group that stands on a physical volume, or nil.
func (s *Storage) vgOver(pv manifest.ID) *manifest.Node {
	for _, n := range s.Plan.Target.OfKind(manifest.KindVG) {
		if slices.ContainsFunc(n.On, func(e manifest.Edge) bool { return e.Node == pv }) {
			return n
		}
	}
	return nil
}

func (s *Storage) pv(ctx context.Context, st plan.Step, _ func(int64, int64)) error {
	if err := s.Claim(ctx); err != nil {
		return err
	}
	n, err := s.node(st.Node)
	if err != nil {
		return err
	}
	dev, err := s.device(ctx, n.ID)
	if err != nil {
		return err
	}
	text := ""
	var vg *manifest.VG
	if over := s.vgOver(n.ID); over != nil {
		g, err := s.group(over)
		if err != nil {
			return err
		}
		if text, err = g.Text(); err != nil {
			return err
		}
		vg = over.VG
	}
	t, err := s.lvmTool(ctx, vg)
	if err != nil {
		return err
	}
	return t.CreatePV(ctx, dev, *n.PV, text)
}

// vg writes a group's metadata with all logical volumes, and has lvm say that
// every id, name, size and extent is what the graph has.
func (s *Storage) vg(ctx context.Context, st plan.Step, _ func(int64, int64)) error {
	if err := s.Claim(ctx); err != nil {
		return err
	}
	n, err := s.node(st.Node)
	if err != nil {
		return err
	}
	g, err := s.group(n)
	if err != nil {
		return err
	}
	text, err := g.Text()
	if err != nil {
		return err
	}
	t, err := s.lvmTool(ctx, n.VG)
	if err != nil {
		return err
	}
	if err := t.RestoreVG(ctx, n.VG.Name, text); err != nil {
		return err
	}
	return s.sameGroup(ctx, t, g)
}

func (s *Storage) sameGroup(ctx context.Context, t lvm.Tool, want lvm.Group) error {
	r, err := t.Read(ctx)
	if err != nil {
		return err
	}
	if err := compareGroup(r, want); err != nil {
		return fmt.Errorf("volume group %s is not as the plan has it: %w", want.VG.Name, err)
	}
	return nil
}

// compareGroup compares what lvm reports with what was asked for. Sizes of
// metadata areas are LVM's own business.
func compareGroup(r *lvm.Report, want lvm.Group) error {
	i := slices.IndexFunc(r.VGs, func(v lvm.VG) bool { return v.UUID == want.VG.UUID })
	if i < 0 {
		return fmt.Errorf("lvm does not see it")
	}
	is, vg := r.VGs[i].VG, want.VG
	if is.Name != vg.Name || is.ExtentSize != vg.ExtentSize || is.SystemID != vg.SystemID || !sameSet(is.Tags, vg.Tags) || r.VGs[i].Partial {
		return fmt.Errorf("it is %+v, not %+v", is, vg)
	}
	for _, pv := range want.PVs {
		i := slices.IndexFunc(r.PVs, func(p lvm.PV) bool { return p.UUID == pv.UUID })
		if i < 0 || r.PVs[i].VGID != vg.UUID {
			return fmt.Errorf("physical volume %s is not in it", pv.UUID)
		}
		if is := r.PVs[i]; is.PEStart != pv.PEStart || is.Extents != pv.Extents || is.MDACopies != pv.MDACopies || is.Duplicate {
			return fmt.Errorf("physical volume %s is %+v, not %+v", pv.UUID, is.PV, pv)
		}
	}
	for _, lv := range want.LVs {
		i := slices.IndexFunc(r.LVs, func(l lvm.LV) bool { return l.UUID == lv.UUID && l.VGID == vg.UUID })
		if i < 0 {
			return fmt.Errorf("logical volume %s (%s) is not in it", lv.Name, lv.UUID)
		}
		is := r.LVs[i].LV
		if is.Name != lv.Name || is.ReadOnly != lv.ReadOnly || !sameSet(is.Tags, lv.Tags) || !reflect.DeepEqual(is.Segments, lv.Segments) {
			return fmt.Errorf("logical volume %s is %+v, not %+v", lv.Name, is, lv)
		}
	}
	return nil
}

func sameSet(a, b []string) bool {
	a, b = slices.Clone(a), slices.Clone(b)
	slices.Sort(a)
	slices.Sort(b)
	return slices.Equal(a, b)
}

// lv makes the device of a logical volume, whose metadata its group brought,
// and zeroes what of earlier things would be recognised on it.
func (s *Storage) lv(ctx context.Context, st plan.Step, _ func(int64, int64)) error {
	if err := s.Claim(ctx); err != nil {
		return err
	}
	n, err := s.node(st.Node)
	if err != nil {
		return err
	}
	vg, err := s.vgOf(n)
	if err != nil {
		return err
	}
	if err := s.activate(ctx, vg, n); err != nil {
		return err
	}
	dev, err := s.device(ctx, n.ID)
	if err != nil {
		return err
	}
	return s.clean(dev)
}

func (s *Storage) activate(ctx context.Context, vg, lv *manifest.Node) error {
	t, err := s.lvmTool(ctx, vg.VG)
	if err != nil {
		return err
	}
	return t.Activate(ctx, vg.VG.Name, lv.LV.Name)
}

// seal makes those logical volumes read-only that were so.
func (s *Storage) seal(ctx context.Context) error {
	for _, n := range s.Plan.Target.OfKind(manifest.KindLV) {
		if !n.LV.ReadOnly {
			continue
		}
		vg, err := s.vgOf(n)
		if err != nil {
			return err
		}
		t, err := s.lvmTool(ctx, vg.VG)
		if err != nil {
			return err
		}
		if err := t.ReadOnly(ctx, vg.VG.Name, n.LV.Name); err != nil {
			return err
		}
	}
	return nil
}

// deactivate removes the devices of the plan's volume groups.
func (s *Storage) deactivate(ctx context.Context) error {
	for _, n := range s.Plan.Target.OfKind(manifest.KindVG) {
		t, err := s.lvmTool(ctx, n.VG)
		if err != nil {
			return err
		}
		if err := t.Deactivate(ctx, n.VG.Name); err != nil {
			return err
		}
	}
	return nil
}
