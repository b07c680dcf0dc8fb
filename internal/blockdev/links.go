package blockdev

import (
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
)

// Links returns the stable names of a device as udev would give them, sorted:
// those that exist below /dev/disk, and those worked out from sysfs, so that
// a mapping file by such names works where no udev runs. Partitions get the
// names of their disk with -partN.
func (v *View) Links(d *Device) []string {
	v.linksOnce.Do(v.readLinks)
	set := map[string]bool{}
	for _, l := range append(v.derived(d), v.links[filepath.Base(d.Name)]...) {
		set[l] = true
	}
	out := make([]string, 0, len(set))
	for l := range set {
		out = append(out, l)
	}
	sort.Strings(out)
	return out
}

// readLinks reads the names that udev gave, by what they lead to.
func (v *View) readLinks() {
	v.links = map[string][]string{}
	for _, by := range []string{"by-id", "by-path"} {
		dir := filepath.Join(v.System.Dev, "disk", by)
		entries, _ := os.ReadDir(dir)
		for _, e := range entries {
			to := linkBase(dir, e.Name())
			v.links[to] = append(v.links[to], by+"/"+e.Name())
		}
	}
}

func (v *View) derived(d *Device) []string {
	var out []string
	add := func(f string, a ...any) { out = append(out, fmt.Sprintf(f, a...)) }
	switch d.Kind {
	case Partition:
		if p := v.byName[d.Parent]; p != nil {
			for _, l := range v.derived(p) {
				add("%s-part%d", l, d.Number)
			}
		}
	case DM:
		if d.DMName != "" {
			add("by-id/dm-name-%s", d.DMName)
		}
		if d.DMUUID != "" {
			add("by-id/dm-uuid-%s", d.DMUUID)
		}
	case MD:
		if d.MDArr.UUID != "" {
			add("by-id/md-uuid-%s", mdUUID(d.MDArr.UUID))
		}
	case Disk:
		out = append(out, idLinks(d)...)
		for _, p := range v.System.pathLinks(d) {
			add("by-path/%s", p)
		}
	}
	return out
}

// idLinks are the by-id names of a disk by udev's rules
// (60-persistent-storage.rules).
func idLinks(d *Device) []string {
	var out []string
	add := func(s string) { out = append(out, "by-id/"+s) }
	model, serial := tame(d.Model), tame(d.Serial)
	bus := map[string]string{"sata": "ata", "usb": "usb", "nvme": "nvme", "mmc": "mmc", "virtio": "virtio"}[d.Transport]
	switch {
	case serial == "" || bus == "":
	case bus == "virtio":
		add("virtio-" + serial)
	case bus == "usb":
		add("usb-" + join(tame(d.Vendor), model, serial) + "-0:0")
	default:
		add(bus + "-" + join(model, serial))
	}
	kind, hex, ok := strings.Cut(d.WWN, ".")
	switch {
	case !ok:
	case d.Transport == "nvme":
		add("nvme-" + d.WWN)
	case kind == "naa":
		add("wwn-0x" + hex)
		add("scsi-3" + hex)
	case kind == "eui":
		add("wwn-0x" + hex)
		add("scsi-2" + hex)
	}
	return out
}

func join(s ...string) string {
	var out []string
	for _, x := range s {
		if x != "" {
			out = append(out, x)
		}
	}
	return strings.Join(out, "_")
}

// tame replaces what udev does not allow in a link's name.
func tame(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("#+-.:=@_", r) {
			return r
		}
		return '_'
	}, strings.Join(strings.Fields(s), "_"))
}

// mdUUID writes sysfs' UUID as udev's link has it: 8:8:8:8 hex digits.
func mdUUID(u string) string {
	h := strings.ReplaceAll(u, "-", "")
	if len(h) != 32 {
		return u
	}
	return h[:8] + ":" + h[8:16] + ":" + h[16:24] + ":" + h[24:]
}

// pathLinks are the by-path names of a disk: the way from the PCI device down,
// as udev's path_id builtin spells it. None for SAS, FC and iSCSI, whose names
// tell of the other end.
func (s System) pathLinks(d *Device) []string {
	dev, err := filepath.EvalSymlinks(filepath.Join(d.sys, "device"))
	if err != nil {
		return nil
	}
	below := [][]string{nil} // spellings of the way found so far, from the disk up
	add := func(spellings ...string) {
		var next [][]string
		for _, b := range below {
			for _, x := range spellings {
				next = append(next, append(append([]string{}, b...), x))
			}
		}
		below = next
	}
	above := s.ancestors(dev)
	for i, dir := range above {
		base := filepath.Base(dir)
		switch sub := subsystem(dir); {
		case sub == "pci":
			add("pci-" + base)
			var out []string
			for _, b := range below {
				out = append(out, reversed(b))
			}
			return out
		case sub == "scsi" && strings.Count(base, ":") == 3:
			p := scsiPath(d, above[i:])
			if p == nil {
				return nil
			}
			add(p...)
		case sub == "nvme":
			ns := attr(d.sys, "nsid")
			if ns == "" {
				return nil
			}
			add("nvme-" + ns)
		case sub == "usb" && has(dir, "bInterfaceNumber"):
			// 1-2:1.0 is bus 1, ports 2, configuration 1, interface 0; the
			// number of the bus is no place, path_id writes 0.
			if _, ports, ok := strings.Cut(base, "-"); ok {
				add("usb-0:" + ports)
			}
		}
	}
	return nil
}

func reversed(parts []string) string {
	out := make([]string, 0, len(parts))
	for i := len(parts) - 1; i >= 0; i-- {
		out = append(out, parts[i])
	}
	return strings.Join(out, "-")
}

// scsiPath is the part of a SCSI device: the port of an ATA host, else host
// (counted from the first of the same controller), channel, target and unit.
func scsiPath(d *Device, above []string) []string {
	hctl := strings.Split(filepath.Base(above[0]), ":")
	if d.Transport == "sata" {
		for _, dir := range above {
			if port := attr(filepath.Join(dir, "ata_port", filepath.Base(dir)), "port_no"); port != "" {
				return []string{"ata-" + port, "ata-" + port + "." + hctl[2]}
			}
		}
		return nil
	}
	if d.Transport != "scsi" && d.Transport != "usb" {
		return nil
	}
	own, err := strconv.Atoi(hctl[0])
	if err != nil {
		return nil
	}
	for _, dir := range above {
		if !has(dir, "scsi_host") {
			continue
		}
		first := own
		for _, n := range names(filepath.Dir(dir)) { // hosts of the same controller
			num, _ := strings.CutPrefix(n, "host")
			if k, err := strconv.Atoi(num); err == nil && k < first {
				first = k
			}
		}
		return []string{fmt.Sprintf("scsi-%d:%s:%s:%s", own-first, hctl[1], hctl[2], hctl[3])}
	}
	return nil
}
