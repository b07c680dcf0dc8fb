package lvm

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"lifeboat/manifest"
)

// Report is everything that lvm sees, in one consistent reading.
type Report struct {
	PVs []PV
	VGs []VG
	LVs []LV
}

// PV is a physical volume and its device node.
type PV struct {
	manifest.PV
	Dev       string
	VGID      string // id of its group, "" when it has none
	Duplicate bool   // another device holds the same id
}

// VG is a volume group with the ids of its physical volumes.
type VG struct {
	manifest.VG
	PVs     []string
	Partial bool // a physical volume is missing
}

// LV is a logical volume.
type LV struct {
	manifest.LV
	VG     string // name of its group
	VGID   string
	Bytes  int64
	Path   string // /dev/mapper/… as lvm names it
	DevNo  string // major:minor, "" when it is not active
	Layout []string
	Role   []string
	Hidden bool // part of another logical volume
	Parent string
	// Ids of the volumes that it stands on, "" when there is none.
	Pool, Origin, Data, Metadata string
}

var reportArgs = []string{
	"--reportformat", "json", "--units", "b", "--nosuffix", "--all",
	"--configreport", "vg", "-o", "vg_uuid,vg_name,vg_extent_size,vg_extent_count,vg_free_count,max_lv,max_pv,vg_tags,vg_systemid,vg_lock_type,vg_partial,vg_allocation_policy",
	"--configreport", "pv", "-o", "pv_uuid,pv_name,pe_start,pv_pe_count,dev_size,pv_ba_start,pv_ba_size,pv_mda_size,pv_mda_count,pv_tags,pv_allocatable,pv_missing,pv_duplicate",
	"--configreport", "lv", "-o", "lv_uuid,lv_name,lv_tags,lv_attr,lv_layout,lv_role,lv_read_ahead,lv_kernel_major,lv_kernel_minor,lv_size,lv_dm_path,pool_lv_uuid,origin_uuid,data_lv_uuid,metadata_lv_uuid,lv_parent",
	"--configreport", "seg", "-o", "lv_uuid,segtype,stripes,stripe_size,seg_start_pe,seg_size_pe,devices",
	"--configreport", "pvseg", "-o", "pvseg_start",
}

// row is one line of a report: every value is text.
type row map[string]string

type rawReport struct {
	Report []struct {
		VG  []row `json:"vg"`
		PV  []row `json:"pv"`
		LV  []row `json:"lv"`
		Seg []row `json:"seg"`
	} `json:"report"`
}

// Read reads all physical volumes, groups and logical volumes by one call.
func (t Tool) Read(ctx context.Context) (*Report, error) {
	res, err := t.run(ctx, "fullreport", reportArgs...)
	if err != nil {
		return nil, fmt.Errorf("read LVM: %w", err)
	}
	r, err := parseReport(res.Stdout)
	if err != nil {
		return nil, fmt.Errorf("read LVM: %w", err)
	}
	return r, nil
}

// numbers collects the first fault of reading numbers.
type numbers struct{ err error }

func (n *numbers) of(r row, key string) int64 {
	v := r[key]
	if v == "" {
		return 0
	}
	x, err := strconv.ParseInt(v, 10, 64)
	if err != nil && n.err == nil {
		n.err = fmt.Errorf("lvm reports %q for %s, no number", v, key)
	}
	return x
}

func parseReport(data []byte) (*Report, error) {
	var raw rawReport
	if err := json.Unmarshal(data, &raw); err != nil {
		return nil, fmt.Errorf("lvm's report is no JSON: %w", err)
	}
	out := &Report{}
	n := &numbers{}
	for _, group := range raw.Report {
		if len(group.VG) > 1 {
			return nil, fmt.Errorf("lvm reports %d volume groups where one belongs", len(group.VG))
		}
		var vg VG
		if len(group.VG) == 1 {
			vg = n.vg(group.VG[0])
		}
		ids := map[string]string{} // device → id of the physical volume
		for _, r := range group.PV {
			pv := n.pv(r)
			pv.VG, pv.VGID = vg.Name, vg.UUID
			vg.PVs = append(vg.PVs, pv.UUID)
			ids[pv.Dev] = pv.UUID
			out.PVs = append(out.PVs, pv)
		}
		if len(group.VG) == 1 {
			out.VGs = append(out.VGs, vg)
		}
		for _, r := range group.LV {
			lv, err := n.lv(r, group.Seg, ids)
			if err != nil {
				return nil, err
			}
			lv.VG, lv.VGID = vg.Name, vg.UUID
			out.LVs = append(out.LVs, lv)
		}
	}
	return out, n.err
}

func (n *numbers) vg(r row) VG {
	return VG{
		VG: manifest.VG{
			Name: r["vg_name"], UUID: r["vg_uuid"], ExtentSize: n.of(r, "vg_extent_size"), Extents: n.of(r, "vg_extent_count"), Free: n.of(r, "vg_free_count"),
			MaxLV: int(n.of(r, "max_lv")), MaxPV: int(n.of(r, "max_pv")), Tags: list(r["vg_tags"]), SystemID: r["vg_systemid"], LockType: r["vg_lock_type"], Alloc: r["vg_allocation_policy"],
		},
		Partial: r["vg_partial"] != "",
	}
}

func (n *numbers) pv(r row) PV {
	return PV{
		PV: manifest.PV{
			UUID: r["pv_uuid"], PEStart: n.of(r, "pe_start"), Extents: n.of(r, "pv_pe_count"), DevSize: n.of(r, "dev_size"),
			BAStart: n.of(r, "pv_ba_start"), BASize: n.of(r, "pv_ba_size"), MDASize: n.of(r, "pv_mda_size"), MDACopies: int(n.of(r, "pv_mda_count")),
			Tags: list(r["pv_tags"]), NoAlloc: r["pv_allocatable"] == "" && n.of(r, "pv_pe_count") > 0, Missing: r["pv_missing"] != "",
		},
		Dev: r["pv_name"], Duplicate: r["pv_duplicate"] != "",
	}
}

func (n *numbers) lv(r row, segs []row, pvs map[string]string) (LV, error) {
	lv := LV{
		LV:    manifest.LV{Name: r["lv_name"], UUID: r["lv_uuid"], Tags: list(r["lv_tags"])},
		Bytes: n.of(r, "lv_size"), Path: r["lv_dm_path"], Layout: list(r["lv_layout"]), Role: list(r["lv_role"]), Parent: strings.Trim(r["lv_parent"], "[]"),
		Pool: r["pool_lv_uuid"], Origin: r["origin_uuid"], Data: r["data_lv_uuid"], Metadata: r["metadata_lv_uuid"],
	}
	if name, hidden := strings.CutPrefix(lv.Name, "["); hidden {
		lv.Name, lv.Hidden = strings.TrimSuffix(name, "]"), true
	}
	// lv_attr: volume type, permissions, allocation, fixed minor, state …
	attr := r["lv_attr"] + "----------"
	lv.ReadOnly = attr[1] == 'r'
	lv.Contiguous = attr[2] == 'c' || attr[2] == 'C'
	lv.Alloc = policies[attr[2]|0x20]
	lv.Inactive = attr[4] == '-'
	if major := n.of(r, "lv_kernel_major"); major > 0 && !lv.Inactive {
		lv.DevNo = fmt.Sprintf("%d:%d", major, n.of(r, "lv_kernel_minor"))
	}
	if r["lv_read_ahead"] != "auto" {
		lv.ReadAhead = n.of(r, "lv_read_ahead")
	}
	for _, s := range segs {
		if s["lv_uuid"] != lv.UUID {
			continue
		}
		seg, err := n.segment(s, pvs)
		if err != nil {
			return lv, fmt.Errorf("logical volume %s: %w", lv.Name, err)
		}
		lv.Segments = append(lv.Segments, seg)
	}
	slices.SortFunc(lv.Segments, func(a, b manifest.Segment) int { return int(a.Start - b.Start) })
	lv.Type = typeOf(lv.Segments)
	return lv, nil
}

// policies are LVM's letters of allocation; one in upper case is locked for a
// moment. Inherited is none of its own.
var policies = map[byte]string{'n': "normal", 'l': "cling", 'a': "anywhere"}

// typeOf is the type of a volume whose segments may differ: striped stands
// above linear, anything else above both.
func typeOf(segs []manifest.Segment) string {
	t := ""
	for _, s := range segs {
		if t == "" || t == "linear" || t == "striped" && s.Type != "linear" {
			t = s.Type
		}
	}
	return t
}

func (n *numbers) segment(r row, pvs map[string]string) (manifest.Segment, error) {
	s := manifest.Segment{
		Type: r["segtype"], Start: n.of(r, "seg_start_pe"), Extents: n.of(r, "seg_size_pe"), Stripes: int(n.of(r, "stripes")), StripeSize: n.of(r, "stripe_size"),
	}
	if s.Type != "linear" && s.Type != "striped" {
		return s, nil // stands on hidden volumes, not on extents
	}
	for _, d := range list(r["devices"]) {
		// "/dev/sda2(17)": the name may hold brackets itself.
		i := strings.LastIndexByte(d, '(')
		if i < 0 || !strings.HasSuffix(d, ")") {
			return s, fmt.Errorf("lvm reports %q where a device and an extent belong", d)
		}
		start, err := strconv.ParseInt(d[i+1:len(d)-1], 10, 64)
		if err != nil {
			return s, fmt.Errorf("lvm reports %q where a device and an extent belong", d)
		}
		id, known := pvs[d[:i]]
		if !known && !strings.HasPrefix(d, "/") {
			return s, nil // stands on another logical volume
		}
		if !known {
			return s, fmt.Errorf("it lies on %s, which lvm does not report", d[:i])
		}
		s.Areas = append(s.Areas, manifest.Area{PV: manifest.ID("pv:" + id), Start: start})
	}
	return s, nil
}

func list(v string) []string {
	if v == "" {
		return nil
	}
	return strings.Split(v, ",")
}
