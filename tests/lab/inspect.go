package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"lifeboat/drill/qemu"
	"lifeboat/internal/run"
)

// Extent is a run of bytes of a disk.
type Extent struct{ Offset, Bytes int64 }

// Extents are the pieces of a volume, in order.
type Extents []Extent

// Disk is what Debian's tools say of a raw disk.
type Disk struct {
	Path string
	// Facts are identities and parameters by name, such as "table/label-id",
	// "part 5/uuid", "lv vg-data-a/root/lv_uuid". Device names are left out.
	Facts map[string]string
	// Volumes are partitions ("part 5") and linear logical volumes ("VG/LV")
	// with the type that blkid sees; "" for none.
	Volumes map[string]string

	extents map[string]Extents
}

// functions makes the scripts in the appliance strict and gives them disks.sh.
const functions = "set -euo pipefail; export LC_ALL=C; . /lab/disks.sh\n"

func (m *Machine) readFunctions(ctx context.Context, l *Lab) error {
	return m.Put(ctx, filepath.Join(l.tools, "disks.sh"), "/lab/disks.sh", 0o644)
}

// Inspect reads raw disks in one appliance that cannot write to them.
// Volume groups of the same name and UUID on several disks are kept apart.
func (l *Lab) Inspect(ctx context.Context, paths ...string) ([]*Disk, error) {
	m, disks, err := l.inspect(ctx, paths...)
	if err != nil {
		return nil, err
	}
	return disks, m.Off(ctx)
}

// inspect leaves the appliance on.
func (l *Lab) inspect(ctx context.Context, paths ...string) (*Machine, []*Disk, error) {
	var drives []qemu.Drive
	for _, p := range paths {
		drives = append(drives, qemu.Drive{File: p, Interface: qemu.Virtio, ReadOnly: true})
	}
	m, err := l.Appliance(ctx, drives...)
	if err != nil {
		return nil, nil, err
	}
	disks, err := m.describeAll(ctx, l, paths)
	if err != nil {
		m.Kill()
		return nil, nil, err
	}
	return m, disks, nil
}

func (m *Machine) describeAll(ctx context.Context, l *Lab, paths []string) (disks []*Disk, err error) {
	if err := m.readFunctions(ctx, l); err != nil {
		return nil, err
	}
	for i, p := range paths {
		d, err := m.describe(ctx, i)
		if err != nil {
			return nil, fmt.Errorf("inspect %s: %w", p, err)
		}
		d.Path = p
		if err := d.findTypes(ctx, m, i); err != nil {
			return nil, err
		}
		disks = append(disks, d)
	}
	return disks, nil
}

// describe reads the n-th drive of the appliance.
func (m *Machine) describe(ctx context.Context, n int) (*Disk, error) {
	r, err := m.Run(ctx, functions+fmt.Sprintf("describe \"$(disks | sed -n %dp)\"", n+1))
	if err != nil {
		return nil, err
	}
	return parseDescription(string(r.Stdout))
}

func parseDescription(text string) (*Disk, error) {
	d := &Disk{Facts: map[string]string{}, Volumes: map[string]string{}, extents: map[string]Extents{}}
	sections := map[string]string{}
	for _, s := range strings.Split("\n"+text, "\n== ")[1:] {
		name, body, _ := strings.Cut(s, "\n")
		sections[name] = body
	}
	devices, err := d.parseParts(sections["parts"])
	if err != nil {
		return nil, err
	}
	d.parseTable(sections["table"], devices)
	d.parseBlkid(sections["blkid"])
	return d, d.parseLVM(sections["lvm"], devices)
}

// parseParts reads lines "number start bytes device" and returns the
// partition's name for each device.
func (d *Disk) parseParts(body string) (map[string]string, error) {
	devices := map[string]string{}
	for _, line := range strings.Split(strings.TrimSpace(body), "\n") {
		if line == "" {
			continue
		}
		f := strings.Fields(line)
		if len(f) != 4 {
			return nil, fmt.Errorf("the appliance describes a partition as %q", line)
		}
		name := "part " + f[0]
		off, err1 := strconv.ParseInt(f[1], 10, 64)
		size, err2 := strconv.ParseInt(f[2], 10, 64)
		if err1 != nil || err2 != nil {
			return nil, fmt.Errorf("the appliance describes a partition as %q", line)
		}
		d.extents[name] = Extents{{off, size}}
		devices[f[3]] = name
	}
	return devices, nil
}

// parseTable reads sfdisk's dump.
func (d *Disk) parseTable(body string, devices map[string]string) {
	for _, line := range strings.Split(body, "\n") {
		dev, rest, ok := strings.Cut(line, " : ")
		if name := devices[strings.TrimSpace(dev)]; ok && name != "" {
			for _, field := range splitQuoted(rest) {
				k, v, _ := strings.Cut(field, "=")
				d.Facts[name+"/"+strings.TrimSpace(k)] = strings.TrimSpace(v)
			}
			continue
		}
		if k, v, ok := strings.Cut(line, ": "); ok && k != "device" && !strings.HasPrefix(line, "/dev/") {
			d.Facts["table/"+k] = v
		}
	}
}

// splitQuoted splits at commas outside of double quotes.
func splitQuoted(s string) []string {
	var parts []string
	quoted, from := false, 0
	for i := range len(s) {
		switch {
		case s[i] == '"':
			quoted = !quoted
		case s[i] == ',' && !quoted:
			parts = append(parts, s[from:i])
			from = i + 1
		}
	}
	return append(parts, s[from:])
}

func (d *Disk) parseBlkid(body string) {
	name := ""
	for _, line := range strings.Split(body, "\n") {
		if n, ok := strings.CutPrefix(line, "-- "); ok {
			name = "part " + n
			continue
		}
		k, v, ok := strings.Cut(line, "=")
		if !ok || k == "DEVNAME" || strings.HasPrefix(k, "PART_ENTRY_DISK") {
			continue
		}
		d.Facts[name+"/blkid "+k] = v
	}
}

// lvmReport is LVM's full report: for each VG the rows of each kind.
type lvmReport struct {
	Report []map[string][]map[string]string
}

func (r lvmReport) rows(kind string) (all []map[string]string) {
	for _, part := range r.Report {
		all = append(all, part[kind]...)
	}
	return all
}

func (d *Disk) parseLVM(body string, devices map[string]string) error {
	var report lvmReport
	if err := json.Unmarshal([]byte(body), &report); err != nil {
		return fmt.Errorf("LVM's report: %w", err)
	}
	name := map[string]func(map[string]string) string{
		"pv": func(r map[string]string) string { return "pv on " + devices[r["pv_name"]] },
		"vg": func(r map[string]string) string { return "vg " + r["vg_name"] },
		"lv": func(r map[string]string) string { return "lv " + r["vg_name"] + "/" + r["lv_name"] },
	}
	extent := map[string]int64{}   // by VG
	peStart := map[string]Extent{} // by PV device
	for _, kind := range []string{"pv", "vg", "lv"} {
		for _, r := range report.rows(kind) {
			for k, v := range r {
				if k != "pv_name" {
					d.Facts[name[kind](r)+"/"+k] = v
				}
			}
			switch kind {
			case "lv":
				// Named even if it lies in no extents that we can tell.
				if !strings.HasPrefix(r["lv_name"], "[") {
					d.extents[r["vg_name"]+"/"+r["lv_name"]] = nil
				}
			case "pv":
				part := d.extents[devices[r["pv_name"]]]
				start, err := strconv.ParseInt(r["pe_start"], 10, 64)
				if err != nil || len(part) != 1 {
					return fmt.Errorf("physical volume %v lies on no partition of this disk", r)
				}
				peStart[r["pv_name"]] = Extent{part[0].Offset + start, 0}
			case "vg":
				n, err := strconv.ParseInt(r["vg_extent_size"], 10, 64)
				if err != nil {
					return fmt.Errorf("volume group %v: %w", r, err)
				}
				extent[r["vg_name"]] = n
			}
		}
	}
	for _, r := range report.rows("seg") {
		if err := d.addSegment(r, extent[r["vg_name"]], peStart); err != nil {
			return err
		}
	}
	return nil
}

// addSegment notes where a linear segment lies; segments come in order.
func (d *Disk) addSegment(r map[string]string, extent int64, peStart map[string]Extent) error {
	lv := r["vg_name"] + "/" + r["lv_name"]
	key := "lv " + lv + "/segment at " + r["seg_start"]
	d.Facts[key] = fmt.Sprintf("%s, %s bytes, %s stripes of %s", r["segtype"], r["seg_size"], r["stripes"], r["stripe_size"])
	if r["segtype"] != "linear" {
		return nil
	}
	dev, span, _ := strings.Cut(r["seg_pe_ranges"], ":")
	first, last, _ := strings.Cut(span, "-")
	a, err1 := strconv.ParseInt(first, 10, 64)
	b, err2 := strconv.ParseInt(last, 10, 64)
	pv, ok := peStart[dev]
	if err1 != nil || err2 != nil || !ok {
		return fmt.Errorf("segment of %s: LVM says that it lies at %q", lv, r["seg_pe_ranges"])
	}
	e := Extent{pv.Offset + a*extent, (b - a + 1) * extent}
	list := d.extents[lv]
	if n := len(list); n > 0 && list[n-1].Offset+list[n-1].Bytes == e.Offset {
		list[n-1].Bytes += e.Bytes
		return nil
	}
	d.extents[lv] = append(list, e)
	return nil
}

// findTypes asks blkid what each volume holds: on this machine for volumes in
// one piece, which is quick, and else in the appliance, whose n-th drive the
// disk is.
func (d *Disk) findTypes(ctx context.Context, m *Machine, n int) error {
	for name, e := range d.extents {
		var out []byte
		var err error
		if len(e) == 1 {
			var r run.Result
			r, err = run.Exec{}.Run(ctx, run.Cmd{Path: "blkid", OK: []int{0, 2}, Args: []string{"-p",
				"-O", strconv.FormatInt(e[0].Offset, 10), "-S", strconv.FormatInt(e[0].Bytes, 10), "-o", "export", d.Path}})
			out = r.Stdout
		} else {
			vg, _, _ := strings.Cut(name, "/")
			var r Result
			r, err = m.Run(ctx, functions+fmt.Sprintf(`disk=$(disks | sed -n %dp); activate "$disk" %s
				blkid -p -o export %s || [ $? = 2 ]
				lvm_on "$disk" vgchange -q -an %[2]s >/dev/null`, n+1, quote(vg), quote("/dev/"+name)))
			out = r.Stdout
		}
		if err != nil {
			return fmt.Errorf("what %s of %s holds: %w", name, d.Path, err)
		}
		d.Volumes[name] = ""
		for _, line := range strings.Split(string(out), "\n") {
			k, v, ok := strings.Cut(line, "=")
			if !ok || k == "DEVNAME" {
				continue
			}
			if k == "TYPE" {
				d.Volumes[name] = v
			}
			if strings.Contains(name, "/") {
				d.Facts["lv "+name+"/blkid "+k] = v
			}
		}
	}
	return nil
}
