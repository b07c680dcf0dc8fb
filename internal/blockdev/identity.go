package blockdev

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"lifeboat/manifest"
)

// identify fills what tells a disk from others. The sources, first wins:
// the block device's own attributes (virtio, nvme), the device it hangs on
// (scsi, mmc, nvme controller), SCSI's vital product data, and the USB bridge.
func (s System) identify(d *Device) {
	dev, err := filepath.EvalSymlinks(filepath.Join(d.sys, "device"))
	if err != nil {
		return
	}
	above := s.ancestors(dev)
	d.Transport, d.Driver = transport(above)
	if rel, err := filepath.Rel(s.devices(), dev); err == nil {
		d.BusPath = rel
	}
	d.Model, d.Vendor = attr(dev, "model"), attr(dev, "vendor")
	if strings.HasPrefix(d.Vendor, "0x") {
		d.Vendor = "" // the PCI or virtio vendor number, no name
	}
	switch d.Transport {
	case "mmc":
		d.Model = attr(dev, "name")
	case "sata":
		// The kernel's SCSI model ends after 16 bytes; its identification page
		// has the whole of ATA's.
		if b, err := os.ReadFile(filepath.Join(dev, "vpd_pg83")); err == nil {
			if m := ataModel(b); m != "" {
				d.Model = m
			}
		}
	}
	d.Serial = s.serial(d, dev, above)
	d.WWN = manifest.UsableWWN(wwid(d.sys, dev))
}

func (s System) devices() string {
	real, err := filepath.EvalSymlinks(filepath.Join(s.Sys, "devices"))
	if err != nil {
		return filepath.Join(s.Sys, "devices")
	}
	return real
}

// ancestors are the folders from dev up to /sys/devices, dev first.
func (s System) ancestors(dev string) []string {
	var out []string
	top := s.devices()
	for dir := dev; dir != top && strings.HasPrefix(dir, top+"/"); dir = filepath.Dir(dir) {
		out = append(out, dir)
	}
	return out
}

func subsystem(dir string) string { return linkBase(dir, "subsystem") }

func linkBase(dir, name string) string {
	t, err := os.Readlink(filepath.Join(dir, name))
	if err != nil {
		return ""
	}
	return filepath.Base(t)
}

// transport tells how the disk hangs on the machine, and the driver nearest
// to it that moves the data.
func transport(above []string) (kind, driver string) {
	for _, dir := range above {
		if driver == "" && subsystem(dir) != "scsi" {
			driver = linkBase(dir, "driver")
		}
		k := ""
		switch sub := subsystem(dir); {
		case sub == "nvme" || sub == "nvme-subsystem":
			k = "nvme"
			if t := attr(dir, "transport"); t != "" && t != "pcie" {
				k = "nvme-" + t
			}
		case sub == "usb":
			k = "usb"
		case sub == "mmc":
			k = "mmc"
		case sub == "xen":
			k = "xen"
		case sub == "virtio" && kind == "":
			k = "virtio"
		case has(dir, "iscsi_session"):
			k = "iscsi"
		case has(dir, "fc_remote_ports"):
			k = "fc"
		case has(dir, "sas_end_device") || has(dir, "sas_device"):
			k = "sas"
		case has(dir, "ata_port"):
			k = "sata"
		case sub == "scsi" && kind == "":
			k = "scsi"
		}
		// A closer look only replaces the general "scsi": a SATA disk behind a
		// SAS controller is shown as what its port is.
		if k != "" && (kind == "" || kind == "scsi") {
			kind = k
		}
	}
	return kind, driver
}

func (s System) serial(d *Device, dev string, above []string) string {
	for _, v := range []string{attr(d.sys, "serial"), attr(dev, "serial")} {
		if v != "" {
			return v
		}
	}
	if v := vpdSerial(dev); v != "" {
		return v
	}
	for _, dir := range above {
		if has(dir, "idVendor") { // the USB device: bridges hide the disk's own
			return attr(dir, "serial")
		}
	}
	return ""
}

// vpdSerial reads SCSI's unit serial number page (SPC, page 80h).
func vpdSerial(dev string) string {
	b, err := os.ReadFile(filepath.Join(dev, "vpd_pg80"))
	if err != nil {
		return ""
	}
	return parseSerialPage(b)
}

func parseSerialPage(b []byte) string {
	if len(b) < 4 || b[1] != 0x80 {
		return ""
	}
	n := int(binary.BigEndian.Uint16(b[2:]))
	b = b[4:]
	if n > len(b) {
		n = len(b)
	}
	return printable(b[:n])
}

// wwid is the disk's world wide identity in the spelling of sysfs.
func wwid(block, dev string) string {
	w := attr(block, "wwid")
	if w == "" {
		w = attr(dev, "wwid")
	}
	if w == "" {
		// Kernels before 3.15 and devices whose page the kernel did not use.
		if b, err := os.ReadFile(filepath.Join(dev, "vpd_pg83")); err == nil {
			w = idOfPage(b)
		}
	}
	return strings.ToLower(strings.Join(strings.Fields(w), "_"))
}

// designator of the logical unit from SCSI's identification page.
type designator struct {
	kind byte // 1 t10, 2 eui, 3 naa
	id   []byte
}

// parseIDPage reads SCSI's device identification page (SPC, page 83h) and
// returns what it says of the logical unit; what it says of ports and targets
// is left out.
func parseIDPage(b []byte) []designator {
	if len(b) < 4 || b[1] != 0x83 {
		return nil
	}
	rest := b[4:]
	if n := int(binary.BigEndian.Uint16(b[2:])); n < len(rest) {
		rest = rest[:n]
	}
	var out []designator
	for len(rest) >= 4 {
		n := int(rest[3])
		if n > len(rest)-4 {
			break
		}
		if association := rest[1] >> 4 & 3; association == 0 && n > 0 {
			out = append(out, designator{rest[1] & 0xf, rest[4 : 4+n]})
		}
		rest = rest[4+n:]
	}
	return out
}

// idOfPage is the best designator in sysfs' spelling: naa, eui, t10.
func idOfPage(b []byte) string {
	best, rank := "", byte(0)
	for _, d := range parseIDPage(b) {
		if d.kind < 1 || d.kind > 3 || d.kind <= rank {
			continue
		}
		rank = d.kind
		switch d.kind {
		case 3:
			best = fmt.Sprintf("naa.%x", d.id)
		case 2:
			best = fmt.Sprintf("eui.%x", d.id)
		case 1:
			best = "t10." + printable(d.id)
		}
	}
	return best
}

// ataModel is the model of an ATA disk: SAT makes its t10 designator of
// "ATA", 40 bytes model and 20 bytes serial.
func ataModel(b []byte) string {
	for _, d := range parseIDPage(b) {
		if d.kind == 1 && len(d.id) == 68 && strings.HasPrefix(string(d.id), "ATA ") {
			return printable(d.id[8:48])
		}
	}
	return ""
}

// printable keeps ASCII text: identities of broken devices hold anything.
func printable(b []byte) string {
	var o strings.Builder
	for _, c := range b {
		if c >= 0x20 && c < 0x7f {
			o.WriteByte(c)
		}
	}
	return strings.TrimSpace(o.String())
}
