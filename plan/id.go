package plan

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"

	"lifeboat/manifest"
)

// The plan's id says whether two plans build the same: after a reset, the
// layers are opened instead of made only when the journal opens with the id
// of the plan made now. So everything counts that decides what is built:
// the manifest (all of it), the mapping, order, backup and method, lifted
// protections, what the machine is (DMI, firmware mode) and, for each
// captured disk, which disk takes its place (WWN, serial, model, sizes).
//
// What changes while a plan is carried out, or from boot to boot of one
// machine, does not count: kernel names and device numbers, tables,
// signatures, marks and claims on disks, protections, the rule by which a
// target was found (blank the first time, claimed the second), disks that are
// not touched, memory, carrier, tools and modules. Nor does who watches.

type idInput struct {
	Format      string
	Manifest    string
	Mapping     []DiskMapping
	Order       string
	Backup      string
	Method      string
	Unprotect   []string
	OwnHardware bool
	DMI         manifest.DMI
	Firmware    string
	Bits        int
	Disks       []idDisk
	Mend        *Mend `json:",omitempty"`
}

type idDisk struct {
	Node                     manifest.ID
	WWN, Serial, Model       string
	Bytes, Logical, Physical int64
}

func (k *maker) id() string {
	pol := k.in.Policy
	in := idInput{Format: Format, Order: pol.Order, Backup: pol.Backup, Method: pol.Method, OwnHardware: pol.OwnHardware, Manifest: k.sum, Mend: k.mend,
		Unprotect: slices.Clone(pol.Unprotect), DMI: k.mach.DMI, Firmware: k.mach.Firmware.Mode, Bits: k.mach.Firmware.Bits}
	slices.Sort(in.Unprotect)
	if k.in.Mapping != nil {
		in.Mapping = slices.Clone(k.in.Mapping.Disks)
		slices.SortFunc(in.Mapping, func(a, b DiskMapping) int {
			return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To))
		})
	}
	for node, m := range k.to {
		d := m.disk.Disk
		in.Disks = append(in.Disks, idDisk{node, wwn(d), serial(d), d.Model, d.Bytes, d.Logical, d.Physical})
	}
	slices.SortFunc(in.Disks, func(a, b idDisk) int { return cmp.Compare(a.Node, b.Node) })
	data, err := json.Marshal(in)
	if err != nil {
		return "" // cannot happen: plain data
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// compareRefs orders disks for people, the same whatever order they were
// found in.
func compareRefs(a, b DiskRef) int {
	return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Serial, b.Serial), cmp.Compare(a.Bytes, b.Bytes))
}
