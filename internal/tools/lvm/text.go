package lvm

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"lifeboat/manifest"
)

// Group is a volume group as it is to be made. Device nodes are no part of
// it: lvm finds its volumes by their ids.
type Group struct {
	VG  manifest.VG
	PVs []manifest.PV
	LVs []manifest.LV // linear and striped ones, in the order of the group
}

// nameForm is what LVM allows in names, and tagForm in tags.
var (
	nameForm = regexp.MustCompile(`^[a-zA-Z0-9+_.][a-zA-Z0-9+_.-]*$`)
	tagForm  = regexp.MustCompile(`^[a-zA-Z0-9_+.\-/=!:&#]+$`)
)

// lvmSector is the unit of sizes in metadata.
const lvmSector = 512

// Text is the metadata of the group as vgcfgrestore takes it: the same text
// for the same group. What it cannot express is ErrUnsupported.
func (g Group) Text() (string, error) {
	if err := g.check(); err != nil {
		return "", fmt.Errorf("volume group %s: %w", g.VG.Name, err)
	}
	w := &writer{}
	w.line(`contents = "Text Format Volume Group"`)
	w.line("version = 1")
	w.open(g.VG.Name)
	w.line("id = %s", quote(g.VG.UUID))
	w.line("seqno = 1")
	w.line(`format = "lvm2"`)
	w.words("status", "RESIZEABLE", "READ", "WRITE")
	w.words("flags")
	w.tags(g.VG.Tags)
	if g.VG.SystemID != "" {
		w.line("system_id = %s", quote(g.VG.SystemID))
	}
	w.line("extent_size = %d", g.VG.ExtentSize/lvmSector)
	w.line("max_lv = %d", g.VG.MaxLV)
	w.line("max_pv = %d", g.VG.MaxPV)
	if g.VG.Alloc != "" {
		w.line("allocation_policy = %s", quote(g.VG.Alloc))
	}
	w.line("metadata_copies = 0")
	w.open("physical_volumes")
	names := map[manifest.ID]string{}
	for i, pv := range g.PVs {
		name := fmt.Sprintf("pv%d", i)
		names[manifest.ID("pv:"+pv.UUID)] = name
		w.pv(name, pv)
	}
	w.close()
	w.open("logical_volumes")
	for _, lv := range g.LVs {
		w.lv(lv, names)
	}
	w.close()
	w.close()
	return w.b.String(), nil
}

type writer struct {
	b     strings.Builder
	depth int
}

func (w *writer) line(f string, a ...any) {
	w.b.WriteString(strings.Repeat("\t", w.depth))
	fmt.Fprintf(&w.b, f, a...)
	w.b.WriteByte('\n')
}

func (w *writer) open(name string) { w.line("%s {", name); w.depth++ }
func (w *writer) close()           { w.depth--; w.line("}") }

func (w *writer) words(key string, v ...string) {
	q := make([]string, len(v))
	for i := range v {
		q[i] = quote(v[i])
	}
	w.line("%s = [%s]", key, strings.Join(q, ", "))
}

func (w *writer) tags(tags []string) {
	if len(tags) > 0 {
		w.words("tags", tags...)
	}
}

func (w *writer) pv(name string, pv manifest.PV) {
	w.open(name)
	w.line("id = %s", quote(pv.UUID))
	w.line(`device = "unknown"`) // a hint only
	if pv.NoAlloc {
		w.words("status")
	} else {
		w.words("status", "ALLOCATABLE")
	}
	w.words("flags")
	w.tags(pv.Tags)
	w.line("dev_size = %d", pv.DevSize/lvmSector)
	w.line("pe_start = %d", pv.PEStart/lvmSector)
	w.line("pe_count = %d", pv.Extents)
	if pv.BASize > 0 {
		w.line("ba_start = %d", pv.BAStart/lvmSector)
		w.line("ba_size = %d", pv.BASize/lvmSector)
	}
	w.close()
}

func (w *writer) lv(lv manifest.LV, pvs map[manifest.ID]string) {
	w.open(lv.Name)
	w.line("id = %s", quote(lv.UUID))
	if lv.ReadOnly {
		w.words("status", "READ", "VISIBLE")
	} else {
		w.words("status", "READ", "WRITE", "VISIBLE")
	}
	w.words("flags")
	w.tags(lv.Tags)
	if lv.Contiguous {
		w.line(`allocation_policy = "contiguous"`)
	} else if lv.Alloc != "" {
		w.line("allocation_policy = %s", quote(lv.Alloc))
	}
	if lv.ReadAhead > 0 {
		w.line("read_ahead = %d", lv.ReadAhead/lvmSector)
	}
	w.line("segment_count = %d", len(lv.Segments))
	for i, s := range lv.Segments {
		w.open(fmt.Sprintf("segment%d", i+1))
		w.line("start_extent = %d", s.Start)
		w.line("extent_count = %d", s.Extents)
		w.line(`type = "striped"`) // linear is one stripe
		w.line("stripe_count = %d", len(s.Areas))
		if len(s.Areas) > 1 {
			w.line("stripe_size = %d", s.StripeSize/lvmSector)
		}
		areas := make([]string, len(s.Areas))
		for j, a := range s.Areas {
			areas[j] = fmt.Sprintf("%s, %d", quote(pvs[a.PV]), a.Start)
		}
		w.line("stripes = [%s]", strings.Join(areas, ", "))
		w.close()
	}
	w.close()
}

// check refuses what would make lvm fail half-way or make something else.
func (g Group) check() error {
	vg := g.VG
	if !nameForm.MatchString(vg.Name) || !uuidForm.MatchString(vg.UUID) {
		return fmt.Errorf("name %q and id %q are not LVM's", vg.Name, vg.UUID)
	}
	if vg.LockType != "" && vg.LockType != "none" {
		return fmt.Errorf("it is shared by a lock manager (%s): %w", vg.LockType, ErrUnsupported)
	}
	if !policyOK(vg.Alloc) {
		return fmt.Errorf("the allocation policy %q is not LVM's", vg.Alloc)
	}
	if vg.ExtentSize < lvmSector || vg.ExtentSize%lvmSector != 0 {
		return fmt.Errorf("extents of %d bytes are impossible", vg.ExtentSize)
	}
	if len(g.PVs) == 0 {
		return fmt.Errorf("it has no physical volume")
	}
	extents := map[manifest.ID]int64{}
	for _, pv := range g.PVs {
		id := manifest.ID("pv:" + pv.UUID)
		if _, twice := extents[id]; twice || !uuidForm.MatchString(pv.UUID) {
			return fmt.Errorf("the id %q of a physical volume is not LVM's or is there twice", pv.UUID)
		}
		if pv.PEStart%lvmSector != 0 || pv.PEStart+pv.Extents*vg.ExtentSize > pv.DevSize {
			return fmt.Errorf("physical volume %s: %d extents from byte %d on do not fit into %d bytes", pv.UUID, pv.Extents, pv.PEStart, pv.DevSize)
		}
		extents[id] = pv.Extents
		if err := checkTags(pv.Tags); err != nil {
			return err
		}
	}
	used := map[manifest.ID][]span{}
	for _, lv := range g.LVs {
		if err := checkLV(lv, extents, used); err != nil {
			return fmt.Errorf("logical volume %s: %w", lv.Name, err)
		}
	}
	return checkTags(vg.Tags)
}

// policyOK tells whether lvm takes the word: one that it does not know would
// end the recovery at vgcfgrestore.
func policyOK(word string) bool {
	return slices.Contains([]string{"", "normal", "contiguous", "cling", "cling_by_tags", "anywhere", "inherit"}, word)
}

func checkTags(tags []string) error {
	for _, t := range tags {
		if !tagForm.MatchString(t) {
			return fmt.Errorf("the tag %q is not LVM's", t)
		}
	}
	return nil
}

// span is a run of extents on a physical volume that is taken.
type span struct{ start, end int64 }

func checkLV(lv manifest.LV, extents map[manifest.ID]int64, used map[manifest.ID][]span) error {
	if !nameForm.MatchString(lv.Name) || !uuidForm.MatchString(lv.UUID) {
		return fmt.Errorf("name %q and id %q are not LVM's", lv.Name, lv.UUID)
	}
	if err := checkTags(lv.Tags); err != nil {
		return err
	}
	if !policyOK(lv.Alloc) {
		return fmt.Errorf("the allocation policy %q is not LVM's", lv.Alloc)
	}
	if len(lv.Segments) == 0 {
		return fmt.Errorf("it has no segments")
	}
	next := int64(0)
	for _, s := range lv.Segments {
		if s.Type != "linear" && s.Type != "striped" {
			return fmt.Errorf("a segment of type %s: %w", s.Type, ErrUnsupported)
		}
		n := int64(len(s.Areas))
		if n == 0 || s.Start != next || s.Extents < 1 || s.Extents%n != 0 {
			return fmt.Errorf("a segment of %d extents at %d on %d areas does not continue at %d", s.Extents, s.Start, n, next)
		}
		if n > 1 && (s.StripeSize < lvmSector || s.StripeSize%lvmSector != 0) {
			return fmt.Errorf("stripes of %d bytes are impossible", s.StripeSize)
		}
		next += s.Extents
		for _, a := range s.Areas {
			r := span{a.Start, a.Start + s.Extents/n}
			have, ok := extents[a.PV]
			if !ok || r.start < 0 || r.end > have {
				return fmt.Errorf("extents %d to %d of %s are not in the group (it has %d)", r.start, r.end-1, a.PV, have)
			}
			for _, o := range used[a.PV] {
				if r.start < o.end && o.start < r.end {
					return fmt.Errorf("extents %d to %d of %s are taken twice", r.start, r.end-1, a.PV)
				}
			}
			used[a.PV] = append(used[a.PV], r)
		}
	}
	return nil
}
